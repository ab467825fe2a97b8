"""Region reads against numpy's own padding, and what they touch of the array."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.patching.region import read_region


class Recorder:
    """Stands for a memory map and notes what is read of it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self.read = []

    def __getitem__(self, key):
        self.read.append(key)
        return self.array[key]


@st.composite
def boxes(draw):
    axes = draw(st.integers(2, 3))
    sizes = st.tuples(*[st.integers(1, 6)] * axes)
    starts = st.tuples(*[st.integers(-8, 8)] * axes)
    return draw(sizes), draw(starts), draw(sizes)


def by_padding(array, start, shape, fill):
    """Pad far beyond any box, channel by channel, then slice."""
    margin = 20
    widths = [(margin, margin)] * (array.ndim - 1)
    padded = [
        np.pad(array[..., channel], widths, constant_values=np.broadcast_to(fill, array.shape[-1:])[channel])
        for channel in range(array.shape[-1])
    ]
    box = tuple(slice(first + margin, first + margin + size) for first, size in zip(start, shape, strict=True))
    return np.stack(padded, axis=-1)[box]


@given(boxes(), st.sampled_from([0, -7, [1, -2]]), st.sampled_from([np.int16, np.float32]))
@settings(deadline=None)
def test_equals_padding_and_slicing(box, fill, dtype):
    size, start, shape = box
    array = np.random.default_rng(0).integers(-99, 99, (*size, 2)).astype(dtype)
    region = read_region(array, start, shape, fill)
    np.testing.assert_array_equal(region, by_padding(array, start, shape, fill))
    assert region.dtype == dtype
    assert region.flags.c_contiguous


@given(boxes())
@settings(deadline=None)
def test_only_the_box_is_read_and_only_once(box):
    size, start, shape = box
    recorder = Recorder(np.zeros((*size, 1)))
    read_region(recorder, start, shape)
    overlap = [
        (max(first, 0), min(first + length, extent)) for first, length, extent in zip(start, shape, size, strict=True)
    ]
    if all(low < high for low, high in overlap):
        assert recorder.read == [tuple(slice(low, high) for low, high in overlap)]
    else:
        assert recorder.read == []


@pytest.mark.parametrize("start", [(0, 0), (2, 0), (-1, 2)])
def test_the_region_is_a_copy(start):
    array = np.zeros((6, 4, 1), np.float32)
    region = read_region(array, start, (3, 4))
    assert not np.shares_memory(region, array)
    region[...] = 1
    assert not array.any()


def test_a_memory_map_comes_back_as_a_plain_array(tmp_path):
    np.save(tmp_path / "image.npy", np.arange(24, dtype=np.int16).reshape(4, 6, 1))
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    for start in [(1, 2), (3, 5)]:
        region = read_region(mapped, start, (2, 2), fill=-1)
        assert type(region) is np.ndarray
        assert region.flags.writeable
    assert region[..., 0].tolist() == [[23, -1], [-1, -1]]


def test_fill_that_the_dtype_cannot_hold_is_refused():
    """A CT's -1024 in an unsigned array would become a positive number."""
    array = np.zeros((4, 4, 1), np.uint16)
    for fill in (-1024, 0.5, np.nan, 70000):
        with pytest.raises(ConfigurationError, match=r"fill .* uint16"):
            read_region(array, (-1, 0), (3, 3), fill)
    assert read_region(array, (-1, 0), (3, 3), 65535.0)[0, 0, 0] == 65535
    assert np.isnan(read_region(array.astype(np.float32), (-1, 0), (3, 3), np.nan)[0]).all()


def test_numbers_of_axes_must_agree():
    with pytest.raises(ConfigurationError, match="one number per spatial axis"):
        read_region(np.zeros((4, 4, 4)), (0, 0, 0), (2, 2, 2))
    with pytest.raises(ConfigurationError, match="must not be negative"):
        read_region(np.zeros((4, 4, 1)), (0, 0), (2, -2))
