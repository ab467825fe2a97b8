"""Find and remove the files that earlier runs wrote.

A file is only removed if both its name and its content identify it as written by this package and unchanged. Links are
not followed.
"""

from __future__ import annotations

import os
import re
import stat
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from miscnn_tf._base.files import is_abandoned
from miscnn_tf._base.plain_files import read_json
from miscnn_tf.data_loading.cache.sample_files import SAMPLE_FILE, TEMPORARY_ENDING, read_sample
from miscnn_tf.data_loading.formats import image_file, nifti_writer
from miscnn_tf.errors import MiscnnError, StorageError
from miscnn_tf.runs import names
from miscnn_tf.runs.fold import read_fold, read_record
from miscnn_tf.runs.folder_lock import holder_of
from miscnn_tf.runs.prediction_files import recorded_digests, was_written_here
from miscnn_tf.runs.score_table import read_scores
from miscnn_tf.runs.training_progress import read_progress

Check = Callable[[Path], Any]

_BATCH = re.compile(r"\d{1,12}\.batch_(img|seg)\..+\.npz")
_BACKED_UP = re.compile(r"\d{1,12}\..+")
_STORE = re.compile(r"(\d{1,12}\.)?prepared")
_SPILL = re.compile(r"run-[0-9a-f]{32}")
_SAMPLE_PARTS = re.compile(rf"{re.escape(SAMPLE_FILE)}|(image|segmentation|prediction|array_\d+)\.npy")

_HEAD = 4096
_NOT_OURS = "was not written by this package, or was changed since"


@dataclass(frozen=True)
class Trace:
    """File that will be removed, in its state when it was found.

    Attributes:
        path: The file.
        status: Its size, time of the last change and inode.
    """

    path: Path
    status: os.stat_result


