"""A plan applied to its region equals the transform of the whole volume; nothing that is passed in is written to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from batchgenerators.augmentations.utils import (
    create_zero_centered_coordinate_mesh,
    rotate_coords_2d,
    rotate_coords_3d,
    scale_coords,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.augmentation.drawn_augmentation import Augmentation
from miscnn_tf.processing.augmentation.intensity import Brightness, Gamma, Noise
from miscnn_tf.processing.augmentation.spatial import ORDER, Elastic, Spatial

SIZE = {2: 120, 3: 72}
# White noise is the hardest image to interpolate.
VOLUMES = {
    ndim: np.random.default_rng(ndim).normal(size=(size,) * ndim).astype(np.float32) for ndim, size in SIZE.items()
}


@st.composite
def plans(draw):
    ndim = draw(st.sampled_from([2, 3]))
    patch = tuple(draw(st.integers(1, 20)) for _ in range(ndim))
    angle = st.floats(-0.26, 0.26)
    angles = draw(st.none() | st.tuples(*[angle] * (1 if ndim == 2 else 3)))
    scale = draw(st.none() | st.floats(0.85, 1.25))
    elastic = draw(st.none() | st.builds(Elastic, st.floats(0, 40), st.floats(3, 6), st.integers(0, 9)))
    mirror = tuple(axis for axis in range(ndim) if draw(st.booleans()))
    spatial = Spatial(patch, angles, scale, elastic) if (angles or scale or elastic) else None
    return Augmentation(patch, mirror, spatial)


def whole_volume(plan, volume, corner, order):
    """The same patch by interpolating in the whole volume, in float64."""
    places = create_zero_centered_coordinate_mesh(plan.patch_shape)
    if plan.spatial is not None:
        if plan.spatial.elastic is not None:
            places = places + plan.spatial.elastic.displacements(plan.patch_shape)
        if plan.spatial.angles is not None:
            places = (rotate_coords_2d if len(places) == 2 else rotate_coords_3d)(places, *plan.spatial.angles)
        if plan.spatial.scale is not None:
            places = scale_coords(places, plan.spatial.scale)
    for axis, (first, size) in enumerate(zip(corner, plan.patch_shape, strict=True)):
        places[axis] = (-1 if axis in plan.mirror else 1) * places[axis] + first + (size - 1) / 2
    return ndimage.map_coordinates(volume.astype(float), places, order=order), places


@given(plans())
@settings(max_examples=60, deadline=None)
def test_the_region_is_all_that_is_needed(plan):
    volume = VOLUMES[len(plan.patch_shape)]
    corner = tuple((full - size) // 2 for full, size in zip(volume.shape, plan.patch_shape, strict=True))
    start, shape = plan.region(plan.patch_shape)
    begin = np.add(corner, start)
    assert (begin >= 0).all()
    box = tuple(slice(first, first + size) for first, size in zip(begin, shape, strict=True))
    labels = (volume > 0).astype(np.uint8)
    image, moved = plan.apply(volume[box][..., np.newaxis], labels[box], plan.patch_shape)
    expected, places = whole_volume(plan, volume, corner, order=ORDER)
    np.testing.assert_allclose(image[..., 0], expected, atol=1e-3)
    expected_labels, _ = whole_volume(plan, labels, corner, order=0)
    # Where a place lies in the middle between two voxels, rounding decides.
    clear = (np.abs(places % 1 - 0.5) > 1e-3).all(axis=0)
    np.testing.assert_array_equal(moved[clear], expected_labels[clear])


def test_nothing_drawn_gives_the_arrays_themselves():
    image, labels = np.ones((4, 5, 6, 2), np.float32), np.ones((4, 5, 6), np.uint8)
    plan = Augmentation((4, 5, 6))
    assert plan.identity
    assert plan.region((4, 5, 6)) == ((0, 0, 0), (4, 5, 6))
    out = plan.apply(image, labels, (4, 5, 6))
    assert out[0] is image
    assert out[1] is labels


def test_a_mirror_is_an_exact_flip(rng):
    image, labels = rng.normal(size=(4, 5, 6, 2)).astype(np.float32), rng.integers(3, size=(4, 5, 6)).astype(np.uint8)
    flipped, moved = Augmentation((4, 5, 6), mirror=(0, 2)).apply(image, labels, (4, 5, 6))
    np.testing.assert_array_equal(flipped, image[::-1, :, ::-1])
    np.testing.assert_array_equal(moved, labels[::-1, :, ::-1])


@pytest.mark.parametrize("mirror", [(), (0, 1)])
@pytest.mark.parametrize("spatial", [None, Spatial((12, 12), (0.1,))], ids=["straight", "turned"])
def test_what_is_passed_in_is_not_written_to(mirror, spatial, rng):
    plan = Augmentation((12, 12), mirror, spatial, (Brightness((2.0,)), Gamma((0.8,)), Noise(0.1, 1)))
    _, shape = plan.region((12, 12))
    image, labels = rng.normal(size=(*shape, 1)).astype(np.float32), rng.integers(3, size=shape).astype(np.uint8)
    # As a read-only memory map or a cached array would be.
    image.flags.writeable = labels.flags.writeable = False
    before = image.copy()
    out, _ = plan.apply(image, labels, (12, 12))
    np.testing.assert_array_equal(image, before)
    assert out.dtype == np.float32
    assert not np.array_equal(out, image)


def test_intensity_transforms_leave_labels_alone(rng):
    plan = Augmentation((8, 8), intensity=(Brightness((2.0,)),))
    labels = rng.integers(3, size=(8, 8)).astype(np.uint8)
    assert plan.apply(np.ones((8, 8, 1), np.float32), labels, (8, 8))[1] is labels


def test_labels_that_do_not_follow_may_be_anything():
    plan = Augmentation((8, 8), mirror=(0,), labels_follow=False)
    target = np.array([3])
    assert plan.apply(np.ones((8, 8, 1), np.float32), target, (8, 8))[1] is target


def test_wrong_shapes_are_named():
    plan = Augmentation((8, 8), spatial=Spatial((8, 8), (0.1,)))
    with pytest.raises(ConfigurationError, match=r"\(8, 8\).*not \(9, 8\)"):
        plan.region((9, 8))
    with pytest.raises(ConfigurationError, match=r"the image is \(8, 8\)"):
        plan.apply(np.ones((8, 8, 1), np.float32), None, (8, 8))
    _, shape = plan.region((8, 8))
    with pytest.raises(ConfigurationError, match=r"the label map is \(8, 8\)"):
        plan.apply(np.ones((*shape, 1), np.float32), np.ones((8, 8), np.uint8), (8, 8))


def test_threads_share_a_plan(rng):
    spatial = Spatial((20, 20, 20), (0.1, 0.2, -0.1), 1.1, Elastic(100, 5, 2))
    plan = Augmentation((20, 20, 20), (1,), spatial, (Gamma((0.8,)), Noise(0.1, 1)))
    _, shape = plan.region((20, 20, 20))
    image, labels = rng.normal(size=(*shape, 1)).astype(np.float32), rng.integers(3, size=shape).astype(np.uint8)
    alone = plan.apply(image, labels, (20, 20, 20))
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: plan.apply(image, labels, (20, 20, 20)), range(8)):
            np.testing.assert_array_equal(result[0], alone[0])
            np.testing.assert_array_equal(result[1], alone[1])
