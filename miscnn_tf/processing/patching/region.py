"""Read a patch of an image, which may reach beyond its border, and nothing else of a memory-mapped file."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from miscnn_tf.errors import ConfigurationError

# Shorter gaps are read too: one longer read costs less than two.
_GAP_BYTES = 16 * 2**10


def read_region(array: np.ndarray, start: Sequence[int], shape: Sequence[int], fill: npt.ArrayLike = 0) -> np.ndarray:
    """Read `shape` voxels from `start` on, and fill those outside the array.

    One slice of the array is taken, inside its border: of a memory map, nothing else is read, and the system is asked
    for nothing else.

    Args:
        array: Array or memory map ``(x, y[, z], channels)``.
        start: First voxel per spatial axis; negative is before the array, not from its end.
        shape: Voxels per spatial axis.
        fill: Value outside, for all channels or one per channel.

    Returns:
        A new C-contiguous array ``(*shape, channels)`` of the same dtype.

    Raises:
        ConfigurationError: If the numbers of axes do not fit, `shape` is negative, or the dtype cannot hold `fill`.

    Example:
        >>> read_region(np.arange(4, dtype=np.int16).reshape(4, 1, 1), (-1, 0), (3, 1), fill=-9).ravel()
        array([-9,  0,  1], dtype=int16)
    """
    if not len(start) == len(shape) == array.ndim - 1:
        raise ConfigurationError(
            f"start {tuple(start)} and shape {tuple(shape)} must have one number per spatial axis of the array, which "
            f"is {array.shape} with channels last"
        )
    if min(shape) < 0:
        raise ConfigurationError(f"shape must not be negative; got {tuple(shape)}")
    source, target = [], []
    inside = True
    for first, length, size in zip(start, shape, array.shape[:-1], strict=True):
        low = min(max(first, 0), size)
        high = max(min(first + length, size), low)
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
        inside = inside and high - low == length
    announce(array, source)
    if inside:
        return np.array(array[tuple(source)], order="C", copy=True)
    region = np.empty((*shape, array.shape[-1]), array.dtype)
    region[...] = _as_dtype(fill, array.dtype)
    if all(part.stop > part.start for part in source):
        region[tuple(target)] = array[tuple(source)]
    return region


def _as_dtype(fill: npt.ArrayLike, dtype: np.dtype) -> np.ndarray:
    wanted = np.asarray(fill)
    with np.errstate(invalid="ignore", over="ignore"):
        value = wanted.astype(dtype)
    # A CT's -1024 must not silently become 0 or 64 in an unsigned array.
    if not np.issubdtype(dtype, np.inexact) and not np.array_equal(value, wanted):
        raise ConfigurationError(
            f"fill {fill!r} cannot be held by an array of {dtype}; choose a value that it can hold"
        )
    return value


def announce(array: np.ndarray, box: Sequence[slice]) -> None:
    """Have the system fetch a part of a memory map from disk; do nothing with other arrays.

    By default, the system fetches what is touched and a lot around it, up to megabytes per touch: of a volume of
    512x512x400 voxels nearly 100 MB for a patch of 3 MB. If it is asked for them, it fetches the pages of the patch
    only, in few and long reads, which takes a fifth of the time. Pages that are in memory cost 2 µs per plane.

    Args:
        array: Any array.
        box: A slice per axis, of the first axes, with their limits inside the array.
    """
    if not isinstance(array, np.memmap) or not hasattr(mmap, "MADV_WILLNEED"):
        return
    mapped = array.base
    if not isinstance(mapped, mmap.mmap):  # a part of a map
        return
    first = array.offset % mmap.ALLOCATIONGRANULARITY  # np.memmap maps from there on
    for start, stop in spans(array, box):
        page = (first + start) // mmap.PAGESIZE * mmap.PAGESIZE
        mapped.madvise(mmap.MADV_WILLNEED, page, first + stop - page)


def spans(array: np.ndarray, box: Sequence[slice]) -> Iterator[tuple[int, int]]:
    """Return the bytes from the first to the last voxel of a patch, plane by plane along the first axis.

    Args:
        array: An array in C order.
        box: A slice per axis, of the first axes, with their limits inside the array.

    Yields:
        First byte, and one past the last, counted from the start of the array.
    """
    if not array.flags.c_contiguous or any(part.stop <= part.start for part in box):
        return
    strides = array.strides[: len(box)]
    begin = sum(part.start * stride for part, stride in zip(box[1:], strides[1:], strict=True))
    end = sum((part.stop - 1) * stride for part, stride in zip(box[1:], strides[1:], strict=True)) + strides[-1]
    low, high = box[0].start, box[0].stop
    if strides[0] - (end - begin) < _GAP_BYTES:
        yield low * strides[0] + begin, (high - 1) * strides[0] + end
        return
    for plane in range(low, high):
        yield plane * strides[0] + begin, plane * strides[0] + end
