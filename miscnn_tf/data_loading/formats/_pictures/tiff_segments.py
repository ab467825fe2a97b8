"""Strips and tiles of a TIFF page: sizes are checked before decoding, and missing ones are an error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from miscnn_tf.data_loading.formats._pictures.jpeg import check_whole
from miscnn_tf.data_loading.formats._pictures.picture import ALWAYS_ALLOWED, DEFLATE_RATIO, check_claim
from miscnn_tf.data_loading.formats._pictures.tiff_directories import Tags
from miscnn_tf.errors import DataError

_UNCOMPRESSED, _JPEG = 1, 7
_FAX = {2: "CCITT RLE", 3: "CCITT T.4", 4: "CCITT T.6"}
#: Lossless compressions, and the most bytes that one compressed byte can expand to.
LOSSLESS = {
    _UNCOMPRESSED: 1,
    **dict.fromkeys(_FAX, 2**13),
    5: 1400,  # LZW: 12-bit codes for strings of up to 3,840 bytes, which grow by one byte per code
    8: DEFLATE_RATIO,
    32946: DEFLATE_RATIO,
    32773: 64,  # PackBits
    34925: 2**13,  # LZMA
    50000: 2**15,  # Zstandard
}
# JPEG; JPEG 2000 in several writers' numbers; WebP.
_LOSSY = {_JPEG: 512, 33003: 2**13, 33004: 2**13, 33005: 2**13, 34712: 2**13, 50001: 2**13}
_WITH_PREDICTOR = (5, 8, 32946, 34925, 50000)


@dataclass(frozen=True)
class _Segment:
    """A strip or tile: position in the file, bytes of its samples, and bytes when padded to full height."""

    offset: int
    held: int
    needed: int
    padded: int


def check_compression(path: str | Path, page: tifffile.TiffPage) -> None:
    """Check that the compression and predictor are supported.

    Raises:
        DataError: If not; the message names the tag.
    """
    tag = Tags(path, page)
    compression, predictor, bits = tag.number(259, 1), tag.number(317, 1), tag.same(258, 1)
    if compression not in LOSSLESS and compression not in _LOSSY:
        name = tifffile.COMPRESSION._value2member_map_.get(compression)
        raise DataError(
            f"{path}: Compression {compression} ({getattr(name, 'name', 'unknown')}) cannot be read; save the image "
            "with LZW or Deflate"
        )
    suits = predictor == 1 or (
        compression in _WITH_PREDICTOR
        and ((predictor == 2 and bits in (8, 16, 32, 64)) or (predictor == 3 and tag.same(339, 1) == 3))
    )
    if not suits:
        raise DataError(
            f"{path}: Predictor {predictor} is not defined for Compression {compression} and {bits} bits; save the "
            "image again"
        )
    if compression in _FAX and bits != 1:
        raise DataError(f"{path}: Compression {_FAX[compression]} needs 1 bit per sample, not {bits}; save it again")
    if tag.number(266, 1) not in (1, 2):
        raise DataError(f"{path}: FillOrder {tag.number(266)} is not defined; save the image again")


def check_segments(path: str | Path, page: tifffile.TiffPage, file_size: int) -> None:
    """Check that all strips or tiles are in the file and large enough for the image.

    Raises:
        DataError: If not.
    """
    compression = Tags(path, page).number(259, 1)
    ratio = {**LOSSLESS, **_LOSSY}[compression]
    size = (page.imagelength, page.imagewidth)
    check_claim(path, size, size[0] * size[1] * page.samplesperpixel * _bits(page) // 8, file_size, ratio)
    claimed = held = 0
    for number, one in enumerate(_segments(path, page)):
        what = f"{'tile' if page.is_tiled else 'strip'} {number}"
        if one.held == 0 or one.offset == 0:
            raise DataError(f"{path}: {what} has no data (a sparse file); save the image whole")
        if one.offset + one.held > file_size:
            raise DataError(f"{path}: the image is truncated or damaged: {what} is not in the file; copy it again")
        exact = one.needed <= one.held <= one.needed + 3 or one.held == one.padded
        if compression == _UNCOMPRESSED and not exact:
            raise DataError(
                f"{path}: the image is damaged: {what} has {one.held} bytes, its samples need {one.needed}; copy or "
                "save it again"
            )
        if one.needed > max(ALWAYS_ALLOWED, one.held * ratio):
            check_claim(path, size, one.needed, one.held, ratio)
        claimed, held = claimed + one.needed, held + one.held
    check_claim(path, size, claimed, min(held, file_size), ratio)


def read_segments(path: str | Path, page: tifffile.TiffPage) -> np.ndarray:
    """Decode the samples ``(rows, columns, channels)`` in native byte order.

    Raises:
        DataError: If a strip or tile is damaged.
    """
    dtype = np.dtype(np.uint8) if page.dtype == np.bool_ else page.dtype
    channels = page.samplesperpixel
    samples = np.empty((page.imagelength, page.imagewidth, channels), dtype)
    tables = page.jpegtables if page.compression == _JPEG else None
    for number, one in enumerate(_segments(path, page)):
        page.parent.filehandle.seek(one.offset)
        data = page.parent.filehandle.read(one.held)
        if page.compression == _JPEG:
            check_whole(data if tables is None else tables[:-2] + data[2:])
        values, (plane, _, row, column, _), _ = page.decode(data, number, jpegtables=tables)
        if values is None:
            raise DataError(f"{path}: the image is damaged (segment {number} is empty); copy or save it again")
        rows, columns = samples[row : row + values.shape[1], column : column + values.shape[2]].shape[:2]
        place = slice(plane, plane + 1) if page.planarconfig == 2 else slice(None)
        samples[row : row + rows, column : column + columns, place] = values[0, :rows, :columns]
    return samples


def _bits(page: Any) -> int:
    return page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)


def _segments(path: str | Path, page: tifffile.TiffPage) -> Iterator[_Segment]:
    tag = Tags(path, page)
    tiled = page.tags.get(322) is not None
    offsets, counts = (tag.numbers(code) for code in ((324, 325) if tiled else (273, 279)))
    planes, contiguous = (page.samplesperpixel, 1) if page.planarconfig == 2 else (1, page.samplesperpixel)
    if tiled:
        height, width = tag.number(323), tag.number(322)
    else:
        height, width = min(tag.number(278, page.imagelength), page.imagelength), page.imagewidth
    if min(height, width) < 1:
        raise DataError(f"{path}: the image is damaged (strips of {height} rows); copy or save it again")
    down = math.ceil(page.imagelength / height)
    expected = down * math.ceil(page.imagewidth / width) * planes
    if not len(offsets) == len(counts) == expected:
        raise DataError(
            f"{path}: the image is truncated or damaged: {len(offsets)} offsets and {len(counts)} byte counts of "
            f"{'tiles' if tiled else 'strips'}, not {expected}; copy or save it again"
        )
    row_bytes = (width * contiguous * _bits(page) + 7) // 8
    for number, (offset, held) in enumerate(zip(offsets, counts, strict=True)):
        rows = height if tiled else min(height, page.imagelength - number % down * height)
        yield _Segment(offset, held, rows * row_bytes, height * row_bytes)
