"""Orientation of an image, by its EXIF block or TIFF tag."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np

from miscnn_tf.errors import DataError

_TAG = 0x0112
_INTEGERS = {1: "B", 3: "H", 4: "I"}
_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*(\d+)")


def find_orientation(path: str | Path, exif: bytes | None, xmp: bytes | None) -> int:
    r"""Return the orientation of a PNG or JPEG file, 1 to 8.

    Args:
        path: The file, for messages.
        exif: Its EXIF block: a TIFF header and directories, without "Exif\0\0".
        xmp: Its XMP packet.

    Raises:
        DataError: If the block is damaged, or only XMP names an orientation: readers differ there.
    """
    value = None if exif is None else _exif_value(path, exif)
    if value is None and xmp is not None and (found := _XMP.search(xmp)) and int(found[1]) > 1:
        raise DataError(
            f"{path}: XMP gives Orientation {int(found[1])}, but EXIF gives none; image viewers disagree about such "
            "files. Turn the image upright and save it without the tag"
        )
    return checked_orientation(path, 1 if value is None else value)


def _exif_value(path: str | Path, exif: bytes) -> int | None:
    """Return the Orientation of an EXIF block; damaged blocks, which Pillow ignores, raise an error."""
    try:
        order = {b"II*\0": "<", b"MM\0*": ">"}[exif[:4]]
        (offset,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, offset)
        for place in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind, values, content = struct.unpack_from(order + "HHI4s", exif, place)
            if tag == _TAG:
                if values != 1:
                    raise ValueError(f"{values} orientations")
                return int(struct.unpack_from(order + _INTEGERS[kind], content)[0])
    except (KeyError, ValueError, struct.error) as error:
        raise DataError(
            f"{path}: the EXIF block is damaged ({error or 'no TIFF header'}), so its Orientation is unknown; save the "
            "image again"
        ) from error
    return None


def checked_orientation(path: str | Path, value: object) -> int:
    """Check an Orientation tag's value, 1 to 8; 0, which some cameras write for "unknown", becomes 1.

    Raises:
        DataError: If it is another value.
    """
    if not isinstance(value, int) or not 0 <= value <= 8:
        raise DataError(f"{path}: Orientation is {value!r}, which is not a number from 1 to 8; save the image again")
    return value or 1


def turned_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return rows and columns after `turned`."""
    return size[::-1] if orientation >= 5 else size


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and flip an image ``(rows, columns[, channels])`` to its upright orientation.

    Example:
        >>> turned(np.array([[1, 2, 3]]), 6).tolist()
        [[1], [2], [3]]
    """
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)
