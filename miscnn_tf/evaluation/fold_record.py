"""Record of a finished fold, with which a later run can skip its training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miscnn_tf.configuration import comparable
from miscnn_tf.data_loading.plain_files import read_json, write_json
from miscnn_tf.errors import ConfigurationError, MissingDataError
from miscnn_tf.evaluation.folds import Fold, fold_to_plain, plain_to_fold
from miscnn_tf.processing.preprocessor import SETTINGS
from miscnn_tf.typed_data import Document, require

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network

RECORD_FILE = "completed.json"

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
        settings: The settings that determine the result, from `training_settings`.
        history: Keras' history: a list with a number per epoch for each metric.
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


def training_settings(model: Neural_Network, epochs: int, iterations: int | None) -> dict[str, Any]:
    """Return the settings that determine the result of a training besides the samples, as plain data.

    Callbacks are not included, since their effect is unknown. Functions and classes of the caller are included by name
    and arguments, not by code.

    Args:
        model: The model.
        epochs: Argument of the training.
        iterations: Argument of the training.
    """
    return {
        "epochs": int(epochs),
        "iterations": None if iterations is None else int(iterations),
        **model_settings(model),
    }


def model_settings(model: Neural_Network) -> dict[str, Any]:
    """Return the settings of a model and its preprocessing as plain data, without those of a single training.

    Args:
        model: The model, or an object with the same attributes.
    """
    preprocessor = model.preprocessor
    settings: dict[str, Any] = {}
    for name in ("architecture", "loss"):
        settings[name] = comparable(getattr(model, name, None))
    settings["metrics"] = [comparable(metric) for metric in getattr(model, "metrics", None) or []]
    rate = getattr(model, "learning_rate", None)
    settings["learning_rate"] = float(rate) if isinstance(rate, int | float | np.number) else comparable(rate)
    for name in SETTINGS:
        value = getattr(preprocessor, name, None)
        settings[name] = list(value) if isinstance(value, tuple | list) else value
    settings["subfunctions"] = [comparable(step) for step in getattr(preprocessor, "subfunctions", None) or []]
    settings["data_augmentation"] = comparable(getattr(preprocessor, "data_augmentation", None))
    settings |= getattr(model, "settings_beyond_defaults", dict)()
    start = getattr(model, "start_digest", None)
    if start is not None:
        settings["start"] = start
    return settings


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Describe each setting that has changed: ``"data_augmentation.config.mirror was False, now True"``."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        yield f"{name} was {before!r}, now {now!r}"
