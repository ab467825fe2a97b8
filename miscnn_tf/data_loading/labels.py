"""Checks of images and label maps before training, and conversion of probabilities to labels, and labels to one-hot."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from miscnn_tf._base.arguments import whole_number
from miscnn_tf._base.messages import plural
from miscnn_tf._base.plain_limits import shown
from miscnn_tf.data_loading.label_keys import (
    IGNORE,
    IGNORE_TEXT,
    NONZERO,
    as_key,
    class_of,
    has_colours,
    is_ignored,
    is_threshold,
    parse_key,
)
from miscnn_tf.data_loading.label_values import likely_ignored, unmapped_beside_mapped
from miscnn_tf.errors import ConfigurationError, DataError, LabelError, RepeatedWarning

#: The most classes of a label map.
MOST_CLASSES = 2**16
#: Largest distance of a label from a whole number, for rounding by a slope such as 1/255 or by interpolation.
WHOLE_TOLERANCE = 1e-3

_WIDEST_TABLE = 2**16
_SHOWN = 8
# Number of values per step, which fit into the processor's cache.
_CHUNK = 2**14


class NotFiniteWarning(UserWarning):
    """Warning of an image with NaN or infinite voxels."""


class LabelWarning(UserWarning):
    """Warning of a label map with labels that have no class in the interface, which is loaded for viewing only."""


def normalised_label_map(label_map: Mapping[Any, Any] | None, classes: int) -> dict[int, int] | None:
    """Check a label map, and convert text keys and values to integers; labels must be below `classes`.

    Keys are values of the files, or texts of `label_keys.parse_key`: a colour, a threshold, or ``"nonzero"``. The label
    of voxels without annotation is ``"ignore"``, and `label_keys.IGNORE` in the result.

    Raises:
        ConfigurationError: If an entry is not of this kind, or its label is not a class.
    """
    if not label_map:
        return None
    try:
        numbers = {
            _whole_label(old, text=True): IGNORE if is_ignored(new) else _whole_label(new)
            for old, new in label_map.items()
        }
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise ConfigurationError(
            f"label_map must map integers to integers, e.g. {{255: 1}}; got {shown(label_map)}. Keys may also be "
            "colours ('#ff0000'), a threshold ('128+') or 'nonzero', and values 'ignore'"
        ) from None
    if len(numbers) < len(label_map):
        raise ConfigurationError(f"label_map names a value twice, as a number and as text; got {shown(label_map)}")
    if NONZERO in numbers and any(map(is_threshold, numbers)):
        raise ConfigurationError(
            f"label_map has both nonzero and a threshold; got {shown(label_map)}. Give thresholds only"
        )
    for old, new in numbers.items():
        if not 0 <= new < classes and new != IGNORE:
            raise ConfigurationError(
                f"label_map maps {old} to {new}, which is not one of the {classes} classes (0 to {classes - 1})"
            )
    return numbers


def _whole_label(value: Any, *, text: bool = False) -> int:
    """Parse a label: plain digits or a whole float only, while `int` accepts ``"1_0"`` and ``1.7``; or a key."""
    if isinstance(value, str):
        if not text:
            raise ValueError(value)
        return parse_key(value)
    if isinstance(value, bool) or int(value) != value:
        raise ValueError(value)
    return as_key(value) if text else int(value)


def label_dtype(classes: int) -> type[np.uint8] | type[np.uint16]:
    """Return the smallest type that holds labels below `classes`.

    Raises:
        ConfigurationError: If there are more than 65536 classes.
    """
    if classes > MOST_CLASSES:
        raise ConfigurationError(f"classes={classes}: label maps hold at most 65536 classes")
    return np.uint8 if classes <= 2**8 else np.uint16


def check_labels(
    array: np.ndarray, classes: int, where: str | Path, label_map: Mapping[int, int] | None = None
) -> np.ndarray:
    """Check that a label map holds whole numbers below `classes`, and return it as the smallest type.

    Args:
        array: Labels of any shape and numeric type; floating numbers must be within 0.001 of a whole
            one.
        classes: Number of classes, background included.
        where: The file or sample, for the message.
        label_map: Labels for values of the file, ``{255: 1}``; other values are kept. Values that it maps to
            ``"ignore"`` become the label `classes`.

    Returns:
        uint8 array (uint16 above 256 labels) of the same shape: `array` itself if nothing changes.

    Raises:
        DataError: If there is a value that is fractional, negative, not finite, or not below `classes`; the message
            lists them.

    Warns:
        RepeatedWarning: If a value that is not in `label_map` is a class to which another value is mapped.

    Example:
        >>> import numpy as np
        >>> check_labels(np.array([0, 255, 0]), 2, "mask.png", label_map={255: 1})
        array([0, 1, 0], dtype=uint8)
    """
    mapping = normalised_label_map(label_map, classes)
    target = label_dtype(classes + has_ignored(mapping))
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


def has_ignored(label_map: Mapping[int, int] | None) -> bool:
    """Return True if a label map marks voxels without annotation."""
    return any(map(is_ignored, (label_map or {}).values()))


def with_ignored(label_map: Mapping[Any, Any] | None, value: Any) -> dict[Any, Any]:
    """Add the value of voxels without annotation to a label map.

    Raises:
        ConfigurationError: If it is not a positive whole number, or has a class in the label map.

    Example:
        >>> with_ignored({4: 3}, 5)
        {4: 3, 5: 'ignore'}
    """
    whole = whole_number(value, "ignore_label", 1)
    given = {str(key): label for key, label in (label_map or {}).items()}.get(str(whole), IGNORE_TEXT)
    if not is_ignored(given):
        raise ConfigurationError(
            f"ignore_label={whole} has the class {given!r} in label_map={shown(label_map)}; keep one"
        )
    return {**(label_map or {}), whole: IGNORE_TEXT}


def whole_labels(array: np.ndarray, where: str | Path, classes: int | None = None) -> np.ndarray:
    """Convert labels of any numeric type to integers.

    Args:
        array: Labels of any shape and numeric type; floating numbers within 0.001 of a whole one are rounded.
        where: The file or sample, for the message.
        classes: Number of classes, for the message.

    Returns:
        `array` itself, or a view of it, if its type is an integer or bool; otherwise a copy in the smallest type of
        uint8, int32 and int64.

    Raises:
        DataError: If a value is not whole, not finite or beyond 64 bits, or the type is not numeric; the message
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
        raise DataError(f"{where}: the label map is of {array.dtype}, not numbers; save it as an integer image")
    if array.size == 0:
        return array.astype(np.uint8)
    # Integer types cannot hold NaN and infinity.
    lowest, highest = np.rint(array.min()), np.rint(array.max())
    kind = next((kind for kind in (np.uint8, np.int32, np.int64) if _fits(lowest, highest, kind)), None)
    if kind is None:
        raise _bad_labels(array[is_odd(array) | (np.abs(array) >= np.float64(2**63))], classes, where)
    whole = np.empty_like(array, dtype=kind, subok=False)
    # In pieces, since every step makes a copy.
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
    """Mark floating values that are not whole numbers, including NaN and infinity.

    Example:
        >>> is_odd(np.array([1.0, 1.0001, 0.5, np.inf])).tolist()
        [False, False, True, True]
    """
    with np.errstate(invalid="ignore"):
        return ~(np.abs(values - np.rint(values)) <= WHOLE_TOLERANCE)


