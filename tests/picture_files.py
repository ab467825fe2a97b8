"""Image files written byte by byte: what no library writes, or only in one way."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    samples: np.ndarray,
    colour_type: int,
    bits: int,
    before: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
    *,
    interlaced: bool = False,
    size: tuple[int, int] | None = None,
) -> bytes:
    """A PNG of samples ``(rows, columns[, channels])``, with other chunks before and after the pixels."""
    rows, columns = size or samples.shape[:2]
    parts = [samples[top::down, left::right] for top, left, down, right in _PASSES] if interlaced else [samples]
    lines = b"".join(b"\0" + packed(row, bits) for part in parts if part.size for row in part)
    head = struct.pack(">IIBBBBB", columns, rows, bits, colour_type, 0, 0, int(interlaced))
    chunks = [(b"IHDR", head), *before, (b"IDAT", zlib.compress(lines)), *after, (b"IEND", b"")]
    return PNG_SIGNATURE + b"".join(png_chunk(*chunk) for chunk in chunks)


def packed(row: np.ndarray, bits: int, byte_order: str = ">") -> bytes:
    """The samples of a row one after the other, first in the highest bits."""
    flat = row.ravel()
    if bits == 16:
        return flat.astype(f"{byte_order}u2").tobytes()
    if bits == 8:
        return flat.astype(np.uint8).tobytes()
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits((flat.astype(np.int64)[:, np.newaxis] >> shifts) & 1).tobytes()


def exif(orientation: int) -> bytes:
    """An EXIF block with an orientation and nothing else."""
    return b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG file with an EXIF segment."""
    data = b"Exif\0\0" + exif(orientation)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data + jpeg[2:]


def tiff(
    pixels: bytes | Sequence[bytes],
    size: tuple[int, int],
    tags: Mapping[int, Sequence[int] | bytes | int],
) -> bytes:
    """A little-endian TIFF of one directory; unless given: 8 bits, BlackIsZero, and one strip for each of `pixels`."""
    strips = [pixels] if isinstance(pixels, bytes) else list(pixels)
    offsets = np.cumsum([8, *(len(strip) for strip in strips)]).tolist()
    rows = -(-size[0] // len(strips))
    entries: dict[int, Sequence[int] | bytes | int] = {
        **{256: size[1], 257: size[0], 258: 8, 259: 1, 262: 1, 273: offsets[:-1], 277: 1, 278: rows},
        **{279: [len(strip) for strip in strips]},
        **tags,
    }
    data = struct.pack("<2sHI", b"II", 42, offsets[-1] + offsets[-1] % 2) + b"".join(strips) + b"\0" * (offsets[-1] % 2)
    place = len(data) + 2 + 12 * len(entries) + 4
    directory, beyond = struct.pack("<H", len(entries)), b""
    for code, value in sorted(entries.items()):
        if isinstance(value, bytes):
            kind, count, content = 2, len(value) + 1, value + b"\0"
        else:
            values = [value] if isinstance(value, int) else list(value)
            kind, count = 4 if code in (273, 279, 256, 257, 278, 324, 325) else 3, len(values)
            content = struct.pack(f"<{count}{'I' if kind == 4 else 'H'}", *values)
        if len(content) > 4:
            directory += struct.pack("<HHII", code, kind, count, place + len(beyond))
            beyond += content + b"\0" * (len(content) % 2)
        else:
            directory += struct.pack("<HHI", code, kind, count) + content.ljust(4, b"\0")
    return data + directory + b"\0\0\0\0" + beyond


def bmp(
    rows: Sequence[bytes] | bytes,
    size: tuple[int, int],
    bits: int,
    compression: int = 0,
    palette: np.ndarray | None = None,
    masks: Sequence[int] = (),
) -> bytes:
    """A BMP with a header of 40 bytes; `rows` as they are in the file, or encoded runs. Negative rows: top-down."""
    pixels = rows if isinstance(rows, bytes) else b"".join(row + b"\0" * (-len(row) % 4) for row in rows)
    colours = b"" if palette is None else b"".join(bytes((*colour[::-1], 0)) for colour in palette.astype(np.uint8))
    extra = struct.pack(f"<{len(masks)}I", *masks)
    start = 54 + len(extra) + len(colours)
    head = struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start)
    used = 0 if palette is None else len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, size[1], size[0], 1, bits, compression, len(pixels), 0, 0, used, 0)
    return head + info + extra + colours + pixels
