"""BMP files: uncompressed or run-length encoded, with palettes, 16 bits and alpha."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import BinaryIO

import numpy as np

from miscnn_tf._base.files import open_regular
from miscnn_tf.data_loading.formats._pictures.picture import Picture, Stored, check_claim, has_colours
from miscnn_tf.errors import DataError

SIGNATURE = b"BM"

_RGB, _RLE8, _RLE4, _BITFIELDS, _ALPHABITFIELDS = 0, 1, 2, 3, 6
_DEPTHS = {
    _RGB: (1, 4, 8, 16, 24, 32),
    _RLE8: (8,),
    _RLE4: (4,),
    _BITFIELDS: (16, 32),
    _ALPHABITFIELDS: (16, 32),
}
# A run of 255 pixels takes two bytes.
_RUN_RATIO = 255
_DEFAULT_MASKS = {16: (0x7C00, 0x03E0, 0x001F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0xFF000000)}


@dataclass(frozen=True)
class _Header:
    size: tuple[int, int]
    top_down: bool
    bits: int
    compression: int
    start: int
    palette: np.ndarray
    masks: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, padded to a multiple of four."""
        return (self.size[1] * self.bits + 31) // 32 * 4


def open_bmp(path: str | Path, file: BinaryIO) -> Picture:
    """Read the header of a BMP file.

    Raises:
        DataError: If it is damaged, or of a kind that cannot be read.
    """
    head = _header(path, file)
    held = file.seek(0, 2) - head.start
    if head.compression in (_RLE8, _RLE4):
        check_claim(path, head.size, head.size[0] * head.size[1], held, _RUN_RATIO)
    elif (needed := head.size[0] * head.row_bytes) > held:
        raise DataError(
            f"{path}: the image is truncated or damaged: {head.size[0]} x {head.size[1]} pixels need {needed} bytes, "
            f"the file has {held}; copy or save it again"
        )
    coloured = has_colours(head.palette) if head.bits <= 8 else True
    return Picture(head.size, 1, coloured, lambda: _read(path, head), palette=head.palette if head.bits <= 8 else None)


