from __future__ import annotations

import weakref

import numpy as np
import pytest

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.patching.blending import Slab, SlabRows


def in_slabs(values, sizes):
    start = 0
    for size in sizes:
        yield Slab(start, start + size, values[start : start + size].copy())
        start += size


def cutting(slabs):
    """Slabs of the columns that are asked for, from those of the whole."""

    def open_slabs(columns):
        for start, stop, array in slabs:
            part = array[:, columns]
            del array
            yield Slab(start, stop, part)
            del part

    return open_slabs


@pytest.mark.parametrize("seed", range(30))
def test_rows_in_order_are_those_of_the_array(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, 8)
    values = rng.random((int(sizes.sum()), 3, 2))
    slabs = in_slabs(values, sizes)
    rows = SlabRows(cutting(slabs), values.shape)
    if seed % 2:
        first, last = sorted(rng.choice(len(values) + 1, 2, replace=False).tolist())
        box = (slice(first, last), slice(1, 3))
        rows, values = rows[box], values[box]
    assert rows.shape == values.shape
    assert rows.ndim == 3
    start = stop = 0
    while stop < len(values):
        start = int(rng.integers(start, min(stop + 4, len(values))))  # overlapping, or leaving rows out
        stop = int(rng.integers(max(start + 1, stop), len(values) + 1))
        np.testing.assert_array_equal(rows[start:stop], values[start:stop])
    rows.finish()
    assert next(slabs, None) is None


@pytest.mark.parametrize("box", [None, (slice(3, 47), slice(0, 1))])
def test_no_slab_is_held_while_the_next_one_is_made(box):
    made, alive = [], []

    def slabs():
        for start in range(0, 50, 5):
            alive.append(sum(one() is not None for one in made))
            array = np.zeros((5, 2, 1))
            made.append(weakref.ref(array))
            slab = Slab(start, start + 5, array)
            del array
            yield slab
            del slab

    rows = SlabRows(cutting(slabs()), (50, 2, 1))
    rows = rows if box is None else rows[box]
    for start in range(0, rows.shape[0] - 3, 2):
        assert rows[start : start + 3].shape[0] == 3
    assert alive == [0] * 10
    rows.finish()
    assert len(made) == 10


def test_rows_that_are_gone_or_never_came_are_refused():
    rows = SlabRows(cutting(in_slabs(np.zeros((6, 2, 1)), [2, 2, 2])), (8, 2, 1))
    assert rows[3:5].shape == (2, 2, 1)
    with pytest.raises(IndexError, match="row 0 is gone"):
        rows[0:2]
    with pytest.raises(ConfigurationError, match="end before row 8 of 8"):
        rows[5:8]


def test_a_box_makes_slabs_of_its_columns_and_the_box_before_comes_to_its_end():
    values = np.random.default_rng(0).random((10, 7, 2))
    opened, finished = [], []

    def open_slabs(columns):
        opened.append((columns.start, columns.stop))
        yield from in_slabs(values[:, columns], [4, 4, 2])
        finished.append((columns.start, columns.stop))

    rows = SlabRows(open_slabs, values.shape, sections=2)
    inner = rows[(slice(1, 9), slice(1, 7))]
    assert (inner.shape, inner.sections, opened) == ((8, 6, 2), 2, [])
    first, second = inner[:, 0:3], inner[:, 3:6]
    np.testing.assert_array_equal(first[0:6], values[1:7, 1:4])
    assert (opened, finished) == ([(1, 4)], [])
    np.testing.assert_array_equal(second[2:8], values[3:9, 4:7])
    assert (opened, finished) == ([(1, 4), (4, 7)], [(1, 4)])
    rows.finish()
    assert finished == [(1, 4), (4, 7)]
