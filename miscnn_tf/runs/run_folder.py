"""Reader of a run folder, which reports missing and damaged files and reads the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from miscnn_tf._base.messages import some_of
from miscnn_tf.errors import DataError, MissingDataError
from miscnn_tf.runs.fold import load_disk2fold, read_record
from miscnn_tf.runs.names import (
    EVALUATION_FILE,
    HISTORY_FILE,
    PREDICTIONS_FOLDER,
    RECORD_FILE,
    RUN_FILE,
    SAMPLES_FILE,
    SCORES_FILE,
    SUMMARY_FILE,
    fold_folders,
    is_fold_folder,
)
from miscnn_tf.runs.run_record import read_run_record
from miscnn_tf.runs.score_summary import read_summary, summarise
from miscnn_tf.runs.score_table import read_scores
from miscnn_tf.runs.tables import History, read_history
from miscnn_tf.runs.training_progress import TrainingProgress, read_progress

#: Files that mark the folder of a run, or of a fold.
_SIGNS = (RUN_FILE, RECORD_FILE, HISTORY_FILE, SCORES_FILE, SUMMARY_FILE, EVALUATION_FILE, SAMPLES_FILE)

T = TypeVar("T")


@dataclass(frozen=True)
class FoldResult:
    """One training of a run.

    Attributes:
        number: Number of the fold; None if the run has no folds.
        folder: Its folder.
        history: A number per epoch for each metric; NaN for missing ones. Empty without a history file.
        training: Number of training samples; None if unknown.
        validation: Number of validation samples; None if unknown.
        finished: Whether it is complete.
        predictions: Folder of its predictions, which need not exist.
        progress: Its progress; None if unknown.
    """

    number: int | None
    folder: Path
    history: History
    training: int | None
    validation: int | None
    finished: bool
    predictions: Path
    progress: TrainingProgress | None = None


@dataclass(frozen=True)
class RunFolder:
    """Contents of the folder of a run.

    Attributes:
        folder: The run folder.
        kind: ``"cross-validation"``, ``"training"`` or ``"evaluation"``.
        record: Content of ``run.json``; None if missing.
        folds: Its trainings, by number; one without a number if the run has no folds.
        rows: Scores, a row per case and class; ``"fold"`` in a cross-validation.
        summary: Summary of the scores; None without scores.
        problems: A sentence about each file that cannot be read.
    """

    folder: Path
    kind: str
    record: dict[str, Any] | None
    folds: tuple[FoldResult, ...]
    rows: list[dict[str, Any]]
    summary: dict[str, Any] | None
    problems: list[str] = field(default_factory=list)

    @property
    def labels(self) -> list[int]:
        """Classes that were measured, ascending."""
        return sorted({int(row["class"]) for row in self.rows})

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, as far as they are known."""
        # The summary of scores has names even if the data set is unknown.
        names = (self.summary or {}).get("class_names") or ((self.record or {}).get("data") or {}).get("class_names")
        return [str(name) for name in names] if isinstance(names, list) else []

    def name_of(self, label: int) -> str:
        """Return the name of a class: ``"kidney"``, or ``"class 1"``."""
        names = self.class_names
        return names[label] if label < len(names) and names[label].strip() else f"class {label}"

    def predictions_of(self, fold: int | None) -> Path:
        """Return the folder of the predictions of a fold's cases."""
        found = next((one for one in self.folds if one.number == fold), None)
        return found.predictions if found is not None else self.folder / PREDICTIONS_FOLDER


def number_of_folds(record: Mapping[str, Any] | None, root: Path) -> int:
    """Return the number of folds of a run: that of its record, or that of the folders if there is none."""
    folds = ((record or {}).get("settings") or {}).get("folds")
    return folds if isinstance(folds, int) else len(fold_folders(root))


