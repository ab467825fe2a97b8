"""Keys of a label map that are not a value of a file: a colour, a threshold, and all values but 0.

They are numbers beyond all values of label maps, so that a label map always maps numbers to numbers. As text, in
configurations, messages and on the command line, they are ``#ff0000``, ``128+`` and ``nonzero``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal

import numpy as np

#: Label map as users give it: classes of values, or of keys as text; or "ignore" instead of a class.
LabelMap = Mapping[int, int | Literal["ignore"]] | Mapping[str, int | Literal["ignore"]]

#: What the values of voxels without annotation are mapped to, as users write it.
IGNORE_TEXT: Final = "ignore"

_COLOURS: Final = 2**30  # the colours fit into int32
_THRESHOLDS: Final = 2**40
_TEXT = re.compile(r"(-?[0-9]{1,18})|#([0-9a-fA-F]{6})|([1-9][0-9]{0,4})\+|(nonzero)")


class LabelKey(int):
    """Key of a label map that is not a value: a colour, a threshold, or all values but 0; or the label `IGNORE`.

    Example:
        >>> parse_key("#ff0000"), f"{parse_key('128+')}"
        ('#ff0000', '128+')
    """

    def __str__(self) -> str:
        if self == IGNORE:
            return IGNORE_TEXT
        if is_colour(self):
            return f"#{int(self) - _COLOURS:06x}"
        return "nonzero" if self == NONZERO else f"{int(self) - _THRESHOLDS}+"

    def __repr__(self) -> str:
        return repr(str(self))


#: All values but 0.
NONZERO: Final = LabelKey(2**41)
#: The label of values that mark voxels without annotation.
IGNORE: Final = LabelKey(2**42)
#: The colour of the background, unless another one is.
BLACK: Final = LabelKey(_COLOURS)


def is_ignored(label: object) -> bool:
    """Return True if a label of a label map marks voxels without annotation: `IGNORE`, or "ignore" as users do."""
    return label in (IGNORE, IGNORE_TEXT)


def parse_key(text: str) -> int:
    """Return the key of a text: a whole number, ``#ff0000`` (a colour), ``128+`` (128 and above) or ``nonzero``.

    Raises:
        ValueError: If it is something else.

    Example:
        >>> parse_key("255"), parse_key("nonzero")
        (255, 'nonzero')
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a value, a colour (#ff0000), a threshold (128+) or nonzero")
    number, colour, threshold, _ = match.groups()
    if number is not None:
        return int(number)
    if colour is not None:
        return LabelKey(_COLOURS + int(colour, 16))
    return NONZERO if threshold is None else LabelKey(_THRESHOLDS + int(threshold))


def as_key(number: int) -> int:
    """Return a number as a key that is shown as text if it is a colour, a threshold or `NONZERO`."""
    number = int(number)
    return LabelKey(number) if is_colour(number) or is_rule(number) or number == IGNORE else number


def is_colour(key: int) -> bool:
    """Return True if a key is a colour."""
    return _COLOURS <= key < _COLOURS + 2**24


def is_threshold(key: int) -> bool:
    """Return True if a key is a threshold."""
    return _THRESHOLDS <= key < NONZERO


def is_rule(key: int) -> bool:
    """Return True if a key is a threshold or `NONZERO`, which match many values."""
    return is_threshold(key) or key == NONZERO


def has_colours(keys: Iterable[int] | None) -> bool:
    """Return True if any key is a colour."""
    return any(map(is_colour, keys or ()))


def has_rules(keys: Iterable[int] | None) -> bool:
    """Return True if any key is a threshold or `NONZERO`."""
    return any(map(is_rule, keys or ()))


def least_value(threshold: int) -> int:
    """Return the least value that reaches a threshold."""
    return int(threshold) - _THRESHOLDS


def class_of(value: int, label_map: Mapping[int, int] | None) -> int:
    """Return the class of a value; values without an entry are kept, but black is background among colours.

    Entries for values come before thresholds, and these before `NONZERO`. Values below all thresholds are background.

    Example:
        >>> class_of(200, {parse_key("128+"): 1}), class_of(100, {parse_key("128+"): 1}), class_of(7, {NONZERO: 1})
        (1, 0, 1)
    """
    if not label_map or value in label_map:
        return label_map[value] if label_map else value
    if is_colour(value):
        return 0 if value == BLACK else value
    thresholds = [key for key in label_map if is_threshold(key)]
    if thresholds:
        reached = max((key for key in thresholds if least_value(key) <= value), default=None)
        return 0 if reached is None else label_map[reached]
    return label_map[NONZERO] if value != 0 and NONZERO in label_map else value


def colour_keys(colours: np.ndarray) -> np.ndarray:
    """Return the key of each colour ``(…, 3)`` of 8 bits, as int32.

    Example:
        >>> as_key(colour_keys(np.array([255, 0, 16]))[()])
        '#ff0010'
    """
    parts = colours.astype(np.int32)
    keys: np.ndarray = (parts[..., 0] << 16) + (parts[..., 1] << 8) + parts[..., 2] + np.int32(_COLOURS)
    return keys


def colours_of(keys: np.ndarray) -> np.ndarray:
    """Return the colours ``(…, 3)`` of keys, uint8; the inverse of `colour_keys`."""
    return np.stack([(keys >> shift) & 255 for shift in (16, 8, 0)], axis=-1).astype(np.uint8)


def colour_map(values: Iterable[int], voxels: Mapping[int, int]) -> dict[int, int]:
    """Number the colours of masks; black, or else the most frequent colour, is the background.

    Args:
        values: Colours, and grey values of masks without colours.
        voxels: Number of voxels with each value.

    Example:
        >>> red, blue = parse_key("#ff0000"), parse_key("#0000ff")
        >>> colour_map([0, red, blue], {0: 90, red: 5, blue: 5})
        {'#000000': 0, '#0000ff': 1, '#ff0000': 2}
    """
    counts: dict[int, int] = {}
    for value in values:
        key = as_key(value if is_colour(value) else _COLOURS + value * 0x010101)
        counts[key] = counts.get(key, 0) + voxels[value]
    background = BLACK if BLACK in counts else max(sorted(counts), key=counts.__getitem__)
    return {key: number for number, key in enumerate([background, *sorted(counts.keys() - {background})])}
