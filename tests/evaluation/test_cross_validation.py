import csv
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import miscnn_tf.evaluation.cross_validation as cv
from miscnn_tf.errors import ConfigurationError, MissingDataError, TrainingError
from miscnn_tf.evaluation import cross_validation
from miscnn_tf.evaluation.cross_validation import load_disk2fold, run_fold, split_folds
from miscnn_tf.runs.run_record import read_run_record

#: Files that tell when and where a run was.
TOLD = ("run.json", "report.html", "progress.json")


def names(model) -> list[str]:
    return list(model.truth)


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file, delimiter="\t"))


def test_every_way_to_import_it_works():
    from miscnn_tf.evaluation.cross_validation import cross_validation as function

    assert cv is cross_validation
    assert cv.cross_validation is function
    assert callable(cross_validation)
    assert cross_validation.split_folds is split_folds
    assert pickle.loads(pickle.dumps(cross_validation)) is cross_validation


def test_signature_is_that_of_the_function():
    import inspect

    parameters = inspect.signature(cross_validation).parameters
    assert list(parameters)[:11] == [
        "sample_list", "model", "k_fold", "epochs", "iterations", "evaluation_path", "draw_figures",
        "run_detailed_evaluation", "callbacks", "save_models", "return_output",
    ]  # fmt: skip
    assert (parameters["k_fold"].default, parameters["epochs"].default) == (3, 20)
    assert parameters["evaluation_path"].default == "evaluation"


def test_import_does_not_load_tensorflow():
    code = "import sys, miscnn_tf.evaluation; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_each_sample_validates_exactly_once(fake_model, tmp_path):
    model = fake_model(8)
    cross_validation(names(model), model, k_fold=3, epochs=3, evaluation_path=tmp_path)
    validated = [name for call in model.calls for name in call["validation"]]
    assert sorted(validated) == names(model)
    for call in model.calls:
        assert sorted([*call["training"], *call["validation"]]) == names(model)


def test_results_lie_where_they_should(fake_model, tmp_path):
    model = fake_model()
    result = cross_validation(
        names(model), model, k_fold=2, epochs=3, evaluation_path=str(tmp_path), run_detailed_evaluation=True,
        draw_figures=True,
    )  # fmt: skip
    assert result is None
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"fold_0", "fold_1", "run.json", "scores.csv", "scores.png", "summary.json", "report.html"}
    for number, folder in enumerate(sorted(tmp_path.glob("fold_*"))):
        assert {path.name for path in folder.iterdir()} == {
            "sample_list.json", "history.tsv", "model.keras", "validation.loss.png", "detailed_validation.tsv",
            "scores.csv", "scores.png", "summary.json", "predictions", "completed.json", "progress.json",
        }  # fmt: skip
        split = json.loads((folder / "sample_list.json").read_text())
        assert split == {"TRAINING": model.calls[number]["training"], "VALIDATION": model.calls[number]["validation"]}
        table = rows(folder / "history.tsv")
        assert table[0] == ["epoch", "loss", "val_loss"]
        assert [row[0] for row in table[1:]] == ["1", "2", "3"]
        assert [float(row[2]) for row in table[1:]] == [0.9, 0.5, 0.7]
        scores = rows(folder / "detailed_validation.tsv")
        assert scores[0] == ["sample_id", "dice_class-0", "dice_class-1", "dice_class-2"]
        assert [row[0] for row in scores[1:]] == split["VALIDATION"]


def test_without_models_nothing_of_them_stays(fake_model, tmp_path):
    model = fake_model()
    arguments = {"k_fold": 2, "epochs": 3, "save_models": False}
    cross_validation(names(model), model, evaluation_path=tmp_path / "a", run_detailed_evaluation=True, **arguments)
    cross_validation(names(model), model, evaluation_path=tmp_path / "b", **arguments)
    assert not list(tmp_path.rglob("*.keras"))
    # The Dice is the best epoch's all the same.
    assert {row[1] for row in rows(tmp_path / "a" / "fold_1" / "detailed_validation.tsv")[1:]} == {"1.0"}


