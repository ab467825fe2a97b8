"""Blur, low resolution and gamma of nnU-Net, against closed forms and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from miscnn_tf.processing.augmentation.nnunet_intensity import Blur, KeptGamma, LowResolution, gaussian_kernel

SHAPES = [(13, 16), (9, 12, 11)]


@pytest.fixture(params=SHAPES, ids=["2D", "3D"])
def image(request, rng):
    return rng.normal(3.0, 2.0, size=(*request.param, 2)).astype(np.float32)


@pytest.mark.parametrize(("sigma", "size"), [(0.5, 3), (0.6, 5), (0.8, 5), (1.0, 7)])
def test_kernel(sigma, size):
    kernel = gaussian_kernel(sigma)
    assert len(kernel) == size
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(kernel, kernel[::-1])
    assert kernel[size // 2 + 1] / kernel[size // 2] == pytest.approx(np.exp(-0.5 / sigma**2))


def test_blur_equals_the_truncated_gaussian_of_scipy_and_leaves_other_channels(image):
    before = image.copy()
    axes = image.ndim - 1
    Blur(((1.0,) * axes, None))(image)
    expected = ndimage.gaussian_filter(before[..., 0].astype(float), 1.0, mode="mirror", radius=3)
    np.testing.assert_allclose(image[..., 0], expected, atol=1e-5)
    np.testing.assert_array_equal(image[..., 1], before[..., 1])


def test_low_resolution_of_half_the_voxels_interpolates_every_second_voxel():
    image = np.arange(8, dtype=np.float32).reshape(8, 1, 1) ** 2
    LowResolution(((0.5, 1.0),))(image)
    taken = np.array([1, 9, 25, 49.0])  # voxels 1, 3, 5 and 7
    places = (np.arange(8) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(image[:, 0, 0], np.interp(places, np.arange(4), taken), rtol=1e-6)


def test_low_resolution_with_all_voxels_changes_nothing(image):
    before = image.copy()
    axes = image.ndim - 1
    LowResolution(((1.0,) * axes, None))(image)
    np.testing.assert_array_equal(image, before)


def test_low_resolution_keeps_a_single_voxel():
    image = np.full((8, 1, 1), 5, np.float32)
    LowResolution(((0.5, 0.5),))(image)
    np.testing.assert_array_equal(image, 5)


@pytest.mark.parametrize("invert", [False, True])
def test_gamma_keeps_mean_and_deviation_and_has_the_closed_form(image, invert):
    before = image.astype(np.float64)
    KeptGamma((0.7, 1.4), invert)(image)
    for channel, exponent in enumerate((0.7, 1.4)):
        values = before[..., channel] * (-1 if invert else 1)
        changed = ((values - values.min()) / np.ptp(values)) ** exponent
        changed = (changed - changed.mean()) / changed.std() * values.std() + values.mean()
        np.testing.assert_allclose(image[..., channel], changed * (-1 if invert else 1), atol=1e-5)


def test_gamma_of_a_constant_image_changes_nothing():
    image = np.full((5, 6, 1), 7.5, np.float32)
    KeptGamma((1.3,))(image)
    np.testing.assert_allclose(image, 7.5)
