from __future__ import annotations

import json
import math
import shutil

import pytest

from miscnn_tf.errors import DataError, MissingDataError
from miscnn_tf.runs.run_folder import read_run_folder
from miscnn_tf.runs.tables import read_history


def test_all_that_a_cross_validation_left_is_read(make_run):
    run = read_run_folder(make_run(settings={"epochs": 4}))
    assert run.kind == "cross-validation"
    assert [fold.number for fold in run.folds] == [0, 1]
    assert (run.folds[0].training, run.folds[0].validation) == (4, 4)
    assert run.folds[1].history["val_dice_soft"] == [0.1, 0.3, 0.2, 0.4]
    assert math.isnan(run.folds[0].history["loss"][2])
    assert all(fold.finished for fold in run.folds)
    assert len(run.rows) == 8 * 3
    assert {row["fold"] for row in run.rows} == {0, 1}
    assert run.summary["cases"] == 8
    assert "dice" in run.summary["settings"]["definitions"]
    assert run.name_of(1) == "organ"
    assert run.name_of(7) == "class 7"
    assert run.predictions_of(1) == run.folder / "fold_1" / "predictions"
    assert run.problems == []


def test_a_fold_alone_is_a_training_that_knows_what_was_run(make_run):
    run = read_run_folder(make_run() / "fold_1")
    assert run.kind == "training"
    assert [fold.number for fold in run.folds] == [None]
    assert run.name_of(2) == "lesion"
    assert len(run.rows) == 4 * 3
    assert run.predictions_of(None) == run.folder / "predictions"


def test_an_interrupted_cross_validation_has_the_scores_of_its_finished_folds(make_run):
    folder = make_run()
    for name in ("scores.csv", "summary.json"):
        (folder / name).unlink()
    for name in ("scores.csv", "history.tsv", "completed.json"):
        (folder / "fold_1" / name).unlink()
    run = read_run_folder(folder)
    assert [fold.finished for fold in run.folds] == [True, False]
    assert run.folds[1].history == {}
    assert {row["fold"] for row in run.rows} == {0}
    assert run.summary["cases"] == 4


@pytest.mark.parametrize("name", ["run.json", "scores.csv", "fold_0/history.tsv", "fold_1/sample_list.json"])
def test_a_damaged_file_is_told_and_the_rest_is_there(make_run, name):
    folder = make_run()
    (folder / name).write_text('{"a\x00": [\nb\t1\n')
    run = read_run_folder(folder)
    assert len(run.problems) == 1
    assert name.rpartition("/")[2] in run.problems[0]
    assert len(run.folds) == 2


def test_a_run_without_scores_history_and_record(make_run):
    run = read_run_folder(make_run(scores=False, history=None, record=False))
    assert (run.rows, run.summary, run.record) == ([], None, None)
    assert run.kind == "cross-validation"
    assert not any(fold.finished for fold in run.folds)


def test_predictions_elsewhere(make_run, tmp_path):
    folder = make_run()
    shutil.rmtree(folder / "fold_0"), shutil.rmtree(folder / "fold_1")
    content = json.loads((folder / "run.json").read_text())
    for place, expected in ((str(tmp_path / "p"), tmp_path / "p"), ("found", folder / "found")):
        (folder / "run.json").write_text(json.dumps({**content, "kind": "evaluation", "predictions": place}))
        run = read_run_folder(folder)
        assert run.kind == "evaluation"
        assert run.predictions_of(None) == expected


def test_what_is_no_run_is_refused_with_a_hint(make_run, tmp_path):
    make_run()
    with pytest.raises(MissingDataError, match=r"not the folder of a run.*It holds folders of runs: run\."):
        read_run_folder(tmp_path)
    with pytest.raises(MissingDataError, match="does not exist"):
        read_run_folder(tmp_path / "nothing")
    with pytest.raises(MissingDataError, match="is a file"):
        read_run_folder(tmp_path / "run" / "run.json")


def test_history_is_checked(tmp_path):
    path = tmp_path / "history.tsv"
    path.write_text("epoch\tloss\tval_loss\n1\t0.5\t\n2\tinf\tnan\n")
    history = read_history(path)
    assert history["loss"] == [0.5, math.inf]
    assert all(map(math.isnan, history["val_loss"]))
    path.write_text("epoch\tloss\n1\tmuch\n")
    with pytest.raises(DataError, match=r"history\.tsv"):
        read_history(path)
    path.write_text("")
    assert read_history(path) == {}
