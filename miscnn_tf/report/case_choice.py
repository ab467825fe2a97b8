"""Which cases of a run are worth a look: the worst, the best, and one in the middle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from miscnn_tf.runs.score_summary import finite


class RankedCase(NamedTuple):
    """Case with its scores.

    Attributes:
        fold: The fold that it validated; None without folds.
        name: Name of the case.
        mean: Mean Dice of its classes without the background; NaN without classes.
        dice: Dice by class without the background; NaN for classes that are in neither label map.
        place: ``"worst"``, ``"typical"`` or ``"best"``; empty before the choice.
    """

    fold: int | None
    name: str
    mean: float
    dice: dict[int, float]
    place: str = ""


def rank_cases(rows: Sequence[Mapping[str, Any]]) -> list[RankedCase]:
    """Sort cases by mean Dice over the classes without the background, the worst first; those without Dice are last.

    Example:
        >>> rows = [{"sample_id": name, "class": 1, "dice": dice} for name, dice in (("a", 0.9), ("b", 0.7))]
        >>> [case.name for case in rank_cases(rows)]
        ['b', 'a']
    """
    found: dict[tuple[int | None, str], dict[int, float]] = {}
    for row in rows:
        scores = found.setdefault((row.get("fold"), str(row["sample_id"])), {})
        if row["class"] != 0:
            scores[int(row["class"])] = float(row.get("dice", math.nan))
    cases = []
    for (fold, name), dice in found.items():
        present = finite(dice.values())
        cases.append(RankedCase(fold, name, sum(present) / len(present) if present else math.nan, dice))
    return sorted(cases, key=lambda case: (math.isnan(case.mean), case.mean, case.name))


def choose_cases(ranked: Sequence[RankedCase], at_each_end: int = 3) -> list[RankedCase]:
    """Choose the worst, the median and the best of ranked cases; all of them if they are few.

    Args:
        ranked: The result of `rank_cases`.
        at_each_end: Number of the worst cases, and of the best.

    Returns:
        The cases from the worst to the best.
    """
    known = [case for case in ranked if not math.isnan(case.mean)] or list(ranked)
    number = len(known)
    if number <= 2 * at_each_end + 1:
        low, high = (number - 1) // 2, number // 2  # one or two in the middle
        places = ["worst" if one < low else "best" if one > high else "typical" for one in range(number)]
        if number == 2:
            places = ["worst", "best"]
        return [case._replace(place=place) for case, place in zip(known, places, strict=True)]
    return [
        *(case._replace(place="worst") for case in known[:at_each_end]),
        known[number // 2]._replace(place="typical"),
        *(case._replace(place="best") for case in known[-at_each_end:]),
    ]
