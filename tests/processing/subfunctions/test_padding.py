"""Against batchgenerators' pad_nd_image and numpy."""

from __future__ import annotations

import numpy as np
import pytest
from batchgenerators.augmentations.utils import pad_nd_image
from hypothesis import given, settings
from hypothesis import strategies as st

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.subfunctions import Padding

cases = st.integers(2, 3).flatmap(
    lambda ndim: st.tuples(
        *[st.tuples(*[st.integers(1, 9)] * ndim)] * 2, *[st.none() | st.tuples(*[st.integers(1, 5)] * ndim)]
    )
)


def make(shape, classes=3, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 9, (*shape, channels)).astype(np.int16)
    sample = Sample("case", image, channels=channels, classes=classes, three_dim=len(shape) == 3)
    sample.add_segmentation(rng.integers(0, classes, shape).astype(np.uint8))
    return sample


@settings(max_examples=60, deadline=None)
@given(cases, st.integers(1, 2))
def test_shape_and_place_are_those_of_pad_nd_image_and_the_crop_is_exact(case, channels):
    shape, least, divisor = case
    sample = make(shape, channels=channels)
    image, labels = sample.img_data, sample.seg_data
    step = Padding(least, pad_value_img=-5, pad_value_seg=2, shape_must_be_divisible_by=divisor)
    step.preprocessing(sample)
    for channel in range(channels):
        expected = pad_nd_image(
            image[..., channel], least, "constant", {"constant_values": -5}, shape_must_be_divisible_by=divisor
        )
        assert np.array_equal(sample.img_data[..., channel], expected)
    assert sample.seg_data.shape[:-1] == sample.img_data.shape[:-1]
    assert np.array_equal(step.postprocessing(sample, sample.seg_data[..., 0]), labels[..., 0])
    probabilities = np.random.default_rng(1).random((*sample.img_data.shape[:-1], 3))
    back = step.postprocessing(sample, probabilities, activation_output=True)
    assert back.shape == (*shape, 3)
    assert np.array_equal(step.postprocess_to_labels(sample, probabilities), back.argmax(-1))


def test_defect_padding_ignores_pad_value_seg():
    sample = make((4, 4))
    labels = sample.seg_data.copy()
    Padding((8, 4), pad_value_img=-1024, pad_value_seg=1).preprocessing(sample)
    assert (sample.seg_data[[0, 1, 6, 7]] == 1).all()
    assert (sample.img_data[[0, 1, 6, 7]] == -1024).all()
    assert np.array_equal(sample.seg_data[2:6], labels)
    assert sample.seg_data.dtype == np.uint8


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 4)])
def test_defect_padding_breaks_on_activation_output(rng, shape):
    sample = make(shape)
    step = Padding((8,))
    step.preprocessing(sample)
    # The spatial axes are cropped (5 added to 3: two before; 3 to 5: one), whatever the number of classes.
    box = (slice(2, 5), slice(1, 6), slice(2, 6))[: len(shape)]
    for classes in (2, 3, 20):
        activation = rng.random((*[8] * len(shape), classes))
        assert np.array_equal(step.postprocessing(sample, activation, activation_output=True), activation[box])


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "wrap"])
def test_copied_voxels_bring_their_labels(mode):
    sample = make((3, 4))
    sample.seg_data = (sample.img_data % 3).astype(np.uint8)
    Padding((9, 9), pad_mode=mode, pad_value_seg=1).preprocessing(sample)
    assert np.array_equal(sample.seg_data, sample.img_data % 3)


@pytest.mark.parametrize("mode", ["maximum", "mean", "median", "minimum", "linear_ramp"])
def test_made_up_voxels_get_pad_value_seg(mode):
    sample = make((3, 4))
    expected = np.pad(sample.img_data, [(3, 3), (2, 3), (0, 0)], mode=mode)
    Padding((9, 9), pad_mode=mode, pad_value_seg=1).preprocessing(sample)
    assert np.array_equal(sample.img_data, expected)
    assert (sample.seg_data[:3] == 1).all()


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (np.int16, -1024, np.int16),
        (np.uint8, -1, np.float32),
        (np.int16, 0.5, np.float32),
        (np.float32, -3, np.float32),
    ],
)
def test_the_value_around_the_image_is_what_was_asked(kind, value, expected):
    sample = Sample("case", np.ones((2, 2), kind), channels=1, classes=2)
    Padding((4, 2), pad_value_img=value).preprocessing(sample)
    assert sample.img_data.dtype == expected
    assert (sample.img_data[0] == value).all()
    assert (sample.img_data[1:3] == 1).all()


def test_large_enough_is_left_alone():
    sample = make((9, 20))
    image = sample.img_data
    step = Padding([8, 8])
    step.preprocessing(sample)
    assert sample.img_data is image
    assert step.postprocessing(sample, image[..., 0]).shape == (9, 20)


def test_the_label_map_is_left_alone_in_prediction():
    sample = make((4, 4))
    Padding((8, 8)).preprocessing(sample, training=False)
    assert sample.img_data.shape == (8, 8, 1)
    assert sample.seg_data.shape == (4, 4, 1)


def test_one_number_serves_all_axes():
    sample = make((5, 6, 7))
    Padding((8, 8), shape_must_be_divisible_by=16).preprocessing(sample)
    assert sample.img_data.shape == (16, 16, 16, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"min_size": (0, 4)},
        {"min_size": 4},
        {"min_size": (4, 4), "pad_mode": "mirror"},
        {"min_size": (4, 4), "pad_value_seg": -1},
        {"min_size": (4, 4), "pad_value_seg": 0.5},
        {"min_size": (4, 4), "pad_value_img": "air"},
        {"min_size": (4, 4), "shape_must_be_divisible_by": 0},
    ],
)
def test_arguments_that_cannot_be(arguments):
    with pytest.raises(ConfigurationError, match="Padding"):
        Padding(**arguments)


@pytest.mark.parametrize(
    "step",
    [Padding((4, 4), pad_value_seg=3), Padding((4, 5, 6)), Padding((8, 8), shape_must_be_divisible_by=(2, 3, 4))],
)
def test_arguments_that_do_not_fit_the_sample(step):
    with pytest.raises(ConfigurationError, match="Padding"):
        step.preprocessing(make((4, 4)))


def test_a_prediction_on_another_grid_is_refused():
    sample = make((4, 4))
    step = Padding((8, 8))
    step.preprocessing(sample)
    with pytest.raises(DataError, match=r"case.*\(8, 8\).*\(4, 4\)"):
        step.postprocessing(sample, np.zeros((4, 4), np.uint8))
