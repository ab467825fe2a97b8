"""Sharing samples out among folds: of each stratum its share, and what belongs together to one fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from miscnn_tf.errors import ConfigurationError

#: Says of each sample, by its name, to what it belongs.
Labelling = Mapping[Any, Any] | Callable[[Any], Any]


@dataclass(frozen=True)
class Unit:
    """Samples that stay together.

    Args:
        members: Their positions in the ordered list of samples.
        strata: How many of them belong to each stratum.
    """

    members: tuple[int, ...]
    strata: Counter[Hashable]


def units(ordered: Sequence[Hashable], strata: Labelling | None, groups: Labelling | None) -> list[Unit]:
    """Gather the samples into what must stay together.

    Args:
        ordered: Names of the samples, in an order that depends on nothing but them.
        strata: Stratum of each sample, or a set of several; None: they are all alike.
        groups: Group of each sample; None: each is on its own.

    Returns:
        The units, in the order of their first samples.

    Raises:
        ConfigurationError: If a sample has no stratum or group, or one that cannot be told from others.

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
    """Share units out among parts, so that each part has its share of the samples and of every stratum.

    Units are taken in a shuffled order, the largest first, those of a rare stratum before others. Each goes to the part
    where the sum over all strata (and over the samples as a whole) and parts of ``(share of the stratum)**2 / weight``
    grows least, which is least of all where each part has exactly its share. With groups alone and equal weights this
    is scikit-learn's ``GroupKFold``; with both it is the greedy way of its ``StratifiedGroupKFold``, whose result,
    however, has changed between versions, while folds have to be the same tomorrow. Where the weights differ, units are
    moved in the end until the numbers of samples are right, too.

    Args:
        together: The units, at least as many as parts.
        weights: Of the parts, relative to each other.
        seed: Of the shuffling.

    Returns:
        For each part the positions of its samples; none is empty.
    """
    totals: Counter[Hashable] = Counter()
    for unit in together:
        totals.update(unit.strata)
    # Not by the names of the strata: those may be of types that cannot be compared.
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
        # Rounded, so that parts that are alike but for the last bit of a float are alike.
        part = min(range(len(weights)), key=lambda number: (round(growth(number, unit), 12), sizes[number], number))
        parts[part].append(unit)
        have[part].update(unit.strata)
        sizes[part] += len(unit.members)
    if len(set(weights)) > 1:
        _even_out(parts, [weight / sum(weights) for weight in weights], totals)
    _fill_empty(parts)
    return [{position for unit in part for position in unit.members} for part in parts]


def _even_out(parts: list[list[Unit]], portions: Sequence[float], totals: Counter[Hashable]) -> None:
    """Move units until each part has its portion of the samples, as near as can be.

    A stratum of two has nothing to give to a part that is to have a fifth: many such strata would leave it without
    samples. Those units are moved whose strata the part lacks most.
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
        # Only moves after which both are nearer to their portions: so there is an end.
        most = min(missing[poor], -missing[rich]) * 2 - 1e-9
        movable = [unit for unit in parts[rich] if len(unit.members) < most]
        if not movable:
            return
        gains = [round(sum(n * (2 * lacks[one] - n) for one, n in unit.strata.items()), 9) for unit in movable]
        best = movable[gains.index(max(gains))]
        parts[rich].remove(best)
        parts[poor].append(best)


def _fill_empty(parts: list[list[Unit]]) -> None:
    """Give a part of very small weight the last, smallest unit of the part that has most."""
    for part in parts:
        if not part:
            part.append(max(parts, key=len).pop())


def _strata_of(strata: Labelling, name: Hashable) -> list[Hashable]:
    label = _label(strata, name, "strata")
    several = label if isinstance(label, set | frozenset | list) else (label,)
    # In an order of its own: that of a set of strings is another one in every process.
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
        raise ConfigurationError(f"{argument} says nothing about sample {name!r}; add it") from None


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
            f"{argument} gives {label!r} for sample {name!r}, which belongs to nothing then; give it a value"
        )
    return label
