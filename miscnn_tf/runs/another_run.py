"""Detection of results of another run in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.runs.fold import Fold, read_fold
from miscnn_tf.runs.fold_record import matching_record, read_record
from miscnn_tf.runs.names import SAMPLES_FILE, STATE_FILE
from miscnn_tf.runs.training_state_file import read_description


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
