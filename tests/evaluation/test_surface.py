"""Surface distances against DeepMind's code, SimpleITK, a search through all pairs, and closed forms."""

import math
import tracemalloc
from unittest import mock

import numpy as np
import pytest
import SimpleITK
import surface_distance
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.evaluation import surface
from miscnn_tf.evaluation.surface import class_surface_distances, element_areas, surface_distances

# DeepMind's package calls SciPy by names that are going.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:surface_distance")

FIGURES = {"hd95": lambda d: d.hausdorff(), "assd": lambda d: d.average(), "nsd": lambda d: d.surface_dice(1.0)}


def blob(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return ndimage.gaussian_filter(rng.normal(size=shape), 2) > 0.02


def ball(shape: tuple[int, ...], spacing: tuple[float, ...], radius: float, shift: float = 0.0) -> np.ndarray:
    """Voxels within `radius` mm of the middle of the grid, or `shift` mm beside it along the first axis."""
    squared = np.zeros(shape)
    for axis, (size, length) in enumerate(zip(shape, spacing, strict=True)):
        place = (np.arange(size) - (size - 1) / 2) * length - (shift if axis == 0 else 0)
        squared = squared + (place**2).reshape([-1 if one == axis else 1 for one in range(len(shape))])
    return squared <= radius**2


def corners(mask: np.ndarray) -> np.ndarray:
    """The corners at which the surface lies, by other means than the code: where a 2-wide filter sees both."""
    padded = np.pad(mask, 1).astype(np.uint8)
    most, least = ndimage.maximum_filter(padded, 2, origin=-1), ndimage.minimum_filter(padded, 2, origin=-1)
    return (most != least)[(slice(0, -1),) * mask.ndim]


@pytest.mark.parametrize(("shape", "spacing"), [((18, 22, 20), (1.0, 1.5, 2.5)), ((44, 40), (0.7, 1.3))])
def test_against_deepmind(rng, shape, spacing):
    for _ in range(5):
        truth, pred = blob(rng, shape), blob(rng, shape)
        theirs = surface_distance.compute_surface_distances(truth, pred, spacing)
        ours = surface_distances(truth, pred, spacing)
        np.testing.assert_allclose(ours.to_pred, theirs["distances_gt_to_pred"], atol=1e-12)
        np.testing.assert_allclose(ours.to_truth, theirs["distances_pred_to_gt"], atol=1e-12)
        for percent in (50, 95, 100):
            expected = surface_distance.compute_robust_hausdorff(theirs, percent)
            assert ours.hausdorff(percent) == pytest.approx(expected, rel=1e-9)
        for tolerance in (0.0, 1.1, 3.2):
            expected = surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance)
            assert ours.surface_dice(tolerance) == pytest.approx(expected, rel=1e-9)
        means = surface_distance.compute_average_surface_distance(theirs)
        areas = theirs["surfel_areas_gt"].sum(), theirs["surfel_areas_pred"].sum()
        assert ours.average() == pytest.approx(np.average(means, weights=areas), rel=1e-9)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.5, 5.0)])
def test_areas_are_deepminds(spacing):
    from surface_distance import lookup_tables

    theirs = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    bits = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL.ravel()  # the order of itertools.product
    codes = [sum(int(bit) for place, bit in enumerate(bits) if code >> place & 1) for code in range(256)]
    np.testing.assert_allclose(element_areas(spacing), theirs[codes], atol=1e-9)


@pytest.mark.parametrize(("shape", "spacing"), [((20, 18, 16), (1.0, 1.5, 3.0)), ((40, 30), (2.0, 0.5))])
def test_against_simpleitks_signed_distance_map(rng, shape, spacing):
    truth, pred = blob(rng, shape), blob(rng, shape)
    expected = []
    for start, goal in ((corners(truth), corners(pred)), (corners(pred), corners(truth))):
        image = SimpleITK.GetImageFromArray(goal.astype(np.uint8))
        image.SetSpacing(spacing[::-1])
        distances = SimpleITK.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
        expected.append(np.sort(np.maximum(SimpleITK.GetArrayFromImage(distances), 0)[start]))
    found = surface_distances(truth, pred, spacing)
    np.testing.assert_allclose(found.to_pred, expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.to_truth, expected[1], rtol=1e-5, atol=1e-5)


