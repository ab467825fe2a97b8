"""Voxels of a NIfTI file.

nibabel is not used: it allocates memory by the header, which may be damaged, and converts volumes to float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from miscnn_tf.data_loading.nifti_header import NiftiInfo
from miscnn_tf.data_loading.opening import open_regular
from miscnn_tf.data_loading.packed_file import file_size, open_unpacked, size_in_trailer
from miscnn_tf.errors import DataError

_CHUNK = 2**23
# Deflate compresses by at most 1032 to 1; larger claims are refused without reading the file.
_DEFLATE_LIMIT = 1040
_TRUSTED = 2**24
_SLACK = 2**16
_MOST_TRAILING = 2**28
_FLOAT64_BYTES = 8


def check_size(info: NiftiInfo) -> None:
    """Check that the file holds as much data as its header declares.

    The last bytes of compressed files hold their unpacked size; only if it does not match is the file unpacked, in
    pieces.

    Raises:
        DataError: If it does not.
    """
    _check_claim(info)
    if info.compressed and not _trailer_fits(info):
        with open_unpacked(info.path) as stream:
            _skip(stream, info, info.claimed)


def read_voxels(info: NiftiInfo) -> np.ndarray:
    """Read the voxels in one pass through the file, into an array of the final type.

    Memory grows with the data in the file, not with the size that the header declares.

    Returns:
        Array of ``info.shape`` and ``info.dtype``, in the file's (Fortran) order.

    Raises:
        DataError: If the file is truncated, damaged, or smaller than its header claims.
    """
    _check_claim(info)
    trusted = not info.compressed or _trailer_fits(info)
    flat = np.empty(info.voxels if trusted else min(info.voxels, _TRUSTED), info.dtype)
    direct = not info.scaled and info.dtype == info.stored_dtype
    piece = max(1, _CHUNK // (info.stored_dtype.itemsize if direct else _FLOAT64_BYTES))
    scratch = None if direct else np.empty(min(info.voxels, piece), info.stored_dtype)
    done = 0
    with open_unpacked(info.path) as stream:
        _skip(stream, info, info.offset)
        while done < info.voxels:
            if done == flat.size:
                flat = np.concatenate([flat, np.empty(min(flat.size, info.voxels - flat.size), info.dtype)])
            part = flat[done : done + piece]
            source = part if scratch is None else scratch[: part.size]
            _fill(stream, source, info, done)
            if scratch is not None:
                _convert(source, part, info)
            done += part.size
        if info.compressed:
            _read_to_end(stream, info)
    return flat.reshape(info.shape, order="F")


def map_voxels(info: NiftiInfo) -> np.ndarray:
    """Map the stored values of an uncompressed file, read-only, without scaling and in the file's byte order.

    Raises:
        DataError: If the file is smaller than its header claims.
    """
    check_size(info)
    with open_regular(info.path, 0) as raw:
        return np.memmap(raw, info.stored_dtype, "r", offset=info.offset, shape=info.shape, order="F")


def scaled_values(stored: np.ndarray, info: NiftiInfo) -> np.ndarray:
    """Convert a part of `map_voxels` to voxel values, in a new array of ``info.dtype``."""
    values = np.empty(stored.shape, info.dtype)
    _convert(stored, values, info)
    return values


def stored_bytes(info: NiftiInfo) -> Iterator[bytes]:
    """Yield the stored values as bytes, in pieces, as far as the file holds them."""
    with open_unpacked(info.path) as stream:
        _skip(stream, info, info.offset)
        left = info.claimed - info.offset
        while left and (part := stream.read(min(left, _CHUNK))):
            left -= len(part)
            yield part


def _check_claim(info: NiftiInfo) -> None:
    size = file_size(info.path)
    if info.compressed and info.claimed > size * _DEFLATE_LIMIT + _SLACK:
        raise _too_short(info, None)
    if not info.compressed and info.claimed > size:
        raise _too_short(info, size)


def _trailer_fits(info: NiftiInfo) -> bool:
    return size_in_trailer(info.path) == info.claimed % 2**32


def _skip(stream: BinaryIO, info: NiftiInfo, size: int) -> None:
    left = size
    while left:
        part = len(stream.read(min(left, _CHUNK)))
        if not part:
            raise _too_short(info, size - left)
        left -= part


def _fill(stream: BinaryIO, target: np.ndarray, info: NiftiInfo, done: int) -> None:
    view = memoryview(target.data).cast("B")
    filled = 0
    while filled < len(view):
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise _too_short(info, info.offset + done * info.stored_dtype.itemsize + filled)
        filled += count


def _read_to_end(stream: BinaryIO, info: NiftiInfo) -> None:
    """Read the rest of the file after the voxels, so that gzip compares its checksum.

    With a damaged header, much more than a few bytes may follow. There is a limit, since a kilobyte may expand to a
    megabyte.
    """
    limit = max(_MOST_TRAILING, info.claimed)
    piece = bytearray(_SLACK)
    found = 0
    while count := stream.readinto(piece):  # type: ignore[attr-defined]
        found += count
        if found > limit:
            raise DataError(
                f"{info.path}: the header declares far less data than the file holds (shape {info.shape} of "
                f"{info.stored_dtype.name}, {info.claimed} bytes; more than {limit} bytes follow): the header is "
                "damaged; copy or export the file again"
            )


def _convert(source: np.ndarray, target: np.ndarray, info: NiftiInfo) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        if info.scaled:
            # In float64, in pieces, so that large integers times a slope keep the precision of float32.
            np.copyto(target, source.astype(np.float64) * info.slope + info.inter, casting="same_kind")
        else:
            np.copyto(target, source, casting="same_kind")


def _too_short(info: NiftiInfo, held: int | None) -> DataError:
    claim = f"shape {info.shape} of {info.stored_dtype.name}, {info.claimed} bytes"
    found = f"the file holds {held}" if held is not None else "a file of this size cannot hold that"
    return DataError(
        f"{info.path}: the header declares more data than the file holds ({claim}; {found}): the file is truncated or "
        "its header damaged; copy or export it again"
    )