@dataclass
class Traces:
    """Result of the search in a folder.

    Attributes:
        folder: The folder.
        ours: Files of this package, in the order of their removal.
        left: Files and folders that are kept, with the reason.
    """

    folder: Path
    ours: list[Trace] = field(default_factory=list)
    left: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of all files that will be removed."""
        return sum(trace.status.st_size for trace in self.ours)

    @property
    def latest(self) -> float:
        """Seconds since the last change of a file that will be removed."""
        return time.time() - max((trace.status.st_mtime for trace in self.ours), default=0)

    def take(self, path: Path) -> None:
        """Add a file to remove."""
        self.ours.append(Trace(path, path.lstat()))

    def leave(self, path: Path, reason: str = _NOT_OURS) -> None:
        """Add a file or folder to keep."""
        self.left.append((path, reason))

    def take_or_leave(self, path: Path, ours: bool) -> None:
        """Add a file to remove if it is of this package, and otherwise to keep."""
        if ours:
            self.take(path)
        else:
            self.leave(path)


def find_batches(folder: Path) -> Traces | None:
    """Find the files of `Data_IO` and of the prepared-sample store in a ``batch_path``; None without the folder."""
    return _find(folder, _batches)


def find_run(folder: Path, configurations: Check) -> Traces | None:
    """Find the files of trainings, cross-validations and evaluations in an ``evaluation_path``; None without it.

    Args:
        folder: The folder.
        configurations: Returns True for an unchanged configuration of a run that the command line started.
    """
    return _find(folder, lambda folder, traces: _run(folder, traces, configurations))


def find_predictions(folder: Path) -> Traces | None:
    """Find predictions and maps of explanations in an ``output_path``; None without the folder."""
    return _find(folder, _predictions)


def find_curves(folder: Path) -> list[Path]:
    """Return the figures of curves that a training drew; empty without its history, which lists the metrics."""
    metrics = _metrics(folder)
    return [path for path in sorted(folder.glob("*.png")) if names.is_curve_of(path.name, metrics) and _is_drawn(path)]


def remove(traces: Traces) -> tuple[int, list[tuple[Path, str]]]:
    """Remove the found files, and folders that are empty afterwards.

    Returns:
        The number of removed files, and the others with the reason.
    """
    removed, failed = 0, []
    emptied: set[Path] = set()
    for trace in traces.ours:
        try:
            _require_unchanged(trace, traces.folder)
            trace.path.unlink()
        except OSError as error:
            failed.append((trace.path, error.strerror or str(error)))
            continue
        removed += 1
        emptied.update(parent for parent in trace.path.parents if parent.is_relative_to(traces.folder))
    for folder in sorted(emptied, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):  # it is not empty
            folder.rmdir()
    return removed, failed


def remove_results(folder: Path) -> None:
    """Delete the results of a training and its evaluation in a run folder, and no other files."""
    curves = find_curves(folder)
    # The record is first: without it the other files count as unfinished after an interruption.
    for name in (
        names.RECORD_FILE,
        names.STATE_FILE,
        names.HISTORY_FILE,
        names.PROGRESS_FILE,
        names.NEW_IMAGES_FILE,
        names.MODEL_FILE,
        names.TEMPORARY_MODEL_FILE,
        names.EVALUATION_FILE,
        names.REPORT_FILE,
        *names.RESULT_FILES,
    ):
        (folder / name).unlink(missing_ok=True)
    for figure in curves:
        figure.unlink(missing_ok=True)
    remove_predictions(folder)


def remove_summary(root: Path) -> None:
    """Delete the record, the report and the scores of all folds in the folder of a cross-validation."""
    for name in (names.RUN_FILE, names.REPORT_FILE, names.POSTPROCESSING_FILE, *names.RESULT_FILES):
        (root / name).unlink(missing_ok=True)


def remove_predictions(evaluation_path: str | Path) -> None:
    """Delete the predictions in a run folder that this package wrote, and no other files.

    Raises:
        StorageError: If a file cannot be deleted.
    """
    folder = Path(evaluation_path) / names.PREDICTIONS_FOLDER
    mark = folder / names.MARK_FILE
    if folder.is_symlink() or not mark.is_file():
        return
    traces = find_predictions(folder)
    if traces is not None:
        # The mark is last, so that the rest can be recognised after an interruption.
        traces.ours.sort(key=lambda trace: trace.path == mark)
        _, failed = remove(traces)
        if failed:
            path, reason = failed[0]
            raise StorageError(f"could not delete {path}: {reason}; check its permissions and run again")


# ---------------------------------------------------------------- folders


def _find(folder: Path, search: Callable[[Path, Traces], None]) -> Traces | None:
    if folder.is_symlink():
        traces = Traces(folder)
        traces.leave(folder, f"a link to {os.readlink(folder)}; name that folder itself to clean it up")
        return traces
    if not folder.is_dir():
        return None
    traces = Traces(folder)
    search(folder, traces)
    return traces


def _entries(folder: Path, traces: Traces) -> Iterator[tuple[Path, bool]]:
    """Yield the files and folders in a folder, with True for folders; links and devices are left."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        traces.leave(folder, f"could not be read ({error.strerror or error})")
        return
    for entry in entries:
        path = folder / entry.name
        if entry.is_symlink():
            traces.leave(path, "a link")
        elif entry.is_dir(follow_symlinks=False):
            yield path, True
        elif entry.is_file(follow_symlinks=False):
            yield path, False
        else:
            traces.leave(path, "not a regular file")


def _batches(folder: Path, traces: Traces) -> None:
    for path, is_folder in _entries(folder, traces):
        if not is_folder:
            ours = _BATCH.fullmatch(path.name) is not None and _zip_names(path) == {"batch.npy"}
            traces.take_or_leave(path, ours or (is_abandoned(path) and ".batch_" in path.name))
        elif _STORE.fullmatch(path.name):
            _store(path, traces)
        elif not ((_BACKED_UP.fullmatch(path.name) or is_abandoned(path)) and _take_sample(path, traces)):
            traces.leave(path)


def _store(folder: Path, traces: Traces) -> None:
    for path, is_folder in _entries(folder, traces):
        if is_folder and _SPILL.fullmatch(path.name):
            _store(path, traces)
        elif not (is_folder and _take_sample(path, traces)):
            traces.leave(path, "not a prepared sample")


