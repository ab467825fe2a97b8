"""Split into training and validation samples, and its file ``sample_list.json``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf._base.plain_files import read_json, write_json
from miscnn_tf._base.plain_limits import shown
from miscnn_tf.errors import ConfigurationError, DataError


@dataclass(frozen=True)
class Fold:
    """Training and validation samples of a split.

    Args:
        training: Names of the samples that the model is fitted to.
        validation: Names of the samples that it is evaluated on.
    """

    training: tuple[Hashable, ...]
    validation: tuple[Hashable, ...]

    def same_samples(self, other: Fold) -> bool:
        """Return True if both have the same samples on the same sides, in any order."""
        return set(self.training) == set(other.training) and set(self.validation) == set(other.validation)


def write_fold2disk(file_path: str | Path, training: Sequence[Hashable], validation: Sequence[Hashable]) -> None:
    """Write a split as JSON, ``{"TRAINING": […], "VALIDATION": […]}``, atomically.

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
    """Read a split that `write_fold2disk` or a text editor wrote.

    Returns:
        The names of the training samples, and of the validation samples.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it does not hold a split.

    Example:
        >>> training, validation = load_disk2fold("evaluation/fold_0/sample_list.json")  # doctest: +SKIP
    """
    fold = read_fold(file_path)
    return list(fold.training), list(fold.validation)


def read_fold(file_path: str | Path) -> Fold:
    """Read a split; the errors are those of `load_disk2fold`."""
    return plain_to_fold(read_json(file_path, "split_folds() writes it"), file_path)


def fold_to_plain(fold: Fold) -> dict[str, list[Any]]:
    """Convert a split to JSON types."""
    return {
        "TRAINING": [_plain_name(name) for name in fold.training],
        "VALIDATION": [_plain_name(name) for name in fold.validation],
    }


def plain_to_fold(content: Any, file_path: str | Path) -> Fold:
    """Convert the result of `fold_to_plain` back to a split; errors name `file_path`.

    Raises:
        DataError: If the content is not a split.
    """
    sides = content if isinstance(content, Mapping) else {}
    training, validation = sides.get("TRAINING"), sides.get("VALIDATION")
    if not isinstance(training, list) or not isinstance(validation, list):
        raise DataError(
            f'{file_path} does not hold a split, which is {{"TRAINING": […], "VALIDATION": […]}}. Correct it, or '
            "delete it and split again"
        )
    return Fold(*(tuple(_name(name, file_path) for name in side) for side in (training, validation)))


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
