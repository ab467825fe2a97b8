"""Contours and masks: the even-odd rule, holes, keyholes, and masks that come back exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Polygon
from scipy.ndimage import binary_fill_holes, gaussian_filter
from skimage.measure import find_contours, grid_points_in_poly, label

from miscnn_tf.data_loading.dicom.contours import fill_contours, trace_contours

SHAPE = (20, 24)


def square(low: float, high: float) -> np.ndarray:
    return np.array([(low, low), (low, high), (high, high), (high, low)], float)


def away(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distance of points from the outline of a polygon."""
    start, way = polygon, np.roll(polygon, -1, axis=0) - polygon
    apart = points[:, np.newaxis] - start
    along = np.clip((apart * way).sum(axis=-1) / (way**2).sum(axis=-1), 0, 1)
    return np.linalg.norm(apart - along[..., np.newaxis] * way, axis=-1).min(axis=1)


def test_a_polygon_holds_the_pixels_that_scikit_image_and_matplotlib_find_in_it(rng):
    for _ in range(30):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
        polygon = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(3, 9, (12, 1)) + (9.3, 11.7)
        centres = np.stack(np.indices(SHAPE), axis=-1).reshape(-1, 2)
        # A centre that is on the outline, or as good as on it, counts as inside here.
        clear = away(polygon, centres) > 0.01
        assert clear.mean() > 0.98
        mask = fill_contours([polygon], SHAPE).ravel()[clear]
        np.testing.assert_array_equal(mask, grid_points_in_poly(SHAPE, polygon).ravel()[clear])
        np.testing.assert_array_equal(mask, Polygon(polygon).contains_points(centres)[clear])


def test_a_contour_beyond_the_image_is_cut_off():
    mask = fill_contours([square(-5.5, 30.5)], SHAPE)
    assert mask.all()
    assert not fill_contours([square(-5.5, -1.5)], SHAPE).any()
    assert not fill_contours([square(30.5, 40.5)], SHAPE).any()


def test_a_contour_within_another_is_a_hole_and_one_within_that_an_island():
    mask = fill_contours([square(1.5, 15.5), square(4.5, 12.5), square(6.5, 9.5)], SHAPE)
    wanted = np.zeros(SHAPE, bool)
    wanted[2:16, 2:16] = True
    wanted[5:13, 5:13] = False
    wanted[7:10, 7:10] = True
    np.testing.assert_array_equal(mask, wanted)


@pytest.mark.parametrize("at", [0.5, 0.0])
def test_a_keyhole_is_the_same_as_two_contours(at):
    outer, hole = square(1 + at, 15 + at), square(4 + at, 12 + at)
    # From the outer contour's first corner to the hole's, round it the other way, and back the same way.
    keyhole = np.concatenate([outer, outer[:1], hole[:1], hole[::-1], outer[:1]])
    np.testing.assert_array_equal(fill_contours([keyhole], SHAPE), fill_contours([outer, hole], SHAPE))


def test_pixels_on_a_contour_belong_to_it_and_not_to_its_hole():
    mask = fill_contours([square(2, 12), square(5, 9)], SHAPE)
    wanted = np.zeros(SHAPE, bool)
    wanted[2:13, 2:13] = True
    wanted[6:9, 6:9] = False
    np.testing.assert_array_equal(mask, wanted)
    # Written with few decimals they still do.
    np.testing.assert_array_equal(fill_contours([square(2.001, 11.999), square(5.001, 8.999)], SHAPE), wanted)


def test_a_contour_that_is_there_twice_counts_once():
    np.testing.assert_array_equal(
        fill_contours([square(1.5, 8.5), square(1.5, 8.5)], SHAPE), fill_contours([square(1.5, 8.5)], SHAPE)
    )


def test_points_and_lines_surround_nothing_but_the_pixels_that_they_are_on():
    assert not fill_contours([], SHAPE).any()
    assert not fill_contours([np.zeros((0, 2))], SHAPE).any()
    assert np.argwhere(fill_contours([np.array([[3.0, 4.0]])], SHAPE)).tolist() == [[3, 4]]
    assert not fill_contours([np.array([[3.4, 4.4], [3.4, 9.4]])], SHAPE).any()


@settings(max_examples=150, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_any_mask_comes_back_exactly(mask):
    contours = trace_contours(mask)
    np.testing.assert_array_equal(fill_contours(contours, mask.shape), mask)
    # Without holes of its own, each contour can be filled alone, as simpler programs do.
    alone = np.zeros(mask.shape, bool)
    for contour in contours:
        alone |= fill_contours([contour], mask.shape)
    np.testing.assert_array_equal(alone, mask)


def test_an_organ_with_holes_comes_back_exactly_and_as_one_contour_per_part(rng):
    field = gaussian_filter(rng.standard_normal((128, 160)), 4)
    mask = field > 0.4 * field.std()
    mask &= label(mask, connectivity=1) <= 6
    contours = trace_contours(mask)
    np.testing.assert_array_equal(fill_contours(contours, mask.shape), mask)
    assert len(contours) == label(mask, connectivity=1).max()
    assert all(np.isin(contour % 1, (0, 0.5)).all() for contour in contours)


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_without_holes_the_contours_are_those_of_scikit_image(mask):
    mask = binary_fill_holes(mask, structure=np.ones((3, 3)))
    outlines = find_contours(np.pad(mask, 1).astype(float), 0.5)
    # Points within straight lines are left out.
    ways = [np.diff(outline, axis=0) for outline in outlines]
    wanted = [
        outline[:-1][(way != np.roll(way, 1, axis=0)).any(axis=1)] - 1
        for outline, way in zip(outlines, ways, strict=True)
    ]
    found = trace_contours(mask)
    assert sorted(len(one) for one in found) == sorted(len(one) for one in wanted)
    assert {frozenset(map(tuple, one)) for one in found} == {frozenset(map(tuple, one)) for one in wanted}


def test_a_large_square_has_few_points():
    mask = np.zeros((200, 200), bool)
    mask[10:190, 20:150] = True
    (contour,) = trace_contours(mask)
    assert len(contour) == 8
