"""Which samples train and which validate: splitting them, and the split as a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miscnn_tf.data_loading.plain_files import read_json, write_json
from miscnn_tf.data_loading.sample import as_index_list
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.evaluation.fold_shares import Labelling, shares, units
from miscnn_tf.messages import some_of
from miscnn_tf.plain_limits import shown

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network


@dataclass(frozen=True)
class Fold:
    """The two sides of one split.

    Args:
        training: Names of the samples that the model is fitted to.
        validation: Names of the samples that it is measured on.
    """

    training: tuple[Hashable, ...]
    validation: tuple[Hashable, ...]

    def same_samples(self, other: Fold) -> bool:
        """Whether both have the same samples on the same sides, in whatever order."""
        return set(self.training) == set(other.training) and set(self.validation) == set(other.validation)


def check_samples(sample_list: Sequence[Hashable], model: Neural_Network | None = None) -> list[Hashable]:
    """Return `sample_list` as a new list of plain names, after looking for mistakes in it.

    Args:
        sample_list: Names of the samples.
        model: The model that will read them; with it, names that its data set does not have are found.

    Raises:
        ConfigurationError: If it is no list of names or empty, names a sample twice, or names one that does not exist.
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
    """Split samples into `k_fold` parts of as equal a size as can be; each part validates once.

    The split depends on the names, strata, groups and the seed alone, not on the order in which the names come.
    Without groups the folds' sizes, and the numbers of each stratum in them, differ by at most one; with groups they
    are as near to that as `fold_shares.shares` finds.

    Args:
        samples: Names of the samples, each once.
        k_fold: Number of folds, from 2 to the number of samples, or of groups.
        seed: Of the shuffling. The same seed gives the same folds on every machine.
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
    """One split in which the share `percentage` of the samples, drawn by chance, validates.

    Args:
        samples: Names of the samples, each once.
        percentage: Share of the samples, above 0 and below 1; at least one sample is on each side.
        seed: Of the draw.
        strata: A mapping or a function from a sample's name to its stratum, or to a set of several.
        groups: A mapping or a function from a sample's name to the group that must stay together.

    Raises:
        ConfigurationError: If there are fewer than two samples or groups, `percentage` is not a share, or a sample has
            no stratum or group.
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
    """As many folds as samples; in fold i the i-th sample, in the order of the names, validates alone.

    Raises:
        ConfigurationError: If there are fewer than two samples.
    """
    if len(samples) < 2:
        raise ConfigurationError("sample_list has one sample; leave-one-out needs at least two")
    ordered = _in_order(samples)
    return [_fold(ordered, {number}) for number in range(len(ordered))]


def write_fold2disk(file_path: str | Path, training: Sequence[Hashable], validation: Sequence[Hashable]) -> None:
    """Write a split as JSON, ``{"TRAINING": […], "VALIDATION": […]}``; the file appears only when it is complete.

    Args:
        file_path: The file, usually ``<evaluation_path>/fold_<i>/sample_list.json``.
        training: Names of the training samples: strings, numbers, or tuples of them.
        validation: Names of the validation samples.

    Raises:
        ConfigurationError: If a name cannot be written as JSON.
        StorageError: If the file cannot be written.

    Example:
        >>> write_fold2disk("evaluation/fold_0/sample_list.json", ["a", "b"], ["c"])  # doctest: +SKIP
    """
    write_json(file_path, fold_to_plain(Fold(tuple(training), tuple(validation))))


def load_disk2fold(file_path: str | Path) -> tuple[list[Hashable], list[Hashable]]:
    """Read a split that `write_fold2disk` wrote, or a hand.

    Returns:
        The names of the training samples, and of the validation samples.

    Raises:
        MissingDataError: If there is no such file.
        DataError: If it does not hold a split.

    Example:
        >>> training, validation = load_disk2fold("evaluation/fold_0/sample_list.json")  # doctest: +SKIP
    """
    fold = plain_to_fold(read_json(file_path, "split_folds() writes it"), file_path)
    return list(fold.training), list(fold.validation)


def fold_to_plain(fold: Fold) -> dict[str, list[Any]]:
    """The split as JSON types."""
    return {
        "TRAINING": [_plain_name(name) for name in fold.training],
        "VALIDATION": [_plain_name(name) for name in fold.validation],
    }


def plain_to_fold(content: Any, file_path: str | Path) -> Fold:
    """The split that `fold_to_plain` made plain; `file_path` is named in the error.

    Raises:
        DataError: If the content is no split.
    """
    sides = content if isinstance(content, Mapping) else {}
    training, validation = sides.get("TRAINING"), sides.get("VALIDATION")
    if not isinstance(training, list) or not isinstance(validation, list):
        raise DataError(
            f'{file_path} does not hold a split, which is {{"TRAINING": […], "VALIDATION": […]}}. Correct it, or '
            "delete it and split again"
        )
    return Fold(*(tuple(_name(name, file_path) for name in side) for side in (training, validation)))


def _in_order(samples: Sequence[Hashable]) -> list[Hashable]:
    return sorted(samples, key=lambda name: (type(name).__name__, str(name)))


def _shuffled(samples: Sequence[Hashable], seed: int) -> np.ndarray:
    """Positions in the ordered list, shuffled."""
    return np.random.default_rng(seed).permutation(len(samples))


def _fold(ordered: Sequence[Hashable], validation: set[int]) -> Fold:
    return Fold(
        training=tuple(name for number, name in enumerate(ordered) if number not in validation),
        validation=tuple(name for number, name in enumerate(ordered) if number in validation),
    )


def _plain_name(name: Hashable) -> Any:
    if isinstance(name, np.generic):
        name = name.item()
    if isinstance(name, tuple):
        return [_plain_name(part) for part in name]
    if name is None or isinstance(name, str | int | float):
        return name
    raise ConfigurationError(
        f"the sample name {name!r} is a {type(name).__name__} and cannot be written to sample_list.json; name samples "
        "by strings, numbers, or tuples of them"
    )


def _name(value: Any, file_path: str | Path) -> Hashable:
    # JSON has no tuples, and a list is not hashable.
    if isinstance(value, list):
        return tuple(_name(part, file_path) for part in value)
    if isinstance(value, dict | bool):
        raise DataError(
            f"{file_path} names a sample {shown(value)}; samples are named by text, numbers, or lists of them. Correct "
            "it, or delete it and split again"
        )
    name: Hashable = value
    return name
