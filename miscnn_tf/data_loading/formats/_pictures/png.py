"""PNG files: chunks with verified checksums; libpng undoes the filters."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np

from miscnn_tf._base.files import open_regular
from miscnn_tf.data_loading.formats._pictures.picture import (
    DEFLATE_RATIO,
    Picture,
    Stored,
    check_claim,
    find_orientation,
    has_colours,
)
from miscnn_tf.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Longer text and metadata hold neither the orientation nor the name of a program.
_LARGEST_PROFILE = 2**20


def open_png(path: str | Path, file: BinaryIO) -> Picture:
    """Read the header of a PNG file: every chunk but the pixels.

    Raises:
        DataError: If a chunk is damaged, or the file is an animation.
    """
    head, palette, software, exif, xmp, held, transparent = None, None, None, None, None, 0, None
    for kind, data, length in _chunks(path, file, pixels=False):
        if head is None and kind != b"IHDR":
            raise DataError(f"{path}: the image is truncated or damaged (no IHDR chunk first); copy or save it again")
        if kind == b"IHDR":
            if head is not None or length != 13:
                raise DataError(f"{path}: the image is damaged (IHDR chunk); copy or save it again")
            head = struct.unpack(">IIBBBBB", data)
        elif kind == b"PLTE":
            if length % 3 or not length:
                raise DataError(f"{path}: the image is damaged (PLTE chunk of {length} bytes); copy or save it again")
            palette = np.frombuffer(data, np.uint8).reshape(-1, 3)
        elif kind == b"tRNS":
            transparent = data
        elif kind == b"IDAT":
            held += length
        elif kind == b"acTL" and length == 8 and (frames := struct.unpack(">I", data[:4])[0]) > 1:
            raise DataError(
                f"{path}: the file holds {frames} pages (acTL: frames of an animation), but a sample is one image; "
                "save each as a sample"
            )
        elif kind == b"eXIf":
            exif = data
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            key, _, text = data.partition(b"\0")
            if kind == b"tEXt" and key == b"Software":
                software = text.decode("latin-1")
            elif key == b"XML:com.adobe.xmp":
                xmp = text
            elif key == b"Raw profile type exif" and exif is None:
                exif = _raw_profile(text if kind == b"tEXt" else _inflated(text[1:]))
        elif kind != b"IEND" and kind[0] & 0x20 == 0:
            raise DataError(f"{path}: the chunk {kind.decode('latin-1')} is not part of PNG; save the image again")
    assert head is not None
    columns, rows, bits, colour_type, compression, filters, interlaced = head
    if bits not in _DEPTHS.get(colour_type, ()) or compression or filters or interlaced > 1:
        raise DataError(f"{path}: the image is damaged (IHDR chunk {head}); copy or save it again")
    if colour_type == 3 and palette is None:
        raise DataError(f"{path}: the image is damaged (no PLTE chunk); copy or save it again")
    row_bytes = (columns * bits * _SAMPLES[colour_type] + 7) // 8
    check_claim(path, (rows, columns), rows * row_bytes, held, DEFLATE_RATIO)
    coloured = colour_type in (2, 6) or (colour_type == 3 and palette is not None and has_colours(palette))

    def read() -> Stored:
        samples = _pixels(path, head)
        if colour_type == 3:
            return Stored(samples, "palette", bits, palette=palette)
        if colour_type in (4, 6):
            colours = samples[..., 0] if colour_type == 4 else samples[..., :3]
            return Stored(colours, "rgb" if colour_type == 6 else "grey", bits, alpha=samples[..., -1])
        alpha = None if transparent is None else _alpha_of_key(path, samples, transparent, bits)
        return Stored(samples, "rgb" if colour_type == 2 else "grey", bits, alpha=alpha)

    return Picture(
        (rows, columns),
        find_orientation(path, exif, xmp),
        coloured,
        read,
        software=software,
        palette=palette if colour_type == 3 else None,
    )


def _chunks(path: str | Path, file: BinaryIO, pixels: bool) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield type, content and length of each chunk; without `pixels`, IDAT chunks are empty and not verified."""
    file.seek(0, 2)
    end = file.tell()
    file.seek(len(SIGNATURE))
    while True:
        start = file.read(8)
        if len(start) < 8:
            raise DataError(f"{path}: the image is truncated or damaged (no IEND chunk); copy or save it again")
        length, kind = struct.unpack(">I4s", start)
        name = kind.decode("latin-1")
        if file.tell() + length + 4 > end:
            raise DataError(f"{path}: the image is truncated or damaged (chunk {name!r}); copy or save it again")
        if kind == b"IDAT" and not pixels:
            file.seek(length + 4, 1)
            yield kind, b"", length
            continue
        data = file.read(length)
        if zlib.crc32(data, zlib.crc32(kind)) != int.from_bytes(file.read(4), "big"):
            raise DataError(
                f"{path}: the image is truncated or damaged (checksum of chunk {name!r}); copy or save it again"
            )
        yield kind, data, length
        if kind == b"IEND":
            return


def _pixels(path: str | Path, head: tuple[int, ...]) -> np.ndarray:
    """Decode the samples as stored.

    The palette and the transparency are withheld from libpng, which would expand them; indices are passed as grey.
    """
    columns, rows, bits, colour_type, _, _, interlaced = head
    grey = struct.pack(">IIBBBBB", columns, rows, bits, 0 if colour_type == 3 else colour_type, 0, 0, interlaced)
    with open_regular(path) as file:
        data = [data for kind, data, _ in _chunks(path, file, pixels=True) if kind == b"IDAT"]
    plain = SIGNATURE + _chunk(b"IHDR", grey) + b"".join(_chunk(b"IDAT", part) for part in data) + _chunk(b"IEND", b"")
    samples = imagecodecs.png_decode(plain)
    if bits < 8:
        # libpng scales them to 0 to 255.
        samples //= np.uint8(255 // (2**bits - 1))
    expected = (rows, columns) if _SAMPLES[colour_type] == 1 else (rows, columns, _SAMPLES[colour_type])
    if samples.shape != expected:
        raise DataError(f"{path}: the image is damaged (decoded as {samples.shape}); copy or save it again")
    return samples


def _alpha_of_key(path: str | Path, samples: np.ndarray, transparent: bytes, bits: int) -> np.ndarray:
    """Return alpha that is 0 where the colour is the one of the tRNS chunk."""
    channels = 1 if samples.ndim == 2 else 3
    if len(transparent) != 2 * channels:
        raise DataError(f"{path}: the image is damaged (tRNS chunk); copy or save it again")
    key = struct.unpack(f">{channels}H", transparent)
    clear = samples == key[0] if channels == 1 else (samples == np.array(key)).all(axis=-1)
    return np.where(clear, 0, 2**bits - 1).astype(samples.dtype)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _inflated(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, _LARGEST_PROFILE)


def _raw_profile(text: bytes) -> bytes:
    """Decode an EXIF block in the text form of older programs: a name, a length, and hexadecimal digits."""
    return bytes.fromhex("".join(text.decode("latin-1").split()[2:])).removeprefix(b"Exif\0\0")
