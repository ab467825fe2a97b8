"""What an image and a label map must be before anything is trained on them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf.data_loading.label_values import likely_ignored, unmapped_beside_mapped
from miscnn_tf.errors import ConfigurationError, DataError, LabelError, RepeatedWarning
from miscnn_tf.plain_limits import shown

#: As many classes as a label map can have.
MOST_CLASSES = 2**16
#: Labels may be this far from a whole number: that is rounding, of a slope such as 1/255 or of an interpolation.
WHOLE_TOLERANCE = 1e-3

_WIDEST_TABLE = 2**16
_SHOWN = 8
_DIGITS = re.compile(r"-?[0-9]{1,18}")
# Values that are looked at together; they stay in the processor's cache.
_CHUNK = 2**14


class NotFiniteWarning(UserWarning):
    """An image holds voxels that are NaN or infinite."""


class LabelWarning(UserWarning):
    """A label map that is only looked at holds labels that the interface has no classes for."""


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
    if classes > MOST_CLASSES:
        raise ConfigurationError(f"classes={classes}: label maps hold at most 65536 classes")
    return np.uint8 if classes <= 2**8 else np.uint16


def check_labels(
    array: np.ndarray, classes: int, where: str | Path, label_map: Mapping[int, int] | None = None
) -> np.ndarray:
    """Make sure that a label map holds whole numbers below `classes`, and return it as the smallest type.

    Args:
        array: Labels of any shape and numeric type; floating numbers are fine as long as they are within 0.001 of a
            whole one.
        classes: Number of classes, background included.
        where: The file or sample, for the message.
        label_map: Values of the file that mean another label, ``{255: 1}``; values that are not in it stay.

    Returns:
        uint8 array (uint16 above 256 classes) of the same shape: `array` itself where nothing had to be changed.

    Raises:
        DataError: If there is a value that is fractional, negative, not finite, or not below `classes`; the message
            lists them.

    Warns:
        RepeatedWarning: If a value that is not in `label_map` is a class that another value is turned into.

    Example:
        >>> import numpy as np
        >>> check_labels(np.array([0, 255, 0]), 2, "mask.png", label_map={255: 1})
        array([0, 1, 0], dtype=uint8)
    """
    target = label_dtype(classes)
    mapping = normalised_label_map(label_map, classes)
    array = np.asarray(array)
    if array.size == 0:
        raise DataError(f"{where}: the label map is empty (shape {array.shape})")
    array = whole_labels(array, where, classes)
    lowest, highest = int(array.min()), int(array.max())
    if mapping is not None:
        _warn_of_merged(array, mapping, where)
        return _mapped(array, lowest, highest, mapping, classes, target, where)
    if lowest < 0 or highest >= classes:
        raise _bad_labels(array[(array < 0) | (array >= classes)], classes, where, _highest_class(array, classes))
    return array.astype(target, copy=False)


def whole_labels(array: np.ndarray, where: str | Path, classes: int | None = None) -> np.ndarray:
    """Labels as integers, whatever type they have: the one rule of what is a whole number.

    Args:
        array: Labels of any shape and numeric type; floating numbers within 0.001 of a whole one are taken for it.
        where: The file or sample, for the message.
        classes: Number of classes, for the message.

    Returns:
        `array` itself, or a view of it, where its type is an integer or bool; otherwise a copy in the smallest type of
        uint8, int32 and int64.

    Raises:
        DataError: If a value is not whole, not finite or beyond 64 bits, or the type is not one of numbers; the message
            lists the values.

    Example:
        >>> whole_labels(np.array([0.0, 0.99999994, 2.0]), "mask.nii.gz")
        array([0, 1, 2], dtype=uint8)
    """
    if array.dtype == np.bool_:
        return array.view(np.uint8)
    if array.dtype.kind in "ui":
        return array
    if array.dtype.kind != "f":
        raise DataError(f"{where}: a label map holds numbers, this is {array.dtype}; save it as an integer image")
    if array.size == 0:
        return array.astype(np.uint8)
    # NaN and infinity fit into no integer type.
    lowest, highest = np.rint(array.min()), np.rint(array.max())
    kind = next((kind for kind in (np.uint8, np.int32, np.int64) if _fits(lowest, highest, kind)), None)
    if kind is None:
        raise _bad_labels(array[is_odd(array) | (np.abs(array) >= np.float64(2**63))], classes, where)
    whole = np.empty_like(array, dtype=kind, subok=False)
    # Piece by piece, as every step makes a copy.
    with np.nditer(
        [array, whole],
        flags=["external_loop", "buffered"],
        op_flags=[["readonly"], ["writeonly"]],
        order="K",
        buffersize=_CHUNK,
    ) as pieces:
        for source, target in pieces:
            np.rint(source, out=target, casting="unsafe")
            if (target != source).any() and is_odd(source).any():
                raise _bad_labels(array[is_odd(array)], classes, where)
    return whole


def is_odd(values: np.ndarray) -> np.ndarray:
    """Which floating values are not whole numbers, NaN and infinity among them.

    Example:
        >>> is_odd(np.array([1.0, 1.0001, 0.5, np.inf])).tolist()
        [False, False, True, True]
    """
    with np.errstate(invalid="ignore"):
        return ~(np.abs(values - np.rint(values)) <= WHOLE_TOLERANCE)


def label_text(value: Any) -> str:
    """A label as text, with as many digits as it takes to tell it from its neighbours.

    Example:
        >>> label_text(np.float32(0.99999994)), label_text(np.float64(3)), label_text(255)
        ('0.99999994', '3', '255')
    """
    return str(value).removesuffix(".0")


def require_classes(labels: np.ndarray | None, classes: int, where: str | Path) -> None:
    """Make sure that a label map that was loaded to be looked at can be trained on, counted or scored.

    `Data_IO.sample_loader` hands labels over that have no class, with a `LabelWarning`.

    Args:
        labels: Whole numbers; None where there is no label map.
        classes: Number of classes, background included.
        where: The file or sample, for the message.

    Raises:
        LabelError: If a label is not below `classes`.
    """
    if labels is not None:
        check_labels(labels, classes, where)


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


def count_voxels(labels: np.ndarray, classes: int, *, where: str | Path = "label map") -> list[int]:
    """Voxels of each class in labels ``(x, y[, z])``, plane by plane: numpy's ``bincount`` needs eight bytes per voxel.

    Args:
        labels: Whole numbers of any numeric type. Those that are not below `classes` are not counted.
        classes: Number of classes, background included.
        where: The file or sample, for the message.

    Raises:
        DataError: If labels are not whole numbers, or negative.

    Example:
        >>> count_voxels(np.array([[0, 1], [2, 2]]), classes=4)
        [1, 1, 2, 0]
    """
    labels = whole_labels(labels, where, classes)
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise _bad_labels(labels[labels < 0], classes, where)
    counts = np.zeros(classes, np.int64)
    # In the order in which they are in memory.
    for plane in labels.T if labels.flags.f_contiguous else labels:
        if plane.dtype.itemsize > 2:
            # A large value would make a large table, and numpy counts no uint64.
            plane = np.minimum(plane, classes).astype(np.int64, copy=False)
        counts += np.bincount(plane.ravel(order="K"), minlength=classes)[:classes]
    return [int(count) for count in counts]


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
            raise _bad_labels(array[used], classes, where, _highest_class(array, classes))
        table[wrong] = 0
    return table.astype(target)[positions]


def _whole_number(value: Any) -> int:
    number = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError(f"{value!r} is not a whole number")
    return number


def _warn_of_merged(array: np.ndarray, mapping: Mapping[int, int], where: str | Path) -> None:
    """Two values have one class, and the label map names only one of them: which one predictions get is a guess."""
    held = [label for label in unmapped_beside_mapped(mapping) if (array == label).any()]
    if held:
        whole = {label: label for label in held} | dict(mapping)
        warnings.warn(
            RepeatedWarning(
                f"{where}: the label map holds {', '.join(map(str, held))}, and label_map={dict(mapping)} turns other "
                f"values into the same. Predictions are written with the other values; for the class numbers give "
                f"label_map={whole}",
                ("merged labels", tuple(sorted(mapping.items()))),
            ),
            stacklevel=4,
        )


def _highest_class(array: np.ndarray, classes: int) -> int:
    """The highest valid label; 0 where there is none."""
    return int(array.max(where=(array > 0) & (array < classes), initial=0))


def _bad_labels(values: np.ndarray, classes: int | None, where: str | Path, highest_class: int = 0) -> LabelError:
    found = np.unique(values)
    shown = ", ".join(map(label_text, found[:_SHOWN]))
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    fractional = found.dtype.kind == "f" and bool(is_odd(found).any())
    allowed = "labels are whole numbers" if classes is None else f"with classes={classes} labels are 0 to {classes - 1}"
    if len(found) == 1 and (ignored := likely_ignored([0, highest_class, found[0]])) is not None:
        return LabelError(
            f"{where}: the label map holds {shown} ({values.size} voxels), but {allowed}. {shown} beside other labels "
            f'most likely means "ignore"; label_map={{{int(ignored)}: 0}} counts such voxels as background'
        )
    advice = (
        "labels are whole numbers: was the label map interpolated, or is it a probability map? Save it again with "
        "nearest-neighbour interpolation"
        if fractional
        else f"correct the file, raise classes, or declare what they mean, e.g. label_map={{{shown.split(',')[0]}: 1}}"
    )
    return LabelError(
        f"{where}: the label map holds {shown}{more} ({values.size} voxels), but {allowed}. "
        f"{advice[0].upper()}{advice[1:]}"
    )
