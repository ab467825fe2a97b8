"""Shapes and spacings in closed form, contents against scikit-image."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import resize

from miscnn_tf._base.configuration import get_config
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.interpolation import resize_labels
from miscnn_tf.processing.subfunctions import Resampling

cases = st.integers(2, 3).flatmap(
    lambda ndim: st.tuples(
        st.tuples(*[st.integers(1, 14)] * ndim),
        st.tuples(*[st.sampled_from([0.5, 0.8, 1.0, 1.25, 3.0])] * ndim),
        st.tuples(*[st.sampled_from([0.7, 1.0, 1.6, 2.5])] * ndim),
    )
)


def make(shape, spacing, kind=np.int16, channels=1):
    rng = np.random.default_rng(3)
    image = rng.integers(-1000, 1000, (*shape, channels)).astype(kind)
    extended = {} if spacing is None else {"spacing": spacing}
    sample = Sample("case", image, channels, 3, extended, three_dim=len(shape) == 3)
    sample.add_segmentation(ball(shape, 0.8) + ball(shape, 0.45))
    return sample


def ball(shape, radius):
    """A smooth object in units of half the extent."""
    axes = [(np.arange(size) + 0.5) / size * 2 - 1 for size in shape]
    return (sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) < radius**2).astype(np.uint8)


def dice(first, second, label):
    return 2 * ((first == label) & (second == label)).sum() / ((first == label).sum() + (second == label).sum())


@settings(max_examples=60, deadline=None)
@given(cases)
def test_shape_spacing_and_way_back(case):
    shape, spacing, new = case
    sample = make(shape, spacing)
    step = Resampling(new)
    step.preprocessing(sample)
    # Decimal fractions have no rounding error: the shape asked for, exactly.
    exact = [
        max(1, math.floor(size * Fraction(str(old)) / Fraction(str(wanted))))
        for size, old, wanted in zip(shape, spacing, new, strict=True)
    ]
    assert sample.img_data.shape == (*exact, 1)
    assert sample.seg_data.shape == (*exact, 1)
    assert sample.img_data.dtype == np.float32
    assert sample.seg_data.dtype == np.uint8
    # The extent stays: the grid that came about is described, not the one that was wished for.
    np.testing.assert_allclose(np.array(sample.spacing) * exact, np.array(shape) * spacing)
    assert isinstance(sample.details["spacing"], list)
    assert step.postprocessing(sample, sample.seg_data[..., 0]).shape == shape
    activation = np.full((*exact, 3), 1 / 3, np.float32)
    back = step.postprocessing(sample, activation, activation_output=True)
    assert back.shape == (*shape, 3)
    np.testing.assert_allclose(back.sum(-1), 1, atol=1e-5)
    assert step.postprocess_to_labels(sample, activation).shape == shape


@pytest.mark.parametrize(
    ("size", "spacing", "new", "expected"),
    [
        (40, 1.0, 1.0, 40),
        (100, float(np.float32(0.7)), 0.7, 100),  # 99.9999983
        (30, 0.1, 0.3, 10),
        (3, 0.1, 0.1, 3),
        (7, 0.3, 0.7, 3),
        (600, float(np.float32(0.8)), 0.1, 4800),
        (3, 1.0, 2.0, 1),
        (1, 1.0, 50.0, 1),
        (5, 0.999, 1.0, 4),  # 4.995 is no rounding error
    ],
)
def test_rounding_error_loses_no_voxel(size, spacing, new, expected):
    sample = Sample("case", np.zeros((size, 2), np.int16), 1, 2, {"spacing": (spacing, 1.0)})
    Resampling((new, 1)).preprocessing(sample)
    assert sample.img_data.shape[0] == expected


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(("shape", "spacing"), [((20, 22), (1.0, 1.5)), ((12, 13, 11), (1.0, 1.5, 2.0))])
def test_image_is_that_of_scikit_image(shape, spacing, order):
    sample = make(shape, spacing, channels=2)
    image = sample.img_data.astype(np.float64)
    Resampling([0.7] * len(shape), order_img=order).preprocessing(sample)
    for channel in range(2):
        new = sample.img_data.shape[:-1]
        expected = resize(image[..., channel], new, order=order, mode="edge", anti_aliasing=False, preserve_range=True)
        np.testing.assert_allclose(sample.img_data[..., channel], expected, atol=0.02)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_anisotropic_volumes_are_resampled_in_plane_first(axis):
    spacing, new = np.full(3, 0.8), np.ones(3)
    spacing[axis] = 4
    sample = make((10, 11, 12), spacing)
    image = np.moveaxis(sample.img_data[..., 0].astype(np.float64), axis, 0)
    Resampling(new).preprocessing(sample)
    result = np.moveaxis(sample.img_data[..., 0], axis, 0)
    keep = {"mode": "edge", "anti_aliasing": False, "preserve_range": True, "clip": False}
    planes = np.stack([resize(plane, result.shape[1:], order=3, **keep) for plane in image])
    expected = resize(planes, result.shape, order=1, **keep).clip(image.min(), image.max())
    np.testing.assert_allclose(result, expected, atol=0.01)


@pytest.mark.parametrize(
    ("shape", "spacing", "new"), [((60, 70), (1, 1), (1.3, 0.6)), ((40, 44, 12), (0.8, 0.8, 3), (1.2, 1.2, 2))]
)
def test_there_and_back_keeps_what_is_smooth(shape, spacing, new):
    sample = make(shape, spacing)
    labels = sample.seg_data[..., 0]
    step = Resampling(new)
    step.preprocessing(sample)
    resampled = sample.seg_data[..., 0]
    activation = np.eye(3, dtype=np.float32)[resampled]
    full = step.postprocessing(sample, activation, activation_output=True)
    for back in (
        step.postprocessing(sample, resampled),
        step.postprocess_to_labels(sample, activation),
        full.argmax(-1),
    ):
        assert back.shape == shape
        assert min(dice(back, labels, label) for label in (1, 2)) > 0.93
    assert np.array_equal(step.postprocess_to_labels(sample, activation), full.argmax(-1))


@pytest.mark.parametrize(("order", "orders"), [(0, (0, 0, 0)), (1, (1, 1, 1)), (3, (3, 3, 1))])
def test_labels_go_back_with_the_order_they_came_with(rng, order, orders):
    sample = make((9, 9, 4), (1, 1, 3))
    step = Resampling((1.4, 1.4, 2), order_seg=order)
    step.preprocessing(sample)
    prediction = rng.integers(0, 3, sample.img_data.shape[:-1])
    others = [resize_labels(prediction, (9, 9, 4), other) for other in {0, 1, (3, 3, 1)} - {order, orders}]
    back = step.postprocessing(sample, prediction)
    assert np.array_equal(back, resize_labels(prediction, (9, 9, 4), orders))
    assert not any(np.array_equal(back, other) for other in others)


def test_a_sphere_keeps_its_volume_in_cubic_millimetres():
    sample = make((30, 30, 10), (1, 1, 3))
    before = sample.seg_data.astype(bool).sum() * np.prod(sample.spacing)
    Resampling((2, 2, 2)).preprocessing(sample)
    assert sample.seg_data.astype(bool).sum() * np.prod(sample.spacing) == pytest.approx(before, rel=0.05)


def test_a_second_resampling_starts_from_the_current_spacing():
    sample = make((40, 40), (0.5, 0.5))
    Resampling((1, 1)).preprocessing(sample)
    Resampling((2, 2)).preprocessing(sample)
    assert sample.img_data.shape == (10, 10, 1)
    assert sample.spacing == (2, 2)


def test_equal_default_spacings_serve_two_dimensions():
    sample = make((8, 9), (2.0, 2.0))
    Resampling().preprocessing(sample)
    assert sample.img_data.shape == (16, 18, 1)


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 1.0), (1.0, 0.0), (1.0, float("nan"))])
def test_missing_spacing_is_a_clear_error(spacing):
    sample = make((4, 4), spacing)
    with pytest.raises(DataError, match=r"'case'.*spacing"):
        Resampling((1, 1)).preprocessing(sample)
    assert sample.img_data.shape == (4, 4, 1)
    assert sample.history == []


def test_a_sample_that_was_not_preprocessed():
    with pytest.raises(DataError, match="not preprocessed"):
        Resampling((1, 1)).postprocessing(make((4, 4), (1, 1)), np.zeros((4, 4), np.uint8))


def test_a_prediction_on_another_grid_is_refused():
    sample = make((4, 4), (2, 2))
    step = Resampling((1, 1))
    step.preprocessing(sample)
    with pytest.raises(DataError, match=r"\(8, 8\)"):
        step.postprocess_to_labels(sample, np.zeros((4, 4, 2), np.float32))


@pytest.mark.parametrize(
    "arguments",
    [
        {"new_spacing": (0, 1)},
        {"new_spacing": 1},
        {"new_spacing": ("a", 1)},
        {"order_img": 6},
        {"order_seg": -1},
        {"order_img": 1.5},
    ],
)
def test_arguments_that_cannot_be(arguments):
    with pytest.raises(ConfigurationError, match="Resampling"):
        Resampling(**arguments)


def test_a_spacing_for_another_number_of_axes():
    with pytest.raises(ConfigurationError, match="2 spatial axes"):
        Resampling((1, 1, 2)).preprocessing(make((4, 4), (1, 1)))


def test_an_axis_can_keep_its_voxels():
    sample = make((20, 12, 7), (1.0, 1.0, 4.3))
    before = sample.seg_data.copy()
    step = Resampling((2, 0.5, "keep"))
    step.preprocessing(sample)
    assert sample.img_data.shape == (10, 24, 7, 1)
    assert sample.details["spacing"] == [2.0, 0.5, 4.3]
    # Each slice is interpolated by itself.
    alone = make((20, 12, 7), (1.0, 1.0, 4.3))
    alone.img_data[..., 3:, :] = alone.img_data[::-1, ..., 3:, :]  # the same range of values
    Resampling((2, 0.5, "keep")).preprocessing(alone)
    np.testing.assert_allclose(alone.img_data[..., :3, :], sample.img_data[..., :3, :], atol=1e-3)
    back = step.postprocessing(sample, sample.seg_data[..., 0])
    assert back.shape == before.shape[:-1]
    assert Resampling(**get_config(step)).new_spacing == (2, 0.5, "keep")
    with pytest.raises(ConfigurationError, match="keeps all axes"):
        Resampling(("keep", "keep"))