def read_run_folder(folder: str | Path) -> RunFolder:
    """Read the folder of a training, a cross-validation, a fold or an evaluation.

    Args:
        folder: The `evaluation_path` of a run, or one of its ``fold_<i>``.

    Raises:
        MissingDataError: If it is not such a folder; the message lists the expected files, and run folders inside.
    """
    root = Path(folder)
    _require_run(root)
    problems: list[str] = []
    record = _tried(problems, lambda: read_run_record(root), None)
    if record is None and is_fold_folder(root):
        # A single fold: read the record in the parent folder, as that of one training.
        record = _tried([], lambda: read_run_record(root.parent), None)
        record = None if record is None else {**record, "kind": "training"}
    numbered = list(fold_folders(root).items())
    predictions = _predictions(root, record)
    folds = tuple(_fold(path, number, path / PREDICTIONS_FOLDER, problems) for number, path in numbered) or (
        _fold(root, None, predictions, problems),
    )
    rows = _rows(root, numbered, problems)
    summary = _summary(root, rows, problems)
    kind = record["kind"] if record else "cross-validation" if numbered else "training"
    return RunFolder(root, kind, record, folds, rows, summary, problems)


def _require_run(root: Path) -> None:
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise MissingDataError(f"{root} {what}; give the folder of a run, such as the evaluation_path of a training")
    if _is_run(root):
        return
    inside = sorted(path.name for path in root.iterdir() if path.is_dir() and _is_run(path))
    hint = f" It holds folders of runs: {some_of(inside)}." if inside else ""
    raise MissingDataError(
        f"{root} is not the folder of a run: it has none of {', '.join(_SIGNS)}, and no fold_0.{hint} Give the folder "
        "that the results were written to (evaluation_path)"
    )


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _SIGNS) or bool(fold_folders(folder))


def _predictions(root: Path, record: dict[str, Any] | None) -> Path:
    place = (record or {}).get("predictions")
    return root / (place or PREDICTIONS_FOLDER)  # an absolute path is kept


def _fold(folder: Path, number: int | None, predictions: Path, problems: list[str]) -> FoldResult:
    nothing: History = {}
    history = _tried(problems, lambda: read_history(folder / HISTORY_FILE), nothing)
    sides: tuple[Sequence[Any] | None, Sequence[Any] | None] = (None, None)
    sides = _tried(problems, lambda: load_disk2fold(folder / SAMPLES_FILE), sides)
    training, validation = (None if side is None else len(side) for side in sides)
    record = _tried(problems, lambda: read_record(folder), None)
    finished = record is not None or (number is None and not (folder / SAMPLES_FILE).is_file())
    progress = _tried(problems, lambda: read_progress(folder), None)
    return FoldResult(number, folder, history, training, validation, finished, predictions, progress)


def _rows(root: Path, numbered: Sequence[tuple[int, Path]], problems: list[str]) -> list[dict[str, Any]]:
    if (root / SCORES_FILE).is_file():
        return _tried(problems, lambda: read_scores(root / SCORES_FILE), [])
    # An unfinished cross-validation has the rows of its finished folds.
    rows: list[dict[str, Any]] = []
    for number, folder in numbered:
        path = folder / SCORES_FILE
        found: list[dict[str, Any]] = _tried(problems, lambda path=path: read_scores(path), [])  # type: ignore[misc]
        rows += [{"fold": number, **row} for row in found]
    return rows


def _summary(root: Path, rows: list[dict[str, Any]], problems: list[str]) -> dict[str, Any] | None:
    stored = _tried(problems, lambda: read_summary(root / SUMMARY_FILE), None)
    computed = summarise(rows)
    readable = (root / SCORES_FILE).is_file() and not any(str(root / SCORES_FILE) in problem for problem in problems)
    if stored is not None and stored["cases"] != computed["cases"] and readable:
        problems.append(
            f"{root / SUMMARY_FILE} is a summary of {stored['cases']} cases, but {SCORES_FILE} beside it holds "
            f"{computed['cases']}: one of them is damaged or was replaced."
        )
    if not rows:
        return None
    if stored is not None and stored["classes"] and stored["cases"] == computed["cases"]:
        missing = stored.get("cases_without_prediction")
        if missing:
            computed["cases_without_prediction"] = missing["names"]
        if stored.get("class_names"):
            computed["class_names"] = stored["class_names"]
        definitions = stored["settings"].get("definitions")
        if definitions:
            # The settings of the stored scores, which may differ from current ones.
            computed["settings"]["definitions"] = definitions
    return computed


def _tried(problems: list[str], read: Callable[[], T], otherwise: T) -> T:
    """Return the result of `read`, or `otherwise` if the file is missing or damaged; damage is added to `problems`."""
    try:
        return read()
    except MissingDataError:
        return otherwise
    except (DataError, OSError) as error:
        problems.append(f"{str(error)[0].upper()}{str(error)[1:]}.")
        return otherwise
