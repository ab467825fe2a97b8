"""Splits of samples into training and validation samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading.sample import as_index_list
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.evaluation.fold_shares import Labelling, shares, units
from miscnn_tf.evaluation.trainable import Predicting
from miscnn_tf.runs.fold import Fold


def check_samples(sample_list: Sequence[Hashable], model: Predicting | None = None) -> list[Hashable]:
    """Return `sample_list` as a new list of plain names without mistakes.

    Args:
        sample_list: Names of the samples.
        model: The model that will read them; the names must be in its data set. None: they are not compared.

    Raises:
        ConfigurationError: If it is not a list of names, is empty, or has a name twice or an unknown one.
    """
    if isinstance(sample_list, str | bytes) or not isinstance(sample_list, Iterable):
        raise ConfigurationError(
            f"sample_list={sample_list!r} must be a list of sample names, as get_indiceslist() returns"
        )
    samples = as_index_list(sample_list)
    twice = [sample for sample, number in Counter(samples).items() if number > 1]
    if twice:
        raise ConfigurationError(
            f"sample_list names {some_of(map(repr, twice), 3)} more than once; the same case must not be on both sides "
            "of a split. Remove the duplicates"
        )
    if model is not None:
        known = set(model.preprocessor.data_io.indices_list)
        unknown = [sample for sample in samples if sample not in known]
        if unknown:
            raise ConfigurationError(
                f"sample_list names {some_of(map(repr, unknown), 3)}, which the data set does not have; it has "
                f"{some_of(map(repr, sorted(known, key=str)), 3)}"
            )
    return samples


def make_folds(
    samples: Sequence[Hashable],
    k_fold: int,
    seed: int = 0,
    *,
    strata: Labelling | None = None,
    groups: Labelling | None = None,
) -> list[Fold]:
    """Split samples into `k_fold` parts of sizes as equal as possible; each part validates once.

    The split only depends on the names, strata, groups and the seed, not on the order of the names. Without groups the
    sizes of the folds, and the numbers of each stratum in them, differ by at most one; with groups
    `fold_shares.shares` approximates that.

    Args:
        samples: Names of the samples, each once.
        k_fold: Number of folds, from 2 to the number of samples, or of groups.
        seed: Seed of the shuffling. The same seed gives the same folds on every machine.
        strata: A mapping or a function from a sample's name to its stratum, or to a set of several.
        groups: A mapping or a function from a sample's name to the group that must stay together.

    Raises:
        ConfigurationError: If `k_fold` does not fit, or a sample has no stratum or group.

    Example:
        >>> [len(fold.validation) for fold in make_folds(["a", "b", "c", "d", "e"], k_fold=2)]
        [3, 2]
        >>> folds = make_folds(["a1", "a2", "b1", "b2"], k_fold=2, groups=lambda name: name[0])
        >>> sorted(fold.validation for fold in folds)
        [('a1', 'a2'), ('b1', 'b2')]
    """
    if isinstance(k_fold, bool) or not isinstance(k_fold, int | np.integer) or not 2 <= k_fold <= len(samples):
        raise ConfigurationError(
            f"k_fold={k_fold!r} must be a whole number from 2 to the number of samples ({len(samples)})"
        )
    ordered = _in_order(samples)
    if strata is None and groups is None:
        parts = np.array_split(_shuffled(samples, seed), int(k_fold))
        return [_fold(ordered, set(part.tolist())) for part in parts]
    together = units(ordered, strata, groups)
    if len(together) < k_fold:
        raise ConfigurationError(
            f"k_fold={k_fold} is more than the number of groups ({len(together)}), and a group is never divided; use "
            "fewer folds"
        )
    return [_fold(ordered, part) for part in shares(together, [1.0] * int(k_fold), seed)]


def leave_out(
    samples: Sequence[Hashable],
    percentage: float,
    seed: int = 0,
    *,
    strata: Labelling | None = None,
    groups: Labelling | None = None,
) -> Fold:
    """Split samples once; a random share `percentage` of them validates.

    Args:
        samples: Names of the samples, each once.
        percentage: Share of the samples, above 0 and below 1; at least one sample is on each side.
        seed: Seed of the random choice.
        strata: A mapping or a function from a sample's name to its stratum, or to a set of several.
        groups: A mapping or a function from a sample's name to the group that must stay together.

    Raises:
        ConfigurationError: If there are fewer than two samples or groups, `percentage` is invalid, or a sample has no
            stratum or group.
    """
    if isinstance(percentage, bool) or not isinstance(percentage, int | float) or not 0 < percentage < 1:
        raise ConfigurationError(
            f"percentage={percentage!r} must be above 0 and below 1: 0.2 keeps a fifth of the samples for validation"
        )
    if len(samples) < 2:
        raise ConfigurationError("sample_list has one sample; a split needs at least two")
    ordered = _in_order(samples)
    if strata is None and groups is None:
        number = min(max(1, round(len(samples) * percentage)), len(samples) - 1)
        return _fold(ordered, set(_shuffled(samples, seed)[:number].tolist()))
    together = units(ordered, strata, groups)
    if len(together) < 2:
        raise ConfigurationError("all samples belong to one group, which is never divided; a split needs two groups")
    return _fold(ordered, shares(together, [1 - percentage, percentage], seed)[1])


def leave_one_out_folds(samples: Sequence[Hashable]) -> list[Fold]:
    """Make as many folds as samples; in fold i only the i-th sample, in the order of the names, validates.

    Raises:
        ConfigurationError: If there are fewer than two samples.
    """
    if len(samples) < 2:
        raise ConfigurationError("sample_list has one sample; leave-one-out needs at least two")
    ordered = _in_order(samples)
    return [_fold(ordered, {number}) for number in range(len(ordered))]


def _in_order(samples: Sequence[Hashable]) -> list[Hashable]:
    return sorted(samples, key=lambda name: (type(name).__name__, str(name)))


def _shuffled(samples: Sequence[Hashable], seed: int) -> np.ndarray:
    """Return the positions in the ordered list, shuffled."""
    return np.random.default_rng(seed).permutation(len(samples))


def _fold(ordered: Sequence[Hashable], validation: set[int]) -> Fold:
    return Fold(
        training=tuple(name for number, name in enumerate(ordered) if number not in validation),
        validation=tuple(name for number, name in enumerate(ordered) if number in validation),
    )
