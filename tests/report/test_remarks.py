from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from miscnn_tf.report.remarks import remarks
from miscnn_tf.runs.run_folder import FoldResult, RunFolder
from miscnn_tf.runs.training_progress import TIME_LIMIT, TrainingProgress


def run_of(*histories, rows=(), finished=True, numbered=True):
    folds = tuple(
        FoldResult(number if numbered else None, Path("x"), history, 3, 1, finished, Path("x"))
        for number, history in enumerate(histories)
    )
    return RunFolder(Path("x"), "cross-validation", None, folds, list(rows), None, [])


def row(name, dice, truth=1.0, prediction=1.0, label=1):
    return {
        "sample_id": name,
        "class": label,
        "dice": dice,
        "volume_truth_ml": truth,
        "volume_prediction_ml": prediction,
    }


FALLING = [1 / (epoch + 1) for epoch in range(20)]


def test_nothing_conspicuous_is_no_remark():
    middle = [*FALLING[:15], *[FALLING[14] + 0.001] * 5]
    rows = [row(f"c{number}", 0.9 + number / 1000) for number in range(10)]
    assert remarks(run_of({"loss": FALLING, "val_loss": middle, "data_wait": [0.01] * 20}, rows=rows)) == []


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (run_of({}, {}, finished=False), "2 of 2 folds are not finished (0, 1)"),
        (run_of({}, finished=False, numbered=False), "The training is not finished"),
        (run_of({"loss": [1.0, float("nan"), float("nan")]}), "Fold 0: the loss was not finite from epoch 2 on"),
        (run_of({"loss": [1.0, float("inf"), 0.5]}), "in 1 of 3 epochs"),
        (run_of({"val_loss": FALLING}), "still falling at the end of the training: more epochs"),
        (
            run_of({"val_loss": FALLING}, {"val_loss": FALLING[::-1]}),
            "still falling at the end of the training in 1 of 2 f",
        ),
        (run_of({"val_loss": [1.0, 0.2, *[0.5 + epoch / 50 for epoch in range(18)]]}), "lowest early, and rose again"),
        (run_of({"data_wait": [0.5, 0.3]}), "waited for data 40 % of its time"),
        (
            run_of(rows=[row("a", 0.0, prediction=0.0), row("b", 0.9)]),
            "class 1 was not found at all in 1 of 2 cases that have it: a.",
        ),
        (run_of(rows=[row("a", 0.0, truth=0.0), row("b", 0.9)]), "class 1 was found in 1 of 1 cases without it"),
        (
            run_of(rows=[*(row(f"c{n}", 0.9) for n in range(9)), row("odd", 0.3)]),
            "Far below the others in mean Dice: odd (0.30)",
        ),
    ],
)
def test_what_is_conspicuous_is_said(run, said):
    assert any(said in remark for remark in remarks(run)), remarks(run)


def test_few_or_similar_cases_have_no_outliers():
    assert remarks(run_of(rows=[row("a", 0.9), row("b", 0.2)])) == []
    assert remarks(run_of(rows=[*(row(f"c{n}", 0.9) for n in range(9)), row("d", 0.88)])) == []


def test_a_training_with_a_time_limit_needs_more_time():
    """Defect: more epochs were advised after a training that the time limit had ended."""
    limited = replace(run_of({"val_loss": FALLING}), record={"settings": {"minutes": 5}})
    assert any("more time may give better scores" in remark for remark in remarks(limited))
    ended = TrainingProgress(20, 10_000, 1.0, None, f"{TIME_LIMIT} of 5 min was reached in epoch 20.", "")
    run = run_of({"val_loss": FALLING})
    run = replace(run, folds=(replace(run.folds[0], progress=ended),))
    assert any("more time may give better scores" in remark for remark in remarks(run))