def _take_sample(folder: Path, traces: Traces) -> bool:
    """Take the files of a prepared sample if the folder holds one and nothing else."""
    paths = sorted(folder.iterdir())
    if not paths or any(path.is_symlink() or not _SAMPLE_PARTS.fullmatch(path.name) for path in paths):
        return False
    if not (folder.name.endswith(TEMPORARY_ENDING) and is_abandoned(folder)):
        try:
            read_sample(folder)
        except (MiscnnError, OSError):
            return False
    # The description is first: without it the rest does not count as a sample.
    for path in sorted(paths, key=lambda path: path.name != SAMPLE_FILE):
        traces.take(path)
    return True


def _run(folder: Path, traces: Traces, configurations: Check) -> None:
    """Search a run folder, and the folders of folds and members in it."""
    holder = holder_of(folder)
    if holder is not None:
        traces.leave(folder, f"in use by {holder}")
        return
    files: list[Path] = []
    for path, is_folder in _entries(folder, traces):
        if not is_folder:
            files.append(path)
        elif names.RUNS_WITHIN.fullmatch(path.name):
            _run(path, traces, configurations)
        elif path.name == names.PREDICTIONS_FOLDER:
            _predictions(path, traces)
        else:
            traces.leave(path)
    results = {**_RESULTS, **dict.fromkeys(names.KEPT_CONFIGURATIONS.values(), configurations)}
    # A table alone does not identify a run: other programs may write one with the same name.
    is_run = any(_passes(check, folder / name) for name, check in _RECORDS.items())
    curves = find_curves(folder)
    for path in sorted(files, key=_order):
        name = path.name
        if name in _RECORDS:
            ours = _passes(_RECORDS[name], path)
        elif name in results:
            ours = is_run and _passes(results[name], path)
        elif name == names.LOCK_FILE:
            ours = True  # not held, see above
        elif path in curves:
            ours = is_run
        else:
            ours = is_abandoned(path) and name.endswith(tuple(f".{known}" for known in (*_RECORDS, *results)))
        traces.take_or_leave(path, ours)


def _order(path: Path) -> int:
    """Return the rank in the removal: first the record that a fold is finished, last those that identify the run."""
    return 0 if path.name == names.RECORD_FILE else 2 if path.name in _RECORDS else 1


def _predictions(folder: Path, traces: Traces) -> None:
    digests = {folder / name: digest for name, digest in recorded_digests(folder).items()}
    _predictions_below(folder, traces, digests)


def _predictions_below(folder: Path, traces: Traces, digests: Mapping[Path, str]) -> None:
    for path, is_folder in _entries(folder, traces):
        if is_folder:
            _predictions_below(path, traces, digests)
        elif path.name in _PREDICTION_RECORDS:
            traces.take_or_leave(path, _passes(_is_prediction_record, path))
        else:
            written = was_written_here(path, digests.get(path)) or _is_picture_of_map(path) or _is_overlay(path)
            traces.take_or_leave(path, written)


# ---------------------------------------------------------------- files


def _passes(check: Check, path: Path) -> bool:
    """Return the result of a check; False for a file that is missing or damaged."""
    try:
        return not path.is_symlink() and bool(check(path))
    except Exception:  # parsers may raise any error for damaged files
        return False


def _is_summary(path: Path) -> bool:
    content = _read(path)
    return content.keys() >= {"cases", "classes"} and "miscnn_tf" in content["settings"]["versions"]


def _is_run_record(path: Path) -> bool:
    content = _read(path)
    return content.keys() >= {"kind", "written", "data", "settings"} and "miscnn_tf" in content["versions"]


def _is_postprocessing(path: Path) -> bool:
    return set(_read(path)) == {"folds", "samples", "steps", "dice", "decisions"}


def _is_prediction_record(path: Path) -> bool:
    needed, allowed = _PREDICTION_RECORDS[path.name]
    return needed <= _read(path).keys() <= needed | allowed


