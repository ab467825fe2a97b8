"""PGM and PPM files, grey values or colours in binary; also compressed with gzip, as in STARE."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from miscnn_tf._base.files import open_unpacked
from miscnn_tf.data_loading.formats._pictures.picture import DEFLATE_RATIO, Picture, Stored, check_claim
from miscnn_tf.errors import DataError

_BINARY = (b"P5", b"P6")
#: Beginnings of the files; the last one is gzip's.
SIGNATURES = (*_BINARY, b"\x1f\x8b")

_GAP = rb"(?:\s|#[^\n]*\n)+"
# One blank ends the header; the next byte is a sample, even if it looks like a blank.
_HEADER = re.compile(rb"P[56]" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,5})\s")
_LONGEST_HEADER = 2**14
# Programs add a line break at the end.
_LONGEST_END = 2


def open_pnm(path: str | Path, file: BinaryIO) -> Picture:
    """Read the header of a PGM or PPM file.

    Raises:
        DataError: If it is damaged, or its values have another range than their type.
    """
    held = os.fstat(file.fileno()).st_size
    with open_unpacked(Path(path)) as unpacked:
        start = unpacked.read(_LONGEST_HEADER)
    if not start.startswith(_BINARY):
        raise DataError(f"{path}: not a readable image (the content of gzip is not PGM or PPM); save it again as PNG")
    match = _HEADER.match(start)
    if match is None:
        raise DataError(f"{path}: the image is truncated or damaged (header); copy or save it again")
    columns, rows, highest = (int(number) for number in match.groups())
    # Readers disagree on whether other values are scaled to the range of the type.
    if highest not in (255, 65535):
        raise DataError(f"{path}: the highest value is {highest}, not 255 or 65535; save the image as PNG")
    colours = start.startswith(b"P6")
    shape = (rows, columns, 3) if colours else (rows, columns)
    dtype = np.dtype(">u2" if highest > 255 else np.uint8)
    needed = rows * columns * (3 if colours else 1) * dtype.itemsize
    check_claim(path, (rows, columns), needed, held, DEFLATE_RATIO)

    def read() -> Stored:
        with open_unpacked(Path(path)) as unpacked:
            unpacked.read(match.end())
            data, end = unpacked.read(needed), unpacked.read(_LONGEST_END + 1)
        if len(data) < needed:
            raise DataError(
                f"{path}: the image is truncated or damaged: {rows} x {columns} pixels need {needed} bytes, the file "
                f"has {len(data)}; copy or save it again"
            )
        if len(end) > _LONGEST_END:
            what = "several pages" if end.startswith(_BINARY) else "more data after the pixels"
            raise DataError(f"{path}: the file holds {what}; save each image as a sample")
        samples = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))
        return Stored(samples.reshape(shape), "rgb" if colours else "grey", 8 * dtype.itemsize)

    return Picture((rows, columns), 1, colours, read)
