"""Header, orientation and samples of an image file, and the check of its size before memory is allocated."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miscnn_tf.errors import DataError

_TAG = 0x0112
_INTEGERS = {1: "B", 3: "H", 4: "I"}
_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*(\d+)")
#: Bytes of samples that a file of any size may claim.
ALWAYS_ALLOWED = 2**24
#: Bytes of samples that Deflate can make of one byte.
DEFLATE_RATIO = 1032


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


@dataclass(frozen=True)
class Stored:
    """The samples of an image as they are in the file.

    Attributes:
        samples: ``(rows, columns)``, or ``(rows, columns, channels)`` for colours.
        model: "grey", "palette" (samples are indices), "rgb" or "cmyk" (0 means without ink).
        bits: Bits per sample.
        white_is_zero: Whether grey 0 is white.
        palette: Colours of the indices, ``(n, 3)``.
        alpha: ``(rows, columns)``, where the file has transparency.
        premultiplied: Whether the samples were multiplied by `alpha`.
        calibration: Offset and factor from samples to values.
    """

    samples: np.ndarray
    model: str
    bits: int
    white_is_zero: bool = False
    palette: np.ndarray | None = None
    alpha: np.ndarray | None = None
    premultiplied: bool = False
    calibration: tuple[float, float] | None = None


@dataclass(frozen=True)
class Picture:
    """The header of an image file.

    Attributes:
        stored_size: Rows and columns as stored.
        orientation: EXIF's and TIFF's number, 1 to 8, for showing it upright.
        coloured: Whether it has colours; False for a palette of greys.
        read: Reads the samples.
        lossy: The compression, where it changes values.
        software: The program that the file names as its writer.
        palette: Colours of the indices ``(n, 3)``, if the samples are indices.
    """

    stored_size: tuple[int, int]
    orientation: int
    coloured: bool
    read: Callable[[], Stored]
    lossy: str | None = None
    software: str | None = None
    palette: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the upright image."""
        return turned_size(self.stored_size, self.orientation)


def has_colours(palette: np.ndarray) -> bool:
    """Return True if a palette ``(n, 3)`` holds more than greys."""
    return bool((palette != palette[:, :1]).any())


def check_claim(path: str | Path, size: tuple[int, int], claimed: int, held: int, ratio: float) -> None:
    """Check that a file is large enough for the image that its header describes.

    Args:
        path: The file, for the message.
        size: Rows and columns of the header.
        claimed: Bytes of samples.
        held: Bytes of compressed data in the file.
        ratio: Bytes of samples that the compression can make of one byte.

    Raises:
        DataError: If the image is empty, or needs more than `ALWAYS_ALLOWED` and more than the file can hold.
    """
    if min(size) < 1:
        raise DataError(f"{path}: the image is damaged (size {size[0]} x {size[1]} pixels); copy or save it again")
    if claimed > max(ALWAYS_ALLOWED, held * ratio):
        raise DataError(
            f"{path}: the header claims {size[0]} x {size[1]} pixels ({claimed} bytes), but the {held} bytes of "
            f"compressed data hold at most {int(held * ratio)}; the image is truncated or damaged: copy or save it "
            "again"
        )
