"""Names of the files and folders in a run folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

#: Kind, data and settings of the run.
RUN_FILE: Final = "run.json"
#: The configuration of a run that the command line started, by its kind.
KEPT_CONFIGURATIONS: Final = {"training": "training.toml", "cross-validation": "cross_validation.toml"}
#: The samples of a fold.
SAMPLES_FILE: Final = "sample_list.json"
#: Loss and metrics, a row per epoch.
HISTORY_FILE: Final = "history.tsv"
#: Remaining time of a training, and the reason of its end.
PROGRESS_FILE: Final = "progress.json"
#: Where the network of the run predicted new images.
NEW_IMAGES_FILE: Final = "new_images.json"
#: The state of an unfinished training, with which it can be continued.
STATE_FILE: Final = "training_state.npz"
#: The best model.
MODEL_FILE: Final = "model.keras"
#: The best model where it is only needed for the evaluation; removed after it.
TEMPORARY_MODEL_FILE: Final = "best.unsaved.keras"
#: The record of a finished fold.
RECORD_FILE: Final = "completed.json"
#: Dice per sample and class, in MIScnn's format.
EVALUATION_FILE: Final = "detailed_validation.tsv"
#: All scores, a row per sample and class.
SCORES_FILE: Final = "scores.csv"
#: Mean, deviation, median and confidence interval of the scores.
SUMMARY_FILE: Final = "summary.json"
#: The postprocessing that a cross-validation chose, and its reasons.
POSTPROCESSING_FILE: Final = "postprocessing.json"
#: Box plots of the scores.
FIGURE_FILE: Final = "scores.png"
#: The report page.
REPORT_FILE: Final = "report.html"
#: The lock.
LOCK_FILE: Final = ".miscnn_tf.lock"
#: Predictions of the validation samples.
PREDICTIONS_FOLDER: Final = "predictions"
#: In a folder of predictions: pictures of them.
OVERLAYS_FOLDER: Final = "overlays"
#: In a folder of predictions: the model that made them, and digests of files whose format has no room for a mark.
MARK_FILE: Final = "made_by.json"
#: In the output folder of ``miscnn-tf predict``: the model and the kind of the predictions.
PREDICTION_RECORD_FILE: Final = "predictions.json"

#: Results of an evaluation beside `EVALUATION_FILE`.
RESULT_FILES: Final = (SCORES_FILE, SUMMARY_FILE, FIGURE_FILE)

_FOLD = "fold_"
#: Names of folders of folds and of the members of a group, which are run folders inside a run folder.
RUNS_WITHIN: Final = re.compile(rf"{_FOLD}\d+|group_[\w-]+")
_CURVE = re.compile(r"validation\.(.+)\.png")


def fold_folder(evaluation_path: str | Path, number: int) -> Path:
    """Return the folder of a fold."""
    return Path(evaluation_path) / f"{_FOLD}{number}"


def fold_folders(root: str | Path) -> dict[int, Path]:
    """Return the existing folders of folds by number, ascending."""
    names = ((path.name.removeprefix(_FOLD), path) for path in Path(root).glob(f"{_FOLD}*") if path.is_dir())
    return dict(sorted((int(number), path) for number, path in names if number.isdecimal()))


def is_fold_folder(folder: Path) -> bool:
    """Return True if a folder has the name of a fold's."""
    return folder.name.startswith(_FOLD)


def curve_file(metric: str) -> str:
    """Return the name of the figure with the curves of a metric.

    Example:
        >>> curve_file("loss"), curve_file("my metric")
        ('validation.loss.png', 'validation.my_metric.png')
    """
    return f"validation.{_in_file_name(metric)}.png"


def is_curve_of(name: str, metrics: set[str]) -> bool:
    """Return True if a file has the name of the figure of one of these metrics."""
    match = _CURVE.fullmatch(name)
    return match is not None and match[1] in set(map(_in_file_name, metrics))


def _in_file_name(metric: str) -> str:
    return re.sub(r"[^0-9A-Za-z_.+-]", "_", metric)