def label_text(value: Any) -> str:
    """Format a label with as many digits as are needed to distinguish it from its neighbours.

    Example:
        >>> label_text(np.float32(0.99999994)), label_text(np.float64(3)), label_text(255)
        ('0.99999994', '3', '255')
    """
    return str(value).removesuffix(".0")


def require_classes(labels: np.ndarray | None, classes: int, where: str | Path) -> None:
    """Check that all labels have a class, as training, counting and scoring require.

    `Data_IO.sample_loader` returns labels without a class, with a `LabelWarning`.

    Args:
        labels: Whole numbers; None without a label map.
        classes: Number of classes, background included.
        where: The file or sample, for the message.

    Raises:
        LabelError: If a label is not below `classes`.
    """
    if labels is not None:
        check_labels(labels, classes, where)


class AxesError(DataError):
    """An image has another dimension or number of channels than its interface reads.

    Attributes:
        where: The file or sample.
        shape: The shape of the image.
    """

    where: str | Path = ""
    shape: tuple[int, ...] = ()

    @classmethod
    def of(cls, message: str, where: str | Path, shape: Sequence[int]) -> Self:
        """Return the error with its attributes, which pickling then keeps: it passes only the message to `__init__`."""
        error = cls(message)
        error.where, error.shape = where, tuple(map(int, shape))
        return error

    def for_model(self, channels: int, three_dim: bool) -> DataError:
        """Return the error for an image that is given to a trained model, which cannot be made in another way."""
        axes = 3 if three_dim else 2
        found = self.shape[axes] if len(self.shape) == axes + 1 else 1
        # The last axis of three may be either.
        held = plural(found, "channel") if three_dim or found == 1 else f"{found} slices or channels"
        other = held if len(self.shape) in (axes, axes + 1) else f"{len(self.shape)} axes"
        advice = "give images like those of the training, or another model"
        if found == 1 < channels and len(self.shape) in (axes, axes + 1):
            advice += "; if each channel is in a file of its own, name them case_0000.nii.gz, case_0001.nii.gz, …"
        return DataError(
            f"{self.where} has {other} (shape {self.shape}), but the model was trained on {axes}D images with "
            f"{plural(channels, 'channel')}; {advice}"
        )


