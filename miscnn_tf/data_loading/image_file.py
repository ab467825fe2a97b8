"""One PNG, TIFF, JPEG or BMP file as an array of rows and columns, with the depth that it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from miscnn_tf.data_loading.storage import atomic_path
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError

#: Formats that keep every value, and so may hold masks.
LOSSLESS = ("png", "tif", "tiff", "bmp")
#: Formats that change values.
LOSSY = ("jpg", "jpeg")

_TWINS = {"tif": "tiff", "tiff": "tif", "jpg": "jpeg", "jpeg": "jpg"}
_LOSSY_CODECS = ("JPEG", "MPO")
# ITU-R BT.601, as Pillow and scikit-image's predecessors weigh the colours.
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def spellings(image_format: str) -> list[str]:
    """The endings that a format goes by: ``["tif", "tiff"]`` for ``"tif"``."""
    return [image_format] + ([_TWINS[image_format]] if image_format in _TWINS else [])


def image_size(path: str | Path) -> tuple[int, int]:
    """Rows and columns of an image, from its header.

    Raises:
        MissingDataError: If there is no such file.
        DataError: If it is no image that can be read, or has several pages.
    """
    with _open(path) as image:
        return image.height, image.width


def is_coloured(path: str | Path) -> bool:
    """Whether an image is in colours, from its header: grey ones, also as a palette of greys, are not.

    Raises:
        MissingDataError: If there is no such file.
        DataError: If it is no image that can be read, or has several pages.
    """
    with _open(path) as image:
        if image.mode == "P" and image.palette is not None:
            colours = np.asarray(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
            return bool((colours != colours[:, :1]).any())
        return image.mode not in ("1", "L", "LA", "La", "F") and not image.mode.startswith("I")


def read_colours(path: str | Path, img_type: str) -> np.ndarray:
    """Read an image.

    Args:
        path: The file.
        img_type: "grayscale" turns colours into luminance, "rgb" repeats grey three times. Transparency is dropped.

    Returns:
        ``(rows, columns)``, or ``(rows, columns, 3)`` for "rgb", in the file's depth: uint8, uint16, int32 or float32.

    Raises:
        MissingDataError: If there is no such file.
        DataError: If it cannot be read, is damaged, or has several pages.
    """
    with _open(path) as image:
        array = _decoded(image, path, indices=False)
    if img_type == "grayscale":
        return _luminance(array) if array.ndim == 3 else array
    return array if array.ndim == 3 else np.repeat(array[..., np.newaxis], 3, axis=-1)


def read_mask(path: str | Path) -> np.ndarray:
    """Read the values of a label map: palette indices, grey values, or the one value of three equal colours.

    Returns:
        ``(rows, columns)`` of the file's type.

    Raises:
        MissingDataError: If there is no such file.
        DataError: If it cannot be read, is compressed with loss, or is a picture in colours.
    """
    with _open(path) as image:
        _refuse_lossy(image, path)
        array = _decoded(image, path, indices=True)
    if array.ndim == 2:
        return array
    if not (array == array[..., :1]).all():
        raise DataError(
            f"{path}: the mask is a picture in colours, from which the labels cannot be told; save it as grey values "
            "or palette indices 0, 1, 2, …"
        )
    return array[..., 0]


def check_mask(path: str | Path) -> tuple[int, int]:
    """Rows and columns of a mask from its header.

    Raises:
        DataError: If it is compressed with loss, or cannot be read.
    """
    with _open(path) as image:
        _refuse_lossy(image, path)
        return image.height, image.width


def write_mask(path: str | Path, labels: np.ndarray) -> None:
    """Write labels as grey values, atomically.

    Args:
        path: Ends in one of `LOSSLESS`.
        labels: ``(rows, columns)``, uint8 or uint16.

    Raises:
        ConfigurationError: If the format cannot hold them.
        StorageError: If the file cannot be written.
    """
    path = Path(path)
    ending = path.suffix.lower().lstrip(".")
    if ending not in LOSSLESS:
        raise ConfigurationError(f"{path}: labels would not survive this format; name the file .png, .tif or .bmp")
    if ending == "bmp" and labels.dtype != np.uint8:
        raise ConfigurationError(f"{path}: BMP holds 256 labels at most; choose img_format='png'")
    with atomic_path(path) as temporary:
        Image.fromarray(labels).save(temporary)


def _open(path: str | Path) -> ImageFile.ImageFile:
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise MissingDataError(f"{path}: there is no such file; check the path") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {error}. Cut the image into tiles, or raise PIL.Image.MAX_IMAGE_PIXELS") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: no image that can be read ({error}); save it again as PNG or TIFF") from error
    try:
        pages = getattr(image, "n_frames", 1)
    except Exception as error:  # Pillow's readers raise whatever a damaged directory makes them stumble over
        image.close()
        raise DataError(f"{path}: the image is damaged ({error}); copy or save it again") from error
    if pages > 1 and image.format != "MPO":
        image.close()
        raise DataError(
            f"{path}: the file holds {pages} pages, but a sample is one image; save each page as a sample, or the "
            "stack as NIfTI"
        )
    return image


def _refuse_lossy(image: ImageFile.ImageFile, path: str | Path) -> None:
    if image.format in _LOSSY_CODECS or image.info.get("compression") in ("jpeg", "tiff_jpeg"):
        raise DataError(f"{path}: the mask is JPEG-compressed, which changes labels; save it as PNG, TIFF or BMP")


def _decoded(image: ImageFile.ImageFile, path: str | Path, indices: bool) -> np.ndarray:
    try:
        return _as_array(image, path, indices)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: the image is truncated or damaged ({error}); copy or save it again") from error


def _as_array(image: ImageFile.ImageFile, path: str | Path, indices: bool) -> np.ndarray:
    mode = image.mode
    if mode in ("RGB", "RGBA") and (raw := _deep_rawmode(image)) is not None:
        return _deep_colours(image, path, raw)
    if mode == "P" and indices:
        return np.array(image)
    if mode == "1":
        return np.array(image).astype(np.uint8) * np.uint8(1 if indices else 255)
    if mode in ("LA", "La"):
        return np.array(image.convert("LA"))[..., 0]
    if mode == "P":
        colours = np.array(image.convert("RGB"))
        grey = (colours == colours[..., :1]).all()
        return colours[..., 0] if grey else colours
    if mode in ("RGBA", "RGBX", "RGBa"):
        return np.array(image)[..., :3]
    if mode in ("L", "RGB", "F"):
        return np.array(image)
    if mode.startswith("I"):
        array = np.array(image)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        # Some readers give 16 bits as 32.
        fits = array.dtype == np.int32 and array.size and array.min() >= 0 and array.max() < 2**16
        return array.astype(np.uint16) if fits else array
    return np.array(image.convert("RGB"))


def _deep_rawmode(image: ImageFile.ImageFile) -> str | None:
    """How the file packs its colours if they have 16 bits (``"RGB;16B"``), else None."""
    for tile in image.tile:
        arguments = tile[3]
        raw = arguments[0] if isinstance(arguments, tuple) else arguments
        if isinstance(raw, str) and ";16" in raw:
            return raw
    return None


def _deep_colours(image: ImageFile.ImageFile, path: str | Path, raw: str) -> np.ndarray:
    """Colours of 16 bits, of which Pillow keeps the high byte only.

    Told that the bytes lie the other way round, it keeps the low ones instead: two readings give both.
    """
    other = raw[:-1] + {"B": "L", "L": "B", "N": "B" if np.little_endian else "L"}[raw[-1]]
    high = np.array(image)[..., :3].astype(np.uint16)
    with _open(path) as again:
        again.tile = [tile._replace(args=_replaced(tile.args, raw, other)) for tile in again.tile]
        low = np.array(again)[..., :3]
    return (high << 8) | low


def _replaced(arguments: Any, raw: str, other: str) -> Any:
    if isinstance(arguments, tuple):
        return tuple(other if item == raw else item for item in arguments)
    return other if arguments == raw else arguments


def _luminance(colours: np.ndarray) -> np.ndarray:
    # A row at a time would be slow, the whole as float64 wasteful: float32 holds 16 bits times a weight exactly enough.
    grey = colours.astype(np.float32) @ _LUMINANCE
    return grey if colours.dtype.kind == "f" else np.rint(grey).astype(colours.dtype)
