"""Volumes whose voxels are stored one after the other, compressed or not: NIfTI, NRRD, MetaImage and MGH files.

The voxels are read in one pass into an array of the final type. Memory grows with the data in the file, not with the
size that its header declares.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from miscnn_tf._base.files import file_size, open_packed, open_regular, open_unpacked, size_in_trailer
from miscnn_tf.data_loading.formats.volume_info import VolumeInfo
from miscnn_tf.errors import DataError

_CHUNK = 2**23
# Deflate compresses by at most 1032 to 1; larger claims are refused without reading the file.
_DEFLATE_LIMIT = 1040
_TRUSTED = 2**24
_SLACK = 2**16
_MOST_TRAILING = 2**28
_FLOAT64_BYTES = 8


@dataclass(frozen=True)
class VoxelFile(VolumeInfo):
    """Header of a volume, and the place of its voxels.

    Attributes:
        stored_dtype: Type of the voxels in the file, with its byte order.
        offset: Position of the first voxel in the (unpacked) data, bytes.
        slope: Factor of the stored values.
        inter: Offset that is added to them.
        data_path: File of the voxels if it is not `path`.
        start: Position of the data in that file, bytes.
        packing: "raw", "gzip" or "zlib"; empty if the name of the file shows it, as for ``.nii.gz``.
        channels_first: Whether the channels are the fastest axis of the file.
    """

    stored_dtype: np.dtype
    offset: int
    slope: float = 1.0
    inter: float = 0.0
    data_path: Path | None = None
    start: int = 0
    packing: str = ""
    channels_first: bool = False

    @property
    def voxel_path(self) -> Path:
        """The file that holds the voxels."""
        return self.path if self.data_path is None else self.data_path

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the volume."""
        return (self.path,) if self.data_path is None else (self.path, self.data_path)

    @property
    def compressed(self) -> bool:
        """True if the voxels are compressed."""
        return self.path.name.lower().endswith(".gz") if not self.packing else self.packing != "raw"

    @property
    def mappable(self) -> bool:
        """True if `map_voxels` can be used."""
        return not self.compressed and not self.channels_first

    @property
    def scaled(self) -> bool:
        """True if stored values and voxel values differ."""
        return (self.slope, self.inter) != (1.0, 0.0)

    @property
    def dtype(self) -> np.dtype:
        """Type of the array that `read` returns: the file's integer type, otherwise float32."""
        native = self.stored_dtype.newbyteorder("=")
        return np.dtype(np.float32) if self.scaled or native.kind == "f" else native

    @property
    def voxels(self) -> int:
        """Number of stored values, channels included."""
        return math.prod(self.shape)

    @property
    def claimed(self) -> int:
        """Size of the whole (unpacked) data according to the header, bytes."""
        return self.offset + self.voxels * self.stored_dtype.itemsize

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Open the unpacked data."""
        if not self.packing:
            return open_unpacked(self.path)
        return open_packed(self.voxel_path, self.start, self.packing)

    def check(self) -> None:
        """Check that the file holds as much data as its header declares.

        The last bytes of files compressed with gzip hold their unpacked size; only if it does not match is the file
        unpacked, in pieces.

        Raises:
            DataError: If it does not.
        """
        _check_claim(self)
        if self.compressed and not _trailer_fits(self):
            with self.open() as stream:
                _skip(stream, self, self.claimed)

    def read(self) -> np.ndarray:
        """Read the voxels in one pass through the file, into an array of the final type.

        Returns:
            Array of `shape` and `dtype`, in Fortran order.

        Raises:
            DataError: If the file is truncated, damaged, or smaller than its header claims.
        """
        flat = _read_flat(self)
        if not self.channels_first:
            return flat.reshape(self.shape, order="F")
        return np.asfortranarray(np.moveaxis(flat.reshape((self.shape[-1], *self.shape[:-1]), order="F"), 0, -1))


def map_voxels(info: VoxelFile) -> np.ndarray:
    """Map the stored values of a `VoxelFile.mappable` file, read-only, without scaling and in the file's byte order.

    Raises:
        DataError: If the file is smaller than its header claims.
    """
    info.check()
    with open_regular(info.voxel_path, 0) as raw:
        return np.memmap(raw, info.stored_dtype, "r", offset=info.start + info.offset, shape=info.shape, order="F")


def scaled_values(stored: np.ndarray, info: VoxelFile) -> np.ndarray:
    """Convert a part of `map_voxels` to voxel values, in a new array of ``info.dtype``."""
    values = np.empty(stored.shape, info.dtype)
    _convert(stored, values, info)
    return values


def stored_bytes(info: VoxelFile) -> Iterator[bytes]:
    """Yield the stored values as bytes, in pieces, as far as the file holds them."""
    with info.open() as stream:
        _skip(stream, info, info.offset)
        left = info.claimed - info.offset
        while left and (part := stream.read(min(left, _CHUNK))):
            left -= len(part)
            yield part


def _read_flat(info: VoxelFile) -> np.ndarray:
    """Read the values in the order of the file."""
    _check_claim(info)
    trusted = not info.compressed or _trailer_fits(info)
    flat = np.empty(info.voxels if trusted else min(info.voxels, _TRUSTED), info.dtype)
    direct = not info.scaled and info.dtype == info.stored_dtype
    piece = max(1, _CHUNK // (info.stored_dtype.itemsize if direct else _FLOAT64_BYTES))
    scratch = None if direct else np.empty(min(info.voxels, piece), info.stored_dtype)
    done = 0
    with info.open() as stream:
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
    return flat


def _check_claim(info: VoxelFile) -> None:
    size = max(0, file_size(info.voxel_path) - info.start)
    if info.compressed and info.claimed > size * _DEFLATE_LIMIT + _SLACK:
        raise _too_short(info, None)
    if not info.compressed and info.claimed > size:
        raise _too_short(info, size)


def _trailer_fits(info: VoxelFile) -> bool:
    return info.packing != "zlib" and size_in_trailer(info.voxel_path) == info.claimed % 2**32


def _skip(stream: BinaryIO, info: VoxelFile, size: int) -> None:
    left = size
    while left:
        part = len(stream.read(min(left, _CHUNK)))
        if not part:
            raise _too_short(info, size - left)
        left -= part


def _fill(stream: BinaryIO, target: np.ndarray, info: VoxelFile, done: int) -> None:
    view = memoryview(target.data).cast("B")
    filled = 0
    while filled < len(view):
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise _too_short(info, info.offset + done * info.stored_dtype.itemsize + filled)
        filled += count


def _read_to_end(stream: BinaryIO, info: VoxelFile) -> None:
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


def _convert(source: np.ndarray, target: np.ndarray, info: VoxelFile) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        if info.scaled:
            # In float64, in pieces, so that large integers times a slope keep the precision of float32.
            np.copyto(target, source.astype(np.float64) * info.slope + info.inter, casting="same_kind")
        else:
            np.copyto(target, source, casting="same_kind")


def _too_short(info: VoxelFile, held: int | None) -> DataError:
    claim = f"shape {info.shape} of {info.stored_dtype.name}, {info.claimed} bytes"
    found = f"the file holds {held}" if held is not None else "a file of this size cannot hold that"
    return DataError(
        f"{info.path}: the header declares more data than the file holds ({claim}; {found}"
        f"{'' if info.data_path is None else f' in {info.data_path.name}'}): the file is truncated or its header "
        "damaged; copy or export it again"
    )
