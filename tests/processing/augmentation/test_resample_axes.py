"""Resampling axis by axis against SciPy's general interpolation, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from miscnn_tf.processing.augmentation.spatial import ORDER, Spatial, resample_axes


@pytest.fixture(params=[(30, 25), (18, 20, 15)], ids=["2D", "3D"])
def places(request, rng):
    return request.param, [rng.uniform(1, size - 3, size=7 + axis) for axis, size in enumerate(request.param)]


def test_smooth_equals_map_coordinates(places, rng):
    shape, wanted = places
    image = rng.normal(size=shape).astype(np.float32)
    grid = np.meshgrid(*wanted, indexing="ij")
    ours = resample_axes(image, wanted)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(
        ours, ndimage.map_coordinates(image.astype(float), grid, order=ORDER, mode="mirror"), atol=1e-5
    )


def test_smooth_passes_through_the_voxels(places, rng):
    shape, _ = places
    image = rng.normal(size=shape).astype(np.float32)
    inner = tuple(slice(1, size - 2) for size in shape)
    whole = resample_axes(image, [np.arange(1.0, size - 2) for size in shape])
    np.testing.assert_allclose(whole, image[inner], atol=1e-5)


@pytest.mark.parametrize("shape", [(30, 25), (18, 20, 15)])
def test_nearest_equals_map_coordinates(shape, rng):
    zoom = Spatial(shape, scale=0.9)
    start, read = zoom.region()
    labels = rng.integers(5, size=read).astype(np.uint8)
    wanted = [(np.arange(n) - (n - 1) / 2) * 0.9 + (n - 1) / 2 - s for n, s in zip(shape, start, strict=True)]
    ours = zoom.labels(labels)
    assert ours.dtype == np.uint8
    grid = np.meshgrid(*wanted, indexing="ij")
    np.testing.assert_array_equal(ours, ndimage.map_coordinates(labels, grid, order=0))
