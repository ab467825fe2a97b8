"""Against scikit-image, and as the inverse of itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import resize

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.subfunctions import Resize

pairs = st.integers(2, 3).flatmap(lambda ndim: st.tuples(*[st.tuples(*[st.integers(1, 10)] * ndim)] * 2))


def make(shape, channels=1, extended=None):
    rng = np.random.default_rng(4)
    image = rng.normal(size=(*shape, channels)).astype(np.float32)
    sample = Sample("case", image, channels, 4, extended, three_dim=len(shape) == 3)
    sample.add_segmentation(rng.integers(0, 4, shape).astype(np.uint8))
    return sample


@settings(max_examples=60, deadline=None)
@given(pairs, st.integers(0, 5), st.integers(0, 3), st.integers(1, 3))
def test_shapes_there_and_back(pair, order_img, order_seg, channels):
    shape, new = pair
    sample = make(shape, channels)
    step = Resize(new, order_img, order_seg)
    step.preprocessing(sample)
    assert sample.img_data.shape == (*new, channels)
    assert sample.seg_data.shape == (*new, 1)
    back = step.postprocessing(sample, sample.seg_data[..., 0])
    assert back.shape == shape
    assert back.dtype == np.uint8
    activation = np.eye(4, dtype=np.float32)[sample.seg_data[..., 0]]
    full = step.postprocessing(sample, activation, activation_output=True)
    assert full.shape == (*shape, 4)
    assert np.array_equal(step.postprocess_to_labels(sample, activation), full.argmax(-1))


@pytest.mark.parametrize(("shape", "new"), [((15, 11), (8, 20)), ((9, 1, 12), (7, 5, 12))])
def test_image_is_that_of_scikit_image(shape, new):
    sample = make(shape)
    expected = resize(sample.img_data[..., 0], new, order=3, mode="edge", anti_aliasing=False)
    Resize(new).preprocessing(sample)
    np.testing.assert_allclose(sample.img_data[..., 0], expected, atol=1e-5)


def test_labels_survive_an_odd_enlargement_exactly():
    sample = make((5, 6, 4))
    labels = sample.seg_data[..., 0]
    step = Resize((15, 30, 12))
    step.preprocessing(sample)
    assert np.array_equal(step.postprocessing(sample, sample.seg_data[..., 0]), labels)
    activation = np.eye(4, dtype=np.float32)[sample.seg_data[..., 0]]
    assert np.array_equal(step.postprocess_to_labels(sample, activation), labels)


def test_spacing_is_brought_up_to_date_where_it_is_known():
    sample = make((10, 20, 5), extended={"spacing": np.array([1.0, 1.0, 4.0])})
    Resize((20, 10, 10)).preprocessing(sample)
    assert sample.details["spacing"] == [0.5, 2.0, 2.0]
    assert tuple(sample.extended["spacing"]) == (1, 1, 4)
    for extended in ({}, {"spacing": (1, 1)}):
        unknown = make((10, 20, 5), extended=extended)
        Resize((20, 10, 10)).preprocessing(unknown)
        assert "spacing" not in unknown.details


def test_anisotropic_volumes_are_resized_as_by_resampling():
    sample = make((10, 10, 6), extended={"spacing": (1, 1, 3)})
    image = sample.img_data[..., 0]
    Resize((10, 10, 12)).preprocessing(sample)
    across = resize(image, (10, 10, 12), order=1, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(sample.img_data[..., 0], across, atol=1e-5)


def test_the_label_map_is_left_alone_in_prediction():
    sample = make((6, 6))
    Resize((12, 12)).preprocessing(sample, training=False)
    assert sample.img_data.shape == (12, 12, 1)
    assert sample.seg_data.shape == (6, 6, 1)


def test_the_default_serves_two_and_three_dimensions():
    flat, solid = make((4, 5)), make((4, 5, 6))
    Resize(order_img=1).preprocessing(flat)
    Resize((16,) * 3).preprocessing(solid)
    assert flat.img_data.shape == (128, 128, 1)
    assert solid.img_data.shape == (16, 16, 16, 1)


@pytest.mark.parametrize(
    "arguments", [{"new_shape": (0, 4)}, {"new_shape": (4.5, 4)}, {"new_shape": ()}, {"order_img": 9}]
)
def test_arguments_that_cannot_be(arguments):
    with pytest.raises(ConfigurationError, match="Resize"):
        Resize(**arguments)


def test_a_shape_for_another_number_of_axes():
    with pytest.raises(ConfigurationError, match="2 spatial axes"):
        Resize((4, 4, 8)).preprocessing(make((4, 4)))
