"""nnU-Net's resampling and patches, compared with scikit-image and SciPy in the way that nnU-Net calls them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.transform import resize

from miscnn_tf.data_loading.label_scheme import LabelScheme, Region
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.assembling import weighted
from miscnn_tf.processing.patching.blending import window_weights
from miscnn_tf.processing.patching.grid import PatchGrid, axis_starts
from miscnn_tf.processing.subfunctions import NnUNetResampling


def sample_of(image: np.ndarray, spacing) -> Sample:
    return Sample("a", image, channels=image.shape[-1], classes=2, extended={"spacing": spacing})


def across_slices(volume: np.ndarray, axis: int, size: int, order: int) -> np.ndarray:
    """Interpolate along one axis on a grid of the same extent."""
    grid = [np.arange(length, dtype=float) for length in volume.shape]
    grid[axis] = volume.shape[axis] / size * (np.arange(size) + 0.5) - 0.5
    return ndimage.map_coordinates(volume, np.meshgrid(*grid, indexing="ij"), order=order, mode="nearest")


@pytest.mark.parametrize("order_across", [0, 1])
@pytest.mark.parametrize(("axis", "spacing"), [(2, (0.8, 0.9, 4.0)), (0, (5.0, 1.0, 0.9)), (1, (1.0, 3.6, 1.1))])
def test_thick_slices_are_resampled_one_by_one(rng, axis, spacing, order_across):
    image = rng.random((13, 11, 12, 2)).astype(np.float32) ** 4  # splines overshoot
    target = tuple(length * factor for length, factor in zip(spacing, (1.3, 0.7, 1.2), strict=True))
    sample, step = sample_of(image.copy(), spacing), NnUNetResampling(target, order_across=order_across)
    step.preprocessing(sample, training=False)
    shape = tuple(round(size * old / new) for size, old, new in zip(image.shape[:3], spacing, target, strict=True))
    assert sample.img_data.shape[:3] == shape
    within = [size for place, size in enumerate(shape) if place != axis]
    for channel in range(2):
        slices = [
            resize(image[..., channel].take(place, axis).astype(float), within, 3, mode="edge", anti_aliasing=False)
            for place in range(image.shape[axis])
        ]
        expected = across_slices(np.stack(slices, axis), axis, shape[axis], order_across)
        np.testing.assert_allclose(sample.img_data[..., channel], expected, atol=2e-6)
    probabilities = rng.random((*shape, 2)).astype(np.float32)
    back = step.postprocessing(sample, probabilities, activation_output=True)
    for channel in range(2):
        whole = probabilities[..., channel].astype(float)
        inner = [size for place, size in enumerate(image.shape[:3]) if place != axis]
        slices = [
            resize(whole.take(place, axis), inner, 1, mode="edge", anti_aliasing=False) for place in range(shape[axis])
        ]
        expected = across_slices(np.stack(slices, axis), axis, image.shape[axis], order_across)
        np.testing.assert_allclose(back[..., channel], expected, atol=2e-6)


@pytest.mark.parametrize(
    ("spacing", "target"),
    [((1.1, 0.9, 1.6), (1.2, 1.0, 1.5)), ((1.0, 1.0, 3.0), (1.2, 1.0, 1.0)), ((4.0, 4.0, 1.0), (2.0, 2.0, 1.0))],
)
def test_other_volumes_are_resampled_as_a_whole(rng, spacing, target):
    """Also at a ratio of exactly 3, and with two coarse axes."""
    image = rng.random((9, 10, 11, 1)).astype(np.float32)
    sample = sample_of(image.copy(), spacing)
    NnUNetResampling(target).preprocessing(sample, training=False)
    shape = tuple(round(size * old / new) for size, old, new in zip(image.shape[:3], spacing, target, strict=True))
    expected = resize(image[..., 0].astype(float), shape, 3, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(sample.img_data[..., 0], expected, atol=2e-6)


def test_slices_keep_their_distance(rng):
    sample = sample_of(rng.random((5, 10, 11, 1)).astype(np.float32), (2.0, 1.0, 1.0))
    NnUNetResampling(("keep", 2.0, 1.25)).preprocessing(sample, training=False)
    assert sample.img_data.shape == (5, 5, 9, 1)


@pytest.mark.parametrize("size", [16, 17, 23, 24, 28, 100])
def test_patches_are_distributed_evenly(size):
    """nnU-Net's compute_steps_for_sliding_window: as many patches, with equal steps."""
    starts = axis_starts(size, 16, 8, even=True)
    number = int(np.ceil((size - 16) / 8)) + 1
    assert list(starts) == [int(np.round(place)) for place in np.linspace(0, size - 16, number)]
    assert PatchGrid((size, 16), (16, 16), 8, even=True).starts == (starts, (0,))
    assert len(axis_starts(size, 16, 8)) == number


@pytest.mark.parametrize("window", [1, 7, 16])
def test_the_weights_are_those_of_a_filtered_impulse(window):
    """nnU-Net filters an impulse at the voxel ``window // 2``."""
    impulse = np.zeros(window)
    impulse[window // 2] = 1
    expected = ndimage.gaussian_filter(impulse, window / 8, mode="constant")
    starts = (0, window // 2) if window > 1 else (0,)
    weights = window_weights(starts, window, "nnunet")
    total = np.zeros(starts[-1] + window)
    for start in starts:
        total[start : start + window] += expected
    for found, start in zip(weights, starts, strict=True):
        np.testing.assert_allclose(found, expected / total[start : start + window], rtol=1e-3)


def test_probabilities_of_logits(rng):
    logits = (40 * rng.standard_normal((3, 4, 5, 3))).astype(np.float32)
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    expected = shifted / shifted.sum(-1, keepdims=True)
    np.testing.assert_allclose(LabelScheme(3).probabilities(logits.copy()), expected, atol=1e-6)
    regions = LabelScheme(3, regions=(Region("whole", (1, 2), 1), Region("core", (2,), 2)))
    pair = logits[..., :2] / 20
    np.testing.assert_allclose(regions.probabilities(pair + 0.5), 1 / (1 + np.exp(-pair)), atol=1e-6)
    labels = regions.decide(pair + 0.5)
    np.testing.assert_array_equal(labels, np.where(pair[..., 1] > 0, 2, np.where(pair[..., 0] > 0, 1, 0)))


def test_a_threshold_decides_alike_for_logits(rng):
    probabilities = rng.dirichlet(np.ones(2), (4, 5)).astype(np.float32)
    (one,) = weighted(iter([probabilities]), 0.3, LabelScheme(2))
    (other,) = weighted(iter([np.log(probabilities)]), 0.3, LabelScheme(2), logits=True)
    np.testing.assert_array_equal(one.argmax(-1), other.argmax(-1))
    np.testing.assert_array_equal(one.argmax(-1), probabilities[..., 1] > 0.3)
    for threshold, label in ((0.0, 1), (1.0, 0)):  # a weight of 0 is not minus infinity, which would blend to NaN
        (extreme,) = weighted(iter([np.log(probabilities)]), threshold, LabelScheme(2), logits=True)
        assert np.isfinite(extreme).all()
        assert (extreme.argmax(-1) == label).all()


def test_mistakes():
    with pytest.raises(ConfigurationError, match="order_across must be a whole number from 0 to 1"):
        NnUNetResampling(order_across=2)