def _read(path: Path) -> Any:
    return read_json(path, "this package writes it")


def _is_scores(path: Path) -> bool:
    return {"sample_id", "class", "dice", "iou"} <= read_scores(path)[0].keys()


def _begins_with(text: str) -> Check:
    def check(path: Path) -> bool:
        with path.open("rb") as file:
            return file.read(len(text)) == text.encode()

    return check


def _holds(member: str) -> Check:
    return lambda path: member in _zip_names(path)


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        return b'<meta name="generator" content="miscnn_tf">' in file.read(_HEAD)


def _zip_names(path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as file:
            return set(file.namelist())
    except (OSError, zipfile.BadZipFile):
        return set()


def _is_drawn(path: Path) -> bool:
    """Return True if the file names matplotlib as its writer."""
    return _passes(lambda picture: (image_file.written_by(picture) or "").startswith("Matplotlib"), path)


def _is_picture_of_map(path: Path) -> bool:
    """Return True for the picture of an explanation with the map beside it."""
    return _is_drawn(path) and _passes(nifti_writer.was_written_here, path.with_name(f"{path.stem}.nii.gz"))


def _is_overlay(path: Path) -> bool:
    """Return True for a picture of a prediction."""
    return path.parent.name == names.OVERLAYS_FOLDER and _is_drawn(path)


def _metrics(folder: Path) -> set[str]:
    """Return the names of the columns of the history."""
    try:
        with (folder / names.HISTORY_FILE).open(encoding="utf-8") as file:
            return set(file.readline().rstrip("\n").split("\t")[1:])
    except (OSError, UnicodeDecodeError):
        return set()


def _require_unchanged(trace: Trace, root: Path) -> None:
    """Require that a path still is the file that was found, and that no folder became a link meanwhile.

    Raises:
        OSError: If it is not.
    """
    now, then = trace.path.lstat(), trace.status
    same = (now.st_ino, now.st_mtime_ns, now.st_size) == (then.st_ino, then.st_mtime_ns, then.st_size)
    above = [parent for parent in trace.path.parents if parent.is_relative_to(root)]
    if not (stat.S_ISREG(now.st_mode) and same) or any(parent.is_symlink() for parent in above):
        raise OSError(f"{trace.path} has changed meanwhile")


# Records in folders of predictions, with required and optional keys.
def _is_list_of_outputs(path: Path) -> bool:
    content = read_json(path, "")
    return isinstance(content, dict) and set(content) == {"outputs"}


_PREDICTION_RECORDS: Final = {
    names.MARK_FILE: ({"made_by"}, {"files", "others", "saving"}),
    names.PREDICTION_RECORD_FILE: (
        {"model", "fingerprint", "probabilities"},
        {"label_values", "format", "threshold", "postprocessing", "previous_stage"},
    ),
}

# Files that identify a run folder, and files that are only removed beside one of them.
_RECORDS: Final[dict[str, Check]] = {
    names.RECORD_FILE: lambda path: read_record(path.parent),
    names.SAMPLES_FILE: read_fold,
    names.SUMMARY_FILE: _is_summary,
    names.RUN_FILE: _is_run_record,
}
_RESULTS: Final[dict[str, Check]] = {
    names.STATE_FILE: _holds("description.npy"),
    names.HISTORY_FILE: _begins_with("epoch\t"),
    names.PROGRESS_FILE: lambda path: read_progress(path.parent),
    names.NEW_IMAGES_FILE: _is_list_of_outputs,
    names.MODEL_FILE: _holds("miscnn_tf.json"),
    names.TEMPORARY_MODEL_FILE: _holds("miscnn_tf.json"),
    names.EVALUATION_FILE: _begins_with("sample_id\tdice_class-0"),
    names.SCORES_FILE: _is_scores,
    names.POSTPROCESSING_FILE: _is_postprocessing,
    names.FIGURE_FILE: _is_drawn,
    names.REPORT_FILE: _is_report,
}