def test_best_model_not_the_last_is_evaluated(fake_model, tmp_path):
    model = fake_model(val_losses=(0.9, 0.2, 0.5, 0.4))
    cross_validation(names(model), model, 2, 4, evaluation_path=tmp_path, run_detailed_evaluation=True)
    for folder in sorted(tmp_path.glob("fold_*")):
        assert json.loads((folder / "model.keras").read_text()) == {"weight": 1}
        assert all(set(row[1:]) == {"1.0"} for row in rows(folder / "detailed_validation.tsv")[1:])
    assert model.weight == 1


def test_callers_lists_are_never_changed(fake_model, tmp_path):
    model, callbacks = fake_model(), []
    samples = names(model)[::-1]
    before = list(samples)
    cross_validation(samples, model, epochs=1, evaluation_path=tmp_path, callbacks=callbacks)
    cross_validation(samples, model, epochs=1, evaluation_path=tmp_path / "default")
    assert samples == before
    assert callbacks == []
    assert [len(call["callbacks"]) for call in model.calls] == [2] * 6


def test_callers_callbacks_run_in_each_fold(fake_model, tmp_path):
    import keras

    seen = []
    recorder = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    model = fake_model()
    cross_validation(names(model), model, 2, 3, evaluation_path=tmp_path, callbacks=[recorder])
    assert seen == [0, 1, 2, 0, 1, 2]


def test_each_fold_starts_afresh(fake_model, tmp_path):
    model = fake_model()
    model.weight = 17
    model.learning_rate = 0.02
    cross_validation(names(model), model, 3, 2, evaluation_path=tmp_path)
    assert [call["weight"] for call in model.calls] == [None] * 3
    # The rate that was asked for last, not the constructor's.
    assert [call["rate"] for call in model.calls] == [0.02] * 3


def test_histories_are_returned_on_request(fake_model, tmp_path):
    model = fake_model()
    arguments = {"k_fold": 3, "epochs": 2, "evaluation_path": tmp_path, "return_output": True}
    histories = cross_validation(names(model), model, **arguments)
    assert histories == [{"loss": [1.0, 0.5], "val_loss": [0.9, 0.5]}] * 3
    assert cross_validation(names(model), model, **arguments) == histories


def test_iterations_reach_the_training(fake_model, tmp_path):
    model = fake_model()
    cross_validation(names(model), model, 2, 5, 7, tmp_path)
    assert [(call["epochs"], call["iterations"]) for call in model.calls] == [(5, 7)] * 2


def test_interrupted_cross_validation_goes_on_where_it_stopped(fake_model, tmp_path):
    model = fake_model()
    model.fail_in_call = 2
    arguments = {"k_fold": 3, "epochs": 3, "evaluation_path": tmp_path, "run_detailed_evaluation": True}
    with pytest.raises(KeyboardInterrupt):
        cross_validation(names(model), model, **arguments)
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "fold_0").iterdir()}
    again = fake_model()
    # The order of the list does not matter: the data folder may be listed otherwise tomorrow.
    cross_validation(names(again)[::-1], again, **arguments)
    assert len(again.calls) == 2
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "fold_0").iterdir()} == finished
    whole = fake_model()
    cross_validation(names(whole), whole, **{**arguments, "evaluation_path": tmp_path / "whole"})
    for path in (tmp_path / "whole").rglob("*"):
        if path.is_file() and path.name not in TOLD:
            assert path.read_bytes() == (tmp_path / path.relative_to(tmp_path / "whole")).read_bytes()


