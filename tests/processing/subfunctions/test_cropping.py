"""Against SciPy's hole filling and the box by definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from miscnn_tf.data_loading.label_scheme import LabelScheme, Region
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.processing.subfunctions import CropNonzero
from miscnn_tf.processing.subfunctions.cropping import nonzero_mask


@st.composite
def samples(draw):
    axes = draw(st.sampled_from([2, 3]))
    shape = tuple(draw(st.integers(1, 9)) for _ in range(axes))
    channels = draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    image = rng.integers(1, 9, (*shape, channels)) * (
        rng.random((*shape, channels)) < draw(st.sampled_from([0.05, 0.6]))
    )
    sample = Sample("a", image.astype(np.int16), channels, 3, three_dim=axes == 3)
    sample.add_segmentation(rng.integers(0, 3, shape).astype(np.uint8))
    return sample


@settings(max_examples=100, deadline=None)
@given(samples())
def test_the_mask_is_that_of_scipy(sample):
    nonzero = np.any(sample.img_data != 0, axis=-1)
    np.testing.assert_array_equal(nonzero_mask(sample.img_data), ndimage.binary_fill_holes(nonzero))


@settings(max_examples=100, deadline=None)
@given(samples())
def test_the_box_holds_all_that_is_not_zero_and_no_more(sample):
    image, labels = sample.img_data, sample.seg_data[..., 0]
    step = CropNonzero()
    step.preprocessing(sample)
    cropped = sample.img_data
    assert np.count_nonzero(cropped) == np.count_nonzero(image)
    if np.any(image):
        for axis in range(image.ndim - 1):
            for end in (0, -1):
                assert np.any(np.take(cropped, end, axis=axis))
    else:
        assert cropped.shape == image.shape
    assert sample.seg_data.shape[:-1] == cropped.shape[:-1]
    back = step.postprocessing(sample, sample.seg_data[..., 0])
    assert back.shape == labels.shape
    inside = ndimage.find_objects(np.any(image != 0, axis=-1).astype(int))
    expected = labels.copy()
    if inside:
        outside = np.ones(labels.shape, bool)
        outside[inside[0]] = False
        expected[outside] = 0
    np.testing.assert_array_equal(back, expected)


def test_around_the_box_is_background(rng):
    sample = Sample("a", np.pad(np.ones((2, 3)), 2), 1, 3, three_dim=False)
    step = CropNonzero()
    step.preprocessing(sample)
    probabilities = rng.random((2, 3, 3)).astype(np.float32)
    whole = step.postprocessing(sample, probabilities, activation_output=True)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(whole[2:4, 2:5], probabilities)
    assert whole[0, 0].tolist() == [1, 0, 0]
    np.testing.assert_array_equal(step.postprocess_to_labels(sample, probabilities)[2:4, 2:5], probabilities.argmax(-1))
    assert np.count_nonzero(step.postprocess_to_labels(sample, probabilities)) <= 6


def test_nothing_to_crop_returns_the_prediction_itself():
    sample = Sample("a", np.ones((4, 5)), 1, 2, three_dim=False)
    step = CropNonzero()
    step.preprocessing(sample)
    labels = np.zeros((4, 5), np.uint8)
    assert step.postprocessing(sample, labels) is labels


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_around_the_box_is_no_region(rng):
    """Defect: the first region was certain there, so that a group of networks wrote its label."""
    scheme = LabelScheme(3, regions=(Region("whole", (1, 2), 1), Region("core", (2,), 2)))
    image = np.pad(rng.random((4, 5, 1)) + 1, ((2, 2), (3, 3), (0, 0)))
    sample = Sample("a", image, channels=1, classes=3, three_dim=False, scheme=scheme)
    step = CropNonzero()
    step.preprocessing(sample, training=False)
    probabilities = np.full((4, 5, 2), 0.1, np.float32)
    whole = step.postprocessing(sample, probabilities, activation_output=True)
    assert whole.shape == (8, 11, 2)
    assert whole.max() == np.float32(0.1)
    assert not scheme.decide(whole).any()
