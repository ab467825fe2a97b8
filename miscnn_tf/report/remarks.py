"""Remarks on conspicuous results of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from miscnn_tf._base.messages import some_of
from miscnn_tf.report.case_pictures import RankedCase, rank_cases
from miscnn_tf.runs.run_folder import FoldResult, RunFolder
from miscnn_tf.runs.score_summary import finite
from miscnn_tf.runs.training_progress import TIME_LIMIT

#: Metric in the history: share of an epoch's time in which the training waited for data.
WAIT = "data_wait"
_MOST_WAIT = 0.1
_MOST_NAMES = 4
# A case is reported as far below the others only if its Dice is lower by at least this much.
_LEAST_GAP = 0.05


def remarks(run: RunFolder, *, goes_on: bool = False) -> list[str]:
    """Return sentences on conspicuous results, the most serious first.

    Args:
        run: The run.
        goes_on: Leave out remarks on unfinished trainings, because they are running.
    """
    found = [*run.problems, *_not_predicted(run), *([] if goes_on else _unfinished(run)), *_broken_trainings(run)]
    for label in run.labels:
        if label:
            found += _missed(run, label)
    return [*found, *_outliers(rank_cases(run.rows)), *([] if goes_on else _courses(run)), *_waits(run)]


def _not_predicted(run: RunFolder) -> Iterator[str]:
    """Report cases of the truth without scores, because they were not predicted."""
    summary = run.summary or {}
    missing = summary.get("cases_without_prediction")
    if missing:
        yield (
            f"{len(missing)} of {len(missing) + summary['cases']} cases of the truth have no prediction and no "
            f"scores: {some_of(missing, _MOST_NAMES)}."
        )


def _unfinished(run: RunFolder) -> Iterator[str]:
    open_folds = [fold.number for fold in run.folds if not fold.finished]
    if open_folds == [None]:
        yield "The training is not finished; the same call continues it."
    elif open_folds:
        yield (
            f"{len(open_folds)} of {len(run.folds)} folds are not finished ({some_of(open_folds)}); the same call "
            "continues."
        )


def _broken_trainings(run: RunFolder) -> Iterator[str]:
    for fold in run.folds:
        losses = fold.history.get("loss", [])
        broken = [epoch for epoch, loss in enumerate(losses, start=1) if not math.isfinite(loss)]
        if broken:
            yield (
                f"{_name(fold)}: the loss was not finite from epoch {broken[0]} on. Lower the learning rate, or "
                "check the images for NaN."
                if len(broken) == len(losses) - broken[0] + 1
                else f"{_name(fold)}: the loss was not finite in {len(broken)} of {len(losses)} epochs."
            )


def _missed(run: RunFolder, label: int) -> Iterator[str]:
    """Report cases in which a class was missed completely, or found although it is absent."""
    rows = [row for row in run.rows if row["class"] == label]
    name = run.name_of(label)
    missed = [row for row in rows if _volume(row, "truth") > 0 and _volume(row, "prediction") == 0]
    invented = [row for row in rows if _volume(row, "truth") == 0 and _volume(row, "prediction") > 0]
    there = sum(_volume(row, "truth") > 0 for row in rows)
    if missed:
        yield f"{name} was not found at all in {len(missed)} of {there} cases that have it: {_cases(missed)}."
    if invented:
        yield (
            f"{name} was found in {len(invented)} of {len(rows) - there} cases without it, where its Dice is 0: "
            f"{_cases(invented)}."
        )


def _outliers(ranked: list[RankedCase]) -> Iterator[str]:
    known = [case for case in ranked if math.isfinite(case.mean)]
    if len(known) < 5:
        return
    first, third = np.percentile([case.mean for case in known], [25, 75])
    limit = first - max(1.5 * (third - first), _LEAST_GAP)
    low = [case for case in known if case.mean < limit]
    if low:
        names = some_of([f"{case.name} ({case.mean:.2f})" for case in low], _MOST_NAMES)
        yield f"Far below the others in mean Dice: {names}. Check their truth and image."


def _courses(run: RunFolder) -> Iterator[str]:
    """Report validation losses that suggest a longer or shorter training."""
    ends, falls, known = 0, 0, 0
    for fold in run.folds:
        losses = fold.history.get("val_loss", [])
        present = finite(losses)
        if len(losses) < 10 or len(present) < 10:
            continue
        known += 1
        best = int(np.nanargmin([loss if math.isfinite(loss) else math.nan for loss in losses])) + 1
        span = max(present) - min(present)
        if best > 0.9 * len(losses):
            ends += 1
        elif best < 0.4 * len(losses) and present[-1] > min(present) + 0.1 * span:
            falls += 1
    where = "" if known <= 1 else f" in {{}} of {known} folds"
    if ends:
        yield (
            f"The validation loss was still falling at the end of the training{where.format(ends)}: more "
            f"{_measure(run)} may give better scores."
        )
    if falls:
        yield (
            f"The validation loss was lowest early, and rose again while the training went on{where.format(falls)}: "
            f"more augmentation or more cases help more than more {_measure(run)}. The weights of the "
            "lowest loss were used."
        )


def _measure(run: RunFolder) -> str:
    """Return what ends the trainings: time, or a number of epochs."""
    settings = (run.record or {}).get("settings") or {}
    stopped = [fold.progress.stopped for fold in run.folds if fold.progress is not None]
    limited = any(reason is not None and reason.startswith(TIME_LIMIT) for reason in stopped)
    return "time" if limited or settings.get("minutes") is not None else "epochs"


def _waits(run: RunFolder) -> Iterator[str]:
    shares = finite(share for fold in run.folds for share in fold.history.get(WAIT, ()))
    if shares and (mean := sum(shares) / len(shares)) > _MOST_WAIT:
        yield (
            f"The training waited for data {100 * mean:.0f} % of its time: more workers, or prepare_subfunctions=True, "
            "make it faster."
        )


def _volume(row: Any, of: str) -> float:
    return next((value for key, value in row.items() if key.startswith((f"volume_{of}_", f"area_{of}_"))), math.nan)


def _cases(rows: list[Any]) -> str:
    return some_of([row["sample_id"] for row in rows], _MOST_NAMES)


def _name(fold: FoldResult) -> str:
    return "The training" if fold.number is None else f"Fold {fold.number}"
