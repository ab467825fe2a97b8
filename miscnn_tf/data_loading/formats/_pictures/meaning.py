"""Conversion of stored samples to colours and labels, by the tags of the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from miscnn_tf.data_loading.formats._pictures.picture import Stored, has_colours
from miscnn_tf.data_loading.label_keys import colour_keys
from miscnn_tf.errors import DataError

_ROWS = 256  # at a time, so that temporary arrays stay smaller than the image


def as_image(stored: Stored, path: str | Path) -> np.ndarray:
    """Convert to brightness ``(rows, columns)`` or colours ``(rows, columns, 3)``, without transparency.

    Grey of less than 8 bits is scaled to 0 to 255; otherwise the depth stays. float16 and float64 become float32.

    Raises:
        DataError: If the tags give the samples a meaning that is not defined, or values exceed float32.
    """
    if stored.model == "palette":
        return _looked_up(stored, path)
    samples = _at_most_float32(stored.samples, path)
    if stored.model == "cmyk":
        return _without_ink(samples, stored.bits)
    if stored.premultiplied and stored.alpha is not None:
        samples = _unmultiplied(samples, stored.alpha, stored.bits)
    if stored.white_is_zero:
        if samples.dtype.kind != "u":
            raise DataError(
                f"{path}: PhotometricInterpretation WhiteIsZero is not defined for {samples.dtype} values; save the "
                "image as BlackIsZero"
            )
        samples = samples.dtype.type(2**stored.bits - 1) - samples
    if stored.bits < 8:
        samples = samples * np.uint8(255 // (2**stored.bits - 1))
    return samples if stored.calibration is None else calibrated(samples, *stored.calibration)


def as_labels(stored: Stored, path: str | Path) -> np.ndarray:
    """Convert to labels ``(rows, columns)``: stored grey values, palette indices, or the value of three equal colours.

    Raises:
        DataError: If the labels could be in the colours or in the transparency.
    """
    if stored.model == "palette":
        return stored.samples
    labels = stored.samples
    if stored.model == "cmyk" or (labels.ndim == 3 and not (labels == labels[..., :1]).all()):
        raise DataError(
            f"{path}: the mask is a colour image, whose labels are ambiguous; save it as grey values "
            "or palette indices 0, 1, 2, …, or give each colour a class, label_map={'#ff0000': 1}"
        )
    if stored.calibration is not None:
        raise DataError(
            f"{path}: the description calibrates the values (c0={stored.calibration[0]:g}, "
            f"c1={stored.calibration[1]:g}); save the labels without calibration"
        )
    labels = labels[..., 0] if labels.ndim == 3 else labels
    if stored.alpha is not None:
        _check_alpha(labels, stored, path)
    return labels


def as_values(stored: Stored, path: str | Path) -> np.ndarray:
    """Convert to labels like `as_labels`, or to the keys of colours if the file is in colours.

    Raises:
        DataError: As for `as_labels` and `as_colours`.
    """
    samples = stored.samples
    coloured = stored.model == "rgb" and samples.ndim == 3 and not (samples == samples[..., :1]).all()
    return as_colours(stored, path) if coloured else as_labels(stored, path)


def as_colours(stored: Stored, path: str | Path) -> np.ndarray:
    """Convert to the keys of colours ``(rows, columns)``; grey values are colours with three equal parts.

    Raises:
        DataError: If the colours have more than 8 bits, or the labels could be in the transparency.
    """
    colours = as_image(replace(stored, alpha=None, premultiplied=False), path)
    if colours.dtype == np.uint16 and not (colours % 257).any():
        colours = (colours // 257).astype(np.uint8)
    if colours.dtype != np.uint8:
        raise DataError(f"{path}: the colours of the mask are {colours.dtype}, not 8 bits; save it as PNG with 8 bits")
    if colours.ndim == 2:
        colours = np.repeat(colours[..., np.newaxis], 3, axis=-1)
    if stored.alpha is not None:
        _check_alpha(colours.max(axis=-1), stored, path)
    return colour_keys(colours)


def _check_alpha(labels: np.ndarray, stored: Stored, path: str | Path) -> None:
    """Require transparency that is constant, or 0 exactly where the labels are 0: other alpha might hold the labels."""
    alpha = stored.alpha
    assert alpha is not None
    highest = alpha.max()
    opaque = alpha == highest
    full = alpha.dtype.type(2**stored.bits - 1) if alpha.dtype.kind == "u" else alpha.dtype.type(1)
    if opaque.all():
        clear = highest != 0 or not labels.any()
    else:
        clear = bool(((alpha == 0) | opaque).all() and ((labels != 0) == opaque).all())
    if not clear or (stored.premultiplied and highest not in (0, full)):
        raise DataError(
            f"{path}: the alpha channel of the mask is not constant ({alpha.min()} to {highest}) and might hold the "
            "labels; save the labels as grey values without alpha"
            if not opaque.all()
            else f"{path}: the alpha channel of the mask is {highest} everywhere, which hides or scales its values; "
            "save the labels as grey values without alpha"
        )


def _looked_up(stored: Stored, path: str | Path) -> np.ndarray:
    palette = stored.palette
    if palette is None or not len(palette):
        raise DataError(f"{path}: the palette is missing; save the image again")
    highest = int(stored.samples.max())
    if highest >= len(palette):
        raise DataError(f"{path}: palette index {highest}, but the palette has {len(palette)} colours; save it again")
    return palette[stored.samples] if has_colours(palette) else palette[:, 0][stored.samples]


def _at_most_float32(samples: np.ndarray, path: str | Path) -> np.ndarray:
    if samples.dtype.kind != "f" or samples.dtype == np.float32:
        return samples
    with np.errstate(over="ignore"):
        narrow = samples.astype(np.float32)
    for first in range(0, len(samples), _ROWS):
        part = slice(first, first + _ROWS)
        lost = np.isinf(narrow[part]) & np.isfinite(samples[part])
        if lost.any():
            raise DataError(
                f"{path}: holds {samples[part][lost][0]:g}, beyond the range of float32 (3.4e38), in which images are "
                "read; scale the values"
            )
    return narrow


def _without_ink(samples: np.ndarray, bits: int) -> np.ndarray:
    """Convert CMYK to RGB without a colour profile, like libtiff: (1 - ink) * (1 - black)."""
    full = 2**bits - 1
    colours = np.empty((*samples.shape[:2], 3), samples.dtype)
    for first in range(0, len(samples), _ROWS):
        part = full - samples[first : first + _ROWS].astype(np.uint32)
        colours[first : first + _ROWS] = (part[..., :3] * part[..., 3:] + full // 2) // full
    return colours


def _unmultiplied(samples: np.ndarray, alpha: np.ndarray, bits: int) -> np.ndarray:
    full = 1.0 if samples.dtype.kind == "f" else float(2**bits - 1)
    plain = np.empty_like(samples)
    for first in range(0, len(samples), _ROWS):
        part = slice(first, first + _ROWS)
        share = alpha[part].astype(np.float64) / full
        share = share if samples.ndim == 2 else share[..., np.newaxis]
        values = np.divide(samples[part], share, out=np.zeros(samples[part].shape), where=share > 0)
        plain[part] = values if samples.dtype.kind == "f" else np.rint(np.minimum(values, full))
    return plain


def calibrated(samples: np.ndarray, offset: float, factor: float) -> np.ndarray:
    """Return ``offset + factor * samples``: int32 for shifted integers of at most 16 bits, otherwise float32."""
    whole = samples.dtype.kind in "ui" and samples.dtype.itemsize <= 2 and factor == 1 and offset == int(offset)
    if whole and abs(offset) < 2**30:
        return samples.astype(np.int32) + np.int32(offset)
    return samples.astype(np.float32) * np.float32(factor) + np.float32(offset)
