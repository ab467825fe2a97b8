"""Split into training and validation samples, its file, and the record of its finished training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf._base.plain_files import read_json, write_json
from miscnn_tf._base.plain_limits import shown
from miscnn_tf._base.typed_data import Document, require
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError
from miscnn_tf.runs.names import RECORD_FILE, SAMPLES_FILE, STATE_FILE
from miscnn_tf.runs.training_state_file import read_description

_LONGER = (
    ". To train longer, read its model.keras with miscnn_tf.load_model(path, data_io) and pass start='weights' in "
    "another evaluation_path"
)


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


class _RecordFile(Document):
    settings: dict[str, Any]
    history: dict[str, list[float | None]]
    detailed: bool


@dataclass(frozen=True)
class FoldRecord:
    """Record of the training of a fold, written last: its presence shows that all other files are complete.

    Args:
        fold: Its samples.
        settings: The settings that determine the result, from `model_settings.training_settings`.
        history: Keras' history: the values per epoch of each metric.
        detailed: Whether the detailed evaluation is complete too.
    """

    fold: Fold
    settings: dict[str, Any]
    history: dict[str, list[float]]
    detailed: bool = False

    def write(self, folder: Path) -> None:
        """Write it into the fold's folder, atomically."""
        # JSON does not support NaN, so null is written.
        history = {
            name: [value if math.isfinite(value) else None for value in values] for name, values in self.history.items()
        }
        content = {**fold_to_plain(self.fold), "settings": self.settings, "history": history, "detailed": self.detailed}
        write_json(folder / RECORD_FILE, content)


def read_record(folder: Path) -> FoldRecord | None:
    """Read the record in a fold's folder; None if the fold is not complete.

    Raises:
        DataError: If the file is damaged.
    """
    path, advice = folder / RECORD_FILE, f"delete the folder {folder} and run again"
    try:
        content = read_json(path, "a finished fold has one", advice)
    except MissingDataError:
        return None
    fold = plain_to_fold(content, path)
    require(_RecordFile, content, path, advice)
    history = {
        name: [math.nan if value is None else float(value) for value in values]
        for name, values in content["history"].items()
    }
    return FoldRecord(fold, content["settings"], history, content["detailed"])


def matching_record(folder: Path, fold: Fold, settings: Mapping[str, Any]) -> FoldRecord | None:
    """Read the record of a fold that was finished with these samples and settings; None if it is not finished.

    Raises:
        ConfigurationError: If the folder holds a finished fold with other samples or settings.
    """
    record = read_record(folder)
    if record is None:
        return None
    differences = list(_differences(record.settings, settings))
    if not fold.same_samples(record.fold):
        differences.insert(0, "the samples are split differently")
    if differences:
        raise ConfigurationError(
            f"{folder} holds finished results of another run: {'; '.join(differences)}. Choose another "
            "evaluation_path, pass archive=True to move the finished results to a dated folder, or resume=False to "
            "overwrite them" + (_LONGER if any(one.startswith("epochs was ") for one in differences) else "")
        )
    return record


def holds_another_run(
    folders: Mapping[int, Path],
    folds: Sequence[Fold],
    settings: Mapping[str, Any],
    state_settings: Callable[[], Mapping[str, Any]],
) -> bool:
    """Return True if the folders of folds hold results, finished or not, of other samples or settings.

    Args:
        folders: The existing folders by the number of the fold.
        folds: The splits of the new run.
        settings: The settings of the new run, as in the record of a fold.
        state_settings: Returns the settings of the new run, as in the state of a training.
    """
    for number, folder in folders.items():
        if number >= len(folds):
            if read_record(folder) is not None:
                return True
            continue
        try:
            record = matching_record(folder, folds[number], settings)
        except ConfigurationError:
            return True
        if record is None and (folder / STATE_FILE).is_file():
            if (folder / SAMPLES_FILE).is_file() and not folds[number].same_samples(read_fold(folder / SAMPLES_FILE)):
                return True
            then = read_description(folder / STATE_FILE)["settings"]
            now = json.loads(json.dumps(state_settings(), default=float))
            if any(then.get(name) != value for name, value in now.items()):
                return True
    return False


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Describe each setting that has changed: ``"data_augmentation.config.mirror was False, now True"``."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        yield f"{name} was {before!r}, now {now!r}"