def check_axes(shape: Sequence[int], three_dim: bool, channels: int, where: str | Path) -> None:
    """Check that an array has the dimension and number of channels of an interface.

    Args:
        shape: ``(x, y[, z])`` or ``(x, y[, z], channels)``.
        three_dim: Whether three spatial axes are wanted.
        channels: Number of channels wanted.
        where: The file or sample, for the message.

    Raises:
        AxesError: If not; the message shows the argument to change.
    """
    axes = 3 if three_dim else 2
    if len(shape) not in (axes, axes + 1):
        other = f"make the interface with three_dim={not three_dim}" if len(shape) in (2, 3, 4) else "convert the file"
        raise AxesError.of(
            f"{where}: the image has shape {tuple(shape)}, but this interface reads {axes}D images "
            f"({'x, y, z' if three_dim else 'x, y'}[, channels]); {other}",
            where,
            shape,
        )
    if 0 in shape:
        raise DataError(f"{where}: the image has no voxels (shape {tuple(shape)})")
    found = shape[axes] if len(shape) > axes else 1
    if found != channels:
        raise AxesError.of(
            f"{where}: the image has {found} channel(s) (shape {tuple(shape)}), but the interface was made with "
            f"channels={channels}; make it with channels={found}, or correct the file",
            where,
            shape,
        )


