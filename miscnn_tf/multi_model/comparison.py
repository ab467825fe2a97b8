"""Choice among cross-validations of the same folds: the best of them, or of the ensembles of two, as nnU-Net chooses.

The folder of a comparison is a group of models, with which new images are segmented::

    comparison.json               mean Dice of each candidate, and the best one
    comparison.html               the same as a page
    postprocessing.json           the postprocessing of the best candidate, and the reasons
    group_best/                   the models of the best candidate
    ensembles/<first>_and_<second>/fold_<i>/     predictions and scores of an ensemble
"""

from __future__ import annotations

import itertools
import logging
import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from miscnn_tf._base.configuration import digest
from miscnn_tf._base.messages import some_of, text_table
from miscnn_tf._base.plain_files import read_json, write_json
from miscnn_tf._base.typed_data import Document, require
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces.abstract_io import stat_fingerprint
from miscnn_tf.errors import ConfigurationError, MissingDataError, StorageError
from miscnn_tf.evaluation.detailed_validation import detailed_validation
from miscnn_tf.evaluation.postprocessing_choice import PostprocessingChoice, choose_for_predictions, write_choice
from miscnn_tf.evaluation.summary import write_summary
from miscnn_tf.multi_model.loading import load_files
from miscnn_tf.report.comparison_page import write_comparison_page
from miscnn_tf.runs.class_titles import name_of_class
from miscnn_tf.runs.fold import Fold, read_record
from miscnn_tf.runs.folder_lock import locked_folder
from miscnn_tf.runs.names import LOCK_FILE, MODEL_FILE, SCORES_FILE, SUMMARY_FILE, fold_folder, fold_folders
from miscnn_tf.runs.recorded_data import recorded_data
from miscnn_tf.runs.run_record import read_run_record
from miscnn_tf.runs.score_summary import read_summary
from miscnn_tf.runs.score_table import read_scores

#: Names in the folder of a comparison.
COMPARISON_FILE: Final = "comparison.json"
PAGE_FILE: Final = "comparison.html"
ENSEMBLES_FOLDER: Final = "ensembles"
_GROUP: Final = "best"
# Digits to which the volumes of the truth must agree; tables have all digits.
_SAME_VOLUME: Final = 1e-6

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A cross-validation, or the ensemble of two.

    Attributes:
        name: Its name.
        members: Names of the cross-validations.
        dice: Mean Dice over all cases, by the name of the class; None if no case has the class.
    """

    name: str
    members: tuple[str, ...]
    dice: Mapping[str, float | None]

    @property
    def mean(self) -> float | None:
        """Mean over the classes; None without any."""
        known = [value for value in self.dice.values() if value is not None]
        return statistics.fmean(known) if known else None


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison.

    Attributes:
        folder: The folder with the models of the best candidate.
        candidates: The cross-validations, then the ensembles.
        cases: Number of cases.
        postprocessing: Choice of the postprocessing of the best candidate; None if an earlier call made it, or its
            predictions are missing.
    """

    folder: Path
    candidates: tuple[Candidate, ...]
    cases: int
    postprocessing: PostprocessingChoice | None = None

    @property
    def best(self) -> Candidate:
        """Candidate with the highest mean Dice; of equal ones the first, which is the simpler one."""
        return max(self.candidates, key=lambda one: -math.inf if one.mean is None else one.mean)

    def table(self) -> str:
        """Return the mean Dice of each candidate and class as text."""
        classes = list(self.candidates[0].dice)
        rows = [["Dice", *classes, "mean", ""]]
        for one in self.candidates:
            values = [*(one.dice[name] for name in classes), one.mean]
            shown = ["–" if value is None else f"{value:.4f}" for value in values]
            rows.append([one.name, *shown, "best" if one is self.best else ""])
        return text_table(rows, "l" + "r" * (len(classes) + 1) + "l")


@dataclass(frozen=True)
class _Run:
    """A finished cross-validation."""

    name: str
    folder: Path
    folds: tuple[Fold, ...]
    record: Mapping[str, Any]
    dice: Mapping[str, float | None]
    # Volume of the truth by sample and class.
    truth: Mapping[tuple[str, int], float] = field(repr=False)

    @property
    def models(self) -> list[Path]:
        return [fold_folder(self.folder, number) / MODEL_FILE for number in range(len(self.folds))]


class _Member(Document):
    name: str
    folder: str
    digest: str


class _Candidate(Document):
    members: list[str]
    dice: dict[str, float | None]


class _Record(Document):
    runs: list[_Member]
    cases: int
    candidates: dict[str, _Candidate] | None


