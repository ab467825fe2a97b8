"""Resampling axis by axis against SciPy's general interpolation, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from miscnn_tf.processing.augmentation import separable
from miscnn_tf.processing.augmentation.spline import ORDER


@pytest.fixture(params=[(30, 25), (18, 20, 15)], ids=["2D", "3D"])
def places(request, rng):
    return request.param, [rng.uniform(1, size - 3, size=7 + axis) for axis, size in enumerate(request.param)]


def test_smooth_equals_map_coordinates(places, rng):
    shape, wanted = places
    image = rng.normal(size=shape).astype(np.float32)
    grid = np.meshgrid(*wanted, indexing="ij")
    ours = separable.smooth(image, wanted)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(
        ours, ndimage.map_coordinates(image.astype(float), grid, order=ORDER, mode="mirror"), atol=1e-5
    )


def test_smooth_passes_through_the_voxels(places, rng):
    shape, _ = places
    image = rng.normal(size=shape).astype(np.float32)
    inner = tuple(slice(1, size - 2) for size in shape)
    whole = separable.smooth(image, [np.arange(1.0, size - 2) for size in shape])
    np.testing.assert_allclose(whole, image[inner], atol=1e-5)


def test_nearest_equals_map_coordinates(places, rng):
    shape, wanted = places
    labels = rng.integers(5, size=shape).astype(np.uint8)
    grid = np.meshgrid(*wanted, indexing="ij")
    ours = separable.nearest(labels, wanted)
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(ours, ndimage.map_coordinates(labels, grid, order=0))
