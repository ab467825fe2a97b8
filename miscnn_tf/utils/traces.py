"""Detection and removal of the files of earlier runs.

A file is only removed if both its name and its content identify it as written by this package. Links are not followed.
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

from miscnn_tf.data_loading.cache.sample_files import SAMPLE_FILE, TEMPORARY_ENDING, read_sample
from miscnn_tf.data_loading.folder_lock import LOCK_FILE, holder_of
from miscnn_tf.data_loading.formats import image_file, nifti_writer
from miscnn_tf.data_loading.plain_files import read_json
from miscnn_tf.data_loading.results import EVALUATION_FILE, HISTORY_FILE, STATE_FILE
from miscnn_tf.data_loading.storage import is_abandoned
from miscnn_tf.errors import MiscnnError
from miscnn_tf.evaluation.fold_record import RECORD_FILE, read_record
from miscnn_tf.evaluation.fold_run import MODEL_FILE, SAMPLES_FILE, TEMPORARY_MODEL_FILE
from miscnn_tf.evaluation.folds import load_disk2fold
from miscnn_tf.evaluation.kept_predictions import MARK_FILE, recorded_digests, was_written_here
from miscnn_tf.evaluation.run_record import PREDICTIONS_FOLDER, REPORT_FILE, RUN_FILE
from miscnn_tf.evaluation.score_table import FIGURE_FILE, SCORES_FILE, SUMMARY_FILE, read_scores
from miscnn_tf.planning.toml_file import KEPT_CONFIGURATIONS, is_kept_configuration

_BATCH = re.compile(r"\d{1,12}\.batch_(img|seg)\..+\.npz")
_BACKED_UP = re.compile(r"\d{1,12}\..+")
_STORE = re.compile(r"(\d{1,12}\.)?prepared")
_SPILL = re.compile(r"run-[0-9a-f]{32}")
_SAMPLE_PARTS = re.compile(rf"{re.escape(SAMPLE_FILE)}|(image|segmentation|prediction|array_\d+)\.npy")
_RUNS_WITHIN = re.compile(r"fold_\d+|group_[\w-]+")
_CURVE = re.compile(r"validation\.(.+)\.png")

_HEAD = 4096


@dataclass(frozen=True)
class Trace:
    """A file that will be removed.

    Attributes:
        path: The file.
        size: Bytes.
        changed: Time of its last change, nanoseconds; a file that changes meanwhile is left alone.
        inode: The file itself, whatever its name.
    """

    path: Path
    size: int
    changed: int
    inode: int


@dataclass
class Traces:
    """What was found in one folder.

    Attributes:
        folder: The folder.
        ours: Files of ours, in the order in which they are to be removed.
        left: What stays, and why.
    """

    folder: Path
    ours: list[Trace] = field(default_factory=list)
    left: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of all that is ours."""
        return sum(trace.size for trace in self.ours)

    @property
    def latest(self) -> float:
        """Seconds since the youngest of our files was changed."""
        return time.time() - max((trace.changed for trace in self.ours), default=0) / 1e9

    def take(self, path: Path) -> None:
        """Note a file as ours."""
        status = path.lstat()
        self.ours.append(Trace(path, status.st_size, status.st_mtime_ns, status.st_ino))

    def leave(self, path: Path, reason: str) -> None:
        """Note what stays."""
        self.left.append((path, reason))


def find_batches(folder: Path) -> Traces | None:
    """What `Data_IO` and the prepared-sample store left in a ``batch_path``; None where there is no such folder."""
    return _find(folder, _batches)


def find_evaluation(folder: Path) -> Traces | None:
    """What trainings, cross-validations and evaluations left in an ``evaluation_path``; None where there is none."""
    return _find(folder, _run)


def find_predictions(folder: Path) -> Traces | None:
    """What `predict` and the explanations left in an ``output_path``; None where there is no such folder."""
    return _find(folder, _predictions)


def find_curves(folder: Path) -> list[Path]:
    """Return the figures of curves that a training wrote into its folder; empty without its table of metrics."""
    metrics = _metrics(folder)
    named = ((_CURVE.fullmatch(path.name), path) for path in sorted(folder.glob("validation.*.png")))
    return [path for match, path in named if match is not None and match[1] in metrics and _is_drawn(path)]


