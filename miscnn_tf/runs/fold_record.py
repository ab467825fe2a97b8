"""Record of a finished fold, with which a later run can skip its training, and detection of other runs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miscnn_tf._base.plain_files import read_json, write_json
from miscnn_tf._base.typed_data import Document, require
from miscnn_tf.errors import ConfigurationError, MissingDataError
from miscnn_tf.runs.fold import Fold, fold_to_plain, plain_to_fold, read_fold
from miscnn_tf.runs.names import RECORD_FILE, SAMPLES_FILE, STATE_FILE
from miscnn_tf.runs.training_state_file import read_description

_LONGER = (
    ". To train longer, read its model.keras with miscnn_tf.load_model(path, data_io) and pass start='weights' in "
    "another evaluation_path"
)


class _RecordFile(Document):
    settings: dict[str, Any]
    history: dict[str, list[float | None]]
    detailed: bool


@dataclass(frozen=True)
class FoldRecord:
    """Record of the training of a fold, written last: its presence shows that all other files are complete.

    Args:
        fold: Its samples.
        settings: The settings that determine the result, from `evaluation.model_settings.training_settings`.
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
