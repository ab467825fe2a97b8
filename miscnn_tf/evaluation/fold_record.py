"""What a finished fold leaves behind, by which a later run knows that it need not be trained again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from miscnn_tf.configuration import comparable
from miscnn_tf.data_loading.json_file import read_json, write_json
from miscnn_tf.errors import ConfigurationError, MissingDataError
from miscnn_tf.evaluation.folds import Fold, fold_to_plain, plain_to_fold
from miscnn_tf.processing.preprocessor import SETTINGS
from miscnn_tf.typed_data import Document, require

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network

RECORD_FILE = "completed.json"


class _RecordFile(Document):
    settings: dict[str, Any]
    history: dict[str, list[float | None]]
    detailed: bool


@dataclass(frozen=True)
class FoldRecord:
    """The training of a fold, written last: where it stands, all other files of the training are complete.

    Args:
        fold: Its samples.
        settings: What the result depends on, as `training_settings` returns.
        history: Keras' history: a list with a number per epoch for each metric.
        detailed: Whether the detailed evaluation is complete too.
    """

    fold: Fold
    settings: dict[str, Any]
    history: dict[str, list[float]]
    detailed: bool = False

    def write(self, folder: Path) -> None:
        """Write it into the fold's folder, atomically."""
        # JSON has no NaN; null is what every reader understands.
        history = {
            name: [value if math.isfinite(value) else None for value in values] for name, values in self.history.items()
        }
        content = {**fold_to_plain(self.fold), "settings": self.settings, "history": history, "detailed": self.detailed}
        write_json(folder / RECORD_FILE, content)


def read_record(folder: Path) -> FoldRecord | None:
    """The record in a fold's folder, or None where the fold is not complete.

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
    """The record of a fold that was finished with these samples and settings, or None where it is not finished.

    Raises:
        ConfigurationError: If the folder holds a finished fold of other samples or settings; nothing is overwritten.
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
            "throw them away"
        )
    return record


def training_settings(model: Neural_Network, epochs: int, iterations: int | None) -> dict[str, Any]:
    """What the result of a training depends on besides the samples, as plain data.

    Callbacks are not in it: there is no telling what they do. Neither is the code of a function or class of the
    caller's own, only its name and arguments.

    Args:
        model: The model.
        epochs: As given to the training.
        iterations: As given to the training.
    """
    return {
        "epochs": int(epochs),
        "iterations": None if iterations is None else int(iterations),
        **model_settings(model),
    }


def model_settings(model: Neural_Network) -> dict[str, Any]:
    """What a model is made of and how it is fed, as plain data: of `training_settings` what no single training says.

    Args:
        model: The model, or what can be asked like one.
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
    return settings


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Each setting that is not as it was, in words: ``"data_augmentation.config.mirror was False, now True"``."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        yield f"{name} was {before!r}, now {now!r}"
