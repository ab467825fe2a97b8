"""Reading a box of an image that may reach beyond its border."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.patching.readahead import announce


def read_region(array: np.ndarray, start: Sequence[int], shape: Sequence[int], fill: npt.ArrayLike = 0) -> np.ndarray:
    """Read the box of `shape` voxels from `start` on; what lies outside the array is filled.

    One slice is taken of the array, and only as far as the box reaches: of a memory map, nothing else is read, and
    the system is told so.

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
