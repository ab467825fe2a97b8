"""Header and samples of an image file, independent of its format; check of its size before memory is allocated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miscnn_tf.data_loading.formats._pictures import upright
from miscnn_tf.errors import DataError

#: Bytes of samples that a file of any size may claim.
ALWAYS_ALLOWED = 2**24
#: Bytes of samples that Deflate can make of one byte.
DEFLATE_RATIO = 1032


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
    """

    stored_size: tuple[int, int]
    orientation: int
    coloured: bool
    read: Callable[[], Stored]
    lossy: str | None = None
    software: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the upright image."""
        return upright.turned_size(self.stored_size, self.orientation)


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
