"""The inverse of a label map: which value each class has in the files, so that predictions look like the user's masks.

An interface's ``label_map`` turns the values of label maps into classes, ``{255: 1}``. Predictions are written in the
files' values again. In memory, in a `Sample` and in what the `predict` methods return, labels are class numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Final

import numpy as np

from miscnn_tf.errors import ConfigurationError, LabelError

#: Values that unsigned masks use for voxels to ignore, beside other labels.
IGNORED_VALUES: Final = (2**8 - 1, 2**16 - 1)

_TYPES = (np.uint8, np.uint16, np.int16, np.int32, np.int64)


def mapped_values(label_map: Mapping[int, int] | None) -> dict[int, int]:
    """The value that is written for each class that a label map leads to.

    It is the class's number where the label map says so (``{1: 1, 2: 1}``), otherwise the least value that has the
    class, a negative one only where there is no other. The background is 0 unless the label map gives 0 to another
    class.

    Example:
        >>> mapped_values({255: 1}), mapped_values({4: 3}), mapped_values({1: 0, 2: 1})
        ({1: 255}, {3: 4}, {0: 0, 1: 2})
    """
    chosen: dict[int, int] = {}
    for value, label in sorted((label_map or {}).items(), key=lambda pair: (pair[0] < 0, pair[0])):
        chosen.setdefault(label, value)
    for label in chosen:
        if label_map is not None and (label_map.get(label) == label or (label == 0 and 0 not in label_map)):
            chosen[label] = label
    return chosen


def class_values(label_map: Mapping[int, int] | None, classes: int) -> tuple[int, ...]:
    """The value that is written for each class, all of them different.

    A class that no value is turned into has its own number. Where that number is written for another class, as 1 in
    ``{1: 2}``, no label map holds the class; it gets a value that means nothing else.

    Args:
        label_map: What values in the files mean; others stay as they are.
        classes: Number of classes, background included.

    Example:
        >>> class_values({255: 1}, 2), class_values({4: 3}, 4), class_values({1: 2}, 3)
        ((0, 255), (0, 1, 2, 4), (0, 3, 1))
    """
    chosen = mapped_values(label_map)
    taken = set(chosen.values())
    unused = (value for value in count(classes) if value not in taken and value not in (label_map or {}))
    return tuple(
        chosen[label] if label in chosen else label if label not in taken else next(unused) for label in range(classes)
    )


def are_class_numbers(values: Sequence[int]) -> bool:
    """Whether every class is written as its number."""
    return all(value == label for label, value in enumerate(values))


def label_map_of(values: Sequence[int]) -> dict[int, int] | None:
    """The label map whose inverse is `values`; None where they are class numbers.

    Example:
        >>> label_map_of((0, 255)), label_map_of((0, 1, 2, 4)), label_map_of((0, 1))
        ({255: 1}, {4: 3}, None)
    """
    label_map = {value: label for label, value in enumerate(values) if value != label}
    if values[0] != 0 and 0 not in values:
        # 0 is another value of a class that has its own number.
        same = next(label for label, value in enumerate(values) if label and value == label)
        label_map |= {0: same, same: same}
    return label_map or None


def reading_map(label_map: Mapping[int, int] | None, values: Sequence[int]) -> dict[int, int] | None:
    """The label map by which predictions are read: the exact inverse of `values`.

    A value that is not written for any class may be of another source: a class number below ``len(values)`` is itself,
    as in predictions of versions that wrote class numbers, and any other value means what the label map says.
    """
    if not label_map:
        return None
    own = {label: label for label in label_map.values()}
    others = {value: value if 0 <= value < len(values) else label for value, label in label_map.items()}
    return own | others | {value: label for label, value in enumerate(values) if value in label_map or value != label}


def values_dtype(values: Iterable[int]) -> np.dtype:
    """The smallest type that holds values: uint8, uint16, int16, int32 or int64.

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
        f"label_map: predictions would hold the values {low} to {high}, which no integer type holds; write the label "
        "maps with smaller values"
    )


def to_values(labels: np.ndarray, values: Sequence[int], where: object) -> np.ndarray:
    """Class numbers as the values that are written for them.

    Args:
        labels: Whole numbers of an unsigned type.
        values: The value of each class; see `class_values`.
        where: The file or sample, for the message.

    Returns:
        `labels` itself where the values are class numbers; otherwise an array of `values_dtype` in the same order in
        memory.

    Raises:
        LabelError: If a label is not a class.
    """
    if are_class_numbers(values):
        return labels
    highest = int(labels.max())
    if highest >= len(values):
        raise LabelError(
            f"{where}: the prediction holds the label {highest}, which is none of the {len(values)} classes (0 to "
            f"{len(values) - 1}), so that the label map has no value for it; correct the prediction, or raise classes"
        )
    table = np.array(values, values_dtype(values))
    result = np.empty_like(labels, table.dtype)
    # Plane by plane in the order of memory: numpy turns a whole array of indices into eight bytes per voxel.
    planes = (labels.T, result.T) if labels.flags.f_contiguous else (labels, result)
    for source, target in zip(*planes, strict=True):
        target[...] = table[source]
    return result


def unmapped_beside_mapped(label_map: Mapping[int, int] | None) -> list[int]:
    """Classes that another value is turned into while their own number, if the files hold it, stays as it is.

    Example:
        >>> unmapped_beside_mapped({2: 1}), unmapped_beside_mapped({1: 1, 2: 1}), unmapped_beside_mapped({255: 0})
        ([1], [], [])
    """
    return sorted({label for label in (label_map or {}).values() if label > 0 and label not in (label_map or {})})


def completed(label_map: Mapping[int, int], values: Iterable[int]) -> dict[int, int]:
    """A label map that also says what the unmapped values of a data set mean, where another value means the same.

    Predictions then hold these: of two values with one meaning, the one that equals the class.

    Example:
        >>> completed({2: 1}, [0, 1, 2]), completed({255: 1}, [0, 255])
        ({1: 1, 2: 1}, {255: 1})
    """
    held = set(values)
    return {label: label for label in unmapped_beside_mapped(label_map) if label in held} | dict(label_map)


def proposed_label_map(values: Iterable[int]) -> dict[int, int]:
    """The other values of a list in their order, numbered from 1; 0 stays the background.

    255 beside other labels is most likely "ignore" (`likely_ignored`) and becomes background, never a class.

    Example:
        >>> proposed_label_map([0, 1, 4]), proposed_label_map([0, 1, 2, 255])
        ({4: 2}, {255: 0})
    """
    order = sorted(values)
    ignored = likely_ignored(order)
    order = [value for value in order if value != ignored]
    # Without a 0 the least value is taken for the background.
    numbers = {value: place for place, value in enumerate(order if 0 not in order else [0, *[v for v in order if v]])}
    if ignored is not None:
        numbers[ignored] = 0
    return {value: place for value, place in numbers.items() if value != place}


def likely_ignored(values: Iterable[int]) -> int | None:
    """255 or 65535 beside other labels, where it most likely marks voxels to ignore; None where it does not.

    Alone beside the background it is the mask's foreground. Beside values of at least half its size (0, 128, 255) it is
    the brightest of several shades of grey.

    Example:
        >>> likely_ignored([0, 1, 2, 255]), likely_ignored([0, 255]), likely_ignored([0, 128, 255])
        (255, None, None)
    """
    order = sorted(set(values))
    if len(order) < 3 or order[-1] not in IGNORED_VALUES or 2 * order[-2] >= order[-1] - 1:
        return None
    return order[-1]