def remove(traces: Traces) -> tuple[int, list[tuple[Path, str]]]:
    """Remove what was found, and folders that are empty then.

    Returns:
        How many files were removed; and those that were not, with the reason.
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
        with suppress(OSError):  # something else is in it
            folder.rmdir()
    return removed, failed


# ---------------------------------------------------------------- one folder after the other


def _find(folder: Path, look: Callable[[Path, Traces], None]) -> Traces | None:
    if folder.is_symlink():
        traces = Traces(folder)
        traces.leave(folder, f"a link to {os.readlink(folder)}; name that folder itself to clean it up")
        return traces
    if not folder.is_dir():
        return None
    traces = Traces(folder)
    look(folder, traces)
    return traces


def _entries(folder: Path, traces: Traces) -> Iterator[tuple[Path, bool]]:
    """What is in a folder, and whether it is a folder; links and devices stay without being looked at."""
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
            traces.leave(path, "no ordinary file")


def _batches(folder: Path, traces: Traces) -> None:
    for path, is_folder in _entries(folder, traces):
        if not is_folder:
            ours = _BATCH.fullmatch(path.name) is not None and _zip_names(path) == {"batch.npy"}
            _take_or_leave(path, traces, ours or (is_abandoned(path) and ".batch_" in path.name))
        elif _STORE.fullmatch(path.name):
            _store(path, traces)
        elif not ((_BACKED_UP.fullmatch(path.name) or is_abandoned(path)) and _take_sample(path, traces)):
            traces.leave(path, "nothing that was written here")


def _store(folder: Path, traces: Traces) -> None:
    for path, is_folder in _entries(folder, traces):
        if is_folder and _SPILL.fullmatch(path.name):
            _store(path, traces)
        elif not (is_folder and _take_sample(path, traces)):
            traces.leave(path, "no prepared sample")


def _take_sample(folder: Path, traces: Traces) -> bool:
    """Note the files of a prepared sample, if the folder is one and holds nothing else."""
    paths = sorted(folder.iterdir())
    if not paths or any(path.is_symlink() or not _SAMPLE_PARTS.fullmatch(path.name) for path in paths):
        return False
    if not (folder.name.endswith(TEMPORARY_ENDING) and is_abandoned(folder)):
        try:
            read_sample(folder)
        except (MiscnnError, OSError):
            return False
    # First the description: without it nobody takes the rest for a sample.
    for path in sorted(paths, key=lambda path: path.name != SAMPLE_FILE):
        traces.take(path)
    return True


def _run(folder: Path, traces: Traces) -> None:
    """The folder of a run, and those of folds and members in it."""
    holder = holder_of(folder)
    if holder is not None:
        traces.leave(folder, f"in use by {holder}")
        return
    names: list[Path] = []
    for path, is_folder in _entries(folder, traces):
        if not is_folder:
            names.append(path)
        elif _RUNS_WITHIN.fullmatch(path.name):
            _run(path, traces)
        elif path.name == PREDICTIONS_FOLDER:
            _predictions(path, traces)
        else:
            traces.leave(path, "nothing that was written here")
    # A table alone does not identify a run: other programs may write one with the same name.
    is_run = any(_says(question, folder / name) for name, question in _RECORDS.items())
    curves = find_curves(folder)
    for path in sorted(names, key=_order):
        name = path.name
        if name in _RECORDS:
            ours = _says(_RECORDS[name], path)
        elif name in _RESULTS:
            ours = is_run and _says(_RESULTS[name], path)
        elif name == LOCK_FILE:
            ours = True  # not held, see above
        elif path in curves:
            ours = is_run
        else:
            ours = is_abandoned(path) and name.endswith(tuple(f".{known}" for known in (*_RECORDS, *_RESULTS)))
        _take_or_leave(path, traces, ours)


def _order(path: Path) -> int:
    """First what says that a fold is finished, lest half of it passes for that; last what says that it is ours."""
    return 0 if path.name == RECORD_FILE else 2 if path.name in _RECORDS else 1


def _predictions(folder: Path, traces: Traces) -> None:
    digests = {folder / name: digest for name, digest in recorded_digests(folder).items()}
    _predictions_below(folder, traces, digests)


def _predictions_below(folder: Path, traces: Traces, digests: Mapping[Path, str]) -> None:
    for path, is_folder in _entries(folder, traces):
        if is_folder:
            _predictions_below(path, traces, digests)
        elif path.name in _NOTES:
            _take_or_leave(path, traces, _says(_is_note, path))
        else:
            ours = was_written_here(path, digests.get(path)) or _is_picture_of_map(path)
            _take_or_leave(path, traces, ours)


def _take_or_leave(path: Path, traces: Traces, ours: bool) -> None:
    if ours:
        traces.take(path)
    else:
        traces.leave(path, "nothing in it says that it was written here, or it was changed since")


# ---------------------------------------------------------------- what a file says of itself


def _says(question: Callable[[Path], Any], path: Path) -> bool:
    """The answer, which is no for a file that is missing or damaged in whatever way."""
    try:
        return not path.is_symlink() and bool(question(path))
    except Exception:  # a file from elsewhere can provoke anything in a parser
        return False


def _is_summary(path: Path) -> bool:
    content = _read(path)
    return content.keys() >= {"cases", "classes"} and "miscnn_tf" in content["settings"]["versions"]


def _is_run_record(path: Path) -> bool:
    content = _read(path)
    return content.keys() >= {"kind", "written", "data", "settings"} and "miscnn_tf" in content["versions"]


def _is_note(path: Path) -> bool:
    needed, allowed = _NOTES[path.name]
    return needed <= _read(path).keys() <= needed | allowed


def _read(path: Path) -> Any:
    return read_json(path, "this package writes it")


def _is_scores(path: Path) -> bool:
    return {"sample_id", "class", "dice", "iou"} <= read_scores(path)[0].keys()


def _is_record(path: Path) -> bool:
    return read_record(path.parent) is not None


def _is_split(path: Path) -> bool:
    load_disk2fold(path)
    return True


def _begins_with(text: str) -> Callable[[Path], bool]:
    def question(path: Path) -> bool:
        with path.open("rb") as file:
            return file.read(len(text)) == text.encode()

    return question


def _holds(*members: str) -> Callable[[Path], bool]:
    def question(path: Path) -> bool:
        return _zip_names(path) >= set(members)

    return question


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
    """Whether matplotlib drew a picture, as it says in it."""
    return _says(lambda picture: (image_file.written_by(picture) or "").startswith("Matplotlib"), path)


def _is_picture_of_map(path: Path) -> bool:
    """Whether a picture lies beside the map of an explanation that it shows."""
    return _is_drawn(path) and _says(nifti_writer.was_written_here, path.with_name(f"{path.stem}.nii.gz"))


def _metrics(folder: Path) -> set[str]:
    """The metrics of a training as they stand in the names of their curves."""
    try:
        with (folder / HISTORY_FILE).open(encoding="utf-8") as file:
            columns = file.readline().rstrip("\n").split("\t")
    except (OSError, UnicodeDecodeError):
        return set()
    return {re.sub(r"[^0-9A-Za-z_.+-]", "_", name) for name in columns[1:]}


def _require_unchanged(trace: Trace, root: Path) -> None:
    """Make sure that a path still is the file that was looked at, and that no folder became a link meanwhile.

    Raises:
        OSError: If it is not.
    """
    status = trace.path.lstat()
    same = (status.st_ino, status.st_mtime_ns, status.st_size) == (trace.inode, trace.changed, trace.size)
    above = [parent for parent in trace.path.parents if parent.is_relative_to(root)]
    if not (stat.S_ISREG(status.st_mode) and same) or any(parent.is_symlink() for parent in above):
        raise OSError(f"{trace.path} has changed meanwhile")


# Records in folders of predictions, of validation samples and of 'miscnn-tf predict', with required and optional keys.
_NOTES: Final = {
    MARK_FILE: ({"made_by"}, {"files", "others", "saving"}),
    "predictions.json": ({"model", "fingerprint", "probabilities"}, {"label_values"}),
}

# By what the files of a run are known: those that say by themselves that they are of one, and those beside them.
_RECORDS: Final[dict[str, Callable[[Path], bool]]] = {
    RECORD_FILE: _is_record,
    SAMPLES_FILE: _is_split,
    SUMMARY_FILE: _is_summary,
    RUN_FILE: _is_run_record,
}
_RESULTS: Final[dict[str, Callable[[Path], bool]]] = {
    STATE_FILE: _holds("description.npy"),
    HISTORY_FILE: _begins_with("epoch\t"),
    MODEL_FILE: _holds("miscnn_tf.json"),
    TEMPORARY_MODEL_FILE: _holds("miscnn_tf.json"),
    EVALUATION_FILE: _begins_with("sample_id\tdice_class-0"),
    SCORES_FILE: _is_scores,
    FIGURE_FILE: _is_drawn,
    REPORT_FILE: _is_report,
    **dict.fromkeys(KEPT_CONFIGURATIONS.values(), is_kept_configuration),
}
