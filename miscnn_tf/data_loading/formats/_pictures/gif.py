"""GIF files of one image; Pillow decodes the pixels.

The order of a palette is the choice of the program that wrote the file, so that masks are read by grey value or colour.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from miscnn_tf._base.files import open_regular
from miscnn_tf.data_loading.formats._pictures.picture import Picture, Stored, check_claim, has_colours
from miscnn_tf.errors import DataError

SIGNATURES = (b"GIF87a", b"GIF89a")

# A code of 12 bits gives at most 4096 pixels.
_RATIO = 2731
_EXTENSION, _IMAGE, _END = b"!", b",", b";"


def open_gif(path: str | Path, file: BinaryIO) -> Picture:
    """Read the header of a GIF file: every block but the pixels.

    Raises:
        DataError: If it is damaged, holds several images, or one that does not fill the frame.
    """
    damaged = f"{path}: the image is truncated or damaged ({{}}); copy or save it again"
    head = file.read(13)
    if len(head) < 13:
        raise DataError(damaged.format("header"))
    columns, rows = (int.from_bytes(head[start : start + 2], "little") for start in (6, 8))
    palette = _palette(file, head[10])
    images, held = 0, 0
    while (kind := file.read(1)) != _END:
        if kind == _EXTENSION:
            file.read(1)
            _skip_blocks(file, damaged)
            continue
        place = file.read(9)
        if kind != _IMAGE or len(place) < 9:
            raise DataError(damaged.format("block" if kind else "no end"))
        images += 1
        if images > 1:
            raise DataError(f"{path}: the file holds several pages (frames of an animation); save each as a sample")
        if [int.from_bytes(place[start : start + 2], "little") for start in (0, 2, 4, 6)] != [0, 0, columns, rows]:
            raise DataError(f"{path}: the image does not fill the frame of {rows} x {columns} pixels; save it as PNG")
        palette = _palette(file, place[8]) if place[8] & 0x80 else palette
        file.read(1)
        held = _skip_blocks(file, damaged)
    if not images or not len(palette):
        raise DataError(damaged.format("no image" if len(palette) else "no palette"))
    check_claim(path, (rows, columns), rows * columns, held, _RATIO)

    def read() -> Stored:
        with open_regular(path) as again, Image.open(again, formats=["GIF"]) as image:
            image.load()
            # Pillow calls a palette of all greys in order "L".
            indices = np.asarray(image) if image.mode in ("P", "L") else np.zeros((0, 0), np.uint8)
        if indices.shape != (rows, columns) or indices.max() >= len(palette):
            raise DataError(damaged.format(f"decoded as {indices.shape}, {len(palette)} colours"))
        if has_colours(palette[np.unique(indices)]):
            return Stored(palette[indices], "rgb", 8)
        return Stored(palette[:, 0][indices], "grey", 8)

    return Picture((rows, columns), 1, has_colours(palette), read)


def _palette(file: BinaryIO, flags: int) -> np.ndarray:
    """Read the colours ``(n, 3)`` that follow, if the flags announce them."""
    size = 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
    data = file.read(3 * size)
    return np.frombuffer(data[: len(data) // 3 * 3], np.uint8).reshape(-1, 3)


def _skip_blocks(file: BinaryIO, damaged: str) -> int:
    """Skip blocks of data up to an empty one, and return the number of their bytes."""
    held = 0
    while size := int.from_bytes(length := file.read(1), "big"):
        if len(file.read(size)) < size:
            raise DataError(damaged.format("a block ends early"))
        held += size
    if not length:
        raise DataError(damaged.format("no end"))
    return held
