"""Inversion of a label map, for writing predictions in the values of the user's masks.

An interface's ``label_map`` maps the values of label maps to classes, ``{255: 1}``. Predictions are written in the
files' values again. In memory, in a `Sample` and in the results of the `predict` methods, labels are class numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Final

import numpy as np

from miscnn_tf.data_loading.label_keys import (
    BLACK,
    NONZERO,
    as_key,
    has_colours,
    has_rules,
    is_ignored,
    is_threshold,
    least_value,
)
from miscnn_tf.errors import ConfigurationError, LabelError

#: Values that commonly mark voxels to ignore in unsigned masks with other labels.
IGNORED_VALUES: Final = (2**8 - 1, 2**16 - 1)

_TYPES = (np.uint8, np.uint16, np.int16, np.int32, np.int64)


def mapped_values(label_map: Mapping[int, int] | None) -> dict[int, int]:
    """Return the value that is written for each class in a label map.

    It is the class's number if the label map contains it (``{1: 1, 2: 1}``), otherwise the least value of the class,
    preferring values that are not negative. The background is 0 unless the label map maps 0 to another class. Classes
    above a threshold are written as 255, or the threshold, and that of ``nonzero`` as its number. Among colours, the
    background is black unless another colour is mapped to it.

    Example:
        >>> mapped_values({255: 1}), mapped_values({4: 3}), mapped_values({1: 0, 2: 1})
        ({1: 255}, {3: 4}, {0: 0, 1: 2})
    """
    chosen: dict[int, int] = {}
    highest = max((key for key in label_map or {} if is_threshold(key)), default=None)
    for key, label in sorted((label_map or {}).items(), key=lambda pair: (pair[0] < 0, pair[0])):
        value = label if key == NONZERO else least_value(key) if is_threshold(key) else key
        chosen.setdefault(label, max(value, IGNORED_VALUES[0]) if key == highest else value)
    if label_map is not None and has_colours(label_map):
        return chosen if 0 in chosen or BLACK in label_map else {0: BLACK, **chosen}
    for label in chosen:
        if label_map is not None and (label_map.get(label) == label or (label == 0 and 0 not in label_map)):
            chosen[label] = label
    return chosen


def class_values(label_map: Mapping[int, int] | None, classes: int) -> tuple[int, ...]:
    """Return the value that is written for each class; all values are different.

    A class to which no value is mapped keeps its own number. If that number is written for another class, like 1 in
    ``{1: 2}``, no label map can hold the class; it gets an unused value.

    Args:
        label_map: Labels for values in the files; other values are kept.
        classes: Number of classes, background included.

    Example:
        >>> class_values({255: 1}, 2), class_values({4: 3}, 4), class_values({1: 2}, 3)
        ((0, 255), (0, 1, 2, 4), (0, 3, 1))
    """
    chosen = mapped_values(label_map)
    taken = set(chosen.values())
    unused = (
        as_key(value)
        for value in count(BLACK if has_colours(label_map) else classes)
        if value not in taken and value not in (label_map or {})
    )
    return tuple(
        chosen[label]
        if label in chosen
        else label
        if label not in taken and not has_colours(label_map)
        else next(unused)
        for label in range(classes)
    )


def are_class_numbers(values: Sequence[int]) -> bool:
    """Return True if every class is written as its number."""
    return all(value == label for label, value in enumerate(values))


def label_map_of(values: Sequence[int]) -> dict[int, int] | None:
    """Return the label map whose inverse is `values`; None if they are class numbers.

    Example:
        >>> label_map_of((0, 255)), label_map_of((0, 1, 2, 4)), label_map_of((0, 1))
        ({255: 1}, {4: 3}, None)
    """
    label_map = {as_key(value): label for label, value in enumerate(values) if value != label}
    if values[0] != 0 and 0 not in values and not has_colours(values):
        # 0 is a second value of a class that is written as its own number.
        same = next(label for label, value in enumerate(values) if label and value == label)
        label_map |= {0: same, same: same}
    return label_map or None


def reading_map(label_map: Mapping[int, int] | None, values: Sequence[int]) -> dict[int, int] | None:
    """Return the label map for reading predictions: the exact inverse of `values`.

    Values that are not written for any class may come from other sources: a class number below ``len(values)`` is kept,
    as in predictions of versions that wrote class numbers, and any other value is mapped by the label map. Predictions
    do not hold values to ignore.
    """
    label_map = {value: label for value, label in (label_map or {}).items() if not is_ignored(label)}
    if not label_map:
        return None
    own = {label: label for label in label_map.values()}
    others = {value: value if 0 <= value < len(values) else label for value, label in label_map.items()}
    written = dict(zip(values, range(len(values)), strict=True))
    if not has_rules(label_map):
        written = {value: label for value, label in written.items() if value in label_map or value != label}
    return own | others | written


def values_dtype(values: Iterable[int]) -> np.dtype:
    """Return the smallest type that holds values: uint8, uint16, int16, int32 or int64.

    Raises:
        ConfigurationError: If none does.

    Example:
        >>> values_dtype([0, 65535]), values_dtype([0, -1]), values_dtype([0, 70000])
        (dtype('uint16'), dtype('int16'), dtype('int32'))
    """
    low, high = min(values := list(values)), max(values)
    for kind in _TYPES:
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return np.dtype(kind)
    raise ConfigurationError(
        f"label_map: predictions would hold the values {low} to {high}, which exceed 64-bit integers; use smaller "
        "values"
    )


def to_values(labels: np.ndarray, values: Sequence[int], where: object) -> np.ndarray:
    """Convert class numbers to the values that are written for them.

    Args:
        labels: Whole numbers of an unsigned type.
        values: The value of each class; see `class_values`.
        where: The file or sample, for the message.

    Returns:
        `labels` itself if the values are class numbers; otherwise an array of `values_dtype` in the same memory order.

    Raises:
        LabelError: If a label is not a class.
    """
    if are_class_numbers(values):
        return labels
    highest = int(labels.max())
    if highest >= len(values):
        raise LabelError(
            f"{where}: the prediction holds the label {highest}, which is not one of the {len(values)} classes (0 to "
            f"{len(values) - 1}); correct the prediction, or raise classes"
        )
    table = np.array(values, values_dtype(values))
    result = np.empty_like(labels, table.dtype)
    # Plane by plane in memory order: numpy converts an array of indices to eight bytes per voxel.
    planes = (labels.T, result.T) if labels.flags.f_contiguous else (labels, result)
    for source, target in zip(*planes, strict=True):
        target[...] = table[source]
    return result


def unmapped_beside_mapped(label_map: Mapping[int, int] | None) -> list[int]:
    """Return the classes to which another value is mapped, but not their own number.

    Example:
        >>> unmapped_beside_mapped({2: 1}), unmapped_beside_mapped({1: 1, 2: 1}), unmapped_beside_mapped({255: 0})
        ([1], [], [])
    """
    if has_rules(label_map) or has_colours(label_map):
        return []  # all values have an entry
    labels = {label for label in (label_map or {}).values() if not is_ignored(label)}
    return sorted(label for label in labels if label > 0 and label not in (label_map or {}))


def completed(label_map: Mapping[int, int], values: Iterable[int]) -> dict[int, int]:
    """Add to a label map the unmapped values of a data set that equal a class of another value.

    Predictions then hold these: of two values of a class, the one that equals the class.

    Example:
        >>> completed({2: 1}, [0, 1, 2]), completed({255: 1}, [0, 255])
        ({1: 1, 2: 1}, {255: 1})
    """
    held = set(values)
    return {label: label for label in unmapped_beside_mapped(label_map) if label in held} | dict(label_map)


def proposed_label_map(values: Iterable[int]) -> dict[int, int]:
    """Propose a label map that numbers values from 1 in ascending order; 0 is the background.

    255 beside other labels is most likely "ignore" (`likely_ignored`) and becomes background, never a class.

    Example:
        >>> proposed_label_map([0, 1, 4]), proposed_label_map([0, 1, 2, 255])
        ({4: 2}, {255: 0})
    """
    order = sorted(values)
    ignored = likely_ignored(order)
    order = [value for value in order if value != ignored]
    # Without a 0, the least value is the background.
    numbers = {value: place for place, value in enumerate(order if 0 not in order else [0, *[v for v in order if v]])}
    if ignored is not None:
        numbers[ignored] = 0
    return {value: place for value, place in numbers.items() if value != place}


def likely_ignored(values: Iterable[int]) -> int | None:
    """Return 255 or 65535 if it most likely marks voxels to ignore beside other labels, else None.

    As the only value beside the background it is the foreground. Beside values of at least half its size (0, 128, 255)
    it is the brightest of several shades of grey.

    Example:
        >>> likely_ignored([0, 1, 2, 255]), likely_ignored([0, 255]), likely_ignored([0, 128, 255])
        (255, None, None)
    """
    order = sorted(set(values))
    if len(order) < 3 or order[-1] not in IGNORED_VALUES or 2 * order[-2] >= order[-1] - 1:
        return None
    return order[-1]
