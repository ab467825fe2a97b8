"""Quadratic splines against SciPy's in float64, and against functions whose values between the voxels are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from miscnn_tf.processing.augmentation.spatial import ORDER, Spatial, coefficients, sample_rows


@given(st.lists(st.integers(1, 30), min_size=2, max_size=3), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_coefficients_are_those_of_scipy(shape, seed):
    image = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    before = image.copy()
    ours = coefficients(image)
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    np.testing.assert_allclose(ours, ndimage.spline_filter(image.astype(float), order=ORDER), atol=2e-5)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float64])
def test_any_type_and_memory_layout(kind, rng):
    image = np.asfortranarray(rng.integers(0, 200, size=(9, 8, 7)).astype(kind))
    expected = ndimage.spline_filter(image.astype(float), order=ORDER)
    np.testing.assert_allclose(coefficients(image), expected, rtol=1e-5, atol=1e-3)


def test_an_offset_far_above_the_contrast(rng):
    image = (1e4 + rng.normal(size=(20, 20, 20))).astype(np.float32)
    places = [np.arange(2.0, 17.0)] * 3
    value = coefficients(image)
    for wanted in reversed(places):
        value = sample_rows(np.ascontiguousarray(np.moveaxis(value, -1, 0)), wanted)
    np.testing.assert_allclose(value, image[2:17, 2:17, 2:17], atol=0.05)


def waves(places):
    """A sum of waves of 4 to 20 voxels' length, of standard deviation 1, at any places."""
    rng = np.random.default_rng(5)
    total = np.zeros(places.shape[1:])
    for _ in range(40):
        direction = rng.normal(size=len(places))
        direction *= 2 * np.pi / rng.uniform(4, 20) / np.linalg.norm(direction)
        total += np.cos(np.tensordot(direction, places, 1) + rng.uniform(0, 2 * np.pi))
    return total / np.sqrt(20)


@pytest.mark.parametrize(
    "spatial",
    [Spatial((25, 31), (0.2,)), Spatial((25, 31), None, 0.9), Spatial((15, 17, 12), (0.2, -0.1, 0.15), 1.1)],
    ids=["turned", "scaled", "both"],
)
def test_the_order_is_high_enough(spatial):
    """Within 1 % of the truth and of the reference's cubic splines, on what linear interpolation blurs."""
    start, shape = spatial.region()
    centre = (np.array(spatial.patch_shape) - 1) / 2
    region = waves(np.stack(np.meshgrid(*(np.arange(n) + s for n, s in zip(shape, start, strict=True)), indexing="ij")))
    grid = np.stack(
        np.meshgrid(*(np.arange(n) - c for n, c in zip(spatial.patch_shape, centre, strict=True)), indexing="ij")
    )
    sources = np.tensordot(spatial.matrix, grid, 1) + centre.reshape(-1, *[1] * len(centre))
    truth = waves(sources)
    ours = spatial.image(region.astype(np.float32)[..., np.newaxis])[..., 0]
    inside = sources - np.reshape(start, (-1, *[1] * len(centre)))
    others = {order: ndimage.map_coordinates(region, inside, order=order) for order in (1, 3)}

    def distance(one, other):
        return np.sqrt(np.mean((one - other) ** 2))

    assert distance(ours, truth) < 0.01
    assert distance(ours, others[3]) < 0.01
    assert distance(ours, truth) < 0.15 * distance(others[1], truth)


def test_the_margin_is_enough_for_white_noise(rng):
    """What lies beyond the margin changes nothing that could be seen."""
    spatial = Spatial((20, 20), (0.2,), 1.1)
    start, shape = spatial.region()
    image = rng.normal(size=[size + 40 for size in shape]).astype(np.float32)
    inner = image[20:-20, 20:-20, np.newaxis]
    places = np.stack(np.meshgrid(*[np.arange(20.0) - 9.5] * 2, indexing="ij"))
    places = np.tensordot(spatial.matrix, places, 1) + 9.5 - np.reshape(start, (2, 1, 1)) + 20
    expected = ndimage.map_coordinates(image.astype(float), places, order=ORDER)
    np.testing.assert_allclose(spatial.image(inner)[..., 0], expected, atol=1e-3)
