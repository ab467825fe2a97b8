"""JPEG files; libjpeg-turbo decodes them, and its warnings of damage are errors."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import simplejpeg

from miscnn_tf._base.files import open_regular
from miscnn_tf.data_loading.formats._pictures.picture import Picture, Stored, check_claim, find_orientation
from miscnn_tf.errors import DataError

SIGNATURE = b"\xff\xd8\xff"

# A block of 8 x 8 values takes at least a bit.
_RATIO = 512
_BASELINE, _PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)
_OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF)
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD8))
_OUTPUT = {1: "GRAY", 3: "RGB", 4: "CMYK"}
_EXIF, _XMP, _ADOBE = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"Adobe"


def open_jpeg(path: str | Path, file: BinaryIO) -> Picture:
    """Read the header of a JPEG file.

    Raises:
        DataError: If it is damaged, or of a kind other than baseline or progressive with 8 bits.
    """
    exif, xmp, adobe, frame = None, None, False, None
    for marker, data in _segments(path, file):
        if marker == 0xE1 and data.startswith(_EXIF) and exif is None:
            exif = data[len(_EXIF) :]
        elif marker == 0xE1 and data.startswith(_XMP):
            xmp = data[len(_XMP) :]
        elif marker == 0xEE and data.startswith(_ADOBE):
            adobe = True
        elif marker in _OTHER_FRAMES:
            raise DataError(
                f"{path}: JPEG of this kind (lossless or hierarchical, SOF{marker - 0xC0}) cannot be read; save the "
                "image as PNG or TIFF"
            )
        elif marker in _BASELINE + _PROGRESSIVE:
            if frame is not None or len(data) < 6:
                raise DataError(f"{path}: the image is damaged (SOF segment); copy or save it again")
            frame = data
    if frame is None:
        raise DataError(f"{path}: the image is truncated or damaged (no SOF segment); copy or save it again")
    precision, channels = frame[0], frame[5]
    rows, columns = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    if precision != 8 or channels not in _OUTPUT:
        raise DataError(
            f"{path}: JPEG with {precision} bits per sample and {channels} components cannot be read, only 8 bits and "
            "1, 3 or 4 components; save the image as PNG or TIFF"
        )
    check_claim(path, (rows, columns), rows * columns, file.seek(0, 2), _RATIO)

    def read() -> Stored:
        with open_regular(path) as again:
            samples = simplejpeg.decode_jpeg(again.read(), _OUTPUT[channels], strict=True)
        if samples.shape != (rows, columns, channels):
            raise DataError(f"{path}: the image is damaged (decoded as {samples.shape}); copy or save it again")
        if channels == 4:
            # Adobe programs store inverted ink values.
            return Stored(~samples if adobe else samples, "cmyk", 8)
        return Stored(samples[..., 0], "grey", 8) if channels == 1 else Stored(samples, "rgb", 8)

    return Picture((rows, columns), find_orientation(path, exif, xmp), channels > 1, read, lossy="JPEG")


def check_whole(data: bytes) -> None:
    """Raise ValueError if a JPEG stream is truncated or damaged."""
    simplejpeg.decode_jpeg(data, "GRAY", strict=True)


def _segments(path: str | Path, file: BinaryIO) -> list[tuple[int, bytes]]:
    """Return marker and content of each segment before the pixels."""
    found: list[tuple[int, bytes]] = []
    file.seek(2)
    while True:
        start = file.read(2)
        while len(start) == 2 and start[0] == 0xFF and start[1] == 0xFF:
            start = start[1:] + file.read(1)
        if len(start) < 2 or start[0] != 0xFF:
            raise DataError(f"{path}: the image is truncated or damaged (JPEG header); copy or save it again")
        marker = start[1]
        if marker in _WITHOUT_LENGTH:
            continue
        if marker in (0xDA, 0xD9):
            return found
        length = int.from_bytes(file.read(2), "big") - 2
        data = file.read(max(0, length))
        if length < 0 or len(data) < length:
            raise DataError(f"{path}: the image is truncated or damaged (JPEG header); copy or save it again")
        found.append((marker, data))
