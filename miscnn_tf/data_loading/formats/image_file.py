"""Reader and writer of PNG, TIFF, JPEG, BMP, GIF, … files, as arrays of rows and columns in the depth of the file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from miscnn_tf._base.files import atomic_path, open_regular
from miscnn_tf.data_loading.formats import authorship
from miscnn_tf.data_loading.formats._pictures import bmp, gif, jpeg, png, pnm, tiff
from miscnn_tf.data_loading.formats._pictures.meaning import as_colours, as_image, as_labels, as_values
from miscnn_tf.data_loading.formats._pictures.picture import Picture, Stored, turned
from miscnn_tf.data_loading.label_keys import colours_of, has_colours, is_colour, is_threshold
from miscnn_tf.errors import ConfigurationError, DataError, MemoryBudgetError, RepeatedWarning

A = TypeVar("A")

#: Formats that keep every value and are written.
LOSSLESS = ("png", "tif", "tiff", "bmp")
#: Formats of masks that are read.
MASKS = (*LOSSLESS, "gif", "ppm", "pgm", "ppm.gz", "pgm.gz")
#: Formats that change values.
LOSSY = ("jpg", "jpeg")
#: Formats of images that are read.
IMAGES = (*MASKS, *LOSSY)

_TWINS = {"tif": "tiff", "tiff": "tif", "jpg": "jpeg", "jpeg": "jpg"}
_PNG_SOFTWARE, _TIFF_SOFTWARE = "Software", 305
_OPENERS = {
    png.SIGNATURE: png.open_png,
    **dict.fromkeys(tiff.SIGNATURES, tiff.open_tiff),
    jpeg.SIGNATURE: jpeg.open_jpeg,
    bmp.SIGNATURE: bmp.open_bmp,
    **dict.fromkeys(gif.SIGNATURES, gif.open_gif),
    **dict.fromkeys(pnm.SIGNATURES, pnm.open_pnm),
}
# ITU-R BT.601, as Pillow and scikit-image's predecessors weigh the colours.
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_ROWS = 256  # at a time, since float32 colours take four times the memory of 8-bit ones


class LossyMaskError(DataError):
    """Error of a mask that was compressed with loss, without a threshold to read it by."""


def spellings(image_format: str) -> list[str]:
    """Return the endings of a format: ``["tif", "tiff"]`` for ``"tif"``."""
    return [image_format] + ([_TWINS[image_format]] if image_format in _TWINS else [])


def image_size(path: str | Path) -> tuple[int, int]:
    """Return rows and columns of an image from its header, after applying its Orientation tag.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is not a readable image, or has several pages.
    """
    return _open(path).size


def is_coloured(path: str | Path) -> bool:
    """Return True if an image is in colours, by its header; a palette of greys is not.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is not a readable image, or has several pages.
    """
    return _open(path).coloured


def palette_of(path: str | Path) -> np.ndarray | None:
    """Return the colours of the indices ``(n, 3)`` that a PNG, TIFF or BMP file stores; None if it has no palette.

    Raises:
        DataError: If it is not a readable image.
    """
    return _open(path).palette


def read_colours(path: str | Path, img_type: str) -> np.ndarray:
    """Read an image, and turn it upright by its Orientation tag.

    Args:
        path: The file.
        img_type: "grayscale" turns colours into luminance, "rgb" repeats grey three times. Transparency is dropped.

    Returns:
        ``(rows, columns)``, or ``(rows, columns, 3)`` for "rgb", in the file's depth: an integer type or float32.
        Grey of 1, 2 or 4 bits is scaled to 0 to 255; WhiteIsZero is inverted, so that bright is high.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it cannot be read, is damaged, has several pages, or a tag gives it a meaning that is not applied.
        MemoryBudgetError: If it does not fit into memory.
    """
    picture = _open(path)
    array = turned(_meaning(path, picture, as_image), picture.orientation)
    if img_type == "grayscale":
        return _luminance(array) if array.ndim == 3 else array
    return array if array.ndim == 3 else np.repeat(array[..., np.newaxis], 3, axis=-1)


def read_mask(path: str | Path, label_map: Mapping[int, int] | None = None) -> np.ndarray:
    """Read the values of a label map: palette indices, grey values, or the one value of three equal colours.

    The values are the stored ones, regardless of PhotometricInterpretation, turned upright by the Orientation tag.

    Args:
        path: The file.
        label_map: The label map by which the values are read. If it names colours, they are returned as
            `label_keys.colour_keys`; with a threshold, masks that were compressed with loss are read.

    Returns:
        ``(rows, columns)`` of the file's type; int32 for colours.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it cannot be read, is compressed with loss, is a colour image, or may have its labels in the
            alpha channel.
        MemoryBudgetError: If it does not fit into memory.

    Warns:
        RepeatedWarning: If it was compressed with loss.
    """
    picture = _open_mask(path, label_map)
    meaning = as_colours if has_colours(label_map) else as_labels
    return turned(_meaning(path, picture, meaning), picture.orientation)


def read_any_mask(path: str | Path) -> np.ndarray:
    """Read the values of a label map like `read_mask`, before it is known whether they are colours.

    Raises:
        DataError: As for `read_mask`.
    """
    picture = _open_mask(path, None)
    return turned(_meaning(path, picture, as_values), picture.orientation)


def check_mask(path: str | Path, label_map: Mapping[int, int] | None = None) -> tuple[int, int]:
    """Return rows and columns of a mask from its header, after applying its Orientation tag.

    Raises:
        DataError: If it is compressed with loss and `label_map` has no threshold, or cannot be read.
    """
    return _open_mask(path, label_map).size


def write_mask(path: str | Path, labels: np.ndarray) -> None:
    """Write labels as grey values, atomically; PNG and TIFF files also name this package as the writer.

    Args:
        path: Ends in one of `LOSSLESS`.
        labels: ``(rows, columns)``, uint8 or uint16; or int32, where `label_keys.colour_keys` become colours.

    Raises:
        ConfigurationError: If the format cannot hold them.
        StorageError: If the file cannot be written.
    """
    path = Path(path)
    ending = path.suffix.lower().lstrip(".")
    if ending not in LOSSLESS:
        raise ConfigurationError(f"{path}: the format changes labels; name the file .png, .tif or .bmp")
    if labels.dtype == np.int32 and labels.size and is_colour(int(labels.max())):
        labels = colours_of(labels)
    if ending == "bmp" and labels.dtype != np.uint8:
        raise ConfigurationError(f"{path}: BMP holds 256 labels at most; choose img_format='png'")
    line = authorship.mark(authorship.checksum_of([str(labels.shape).encode(), labels]))
    with atomic_path(path) as temporary:
        # BMP has no field for the program's name.
        if ending == "png":
            text = PngInfo()
            text.add_text(_PNG_SOFTWARE, line)
            Image.fromarray(labels).save(temporary, pnginfo=text)
        elif ending in ("tif", "tiff"):
            Image.fromarray(labels).save(temporary, tiffinfo={_TIFF_SOFTWARE: line})
        else:
            Image.fromarray(labels).save(temporary)


def written_by(path: str | Path) -> str | None:
    """Return the program that a PNG or TIFF file names as its writer; None if missing.

    Raises:
        DataError: If it is not a readable image.
    """
    return _open(path).software


def was_written_here(path: str | Path) -> bool:
    """Return True if `write_mask` wrote this file and it is unchanged; always False for BMP.

    Raises:
        DataError: If it cannot be read.
    """
    line = written_by(path)
    if not authorship.is_mark(line):
        return False
    labels = _meaning(path, _open(path), lambda stored, _: stored.samples)
    return authorship.matches(line, authorship.checksum_of([str(labels.shape).encode(), labels]))


def _open(path: str | Path) -> Picture:
    with open_regular(path) as file:
        start = file.read(8)
        file.seek(0)
        for signature, opener in _OPENERS.items():
            if start.startswith(signature):
                try:
                    return opener(path, file)
                except DataError:
                    raise
                except Exception as error:  # damaged headers may raise any error in the parsers
                    raise _damaged(path, error) from error
    raise DataError(
        f"{path}: not a readable image (its content is not PNG, TIFF, JPEG, BMP or GIF, nor binary PPM or PGM); save "
        "it again as PNG or TIFF"
    )


def _open_mask(path: str | Path, label_map: Mapping[int, int] | None) -> Picture:
    picture = _open(path)
    if picture.lossy is None:
        return picture
    if not any(map(is_threshold, label_map or ())):
        raise LossyMaskError(
            f"{path}: the mask is {picture.lossy}-compressed, which changes labels; save it as PNG, TIFF or BMP, or "
            "separate its values by a threshold, --label-map 128+=1 (Python: label_map={'128+': 1})"
        )
    warnings.warn(
        RepeatedWarning(
            f"{path}: the mask is {picture.lossy}-compressed, so its edges are inexact; its values are separated by "
            "the threshold of label_map. Masks in PNG, TIFF or BMP are exact",
            key="masks compressed with loss",
        ),
        stacklevel=3,
    )
    return picture


def _meaning(path: str | Path, picture: Picture, meaning: Callable[[Stored, str | Path], A]) -> A:
    try:
        return meaning(picture.read(), path)
    except DataError:
        raise
    except MemoryError as error:
        rows, columns = picture.stored_size
        raise MemoryBudgetError(
            f"{path}: {rows} x {columns} pixels do not fit into memory; cut the image into tiles"
        ) from error
    except Exception as error:  # as in `_open`, for the samples
        raise _damaged(path, error) from error


def _damaged(path: str | Path, error: Exception) -> DataError:
    reason = str(error) or type(error).__name__
    return DataError(f"{path}: the image is truncated or damaged ({reason}); copy or save it again")


def _luminance(colours: np.ndarray) -> np.ndarray:
    grey = np.empty(colours.shape[:2], colours.dtype)
    for first in range(0, len(colours), _ROWS):
        # float32 holds 16 bits times a weight exactly enough.
        part = colours[first : first + _ROWS].astype(np.float32) @ _LUMINANCE
        grey[first : first + _ROWS] = part if colours.dtype.kind == "f" else np.rint(part)
    return grey
