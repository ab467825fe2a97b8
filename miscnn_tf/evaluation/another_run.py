"""Detection of results of another run in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscnn_tf.data_loading.results import STATE_FILE
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.evaluation.fold_record import matching_record, read_record
from miscnn_tf.evaluation.folds import Fold, load_disk2fold

if TYPE_CHECKING:
    from miscnn_tf.evaluation.fold_run import RunOptions
    from miscnn_tf.neural_network.model import Neural_Network


def holds_another_run(
    folders: Mapping[int, Path], folds: Sequence[Fold], model: Neural_Network, options: RunOptions
) -> bool:
    """Return True if the folders of folds hold results, finished or not, of other samples or settings.

    Args:
        folders: The existing folders by the number of the fold.
        folds: The splits of the new run.
        model: The model.
        options: Options of the training and evaluation of each fold.
    """
    settings = options.settings(model)
    for number, folder in folders.items():
        if number >= len(folds):
            if read_record(folder) is not None:
                return True
            continue
        try:
            record = matching_record(folder, folds[number], settings)
        except ConfigurationError:
            return True
        if record is None and (folder / STATE_FILE).is_file() and _is_of_another(folder, folds[number], model, options):
            return True
    return False


def _is_of_another(folder: Path, fold: Fold, model: Neural_Network, options: RunOptions) -> bool:
    """Return True if an interrupted training had other samples or settings."""
    from miscnn_tf.evaluation.fold_run import SAMPLES_FILE
    from miscnn_tf.neural_network.training_state_file import read_description

    if (folder / SAMPLES_FILE).is_file():
        before = Fold(*map(tuple, load_disk2fold(folder / SAMPLES_FILE)))
        if not fold.same_samples(before):
            return True
    now: dict[str, Any] = {
        **model.snapshot().training_settings(),
        "epochs": options.epochs,
        "iterations": options.iterations,
    }
    then = read_description(folder / STATE_FILE)["settings"]
    return any(then.get(name) != value for name, value in json.loads(json.dumps(now, default=float)).items())
