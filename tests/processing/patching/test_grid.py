"""The grid covers everything, reaches beyond nothing, and counts as the closed form says."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.patching.grid import PatchGrid, PatchLocation, axis_starts, padded_shape


@st.composite
def axes(draw):
    """(size, window, overlap) per axis, in 2D or 3D."""
    chosen = []
    for _ in range(draw(st.integers(2, 3))):
        window = draw(st.integers(1, 7))
        chosen.append((draw(st.integers(window, 15)), window, draw(st.integers(0, window - 1))))
    return chosen


@st.composite
def grids(draw):
    return PatchGrid(*zip(*draw(axes()), strict=True))


@given(grids())
@settings(deadline=None)
def test_every_voxel_is_covered_and_no_patch_reaches_beyond_the_image(grid):
    covered = np.zeros(grid.image_shape, int)
    for location in grid:
        assert all(first >= 0 for first in location.start)
        assert all(last <= size for last, size in zip(location.stop, grid.image_shape, strict=True))
        assert covered[location.to_slices()].shape == grid.patch_shape
        covered[location.to_slices()] += 1
    assert covered.min() >= 1


@given(axes())
@settings(deadline=None)
def test_count_is_the_closed_form(chosen):
    grid = PatchGrid(*zip(*chosen, strict=True))
    expected = tuple(math.ceil((size - window) / (window - overlap)) + 1 for size, window, overlap in chosen)
    assert grid.counts == expected
    assert len(grid) == len(list(grid)) == math.prod(expected)


@given(axes())
@settings(deadline=None)
def test_neighbours_share_the_overlap_and_the_last_one_at_least_that(chosen):
    for size, window, overlap in chosen:
        starts = axis_starts(size, window, overlap)
        steps = np.diff(starts)
        assert np.all(steps[:-1] == window - overlap)
        assert np.all((steps > 0) & (steps <= window - overlap))
        assert starts[0] == 0
        assert starts[-1] == size - window


@given(grids())
@settings(deadline=None)
def test_first_axis_is_the_outermost(grid):
    starts = [location.start for location in grid]
    assert starts == sorted(starts)
    assert len(set(starts)) == len(starts)


@given(grids())
@settings(deadline=None)
def test_is_a_sequence_whose_index_undoes_its_items(grid):
    listed = list(grid)
    assert [grid[number] for number in range(len(grid))] == listed
    assert [grid.index(location) for location in listed] == list(range(len(grid)))
    assert grid[-1] == listed[-1]
    assert grid[1:4] == listed[1:4]
    assert list(reversed(grid)) == listed[::-1]
    for number in range(len(grid)):
        along = grid.position(number)
        assert tuple(grid.starts[axis][where] for axis, where in enumerate(along)) == listed[number].start


def test_what_is_not_in_the_grid_is_not_found():
    grid = PatchGrid((10, 10), (4, 4), (2, 2))
    assert PatchLocation((2, 4), (4, 4)) in grid
    for foreign in [((1, 4), (4, 4)), ((2, 4), (4, 5)), ((2, 4, 0), (4, 4)), ((8, 8), (4, 4))]:
        assert PatchLocation(*foreign) not in grid
    assert "patch" not in grid
    with pytest.raises(ValueError, match="not a patch"):
        grid.index(PatchLocation((2, 4), (4, 4)), 0, 3)
    with pytest.raises(IndexError):
        grid[len(grid)]
    with pytest.raises(IndexError):
        grid[-len(grid) - 1]


def test_length_of_a_huge_grid_needs_no_locations():
    begin = time.perf_counter()
    grid = PatchGrid((100_000, 100_000), (2, 2), (1, 1))
    assert len(grid) == 99_999**2
    assert grid[len(grid) - 1].start == (99_998, 99_998)
    assert time.perf_counter() - begin < 1


@pytest.mark.parametrize("overlap", [-1, 4, 9])
def test_impossible_overlap_is_named(overlap):
    with pytest.raises(ConfigurationError, match=rf"overlap.*4 voxels.*got {overlap}"):
        PatchGrid((10, 10), (4, 4), (0, overlap))


def test_image_smaller_than_the_patch_is_refused():
    with pytest.raises(ConfigurationError, match=r"image_shape.*3 voxels.*patch_shape is 4.*pad"):
        PatchGrid((10, 3), (4, 4))


def test_empty_patch_is_refused():
    with pytest.raises(ConfigurationError, match="patch_shape must be positive"):
        PatchGrid((10, 3), (4, 0))


@pytest.mark.parametrize("arguments", [((9, 9), (3, 3, 3), 0), ((9, 9, 9), (3, 3, 3), (1, 1))])
def test_numbers_of_axes_must_agree(arguments):
    with pytest.raises(ConfigurationError, match="one number per spatial axis"):
        PatchGrid(*arguments)
    with pytest.raises(ConfigurationError, match="one number per spatial axis"):
        padded_shape((4, 4), (4, 4, 4))


def test_lists_and_one_overlap_for_all_are_accepted():
    assert list(PatchGrid([9, 8], [4, 4], 2)) == list(PatchGrid((9, 8), (4, 4), (2, 2)))


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=2, max_size=3))
@settings(deadline=None)
def test_padded_shape_takes_every_grid(pairs):
    image, patch = zip(*pairs, strict=True)
    padded = padded_shape(image, patch)
    assert padded == tuple(np.maximum(image, patch))
    PatchGrid(padded, patch)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6), st.integers(0, 5)), min_size=2, max_size=3), st.data())
@settings(deadline=None)
def test_the_patches_that_reach_some_columns(axes, data):
    image, patch, overlap = zip(
        *[(size + window, window, min(lap, window - 1)) for size, window, lap in axes], strict=True
    )
    grid = PatchGrid(image, patch, overlap)
    first = data.draw(st.integers(0, image[1] - 1))
    last = data.draw(st.integers(first + 1, image[1]))
    columns = set(range(first, last))
    expected = [
        number for number, each in enumerate(grid) if columns & set(range(each.start[1], each.start[1] + patch[1]))
    ]
    assert grid.reaching(slice(first, last)) == expected
