"""Relations between contours, and what is drawn of them, compared with matplotlib's and with areas by hand."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from matplotlib.path import Path as Polygon

from miscnn_tf.data_loading.dicom.contours import fill_contours
from miscnn_tf.data_loading.dicom.nesting import ambiguous, nest

SHAPE = (40, 48)
CENTRES = np.stack(np.indices(SHAPE), axis=-1).reshape(-1, 2)


def rectangle(rows: tuple[float, float], columns: tuple[float, float]) -> np.ndarray:
    return np.array([(rows[0], columns[0]), (rows[0], columns[1]), (rows[1], columns[1]), (rows[1], columns[0])], float)


def square(low: float, high: float) -> np.ndarray:
    return rectangle((low, high), (low, high))


def star(rng: np.random.Generator, centre: tuple[float, float], least: float, most: float) -> np.ndarray:
    angles = np.sort(rng.uniform(0, 2 * np.pi, 25))
    return np.stack([np.sin(angles), np.cos(angles)], axis=1) * rng.uniform(least, most, (25, 1)) + centre


def off_the_contours(contours: list[np.ndarray]) -> np.ndarray:
    """Which centres are not as good as on a contour, where they count as inside here."""
    rings = [shapely.linestrings(np.concatenate([contour, contour[:1]])) for contour in contours]
    return shapely.distance(shapely.multilinestrings(rings), shapely.points(CENTRES)) > 0.01


def with_more_points(polygon: np.ndarray) -> np.ndarray:
    """A point in the middle of each edge, which changes nothing."""
    return np.stack([polygon, (polygon + np.roll(polygon, -1, axis=0)) / 2], axis=1).reshape(-1, 2)


SAME = {
    "as it is": lambda polygon: polygon,
    "rolled": lambda polygon: np.roll(polygon, 3, axis=0),
    "reversed": lambda polygon: polygon[::-1],
    "closed": lambda polygon: np.concatenate([polygon, polygon[:1]]),
    "reversed, rolled and closed": lambda polygon: np.concatenate([p := np.roll(polygon[::-1], 5, axis=0), p[:1]]),
    "points repeated": lambda polygon: np.repeat(polygon, 2, axis=0),
    "points on edges": with_more_points,
    "rounded": lambda polygon: np.round(polygon, 2),
    "moved by rounding": lambda polygon: polygon + 1e-3 * (-1.0) ** np.arange(len(polygon))[:, np.newaxis],
}


@pytest.mark.parametrize("how", SAME)
def test_a_polygon_that_is_there_twice_is_drawn_once_whatever_its_start_and_direction(rng, how):
    for polygon in (square(3.5, 20.5), star(rng, (20.3, 22.6), 6, 15)):
        other = SAME[how](polygon)
        nesting = nest([polygon, other, polygon])
        assert (len(nesting.contours), nesting.crossing) == (1, False)
        once = fill_contours([polygon], SHAPE)
        assert once.sum() > 100
        np.testing.assert_array_equal(fill_contours([polygon, other], SHAPE), once)
        np.testing.assert_array_equal(fill_contours([polygon, other, polygon], SHAPE, exclusive=True), once)


def test_a_larger_difference_is_not_rounding(rng):
    nesting = nest([square(3.5, 20.5), square(3.5, 20.5) + (0, 0.3)])
    assert (len(nesting.contours), nesting.crossing) == (2, True)


def test_contours_that_overlap_in_part_are_united():
    first, second = rectangle((2.5, 12.5), (2.5, 22.5)), rectangle((7.5, 20.5), (10.5, 30.5))
    united = fill_contours([first, second], SHAPE)
    assert united.sum() == 10 * 20 + 13 * 20 - 5 * 12
    exclusive = fill_contours([first, second], SHAPE, exclusive=True)
    assert exclusive.sum() == 10 * 20 + 13 * 20 - 2 * 5 * 12
    assert nest([first, second]).crossing


def test_contours_cross_also_where_they_share_corners_only():
    # No two edges cross between their ends.
    plus, diagonal = square(4.5, 12.5), np.array([(4.5, 4.5), (12.5, 12.5), (12.5, 20.5), (4.5, 12.5)])
    assert nest([plus, diagonal]).crossing
    np.testing.assert_array_equal(
        fill_contours([plus, diagonal], SHAPE), fill_contours([plus], SHAPE) | fill_contours([diagonal], SHAPE)
    )


def test_united_stars_are_those_of_matplotlib(rng):
    compared = 0
    for _ in range(20):
        contours = [star(rng, rng.uniform(12, 28, 2), 4, 11) for _ in range(3)]
        if not nest(contours).crossing or any(nest(contours).depths):
            continue
        compared += 1
        clear = off_the_contours(contours)
        wanted = np.any([Polygon(contour).contains_points(CENTRES) for contour in contours], axis=0)
        np.testing.assert_array_equal(fill_contours(contours, SHAPE).ravel()[clear], wanted[clear])
    assert compared > 5


@pytest.mark.parametrize("overlap", [-0.001, 0.0, 0.001])
@pytest.mark.parametrize("at", [0.5, 0.0])
def test_contours_that_share_an_edge_are_both_drawn_without_a_word(at, overlap):
    first, second = rectangle((2 + at, 12 + at), (2, 10 + at)), rectangle((6 + at, 20 + at), (10 + at - overlap, 30))
    assert not nest([first, second]).crossing
    both = fill_contours([first], SHAPE) | fill_contours([second], SHAPE)
    np.testing.assert_array_equal(fill_contours([first, second], SHAPE), both)
    turned = [contour[:, ::-1] for contour in (first, second)]
    np.testing.assert_array_equal(fill_contours(turned, SHAPE[::-1]), both.T)


def test_contours_that_touch_in_a_corner_are_both_drawn():
    assert not nest([square(2.5, 8.5), square(8.5, 14.5)]).crossing
    assert fill_contours([square(2.5, 8.5), square(8.5, 14.5)], SHAPE).sum() == 72


def test_a_hole_may_touch_its_outer_contour():
    outer, hole = square(2.5, 20.5), rectangle((2.5, 10.5), (5.5, 9.5))
    assert not nest([outer, hole]).crossing
    assert fill_contours([outer, hole], SHAPE).sum() == 18 * 18 - 8 * 4


def test_a_keyhole_and_what_is_in_its_hole_do_not_cross():
    outer, hole = square(2.5, 30.5), square(8.5, 24.5)
    for inner in (hole, hole[::-1]):
        keyhole = np.concatenate([outer, outer[:1], inner, inner[:1], outer[:1]])
        nesting = nest([keyhole, square(12.5, 18.5)])
        assert not nesting.crossing
        assert fill_contours(nesting, SHAPE).sum() == 28**2 - 16**2 + 6**2
        # A contour that crosses the keyholed ring fills a part of the hole.
        patch = rectangle((10.5, 14.5), (20.5, 34.5))
        assert nest([keyhole, patch]).crossing
        assert fill_contours([keyhole, patch], SHAPE).sum() == 28**2 - 16**2 + 4 * 4 + 4 * 4


def test_holes_and_islands_remain_where_other_contours_cross():
    outer, hole, island = square(1.5, 31.5), square(5.5, 27.5), square(10.5, 20.5)
    patch = rectangle((12.5, 16.5), (29.5, 40.5))
    contours = [island, patch, outer, hole]
    nesting = nest(contours)
    assert nesting.crossing
    assert nesting.depths == [2, 0, 0, 1]
    assert fill_contours(contours, SHAPE).sum() == 30**2 - 22**2 + 10**2 + 4 * 9


def test_of_holes_that_overlap_the_union_is_left_out():
    contours = [square(1.5, 31.5), rectangle((4.5, 14.5), (4.5, 14.5)), rectangle((9.5, 19.5), (9.5, 19.5))]
    assert nest(contours).crossing
    assert fill_contours(contours, SHAPE).sum() == 30**2 - (100 + 100 - 25)


def test_a_hole_in_two_contours_that_overlap_is_a_hole_in_both():
    contours = [rectangle((1.5, 21.5), (1.5, 31.5)), rectangle((1.5, 31.5), (1.5, 21.5)), square(5.5, 9.5)]
    assert fill_contours(contours, SHAPE).sum() == 20 * 30 + 30 * 20 - 20 * 20 - 16


def test_a_figure_eight_is_filled_on_both_sides_and_programs_agree():
    eight = np.array([(2.5, 2.5), (2.5, 12.5), (12.5, 2.5), (12.5, 12.5)])
    assert not ambiguous([eight])
    mask = fill_contours([eight], SHAPE)
    assert mask[4, 7]
    assert mask[10, 7]
    assert not mask[7, 3]
    clear = off_the_contours([eight])
    np.testing.assert_array_equal(mask.ravel()[clear], Polygon(eight).contains_points(CENTRES)[clear])


def test_a_contour_that_runs_over_its_own_beginning_is_ambiguous():
    overrun = np.array(
        [(2.5, 2.5), (2.5, 22.5), (22.5, 22.5), (22.5, 2.5), (0.5, 2.5), (0.5, 8.5), (10.5, 8.5), (10.5, 4.5)]
    )
    assert not ambiguous([square(2.5, 9.5)])
    assert ambiguous([square(2.5, 9.5), overrun])
    twice = np.concatenate([square(2.5, 12.5), square(2.5, 12.5)])
    assert ambiguous([twice])


def test_a_keyhole_is_ambiguous_only_if_its_hole_runs_in_the_direction_of_the_outer_contour():
    outer, hole = square(2.5, 30.5), square(8.5, 24.5)
    assert not ambiguous([np.concatenate([outer, outer[:1], hole[:1], hole[::-1], outer[:1]])])
    assert ambiguous([np.concatenate([outer, outer[:1], hole, hole[:1], outer[:1]])])


def test_contours_without_area_have_no_relations():
    line = np.array([(3.0, 3.0), (3.0, 9.0), (3.0, 5.0)])
    nesting = nest([np.zeros((0, 2)), square(1, 20), line, line[:2], line[:1]])
    assert (len(nesting.contours), nesting.crossing) == (4, False)


def test_contours_far_outside_the_image_take_no_memory_and_change_nothing():
    far = rectangle((-1e9, 1e9), (-1e9, -2.0))
    np.testing.assert_array_equal(
        fill_contours([far, square(2.5, 8.5)], SHAPE), fill_contours([square(2.5, 8.5)], SHAPE)
    )
    assert fill_contours([square(-1e9, 1e9)], SHAPE).all()