def test_hausdorff_distance_against_simpleitk():
    # SimpleITK measures between all voxels of solids; of boxes, one moved, that is what the surfaces give.
    truth, pred = np.zeros((2, 30, 28, 26), np.uint8)
    truth[4:16, 5:15, 6:14] = 1
    pred[8:20, 7:17, 6:14] = 1
    spacing = (0.5, 1.25, 3.0)
    images = []
    for mask in (truth, pred):
        images.append(SimpleITK.GetImageFromArray(mask))
        images[-1].SetSpacing(spacing[::-1])
    measure = SimpleITK.HausdorffDistanceImageFilter()
    measure.Execute(*images)
    found = surface_distances(truth, pred, spacing).hausdorff(100)
    assert found == pytest.approx(measure.GetHausdorffDistance(), rel=1e-9)
    assert found == pytest.approx(math.hypot(4 * 0.5, 2 * 1.25), rel=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_millimetres_along_each_axis(axis):
    """users.md: HD95 in voxels."""
    spacing = (0.5, 1.25, 3.0)
    truth = np.zeros((30, 30, 30), bool)
    truth[8:18, 8:18, 8:18] = True
    pred = np.roll(truth, 3, axis)
    distances = surface_distances(truth, pred, spacing)
    assert distances.hausdorff() == pytest.approx(3 * spacing[axis])
    assert distances.hausdorff(100) == pytest.approx(3 * spacing[axis])
    assert distances.surface_dice(3 * spacing[axis]) == 1
    assert distances.surface_dice(3 * spacing[axis] - 1e-3) < 1


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 1.0, 2.0), (0.5, 0.5, 0.5)])
def test_concentric_balls(spacing):
    shape = tuple(round(56 / length) for length in spacing)
    distances = surface_distances(ball(shape, spacing, 24), ball(shape, spacing, 18), spacing)
    # The elements of a curved surface lie up to half a voxel beside it, and the nearest of them counts.
    coarse = np.mean(spacing)
    assert 6 - 0.7 * coarse < distances.average() < 6
    assert distances.hausdorff() == pytest.approx(6, abs=coarse)
    assert distances.surface_dice(6 + 2 * max(spacing)) == 1
    assert distances.surface_dice(6 - 2 * max(spacing)) == 0
    # Triangles on a ball of voxels are too large by 10 to 20 %: they cannot be slanted at will.
    assert distances.truth_areas.sum() == pytest.approx(4 * math.pi * 24**2, rel=0.2)
    assert distances.pred_areas.sum() == pytest.approx(4 * math.pi * 18**2, rel=0.2)


def test_areas_of_a_box():
    mask = np.zeros((40, 40, 40), bool)
    mask[5:35, 4:36, 10:30] = True
    lengths = np.array([30 * 0.5, 32 * 1.5, 20 * 3.0])
    areas = surface_distances(mask, mask, (0.5, 1.5, 3.0)).truth_areas
    faces = 2 * (lengths[0] * lengths[1] + lengths[1] * lengths[2] + lengths[2] * lengths[0])
    assert areas.sum() == pytest.approx(faces, rel=0.05)
    square = np.zeros((30, 30), bool)
    square[5:25, 5:25] = True
    # The four corners are cut off: each a diagonal of half a voxel's instead of two halves of its sides.
    assert surface_distances(square, square, (1, 2)).truth_areas.sum() == pytest.approx(
        2 * 19 + 2 * 19 * 2 + 4 * math.sqrt(5) / 2
    )


def test_percentiles_are_of_area_not_of_elements():
    # A face moves that is coarsely sampled: few of the elements, but a good part of the area.
    truth = np.zeros((220, 14, 14), bool)
    truth[0:200] = True
    pred = truth.copy()
    pred[200:204] = True
    distances = surface_distances(truth, pred, (0.1, 5.0, 5.0))
    assert np.percentile(distances.to_pred, 95) == np.percentile(distances.to_truth, 95) == 0
    assert distances.truth_areas[distances.to_pred > 0].sum() == pytest.approx(13 * 13 * 25)
    assert distances.hausdorff(95) == pytest.approx(0.4)


masks = hnp.array_shapes(min_dims=2, max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)


@settings(deadline=None)
@given(masks, st.data())
def test_against_all_pairs(pair, data):
    truth, pred = pair
    spacing = data.draw(st.tuples(*[st.sampled_from([0.3, 1.0, 2.5])] * truth.ndim))
    with mock.patch.object(surface, "_SPARSE", data.draw(st.sampled_from([0, 10**9]), "tree or transform")):
        found = surface_distances(truth, pred, spacing)
    places = [np.argwhere(corners(mask)) * spacing for mask in (truth, pred)]
    assert (found.to_pred.size, found.to_truth.size) == tuple(map(len, places))
    if all(map(len, places)):
        pairs = np.linalg.norm(places[0][:, np.newaxis] - places[1], axis=-1)
        np.testing.assert_allclose(found.to_pred, np.sort(pairs.min(1)), atol=1e-12)
        np.testing.assert_allclose(found.to_truth, np.sort(pairs.min(0)), atol=1e-12)