def check_image(array: np.ndarray, where: str | Path) -> np.ndarray:
    """Warn of NaN or infinite voxels in an image, and return it unchanged.

    Args:
        array: Image of any shape; only floating types are checked.
        where: The file or sample, for the message.

    Warns:
        NotFiniteWarning: If there are any; with the file's name and the number of voxels.
    """
    if array.dtype.kind != "f" or array.size == 0:
        return array
    flat = array.ravel(order="K")
    with np.errstate(over="ignore", invalid="ignore"):
        # NaN and infinity propagate to the sum, so one fast pass with a finite sum excludes both.
        if np.isfinite(np.sum(flat)):
            return array
    bad = sum(int(np.count_nonzero(~np.isfinite(part))) for part in np.array_split(flat, max(1, flat.size // 2**22)))
    if bad:
        warnings.warn(
            f"{where}: {bad} of {array.size} voxels are NaN or infinite. They propagate through normalisation and the "
            "network; replace them in the file, or add a Clipping subfunction",
            NotFiniteWarning,
            stacklevel=3,
        )
    return array


def count_voxels(labels: np.ndarray, classes: int, *, where: str | Path = "label map") -> list[int]:
    """Count the voxels of each class in labels ``(x, y[, z])``, with little memory.

    Args:
        labels: Whole numbers of any numeric type. Those that are not below `classes` are not counted.
        classes: Number of classes, background included.
        where: The file or sample, for the message.

    Raises:
        DataError: If labels are fractional or negative.

    Example:
        >>> count_voxels(np.array([[0, 1], [2, 2]]), classes=4)
        [1, 1, 2, 0]
    """
    labels = whole_labels(labels, where, classes)
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise _bad_labels(labels[labels < 0], classes, where)
    counts = np.zeros(classes, np.int64)
    # Plane by plane in memory order: numpy's bincount needs eight bytes per voxel.
    for plane in labels.T if labels.flags.f_contiguous else labels:
        if plane.dtype.itemsize > 2:
            # A large value would make a large table, and bincount does not accept uint64.
            plane = np.minimum(plane, classes).astype(np.int64, copy=False)
        counts += np.bincount(plane.ravel(order="K"), minlength=classes)[:classes]
    return [int(count) for count in counts]


def _fits(lowest: Any, highest: Any, integer: type) -> bool:
    # As Python numbers: float32 would round the limits of wide integers up, beyond their range.
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
    table = np.array([class_of(int(value), mapping) for value in values])
    wrong = ((table < 0) | (table >= classes)) & (table != IGNORE)
    table[table == IGNORE] = classes
    if wrong.any():
        used = wrong[positions]
        if used.any():
            raise _bad_labels(array[used], classes, where, _highest_class(array, classes))
        table[wrong] = 0
    return table.astype(target)[positions]


def _warn_of_merged(array: np.ndarray, mapping: Mapping[int, int], where: str | Path) -> None:
    """Warn if two values belong to one class and only one of them is in the label map: predictions get that one."""
    held = [label for label in unmapped_beside_mapped(mapping) if (array == label).any()]
    if held:
        whole = {label: label for label in held} | dict(mapping)
        warnings.warn(
            RepeatedWarning(
                f"{where}: the label map holds {', '.join(map(str, held))}, and label_map={dict(mapping)} maps other "
                f"values to the same class. Predictions are written with the other values; for class numbers, give "
                f"label_map={whole}",
                ("merged labels", tuple(sorted(mapping.items()))),
            ),
            stacklevel=4,
        )


def _highest_class(array: np.ndarray, classes: int) -> int:
    """Return the highest valid label; 0 without a valid label."""
    return int(array.max(where=(array > 0) & (array < classes), initial=0))


def _bad_labels(values: np.ndarray, classes: int | None, where: str | Path, highest_class: int = 0) -> LabelError:
    found = np.unique(values)
    shown = ", ".join(map(label_text, found[:_SHOWN]))
    if has_colours(found.tolist()):
        keys = [as_key(value) for value in found]
        return LabelError(
            f"{where}: the mask holds the {'colour' if len(keys) == 1 else 'colours'} "
            f"{', '.join(map(str, keys[:_SHOWN]))}{f' and {len(keys) - _SHOWN} more' if len(keys) > _SHOWN else ''} "
            f"({values.size} pixels), which label_map does not name; add each with its class, "
            f"label_map={{{keys[0]!r}: 1}}, or correct the file"
        )
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    fractional = found.dtype.kind == "f" and bool(is_odd(found).any())
    allowed = "labels are whole numbers" if classes is None else f"with classes={classes} labels are 0 to {classes - 1}"
    if len(found) == 1 and (ignored := likely_ignored([0, highest_class, found[0]])) is not None:
        return LabelError(
            f"{where}: the label map holds {shown} ({values.size} voxels), but {allowed}. {shown} beside other labels "
            f'most likely means "ignore"; label_map={{{int(ignored)}: 0}} counts such voxels as background, and '
            f"label_map={{{int(ignored)}: 'ignore'}} leaves them out of training and scores"
        )
    advice = (
        "the label map may have been interpolated, or be a probability map: save labels with "
        "nearest-neighbour interpolation"
        if fractional
        else f"correct the file, raise classes, or map the values, e.g. label_map={{{shown.split(',')[0]}: 1}}"
    )
    return LabelError(
        f"{where}: the label map holds {shown}{more} ({values.size} voxels), but {allowed}. "
        f"{advice[0].upper()}{advice[1:]}"
    )


def chosen_classes(classes: Sequence[int] | int | None, number: int) -> list[int]:
    """Return the chosen classes; None means all but the background.

    Raises:
        ConfigurationError: If one is not from 0 to ``number - 1``, or none is given.
    """
    if classes is None:
        return list(range(1, number))
    asked = [classes] if isinstance(classes, int | np.integer) else list(classes)
    if not asked:
        raise ConfigurationError("classes is empty; name at least one, or leave it out for all but the background")
    return [whole_number(each, "classes", most=number - 1) for each in asked]


def decide_labels(activation: np.ndarray) -> np.ndarray:
    """Return the most probable class of each voxel; of equally probable classes the lowest.

    Works plane by plane along the first axis, because numpy's ``argmax`` returns eight bytes per voxel.

    Args:
        activation: Class probabilities ``(x, y[, z], classes)``.

    Returns:
        Labels ``(x, y[, z])``, uint8, or uint16 above 256 classes.

    Example:
        >>> decide_labels(np.array([[[0.2, 0.8], [0.5, 0.5]]]))
        array([[1, 0]], dtype=uint8)
    """
    labels = np.empty(activation.shape[:-1], label_dtype(activation.shape[-1]))
    for position, plane in enumerate(activation):
        labels[position] = np.argmax(plane, axis=-1)
    return labels


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Convert labels ``(…)`` to float32 one-hot ``(…, classes)``.

    Example:
        >>> one_hot(np.array([2, 0]), classes=3)
        array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
    """
    return (labels[..., np.newaxis] == np.arange(classes, dtype=labels.dtype)).astype(np.float32)
