from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miscnn_tf.processing.patching import region
from miscnn_tf.processing.patching.region import announce, read_region, spans


@st.composite
def boxes(draw):
    shape = tuple(draw(st.integers(1, 7)) for _ in range(draw(st.integers(2, 3))))
    limits = [sorted((draw(st.integers(0, size)), draw(st.integers(0, size)))) for size in shape]
    return shape, tuple(slice(*pair) for pair in limits), draw(st.integers(1, 2)), draw(st.sampled_from([0, 8, 10**6]))


@given(boxes())
@settings(deadline=None)
def test_spans_hold_the_box_and_begin_and_end_with_it(case):
    shape, box, channels, gap = case
    array = np.zeros((*shape, channels), np.int16)
    places = np.arange(array.size).reshape(array.shape)[box].ravel() * array.itemsize
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(region, "_GAP_BYTES", gap)
        found = list(spans(array, box))
    if not places.size:
        assert not found
        return
    assert all(any(start <= place < stop for start, stop in found) for place in places)
    for start, stop in found:
        assert start in places
        assert stop - array.itemsize in places
    # Spans do not overlap: nothing is asked for twice.
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(found))


def resident_bytes(array):
    """How much of a memory map's file is in the system's memory."""
    first = array.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    pages = -(-(array.ctypes.data + array.nbytes - first) // mmap.PAGESIZE)
    flags = (ctypes.c_ubyte * pages)()
    size = ctypes.c_size_t(pages * mmap.PAGESIZE)
    assert ctypes.CDLL(None, use_errno=True).mincore(ctypes.c_void_p(first), size, flags) == 0
    return mmap.PAGESIZE * sum(flag & 1 for flag in flags)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at the page cache as Linux shows it")
def test_of_a_file_on_disk_only_the_pages_of_the_box_come_into_memory(tmp_path):
    path = tmp_path / "volume.npy"
    np.save(path, np.zeros((64, 256, 256, 1), np.float32))  # 16 MB
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    volume = np.lib.format.open_memmap(path, mode="r")
    if resident_bytes(volume) > volume.nbytes / 100:
        pytest.skip("this file system keeps its files in memory")
    patch = read_region(volume, (20, 30, 40), (24, 32, 20))
    assert patch.shape == (24, 32, 20, 1)
    # 24 planes, in each 32 rows of a kilobyte: 33 KB, in 9 pages.
    assert 24 * 8 * mmap.PAGESIZE <= resident_bytes(volume) <= 24 * 10 * mmap.PAGESIZE


@pytest.mark.parametrize("order", ["C", "F"])
def test_other_arrays_are_left_alone(order, tmp_path):
    array = np.asarray(np.arange(60.0).reshape(3, 4, 5), order=order)
    announce(array, (slice(0, 2), slice(1, 3)))
    np.save(tmp_path / "array.npy", array)
    mapped = np.load(tmp_path / "array.npy", mmap_mode="r")
    announce(mapped, (slice(0, 2), slice(1, 3)))
    announce(mapped[1:], (slice(0, 1), slice(1, 3)))
    np.testing.assert_array_equal(mapped, array)


@pytest.mark.parametrize("offset", [0, 80, 4096, 70_000])
def test_a_map_that_begins_anywhere_in_its_file(offset, tmp_path):
    path = tmp_path / "raw"
    values = np.arange(30_000, dtype=np.float32)
    path.write_bytes(bytes(offset) + values.tobytes())
    mapped = np.memmap(path, np.float32, "r", offset, shape=(10, 30, 100, 1))
    expected = values.reshape(mapped.shape)[9:, 25:, 90:]
    np.testing.assert_array_equal(read_region(mapped, (9, 25, 90), (1, 5, 10)), expected)