def test_finished_training_is_not_lost_when_its_evaluation_fails(fake_model, tmp_path, monkeypatch):
    model = fake_model()
    arguments = {
        "k_fold": 2, "epochs": 3, "evaluation_path": tmp_path, "run_detailed_evaluation": True, "save_models": False,
    }  # fmt: skip
    monkeypatch.setattr(model, "predict", lambda *_, **__: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        cross_validation(names(model), model, **arguments)
    again = fake_model()
    cross_validation(names(again), again, **arguments)
    assert len(again.calls) == 1
    assert {row[1] for row in rows(tmp_path / "fold_0" / "detailed_validation.tsv")[1:]} == {"1.0"}
    assert not list(tmp_path.rglob("*.keras"))


def test_detailed_evaluation_can_be_asked_for_later(fake_model, tmp_path):
    model = fake_model()
    cross_validation(names(model), model, 2, 3, evaluation_path=tmp_path)
    cross_validation(names(model), model, 2, 3, evaluation_path=tmp_path, run_detailed_evaluation=True)
    assert len(model.calls) == 2
    assert sorted(model.predicted) == names(model)


def test_model_that_was_not_kept_is_trained_again(fake_model, tmp_path):
    model = fake_model()
    cross_validation(names(model), model, 2, 3, evaluation_path=tmp_path, save_models=False)
    cross_validation(names(model), model, 2, 3, evaluation_path=tmp_path)
    assert len(model.calls) == 4
    assert len(list(tmp_path.rglob("model.keras"))) == 2


@pytest.mark.parametrize("change", ["k_fold", "more folds", "epochs", "samples", "seed", "learning_rate"])
def test_finished_results_of_another_run_are_never_mixed_in(fake_model, tmp_path, change):
    model = fake_model()
    arguments = {"k_fold": 3, "epochs": 3, "evaluation_path": tmp_path}
    cross_validation(names(model), model, **arguments)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    samples = names(model)
    if change == "samples":
        samples = samples[:-1]
    elif change == "learning_rate":
        model.learning_rate = 0.5
    else:
        changes = {"k_fold": {"k_fold": 2}, "more folds": {"k_fold": 5}, "epochs": {"epochs": 4}, "seed": {"seed": 9}}
        arguments |= changes[change]
    with pytest.raises(ConfigurationError, match=r"fold_\d.*resume=False"):
        cross_validation(samples, model, **arguments)
    assert len(model.calls) == 3
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    cross_validation(samples, model, **arguments, resume=False)
    assert len(model.calls) == 3 + arguments["k_fold"]
    assert len(list(tmp_path.glob("fold_*"))) == arguments["k_fold"]


def test_unfinished_results_of_another_split_are_replaced(fake_model, tmp_path):
    model = fake_model()
    split_folds(names(model), k_fold=5, evaluation_path=tmp_path)
    cross_validation(names(model), model, 2, 1, evaluation_path=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fold_0", "fold_1", "report.html", "run.json"]


def test_files_of_others_are_left_alone(fake_model, tmp_path):
    model = fake_model()
    split_folds(names(model), k_fold=5, evaluation_path=tmp_path)
    for name in ("fold_4/notes.txt", "fold_0/notes.txt", "fold_x/notes.txt", "fold_7"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    cross_validation(names(model), model, 2, 1, evaluation_path=tmp_path, resume=False)
    for name in ("fold_4/notes.txt", "fold_0/notes.txt", "fold_x/notes.txt", "fold_7"):
        assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k_fold": 1}, "k_fold"),
        ({"k_fold": 8}, "k_fold"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": 2.5}, "epochs"),
        ({"iterations": 0}, "iterations"),
        ({"callbacks": "x"}, "callbacks"),
        ({"callbacks": 3}, "callbacks"),
        ({"sample_list": "case_000"}, "sample_list"),
        ({"sample_list": ["case_000", "case_000", "case_001"]}, "more than once"),
        ({"sample_list": ["case_000", "other"]}, "'other'"),
        ({"model": ["case_000"]}, "Neural_Network"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(fake_model, tmp_path, change, message):
    model = fake_model()
    arguments = {"sample_list": names(model), "model": model, "evaluation_path": tmp_path / "results", **change}
    with pytest.raises(ConfigurationError, match=message):
        cross_validation(**arguments)
    assert not model.calls
    assert not (tmp_path / "results").exists()


def test_nan_is_never_the_best_epoch(fake_model, tmp_path):
    model = fake_model(val_losses=(float("nan"), 0.9, float("nan")))
    histories = cross_validation(names(model), model, 2, 3, evaluation_path=tmp_path, return_output=True)
    assert json.loads((tmp_path / "fold_0" / "model.keras").read_text()) == {"weight": 1}
    np.testing.assert_array_equal(histories[0]["val_loss"], [np.nan, 0.9, np.nan])
    # Standard JSON, without NaN.
    json.loads((tmp_path / "fold_0" / "completed.json").read_text(), parse_constant=pytest.fail)
    again = cross_validation(names(model), model, 2, 3, evaluation_path=tmp_path, return_output=True)
    np.testing.assert_array_equal(again[0]["val_loss"], [np.nan, 0.9, np.nan])


def test_fold_without_any_number_is_an_error_and_not_finished(fake_model, tmp_path):
    model = fake_model(val_losses=(float("nan"),))
    with pytest.raises(TrainingError, match="val_loss"):
        cross_validation(names(model), model, 2, 2, evaluation_path=tmp_path)
    assert (tmp_path / "fold_0" / "history.tsv").is_file()
    assert not (tmp_path / "fold_0" / "completed.json").exists()


def test_folds_one_by_one_are_the_cross_validation(fake_model, tmp_path):
    model = fake_model()
    cross_validation(names(model), model, 3, 3, evaluation_path=tmp_path / "whole")
    split_folds(names(model), 3, evaluation_path=tmp_path / "parts")
    for number in (2, 0, 1):
        history = run_fold(number, fake_model(), 3, evaluation_path=tmp_path / "parts", draw_figures=False)
        assert history["val_loss"] == [0.9, 0.5, 0.7]
    for path in (tmp_path / "whole").rglob("*"):
        if path.is_file() and path.name not in TOLD:
            assert path.read_bytes() == (tmp_path / "parts" / path.relative_to(tmp_path / "whole")).read_bytes()
    training, validation = load_disk2fold(tmp_path / "parts" / "fold_2" / "sample_list.json")
    assert sorted([*training, *validation]) == names(model)


def test_folds_one_by_one_gather_their_scores(fake_model, tmp_path):
    split_folds(names(fake_model()), 3, evaluation_path=tmp_path)
    for finished, number in enumerate((2, 0, 1), start=1):
        run_fold(number, fake_model(), 3, None, tmp_path, draw_figures=False, run_detailed_evaluation=True)
        assert json.loads((tmp_path / "summary.json").read_text())["folds"] == finished


def test_splitting_again_keeps_finished_folds_of_the_same_split_only(fake_model, tmp_path):
    model = fake_model()
    split_folds(names(model), 3, tmp_path)
    run_fold(1, model, 1, evaluation_path=tmp_path, draw_figures=False)
    split_folds(names(model), 3, tmp_path)
    run_fold(1, model, 1, evaluation_path=tmp_path, draw_figures=False)
    assert len(model.calls) == 1
    for other in ({"k_fold": 2}, {"seed": 5}):
        with pytest.raises(ConfigurationError, match="fold_1"):
            split_folds(names(model), evaluation_path=tmp_path, **other)
    split_folds(names(model), 2, tmp_path, resume=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fold_0", "fold_1"]
    assert not list(tmp_path.rglob("completed.json"))


def test_missing_fold_is_named(fake_model, tmp_path):
    split_folds(["case_000", "case_001"], 2, tmp_path)
    with pytest.raises(MissingDataError, match=r"no fold 2.*\[0, 1\]"):
        run_fold(2, fake_model(), evaluation_path=tmp_path)
    with pytest.raises(MissingDataError, match="none"):
        run_fold(0, fake_model(), evaluation_path=tmp_path / "elsewhere")


def test_patients_stay_together_and_strata_are_shared_out(fake_model, tmp_path):
    model = fake_model(12)
    arguments = {
        "groups": {name: int(name[-3:]) // 2 for name in names(model)},
        "strata": lambda name: "rare" if int(name[-3:]) < 6 else "common",
    }
    cross_validation(names(model), model, 3, 1, evaluation_path=tmp_path, **arguments)
    for call in model.calls:
        assert sorted(int(name[-3:]) // 2 for name in call["validation"])[::2] == sorted(
            {int(name[-3:]) // 2 for name in call["validation"]}
        )
        assert sum(int(name[-3:]) < 6 for name in call["validation"]) == 2
    # The same folds for machines that run one each.
    split_folds(names(model)[::-1], 3, tmp_path / "parts", **arguments)
    for number, call in enumerate(model.calls):
        split = load_disk2fold(tmp_path / "parts" / f"fold_{number}" / "sample_list.json")
        assert split == (call["training"], call["validation"])


@pytest.mark.parametrize("backup_every", [-1, 0.5, "1", None])
def test_interval_of_backups_is_checked(fake_model, tmp_path, backup_every):
    model = fake_model()
    with pytest.raises(ConfigurationError, match="backup_every"):
        cross_validation(names(model), model, evaluation_path=tmp_path, backup_every=backup_every)


def test_what_was_run_is_recorded_and_drawn(fake_model, tmp_path):
    model = fake_model()
    cross_validation(
        names(model), model, 2, 3, 5, tmp_path, run_detailed_evaluation=True, seed=4, groups=lambda name: name
    )  # fmt: skip
    record = read_run_record(tmp_path)
    assert record["kind"] == "cross-validation"
    expected = {"folds": 2, "seed": 4, "grouped": True, "stratified": False, "epochs": 3, "iterations": 5}
    assert {name: record["settings"][name] for name in expected} == expected
    page = (tmp_path / "report.html").read_text()
    assert "2-fold cross-validation of 7 cases" in page
    assert sorted(path.stem for path in tmp_path.rglob("predictions/*.npy")) == names(model)
    # Of another run nothing stays.
    other = fake_model()
    cross_validation(
        names(other), other, 2, 3, evaluation_path=tmp_path, resume=False, run_detailed_evaluation=True, report=False,
        save_predictions=False,
    )  # fmt: skip
    assert not (tmp_path / "report.html").exists()
    assert not list(tmp_path.rglob("predictions"))
    assert read_run_record(tmp_path)["settings"]["seed"] == 0


def test_an_interrupted_run_says_already_what_it_is(fake_model, tmp_path):
    model = fake_model()
    model.fail_in_call = 1
    with pytest.raises(KeyboardInterrupt):
        cross_validation(names(model), model, 3, 3, evaluation_path=tmp_path)
    assert read_run_record(tmp_path)["settings"]["folds"] == 3


def test_the_page_costs_no_result(fake_model, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("miscnn_tf.report.run_page.render_page", lambda *_, **__: 1 / 0)
    model = fake_model()
    histories = cross_validation(names(model), model, 2, 3, evaluation_path=tmp_path, return_output=True)
    assert len(histories) == 2
    assert "ZeroDivisionError" in caplog.text


def test_folds_one_by_one_record_what_was_run_and_draw_on_request(fake_model, tmp_path):
    model = fake_model()
    split_folds(names(model), 3, evaluation_path=tmp_path)
    run_fold(1, model, 3, evaluation_path=tmp_path, draw_figures=False, report=False)
    assert read_run_record(tmp_path)["settings"]["epochs"] == 3
    assert not (tmp_path / "report.html").exists()
    run_fold(0, model, 3, evaluation_path=tmp_path, draw_figures=False)
    assert "1 of 3 folds are not finished (2)" in (tmp_path / "report.html").read_text()


def test_class_weights_reach_each_training_and_belong_to_its_settings(fake_model, tmp_path):
    model, asked = fake_model(4), []
    evaluate = model.evaluate

    def weighted(*args, class_weight=None, **kwargs):
        asked.append(class_weight)
        return evaluate(*args, **kwargs)

    model.evaluate = weighted
    names = list(model.truth)
    arguments = {"k_fold": 2, "epochs": 1, "evaluation_path": tmp_path, "report": False}
    cross_validation(names, model, **arguments, class_weight=[1, 2, 2])
    assert asked == [[1, 2, 2]] * 2
    with pytest.raises(ConfigurationError, match="class_weight was"):
        cross_validation(names, model, **arguments)


def test_of_several_machines_the_first_one_writes_the_splits(fake_model, tmp_path, become_second_worker):
    become_second_worker()
    split_folds(names(fake_model()), 3, tmp_path / "evaluation")
    assert not (tmp_path / "evaluation").exists()
    with pytest.raises(ConfigurationError, match="k_fold"):
        split_folds(names(fake_model()), 1, tmp_path / "evaluation")


def test_a_fold_waits_until_the_first_machine_has_written_the_splits(
    fake_model, tmp_path, become_second_worker, monkeypatch
):
    become_second_worker()
    model = fake_model()

    def together(act, numbers=tuple):
        with monkeypatch.context() as first:  # which does this meanwhile
            first.delenv("TF_CONFIG")
            split_folds(names(model), 3, tmp_path)
        return act(), np.array([numbers()])

    model.together = together
    assert run_fold(1, model, 2, evaluation_path=tmp_path)["val_loss"] == [0.9, 0.5]
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"sample_list.json"}