def _header(path: str | Path, file: BinaryIO) -> _Header:
    damaged = f"{path}: the image is truncated or damaged (BMP header); copy or save it again"
    file.seek(0)
    data = file.read(14 + 124)
    if len(data) < 26:
        raise DataError(damaged)
    start, length = struct.unpack("<II", data[10:18])
    if length not in (12, 40, 52, 56, 64, 108, 124) or len(data) < 14 + length:
        raise DataError(damaged)
    old = length == 12
    columns, rows, planes, bits = struct.unpack("<HHHH" if old else "<iiHH", data[18 : 26 if old else 30])
    compression, used = (0, 0) if old else (*struct.unpack("<I", data[30:34]), *struct.unpack("<I", data[46:50]))
    if length == 64 and compression not in (_RGB, _RLE8, _RLE4):
        raise DataError(f"{path}: compression {compression} of OS/2 cannot be read; save the image as PNG")
    if bits not in _DEPTHS.get(compression, ()) or planes != 1:
        raise DataError(
            f"{path}: BMP with {bits} bits per pixel, {planes} planes and compression {compression} cannot be read; "
            "save the image as PNG"
        )
    after, masks = 14 + length, _DEFAULT_MASKS.get(bits, ())
    if compression in (_BITFIELDS, _ALPHABITFIELDS):
        count = 4 if length >= 56 or compression == _ALPHABITFIELDS else 3
        masks = struct.unpack(f"<{count}I", (data + file.read(16))[54 : 54 + 4 * count]) + (0,) * (4 - count)
        after = max(after, 54 + 4 * count)
        overlap = sum(masks) != reduce(or_, masks)
        if overlap or not all(_is_run(mask, bits) for mask in masks) or not all(masks[:3]):
            raise DataError(f"{path}: the image is damaged (colour masks {masks}); copy or save it again")
    palette = np.empty((0, 3), np.uint8)
    if bits <= 8:
        size = 3 if old else 4
        count = min(used or 2**bits, 2**bits, max(0, start - after) // size)
        file.seek(after)
        entries = np.frombuffer(file.read(count * size), np.uint8)
        palette = entries[: len(entries) // size * size].reshape(-1, size)[:, 2::-1]
    if start < after or (bits <= 8 and not len(palette)):
        raise DataError(damaged)
    return _Header((abs(rows), max(0, columns)), rows < 0, bits, compression, start, palette, masks)


def _is_run(mask: int, bits: int) -> bool:
    """Return True if the bits of a mask are neighbours, at most 16 of them."""
    narrow = mask // (mask & -mask) if mask else 0
    return mask < 2**bits and narrow & (narrow + 1) == 0 and narrow < 2**16


def _read(path: str | Path, head: _Header) -> Stored:
    rows, columns = head.size
    if not rows or not columns:
        raise DataError(f"{path}: the image is damaged (size {rows} x {columns} pixels); copy or save it again")
    with open_regular(path) as file:
        file.seek(head.start)
        if head.compression in (_RLE8, _RLE4):
            samples = _decoded_runs(path, file.read(), head)
        else:
            data = file.read(rows * head.row_bytes)
            samples = np.frombuffer(data, np.uint8).reshape(rows, head.row_bytes)
    if not head.top_down:
        samples = samples[::-1]
    if head.bits <= 8:
        return Stored(_unpacked(samples, head), "palette", head.bits, palette=head.palette)
    if head.bits == 24:
        return Stored(samples[:, : 3 * columns].reshape(rows, columns, 3)[..., ::-1], "rgb", 8)
    packed = np.ascontiguousarray(samples[:, : columns * head.bits // 8]).view(f"<u{head.bits // 8}")
    return _masked(path, packed, head)


def _unpacked(samples: np.ndarray, head: _Header) -> np.ndarray:
    if head.bits == 8 or head.compression == _RLE4:
        return samples[:, : head.size[1]]
    bits = np.unpackbits(samples, axis=1)
    if head.bits == 1:
        return bits[:, : head.size[1]]
    return np.stack([samples >> 4, samples & 15], axis=-1).reshape(len(samples), -1)[:, : head.size[1]]


def _masked(path: str | Path, packed: np.ndarray, head: _Header) -> Stored:
    """Extract the channels of 16-bit or 32-bit pixels, as 8 bits, or 16 if a mask has more than 8."""
    wide = any(mask.bit_count() > 8 for mask in head.masks)
    kind, full = (np.uint16, 2**16 - 1) if wide else (np.uint8, 255)
    channels = []
    for mask in head.masks:
        if not mask:
            continue
        highest = mask // (mask & -mask)
        values = (packed & packed.dtype.type(mask)) // packed.dtype.type(mask & -mask)
        channels.append((values if highest == full else values.astype(np.uint32) * full // highest).astype(kind))
    alpha = channels[3] if len(channels) > 3 else None
    if head.compression == _RGB and alpha is not None and alpha.min() == alpha.max():
        # The fourth byte is not defined here; most programs leave it at 0.
        alpha = None
    return Stored(np.stack(channels[:3], axis=-1), "rgb", 16 if wide else 8, alpha=alpha)


def _decoded_runs(path: str | Path, data: bytes, head: _Header) -> np.ndarray:
    """Decode run-length data to one index per byte, bottom row first; pixels outside all runs have index 0."""
    rows, columns = head.size
    nibbles = head.compression == _RLE4
    pixels = bytearray(rows * columns)
    row = column = place = 0
    while place + 1 < len(data):
        first, second = data[place], data[place + 1]
        place += 2
        if first:
            run = (bytes((second >> 4, second & 15)) * 128)[:first] if nibbles else bytes((second,)) * first
        elif second == 0:
            row, column = row + 1, 0
            continue
        elif second == 1:
            return np.frombuffer(pixels, np.uint8).reshape(rows, columns)
        elif second == 2:
            if place + 1 >= len(data):
                break
            column, row, place = column + data[place], row + data[place + 1], place + 2
            if row >= rows or column > columns:
                raise DataError(f"{path}: the image is damaged (a delta leaves it at row {row}); copy or save it again")
            continue
        else:
            length = (second + 1) // 2 if nibbles else second
            run = data[place : place + length]
            if len(run) < length:
                break
            place += length + length % 2
            if nibbles:
                run = bytes(half for byte in run for half in (byte >> 4, byte & 15))[:second]
        if row >= rows or column + len(run) > columns:
            raise DataError(f"{path}: the image is damaged (a run exceeds row {row}); copy or save it again")
        start = row * columns + column
        pixels[start : start + len(run)] = run
        column += len(run)
    raise DataError(f"{path}: the image is truncated or damaged (no end marker); copy or save it again")
