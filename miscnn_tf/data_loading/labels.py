"""What an image and a label map must be before anything is trained on them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf.errors import ConfigurationError, DataError, LabelError
from miscnn_tf.plain_limits import shown

_WIDEST_TABLE = 2**16
_SHOWN = 8
_DIGITS = re.compile(r"-?[0-9]{1,18}")


class NotFiniteWarning(UserWarning):
    """An image holds voxels that are NaN or infinite."""


def normalised_label_map(label_map: Mapping[Any, Any] | None, classes: int) -> dict[int, int] | None:
    """A label map as it is used: integers to integers below `classes`; text keys, as JSON has them, are numbers again.

    Raises:
        ConfigurationError: If an entry is no integer, or leads to no class.
    """
    if not label_map:
        return None
    try:
        numbers = {_whole_label(old, text=True): _whole_label(new) for old, new in label_map.items()}
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise ConfigurationError(
            f"label_map must map integers to integers, e.g. {{255: 1}}; got {shown(label_map)}"
        ) from None
    if len(numbers) < len(label_map):
        raise ConfigurationError(f"label_map names a value twice, as a number and as text; got {shown(label_map)}")
    for old, new in numbers.items():
        if not 0 <= new < classes:
            raise ConfigurationError(
                f"label_map turns {old} into {new}, which is none of the {classes} classes (0 to {classes - 1})"
            )
    return numbers


def _whole_label(value: Any, *, text: bool = False) -> int:
    """A label; of text only plain digits, of floats only whole ones: ``int("1_0")`` is 10, ``int(1.7)`` is 1."""
    if isinstance(value, str):
        if not text or not _DIGITS.fullmatch(value):
            raise ValueError(value)
        return int(value)
    if isinstance(value, bool) or int(value) != value:
        raise ValueError(value)
    return int(value)


def label_dtype(classes: int) -> type[np.uint8] | type[np.uint16]:
    """The smallest type that holds labels below `classes`.

    Raises:
        ConfigurationError: If there are more than 65536 classes.
    """
    if classes > 2**16:
        raise ConfigurationError(f"classes={classes}: label maps hold at most 65536 classes")
    return np.uint8 if classes <= 2**8 else np.uint16


def check_labels(
    array: np.ndarray, classes: int, where: str | Path, label_map: Mapping[int, int] | None = None
) -> np.ndarray:
    """Make sure that a label map holds whole numbers below `classes`, and return it as the smallest type.

    Args:
        array: Labels of any shape and numeric type; floating numbers are fine as long as they are whole.
        classes: Number of classes, background included.
        where: The file or sample, for the message.
        label_map: Values of the file that mean another label, ``{255: 1}``; values that are not in it stay.

    Returns:
        uint8 array (uint16 above 256 classes) of the same shape: `array` itself where nothing had to be changed.

    Raises:
        DataError: If there is a value that is fractional, negative, not finite, or not below `classes`; the message
            lists them.

    Example:
        >>> import numpy as np
        >>> check_labels(np.array([0, 255, 0]), 2, "mask.png", label_map={255: 1})
        array([0, 1, 0], dtype=uint8)
    """
    target = label_dtype(classes)
    mapping = normalised_label_map(label_map, classes)
    array = np.asarray(array)
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    if array.dtype.kind not in "uif":
        raise DataError(f"{where}: a label map holds numbers, this is {array.dtype}; save it as an integer image")
    if array.size == 0:
        raise DataError(f"{where}: the label map is empty (shape {array.shape})")
    if array.dtype.kind == "f":
        array = _whole(array, classes, where)
    lowest, highest = int(array.min()), int(array.max())
    if mapping is not None:
        return _mapped(array, lowest, highest, mapping, classes, target, where)
    if lowest < 0 or highest >= classes:
        raise _bad_labels(array[(array < 0) | (array >= classes)], classes, where)
    return array.astype(target, copy=False)


def check_axes(shape: Sequence[int], three_dim: bool, channels: int, where: str | Path) -> None:
    """Make sure that an array is an image of the dimension and number of channels that an interface was made for.

    Args:
        shape: ``(x, y[, z])`` or ``(x, y[, z], channels)``.
        three_dim: Whether three spatial axes are wanted.
        channels: Number of channels wanted.
        where: The file or sample, for the message.

    Raises:
        DataError: If it is not, with what to change.
    """
    axes = 3 if three_dim else 2
    if len(shape) not in (axes, axes + 1):
        other = f"make the interface with three_dim={not three_dim}" if len(shape) in (2, 3, 4) else "convert the file"
        raise DataError(
            f"{where}: the image has shape {tuple(shape)}, but this interface reads {axes}D images "
            f"({'x, y, z' if three_dim else 'x, y'}[, channels]); {other}"
        )
    if 0 in shape:
        raise DataError(f"{where}: the image has no voxels (shape {tuple(shape)})")
    found = shape[axes] if len(shape) > axes else 1
    if found != channels:
        raise DataError(
            f"{where}: the image has {found} channel(s) (shape {tuple(shape)}), but the interface was made with "
            f"channels={channels}; make it with channels={found}, or correct the file"
        )


def check_image(array: np.ndarray, where: str | Path) -> np.ndarray:
    """Warn where an image holds NaN or infinite voxels; it is returned as it is.

    Args:
        array: Image of any shape; only floating types are looked at.
        where: The file or sample, for the message.

    Warns:
        NotFiniteWarning: With the file's name and the number of voxels.
    """
    if array.dtype.kind != "f" or array.size == 0:
        return array
    flat = array.ravel(order="K")
    with np.errstate(over="ignore", invalid="ignore"):
        # One NaN or infinity makes the sum one too: a finite sum clears the image in a single fast pass.
        if np.isfinite(np.sum(flat)):
            return array
    bad = sum(int(np.count_nonzero(~np.isfinite(part))) for part in np.array_split(flat, max(1, flat.size // 2**22)))
    if bad:
        warnings.warn(
            f"{where}: {bad} of {array.size} voxels are NaN or infinite. They spread through normalisation and the "
            "network; replace them in the file, or add a Clipping subfunction",
            NotFiniteWarning,
            stacklevel=3,
        )
    return array


def count_voxels(labels: np.ndarray, classes: int) -> list[int]:
    """Voxels of each class in labels ``(x, y[, z])``, plane by plane: numpy's ``bincount`` needs eight bytes per voxel.

    Example:
        >>> count_voxels(np.array([[0, 1], [2, 2]]), classes=4)
        [1, 1, 2, 0]
    """
    counts = np.zeros(classes, np.int64)
    # In the order in which they lie in memory.
    for plane in labels.T if labels.flags.f_contiguous else labels:
        counts += np.bincount(plane.ravel(order="K"), minlength=classes)[:classes]
    return [int(count) for count in counts]


def _whole(array: np.ndarray, classes: int, where: str | Path) -> np.ndarray:
    """Whole floating numbers as integers."""
    lowest, highest = array.min(), array.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise _bad_labels(array[~np.isfinite(array)], classes, where)
    integer = next((kind for kind in (np.uint8, np.int32, np.int64) if _fits(lowest, highest, kind)), None)
    if integer is None:
        raise _bad_labels(array[(array < 0) | (array >= classes)], classes, where)
    whole = array.astype(integer)
    same = whole == array
    if not same.all():
        raise _bad_labels(array[~same], classes, where)
    return whole


def _fits(lowest: Any, highest: Any, integer: type) -> bool:
    # As Python numbers: a float32 would round the limits of wide integers up, beyond what they hold.
    limits = np.iinfo(integer)
    return limits.min <= float(lowest) and float(highest) < float(limits.max) + (integer is np.uint8)


def _mapped(
    array: np.ndarray,
    lowest: int,
    highest: int,
    mapping: Mapping[int, int],
    classes: int,
    target: type,
    where: str | Path,
) -> np.ndarray:
    if highest - lowest < _WIDEST_TABLE and abs(lowest) < 2**31:
        values = np.arange(lowest, highest + 1)
        positions = array if lowest == 0 else array.astype(np.int64) - lowest
    else:
        values, positions = np.unique(array, return_inverse=True)
        positions = positions.reshape(array.shape)
    table = np.array([mapping.get(int(value), int(value)) for value in values])
    wrong = (table < 0) | (table >= classes)
    if wrong.any():
        used = wrong[positions]
        if used.any():
            raise _bad_labels(array[used], classes, where)
        table[wrong] = 0
    return table.astype(target)[positions]


def _bad_labels(values: np.ndarray, classes: int, where: str | Path) -> LabelError:
    found = np.unique(values)
    shown = ", ".join(f"{value:g}" if found.dtype.kind == "f" else str(value) for value in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    fractional = found.dtype.kind == "f" and bool((found != np.round(found)).any())
    advice = (
        "labels are whole numbers: was the label map interpolated, or is it a probability map? Save it again with "
        "nearest-neighbour interpolation"
        if fractional
        else f"correct the file, raise classes, or declare what they mean, e.g. label_map={{{shown.split(',')[0]}: 1}}"
    )
    return LabelError(
        f"{where}: the label map holds {shown}{more} ({values.size} voxels), but with classes={classes} labels are "
        f"0 to {classes - 1}. {advice[0].upper()}{advice[1:]}"
    )
