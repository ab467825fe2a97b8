"""Rotation and scaling with linear interpolation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from miscnn_tf.processing.augmentation.linear_spatial import LinearSpatial

QUARTER = math.pi / 2
CASES = [
    LinearSpatial((14, 11), (2.2,), 1.3),
    LinearSpatial((12, 9, 10), (0.4, -0.3, 0.5), 0.8),
    LinearSpatial((12, 9, 4), (1.9,), 1.4, slices_along=2),
]
IDS = ["2D", "3D", "within slices"]


def region_of(transform, rng, labels=False):
    _, shape = transform.region()
    return rng.integers(0, 4, shape).astype(np.uint8) if labels else rng.normal(size=(*shape, 1)).astype(np.float32)


def test_a_quarter_turn_is_exact(rng):
    transform = LinearSpatial((9, 9), (QUARTER,))
    region = region_of(transform, rng)
    start, _ = transform.region()
    patch = region[tuple(slice(-first, 9 - first) for first in start)][..., 0]
    turned = transform.image(region)[..., 0]
    np.testing.assert_allclose(turned, np.rot90(patch, -1), atol=1e-5)


def test_matrix_is_the_product_of_the_rotations_around_x_y_and_z():
    around_x, around_y, around_z = (
        LinearSpatial((8, 8, 8), angles).matrix for angles in ((0.3, 0, 0), (0, -0.2, 0), (0, 0, 0.5))
    )
    np.testing.assert_allclose(around_x[0], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(around_y[1], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(around_z[2], [0, 0, 1], atol=1e-12)
    both = LinearSpatial((8, 8, 8), (0.3, -0.2, 0.5), 1.2).matrix
    np.testing.assert_allclose(both, 1.2 * around_x @ around_y @ around_z, atol=1e-12)


def test_slices_are_not_mixed(rng):
    transform = CASES[2]
    region = region_of(transform, rng)
    changed = region.copy()
    changed[:, :, 2] += 1  # the patch's slice 1
    difference = np.abs(transform.image(changed) - transform.image(region)).max(axis=(0, 1, 3))
    np.testing.assert_allclose(difference, [0, 1, 0, 0], atol=1e-5)


@pytest.mark.parametrize("transform", CASES, ids=IDS)
def test_labels_have_the_largest_interpolated_share(transform, rng):
    region = region_of(transform, rng, labels=True)
    shares = np.stack([transform.image((region == one)[..., np.newaxis])[..., 0] for one in range(4)])
    chosen = np.take_along_axis(shares, transform.labels(region)[np.newaxis].astype(np.intp), 0)[0]
    # float16 does not distinguish shares that differ by less than 0.0005.
    assert (shares.max(axis=0) - chosen).max() < 1e-3


@pytest.mark.parametrize("transform", CASES, ids=IDS)
def test_labels_between_equal_shares_are_the_nearest(transform, rng):
    region = region_of(transform, rng, labels=True)
    same = np.full_like(region, 3)
    np.testing.assert_array_equal(transform.labels(same), 3)
    unmoved = LinearSpatial(transform.patch_shape)
    inner = tuple(slice(1, 1 + size) for size in transform.patch_shape)
    labels = region_of(unmoved, rng, labels=True)
    np.testing.assert_array_equal(unmoved.labels(labels), labels[inner])


@pytest.mark.parametrize("transform", CASES, ids=IDS)
def test_region_holds_all_that_is_read(transform, rng):
    region = region_of(transform, rng)
    wider = np.pad(region, [(3, 3)] * len(transform.patch_shape) + [(0, 0)], constant_values=np.nan)
    start, _ = transform.region()
    centre = (np.array(transform.patch_shape) - 1) / 2
    offset = centre - np.array(start) + 3 - transform.matrix @ centre
    expected = ndimage.affine_transform(wider[..., 0], transform.matrix, offset, transform.patch_shape, order=1)
    np.testing.assert_allclose(transform.image(region)[..., 0], expected, atol=1e-5)