def compare_runs(
    runs: Sequence[str | Path],
    folder: str | Path,
    *,
    data: str | Path | None = None,
    data_io: Data_IO | None = None,
) -> Comparison:
    """Compare cross-validations and the ensembles of each two, and keep the models of the best.

    An ensemble averages the class probabilities of two models of the same fold on its validation samples, which neither
    has seen. The best candidate has the highest mean Dice of the classes, each a mean over all cases, and then gets the
    postprocessing that its predictions need, as in nnU-Net: see `choose_postprocessing`.
    The same call after an interruption continues.

    Args:
        runs: Folders of at least two finished cross-validations of the same samples and folds.
        folder: Folder for the result. `load_group` reads the models in it, and ``miscnn-tf predict`` uses them.
        data: Folder of the data, if they were moved.
        data_io: Samples, if the interface cannot be rebuilt from the record of the first run.

    Raises:
        MissingDataError: If a folder has no finished cross-validation, or data are missing.
        ConfigurationError: If the cross-validations have other samples, folds, classes or label maps.
        StorageError: If the folder has other files.
        FolderInUseError: If another comparison holds the lock on the folder.

    Example:
        >>> result = compare_runs(["full", "slices"], "best")  # doctest: +SKIP
        >>> print(result.table())  # doctest: +SKIP
    """
    if len(runs) < 2:
        raise ConfigurationError(
            f"a comparison needs at least two cross-validations, got {len(runs)}; name another one"
        )
    found = [_read_run(Path(path), name) for path, name in zip(runs, _names(runs), strict=True)]
    for other in found[1:]:
        _require_same(found[0], other)
    folder = Path(folder)
    with locked_folder(folder):
        members = [
            {"name": run.name, "folder": str(run.folder.resolve()), "digest": digest(stat_fingerprint(run.models))}
            for run in found
        ]
        cases = len({sample for sample, _ in found[0].truth})
        earlier = _read_earlier(folder, members)
        if earlier is not None:
            return Comparison(folder, earlier, cases)
        write_json(folder / COMPARISON_FILE, {"runs": members, "cases": cases, "candidates": None})
        return _compare(found, folder, members, cases, data, data_io)


def _compare(
    runs: Sequence[_Run],
    folder: Path,
    members: Sequence[Mapping[str, str]],
    cases: int,
    data: str | Path | None,
    data_io: Data_IO | None,
) -> Comparison:
    if data_io is None:
        advice = "compare_runs(runs, folder, data_io=data_io)"
        data_io = recorded_data(runs[0].record, runs[0].folder, data, advice)
    candidates = [Candidate(run.name, (run.name,), run.dice) for run in runs]
    places = [run.folder for run in runs]
    for first, second in itertools.combinations(runs, 2):
        place = folder / ENSEMBLES_FOLDER / f"{first.name}_and_{second.name}".replace("/", "_")
        for number, fold in enumerate(first.folds):
            logger.info("ensemble of %s and %s: fold %d of %d", first.name, second.name, number + 1, len(first.folds))
            group = load_files([run.models[number] for run in (first, second)], data_io)
            group.verbose = 0  # a bar shows the samples
            detailed_validation(list(fold.validation), group, fold_folder(place, number))
        write_summary(place)
        candidates.append(Candidate(f"{first.name} + {second.name}", (first.name, second.name), _dice_of(place)))
        places.append(place)
    result = Comparison(folder, tuple(candidates), cases)
    group = load_files([file for run in runs if run.name in result.best.members for file in run.models])
    group.id = _GROUP
    place = places[candidates.index(result.best)]
    predicted = {fold_folder(place, number): fold.validation for number, fold in enumerate(runs[0].folds)}
    try:
        choice = choose_for_predictions(predicted, data_io)
    except MissingDataError as error:  # predictions of a cross-validation may have been deleted
        logger.warning("no postprocessing is chosen: %s", error)
    else:
        write_choice(folder, choice)
        group.postprocessing = choice.steps
        result = replace(result, postprocessing=choice)
    group.dump(folder)
    table = {one.name: {"members": list(one.members), "dice": dict(one.dice)} for one in candidates}
    write_comparison_page(folder / PAGE_FILE, table, result.best.name, cases, str(folder))
    # Last: it marks the comparison as finished.
    content = {"runs": list(members), "cases": cases, "candidates": table, "best": result.best.name}
    write_json(folder / COMPARISON_FILE, content)
    return result


