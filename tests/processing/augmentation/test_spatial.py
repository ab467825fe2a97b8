"""The spatial transform against batchgenerators' augment_spatial, given the same draws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from batchgenerators.augmentations.spatial_transformations import augment_spatial
from scipy import ndimage

from miscnn_tf.processing.augmentation.spatial import MARGIN, ORDER, Elastic, Spatial

SURROUNDINGS = 40
PATCHES = [(20, 24), (14, 18, 12)]


@pytest.fixture(params=PATCHES, ids=["2D", "3D"])
def patch(request):
    return request.param


def volume(patch):
    """An image with something around the patch, and labels that follow it."""
    shape = [size + 2 * SURROUNDINGS for size in patch]
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), 1.5)
    image = (image / image.std()).astype(np.float32)
    return image, np.digitize(image, [-0.5, 0.7]).astype(np.uint8)


def from_region(spatial, image, labels):
    """The patch in the middle of the volume, transformed from its region only."""
    start, shape = spatial.region()
    assert min(start) >= -SURROUNDINGS, "the volume of this test must hold the region"
    box = tuple(
        slice(SURROUNDINGS + first, SURROUNDINGS + first + size) for first, size in zip(start, shape, strict=True)
    )
    assert image[box].shape == shape
    return spatial.image(image[box][..., np.newaxis])[..., 0], spatial.labels(labels[box])


def from_batchgenerators(monkeypatch, spatial, image, labels):
    """The same by augment_spatial, whose draws are replaced by the values of `spatial`."""
    elastic = spatial.elastic or Elastic(0, 1, 0)
    patch = spatial.patch_shape
    fields = iter(np.random.default_rng(elastic.seed).random((len(patch), *patch), dtype=np.float32))
    monkeypatch.setattr(np.random, "random", lambda size=None: 0.0 if size is None else next(fields))
    monkeypatch.setattr(np.random, "uniform", lambda low=0.0, high=1.0: low)
    angles = [(angle, angle) for angle in (*(spatial.angles or ()), 0, 0, 0)]
    scale = spatial.scale or 1.0
    image, labels = augment_spatial(
        image[np.newaxis, np.newaxis],
        labels[np.newaxis, np.newaxis],
        patch,
        do_elastic_deform=spatial.elastic is not None,
        alpha=(elastic.alpha, elastic.alpha),
        sigma=(elastic.sigma, elastic.sigma),
        do_rotation=spatial.angles is not None,
        angle_x=angles[0],
        angle_y=angles[1],
        angle_z=angles[2],
        do_scale=spatial.scale is not None,
        scale=(scale, scale),
        random_crop=False,
        order_data=ORDER,
    )
    return image[0, 0], labels[0, 0]


@pytest.mark.parametrize(
    ("deformed", "turned", "scale"),
    [case for case in itertools.product([False, True], [False, True], [None, 0.85, 1.25]) if any(case)],
)
def test_equals_augment_spatial(monkeypatch, patch, deformed, turned, scale):
    spatial = Spatial(
        patch,
        (0.2, -0.1, 0.25)[: 1 if len(patch) == 2 else 3] if turned else None,
        scale,
        Elastic(alpha=60.0 if len(patch) == 2 else 250.0, sigma=4.0, seed=11) if deformed else None,
    )
    image, labels = volume(patch)
    ours = from_region(spatial, image, labels)
    theirs = from_batchgenerators(monkeypatch, spatial, image, labels)
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-3)
    assert np.mean(ours[1] == theirs[1]) > 0.999
    # The transform is no small thing: the patch as it was read is something else.
    middle = tuple(slice(SURROUNDINGS, SURROUNDINGS + size) for size in patch)
    assert np.abs(ours[0] - image[middle]).max() > 0.5


def test_a_quarter_turn_is_exact():
    image = np.random.default_rng(0).normal(size=(60, 60)).astype(np.float32)
    spatial = Spatial((16, 16), angles=(math.pi / 2,))
    start, shape = spatial.region()
    box = tuple(slice(20 + first, 20 + first + size) for first, size in zip(start, shape, strict=True))
    turned = spatial.image(image[box][..., np.newaxis])[..., 0]
    assert min(np.abs(turned - np.rot90(image[20:36, 20:36], k)).max() for k in (1, 3)) < 1e-4


def test_only_what_a_scale_below_one_needs_is_read():
    start, shape = Spatial((100, 100), scale=0.5).region()
    assert start == (24 - MARGIN, 24 - MARGIN)
    assert shape == (52 + 2 * MARGIN, 52 + 2 * MARGIN)


def test_labels_keep_their_dtype_and_values(patch):
    spatial = Spatial(patch, (0.3,) * (1 if len(patch) == 2 else 3), 1.1)
    _, shape = spatial.region()
    for dtype in (np.uint8, np.uint16, np.int32):
        labels = np.random.default_rng(0).choice(np.array([0, 3, 200], dtype), size=shape)
        moved = spatial.labels(labels)
        assert moved.dtype == dtype
        assert set(np.unique(moved)) <= {0, 3, 200}


def test_each_channel_is_transformed_alike(patch):
    spatial = Spatial(patch, (0.1,) * (1 if len(patch) == 2 else 3))
    _, shape = spatial.region()
    image = np.random.default_rng(0).normal(size=(*shape, 3)).astype(np.float32)
    together = spatial.image(image)
    for channel in range(3):
        np.testing.assert_array_equal(together[..., [channel]], spatial.image(image[..., [channel]]))


def test_a_plan_is_compared_by_its_values(patch):
    assert Spatial(patch, elastic=Elastic(5, 3, 1)) == Spatial(patch, elastic=Elastic(5, 3, 1))
    assert Spatial(patch, elastic=Elastic(5, 3, 1)) != Spatial(patch, elastic=Elastic(5, 3, 2))