@settings(deadline=None)
@given(masks, st.data())
def test_properties(pair, data):
    truth, pred = pair
    spacing = data.draw(st.tuples(*[st.sampled_from([0.3, 1.0, 2.5])] * truth.ndim))
    found, swapped = surface_distances(truth, pred, spacing), surface_distances(pred, truth, spacing)
    doubled = surface_distances(truth, pred, [2 * length for length in spacing])
    turned = surface_distances(truth.T, pred.T, spacing[::-1])
    flipped = surface_distances(truth[::-1], pred[::-1], spacing)
    for name, figure in FIGURES.items():
        for other in (swapped, turned, flipped):
            np.testing.assert_allclose(figure(other), figure(found), rtol=1e-9, err_msg=name)
        if name != "nsd":
            np.testing.assert_allclose(figure(doubled), 2 * figure(found), rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(doubled.surface_dice(2.0), found.surface_dice(1.0), rtol=1e-9)
    assert not found.hausdorff(95) > found.hausdorff(100)
    assert not found.average() > found.hausdorff(100) * (1 + 1e-9)
    if truth.any():
        same = surface_distances(truth, truth, spacing)
        assert (same.hausdorff(100), same.average(), same.surface_dice(0)) == (0, 0, 1)


def test_empty_masks_have_a_rule():
    """users.md: NaN on empty masks."""
    full, empty = np.ones((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    for pair in ((full, empty), (empty, full)):
        distances = surface_distances(*pair, (1, 1, 1))
        assert distances.hausdorff() == distances.average() == math.inf
        assert distances.surface_dice(1) == 0
    distances = surface_distances(empty, empty, (1, 1, 1))
    assert all(math.isnan(figure(distances)) for figure in FIGURES.values())
    nothing = np.zeros((0, 4), bool)
    assert math.isnan(surface_distances(nothing, nothing, (1, 1)).hausdorff())


def test_classes_are_measured_apart(rng):
    truth, pred = rng.integers(0, 4, (2, 9, 8, 7)).astype(np.uint8)
    pred[pred == 2] = 0
    spacing = (1.0, 2.0, 0.5)
    for arrays in ((truth, pred), (np.asfortranarray(truth), pred), (truth.astype(np.int64), np.asfortranarray(pred))):
        found = class_surface_distances(*arrays, 4, spacing)
        assert len(found) == 4
        for label, distances in enumerate(found, start=1):
            alone = surface_distances(truth == label, pred == label, spacing)
            np.testing.assert_allclose(distances.to_pred, alone.to_pred)
            np.testing.assert_allclose(distances.to_truth, alone.to_truth)
    assert found[1].hausdorff() == math.inf
    assert math.isnan(found[3].hausdorff())


@pytest.mark.parametrize("slab", [1, 50, 333, 10**9])
def test_does_not_depend_on_the_size_of_the_slabs(rng, monkeypatch, slab):
    truth, pred = blob(rng, (17, 16, 15)), blob(rng, (17, 16, 15))
    expected = surface_distances(truth, pred, (1, 2, 3))
    monkeypatch.setattr(surface, "_SLAB_CORNERS", slab)
    found = surface_distances(truth, pred, (1, 2, 3))
    np.testing.assert_array_equal(found.to_pred, expected.to_pred)
    np.testing.assert_array_equal(found.truth_areas, expected.truth_areas)


def test_noise_is_measured_by_a_transform(rng, monkeypatch):
    # A tree takes minutes for that of a large volume.
    truth, pred = np.zeros((60, 50, 40), bool), rng.random((60, 50, 40)) < 0.5
    truth[20:40, 20:40, 20:40] = True
    with mock.patch.object(surface, "_SPARSE", 0):
        expected = surface_distances(truth, pred, (1, 2, 1))
    monkeypatch.setattr(surface, "cKDTree", None)
    found = surface_distances(truth, pred, (1, 2, 1))
    np.testing.assert_allclose(found.to_pred, expected.to_pred, rtol=1e-9)
    np.testing.assert_allclose(found.to_truth, expected.to_truth, rtol=1e-9)


def test_memory_grows_with_the_surface_not_the_volume():
    truth, pred = np.zeros((2, 256, 256, 200), np.uint8)
    truth[20:230, 20:230, 20:180] = 1
    pred[22:230, 20:230, 20:180] = 1
    element_areas((1.0, 1.0, 1.0))
    tracemalloc.start()
    distances = class_surface_distances(truth, pred, 1, (1, 1, 1))[0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert distances.hausdorff() == 2
    # A distance transform of the bounding box takes 20 bytes per voxel, 140 MB.
    assert peak < 70e6, peak


@pytest.mark.parametrize(
    ("truth", "pred", "spacing", "error", "message"),
    [
        (np.zeros((3, 4)), np.zeros((4, 3)), (1, 1), DataError, "one grid"),
        (np.zeros(3), np.zeros(3), (1,), DataError, "2D or 3D"),
        (np.zeros((3, 4)), np.zeros((3, 4)), (1, 1, 1), ConfigurationError, "3 lengths.*2 axes"),
        (np.zeros((3, 4)), np.zeros((3, 4)), (1, 0), ConfigurationError, "positive"),
    ],
)
def test_what_cannot_be_measured_is_refused(truth, pred, spacing, error, message):
    with pytest.raises(error, match=message):
        surface_distances(truth, pred, spacing)


def test_wrong_percent_or_tolerance_is_refused():
    distances = surface_distances(np.ones((3, 3)), np.ones((3, 3)), (1, 1))
    with pytest.raises(ConfigurationError, match="percent=101"):
        distances.hausdorff(101)
    with pytest.raises(ConfigurationError, match="tolerance=-1"):
        distances.surface_dice(-1)
