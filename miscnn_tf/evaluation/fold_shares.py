"""Distribution of samples among folds with strata and groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from miscnn_tf.errors import ConfigurationError

#: The stratum or group of each sample by its name.
Labelling = Mapping[Any, Any] | Callable[[Any], Any]


@dataclass(frozen=True)
class Unit:
    """Samples that are not divided.

    Args:
        members: Positions of the samples in the ordered list.
        strata: Number of samples of each stratum.
    """

    members: tuple[int, ...]
    strata: Counter[Hashable]


def units(ordered: Sequence[Hashable], strata: Labelling | None, groups: Labelling | None) -> list[Unit]:
    """Gather the samples into units that are not divided.

    Args:
        ordered: Names of the samples, in an order that only depends on the names.
        strata: Stratum of each sample, or a set of several; None: there are no strata.
        groups: Group of each sample; None: each sample is a unit.

    Returns:
        The units, in the order of their first samples.

    Raises:
        ConfigurationError: If a sample has no stratum or group, or one that is not hashable.

    Example:
        >>> [unit.members for unit in units(["a", "b", "c"], None, {"a": 1, "b": 2, "c": 1})]
        [(0, 2), (1,)]
    """
    members: dict[Hashable, list[int]] = {}
    kinds: dict[Hashable, Counter[Hashable]] = {}
    for position, name in enumerate(ordered):
        group = position if groups is None else _hashable(_label(groups, name, "groups"), name, "groups")
        members.setdefault(group, []).append(position)
        kinds.setdefault(group, Counter()).update(() if strata is None else _strata_of(strata, name))
    return [Unit(tuple(members[group]), kinds[group]) for group in members]


def shares(together: Sequence[Unit], weights: Sequence[float], seed: int) -> list[set[int]]:
    """Distribute units among parts, so that each part has its share of the samples and of every stratum.

    Units are taken in a shuffled order, the largest first, those of a rare stratum before others. Each is added to the
    part for which the sum of ``(share of the stratum)**2 / weight`` over all strata (and all samples) and parts grows
    least; the sum has its minimum if each part has exactly its share. With groups alone and equal weights this is
    scikit-learn's ``GroupKFold``; with both it is the greedy algorithm of its ``StratifiedGroupKFold``, whose result
    has changed between versions, while folds must stay the same. With different weights, units are moved at the end
    until the numbers of samples fit, too.

    Args:
        together: The units, at least as many as parts.
        weights: Relative weights of the parts.
        seed: Seed of the shuffling.

    Returns:
        For each part the positions of its samples; none is empty.
    """
    totals: Counter[Hashable] = Counter()
    for unit in together:
        totals.update(unit.strata)
    # The names of the strata may be of types that cannot be compared.
    place = {stratum: number for number, stratum in enumerate(totals)}

    def rank(unit: Unit) -> tuple[int, int, int]:
        rarest = min(((totals[stratum], place[stratum]) for stratum in unit.strata), default=(0, -1))
        return -len(unit.members), *rarest

    shuffled = [together[position] for position in np.random.default_rng(seed).permutation(len(together))]
    samples = sum(len(unit.members) for unit in together)
    have = [Counter[Hashable]() for _ in weights]
    sizes = [0] * len(weights)
    parts: list[list[Unit]] = [[] for _ in weights]

    def growth(part: int, unit: Unit) -> float:
        size = len(unit.members)
        of_strata = sum(
            number * (2 * have[part][stratum] + number) / totals[stratum] ** 2
            for stratum, number in unit.strata.items()
        )
        return (of_strata + size * (2 * sizes[part] + size) / samples**2) / weights[part]

    for unit in sorted(shuffled, key=rank):
        # Rounded, since equal parts may differ in the last bit of a float.
        part = min(range(len(weights)), key=lambda number: (round(growth(number, unit), 12), sizes[number], number))
        parts[part].append(unit)
        have[part].update(unit.strata)
        sizes[part] += len(unit.members)
    if len(set(weights)) > 1:
        _even_out(parts, [weight / sum(weights) for weight in weights], totals)
    _fill_empty(parts)
    return [{position for unit in part for position in unit.members} for part in parts]


def _even_out(parts: list[list[Unit]], portions: Sequence[float], totals: Counter[Hashable]) -> None:
    """Move units until each part has its portion of the samples, as far as possible.

    A stratum of two samples cannot give a fifth to a part, so that many such strata would leave the part without
    samples. The units are moved whose strata the part lacks most.
    """
    samples = sum(len(unit.members) for part in parts for unit in part)
    while True:
        missing = [
            portion * samples - sum(len(unit.members) for unit in part)
            for part, portion in zip(parts, portions, strict=True)
        ]
        poor, rich = missing.index(max(missing)), missing.index(min(missing))
        have: Counter[Hashable] = Counter()
        for unit in parts[poor]:
            have.update(unit.strata)
        lacks = {stratum: portions[poor] * total - have[stratum] for stratum, total in totals.items()}
        # Only moves that bring both parts nearer to their portions, so that the loop ends.
        most = min(missing[poor], -missing[rich]) * 2 - 1e-9
        movable = [unit for unit in parts[rich] if len(unit.members) < most]
        if not movable:
            return
        gains = [round(sum(n * (2 * lacks[one] - n) for one, n in unit.strata.items()), 9) for unit in movable]
        best = movable[gains.index(max(gains))]
        parts[rich].remove(best)
        parts[poor].append(best)


def _fill_empty(parts: list[list[Unit]]) -> None:
    """Give an empty part, of a very small weight, the last and smallest unit of the largest part."""
    for part in parts:
        if not part:
            part.append(max(parts, key=len).pop())


def _strata_of(strata: Labelling, name: Hashable) -> list[Hashable]:
    label = _label(strata, name, "strata")
    several = label if isinstance(label, set | frozenset | list) else (label,)
    # Sorted, since the order of a set of strings differs between processes.
    return sorted({_hashable(one, name, "strata") for one in several}, key=lambda one: (type(one).__name__, repr(one)))


def _label(labelling: Labelling, name: Hashable, argument: str) -> Any:
    if callable(labelling):
        return labelling(name)
    if not isinstance(labelling, Mapping):
        raise ConfigurationError(
            f"{argument}={labelling!r} must be a mapping or a function from the names of samples; a list in the order "
            "of the samples becomes one by dict(zip(samples, list))"
        )
    try:
        return labelling[name]
    except KeyError:
        raise ConfigurationError(f"{argument} has no entry for sample {name!r}; add it") from None


def _hashable(label: Any, name: Hashable, argument: str) -> Hashable:
    if isinstance(label, np.generic):
        label = label.item()
    try:
        hash(label)
    except TypeError:
        raise ConfigurationError(
            f"{argument} gives {label!r} for sample {name!r}; use a string, a number or a tuple of them"
        ) from None
    if label is None or label != label:
        raise ConfigurationError(
            f"{argument} gives {label!r} for sample {name!r}, which is not a stratum or group; give it a value"
        )
    return label