def _names(runs: Sequence[str | Path]) -> list[str]:
    """Return a short name of each folder: its own, or with those above it where several have the same."""
    paths = [Path(path).resolve() for path in runs]
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise ConfigurationError(f"{runs[number]} is given twice; name each cross-validation once")
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def _read_run(folder: Path, name: str) -> _Run:
    """Read a finished cross-validation.

    Raises:
        MissingDataError: If it is not finished, or something else.
    """
    if not folder.is_dir():
        raise MissingDataError(f"the folder {folder} does not exist; name that of a cross-validation")
    record = read_run_record(folder)
    folders = fold_folders(folder)
    wanted = record["settings"].get("folds", len(folders))
    if record["kind"] != "cross-validation" or not folders:
        raise MissingDataError(
            f"{folder} holds a run of the kind {record['kind']}; name the folder of a cross-validation, which "
            "miscnn-tf cross-validate writes"
        )
    folds = []
    for number in range(wanted):
        own = fold_folder(folder, number)
        finished = read_record(own) if own.is_dir() else None
        if finished is None or not finished.detailed or not (own / MODEL_FILE).is_file():
            missing = "is not finished" if finished is None else "has no scores" if not finished.detailed else None
            raise MissingDataError(
                f"fold {number} of {wanted} in {folder} {missing or f'has no {MODEL_FILE}'}; finish the "
                "cross-validation by the same command or call, with run_detailed_evaluation=True and save_models=True"
            )
        folds.append(finished.fold)
    rows = read_scores(folder / SCORES_FILE)
    truth = {
        (row["sample_id"], row["class"]): next(value for key, value in row.items() if "_truth" in key) for row in rows
    }
    _require_all(folder, folds, {sample for sample, _ in truth})
    return _Run(name, folder, tuple(folds), record, _dice_of(folder), truth)


def _require_all(folder: Path, folds: Sequence[Fold], scored: set[str]) -> None:
    missing = {str(sample) for fold in folds for sample in fold.validation} ^ scored
    if missing:
        raise MissingDataError(
            f"{folder / SCORES_FILE} does not have the scores of its folds: {some_of(sorted(missing), 3)} is in one of "
            "both only; write it again by the same command or call"
        )


def _dice_of(folder: Path) -> dict[str, float | None]:
    """Return the mean Dice of each class but the background over all cases, by the names of the classes."""
    summary = read_summary(folder / SUMMARY_FILE)
    names = summary.get("class_names")
    return {
        name_of_class(names, int(label)): scores["dice"]["mean"]
        for label, scores in summary["classes"].items()
        if int(label) > 0
    }


def _require_same(first: _Run, second: _Run) -> None:
    """Require the same samples, folds, classes and label maps.

    Raises:
        ConfigurationError: If anything differs.
    """
    differs = _difference(first, second)
    if differs is not None:
        raise ConfigurationError(
            f"{first.folder} and {second.folder} cannot be compared: {differs}. Cross-validate both on the same data "
            "with the same [split] and k_fold"
        )


def _difference(first: _Run, second: _Run) -> str | None:
    def samples(run: _Run) -> set[Hashable]:
        return {sample for fold in run.folds for sample in fold.validation}

    if only := samples(first) ^ samples(second):
        return f"they have other samples: {some_of(sorted(map(str, only)), 3)} is in one of them only"
    if len(first.folds) != len(second.folds):
        return f"they have {len(first.folds)} and {len(second.folds)} folds"
    for number, (one, other) in enumerate(zip(first.folds, second.folds, strict=True)):
        if not one.same_samples(other):
            moved = {*one.validation} ^ {*other.validation} or {*one.training} ^ {*other.training}
            return (
                f"fold {number} is split differently: {some_of(sorted(map(str, moved)), 3)} is on one side in one only"
            )
    if list(first.dice) != list(second.dice):
        return f"they have other classes: {', '.join(first.dice)}; {', '.join(second.dice)}"
    for key, volume in first.truth.items():
        if not math.isclose(volume, second.truth[key], rel_tol=_SAME_VOLUME):
            return f"the label maps of sample {key[0]!r} differ: class {key[1]} has other volumes"
    return None


def _read_earlier(folder: Path, members: Sequence[Mapping[str, str]]) -> tuple[Candidate, ...] | None:
    """Return the result of a finished comparison in the folder; None if it is not finished.

    Raises:
        ConfigurationError: If the folder has a comparison of other runs.
        StorageError: If it has other files.
    """
    path = folder / COMPARISON_FILE
    if not path.is_file():
        if any(one.name != LOCK_FILE for one in folder.iterdir()):
            raise StorageError(f"the folder {folder} holds files that no comparison wrote; choose an empty or new one")
        return None
    advice = f"delete the folder {folder} and compare again"
    content = read_json(path, "a comparison has one", advice)
    require(_Record, content, path, advice)
    if content["runs"] != list(members):
        names = ", ".join(one["folder"] for one in content["runs"])
        raise ConfigurationError(
            f"{folder} holds a comparison of {names}, or these were trained again since; choose another folder, or "
            "delete this one"
        )
    if content["candidates"] is None:
        return None
    return tuple(Candidate(name, tuple(one["members"]), one["dice"]) for name, one in content["candidates"].items())
