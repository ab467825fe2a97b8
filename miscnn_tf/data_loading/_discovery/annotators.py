"""Masks of one image by several annotators: recognition by their names, and the choice of the first annotator."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from miscnn_tf.data_loading.file_names import bare_mask

# CHASE has x_1stHO and x_2ndHO; DRIVE the folders 1st_manual and 2nd_manual, with x_manual1 and x_manual2; STARE
# labels-ah and labels-vk, with x.ah and x.vk. Studies of these use the first one as the truth.
_WORD = re.compile(
    r"(?P<nth>[1-9])(?:st|nd|rd|th)(?=[-_ ]?(?:manual|HO))|(?<=manual)[-_ ]?(?P<number>[1-9])(?!\d)"
    r"|(?<=[-_.])(?P<initials>ah|vk)(?!\w)",
    re.IGNORECASE,
)
_INITIALS = {"ah": 1, "vk": 2}
_SEPARATORS = "-_. "


class _Annotator(NamedTuple):
    """Annotator that a name contains.

    Attributes:
        number: 1 for the first.
        rest: The name without the annotator.
        mark: The part of the name from the separator before the annotator on, ``"_1stHO"``.
    """

    number: int
    rest: str
    mark: str


class FirstMasks(NamedTuple):
    """Masks of the first annotator.

    Attributes:
        names: Names of the masks; those without an annotator are included.
        remark: The choice in one line, and how to choose another one.
    """

    names: frozenset[str]
    remark: str


def _annotator_of(name: str) -> _Annotator | None:
    match = _WORD.search(name)
    if match is None:
        return None
    number = match["nth"] or match["number"] or _INITIALS[match["initials"].lower()]
    start = max(name.rfind(sign, 0, match.start()) for sign in _SEPARATORS)
    return _Annotator(int(number), f"{name[: match.start()]}*{name[match.end() :]}", name[max(start, 0) :])


def first_masks(names: Iterable[str]) -> FirstMasks | None:
    """Return the masks of the first annotator if an image has masks of several; None otherwise.

    Args:
        names: Names of masks without endings.

    Example:
        >>> sorted(first_masks(["a_1stHO", "a_2ndHO", "b_1stHO"]).names)
        ['a_1stHO', 'b_1stHO']
        >>> first_masks(["a_1stHO", "b_1stHO"]) is None
        True
    """
    held = sorted(names)
    found = {name: annotator for name in held if (annotator := _annotator_of(name)) is not None}
    numbers: dict[str, set[int]] = defaultdict(set)
    for name, annotator in found.items():
        if bare_mask(name) != name:
            numbers[bare_mask(name)].add(annotator.number)
    if all(len(several) < 2 for several in numbers.values()):
        return None
    marks = {annotator.number: annotator.mark for annotator in reversed(found.values())}
    first, *others = sorted(marks)
    kept = frozenset(name for name in held if name not in found or found[name].number == first)
    choices = " or ".join(f"mask_pattern={'.*' + re.escape(marks[number])!r}" for number in others)
    return FirstMasks(kept, f"of {len(marks)} annotators the first, {marks[first]}; choose another one with {choices}")


def first_folder(folders: Iterable[Path]) -> tuple[Path, str] | None:
    """Return the first annotator's folder among folders of several, and a remark; None if their names differ otherwise.

    Example:
        >>> first_folder([Path("DRIVE/1st_manual"), Path("DRIVE/2nd_manual")])[0].name
        '1st_manual'
    """
    found = {path: _annotator_of(path.name) for path in folders}
    numbers = {path: annotator.number for path, annotator in found.items() if annotator is not None}
    rests = {annotator.rest.lower() for annotator in found.values() if annotator is not None}
    if len(numbers) < len(found) or len({*numbers.values()}) < len(numbers) or len(rests) != 1:
        return None
    first, *others = sorted(numbers, key=numbers.__getitem__)
    choices = " or ".join(f"mask_folder={path.name!r}" for path in others)
    return first, f"of {len(found)} annotators the first, {first.name}; choose another one with {choices}"
