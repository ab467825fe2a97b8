import json

import pytest

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.evaluation import split_validation
from miscnn_tf.runs.run_record import read_run_record


def test_module_and_function_are_one():
    from miscnn_tf.evaluation.split_validation import split_validation as function

    assert split_validation.split_validation is function


def test_split_validation_empties_no_list_of_the_caller(fake_model, tmp_path):
    model, callbacks = fake_model(10), []
    samples = list(model.truth)
    split_validation(samples, model, 0.3, epochs=2, evaluation_path=tmp_path, callbacks=callbacks)
    assert samples == list(model.truth)
    assert callbacks == []
    assert len(model.calls) == 1
    assert len(model.calls[0]["validation"]) == 3
    assert sorted([*model.calls[0]["training"], *model.calls[0]["validation"]]) == samples


def test_save_models_saves_the_best(fake_model, tmp_path):
    model = fake_model(val_losses=(0.4, 0.1, 0.3))
    split_validation(list(model.truth), model, epochs=3, evaluation_path=tmp_path, save_models=True)
    assert json.loads((tmp_path / "model.keras").read_text()) == {"weight": 1}
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.keras", "history.tsv", "sample_list.json", "completed.json", "progress.json", "run.json", "report.html",
    }  # fmt: skip


def test_history_is_returned_on_request(fake_model, tmp_path):
    model = fake_model()
    arguments = {"epochs": 2, "evaluation_path": tmp_path}
    assert split_validation(list(model.truth), model, **arguments) is None
    history = split_validation(list(model.truth), model, **arguments, return_output=True)
    assert history == {"loss": [1.0, 0.5], "val_loss": [0.9, 0.5]}
    assert len(model.calls) == 1


def test_detailed_evaluation_and_figures(fake_model, tmp_path):
    model = fake_model()
    split_validation(
        list(model.truth), model, epochs=3, evaluation_path=tmp_path, run_detailed_evaluation=True, draw_figures=True
    )
    assert (tmp_path / "validation.loss.png").is_file()
    assert sorted(model.predicted) == sorted(model.calls[0]["validation"])
    assert sorted(path.stem for path in tmp_path.glob("predictions/*.npy")) == sorted(model.predicted)
    record = read_run_record(tmp_path)
    assert record["kind"] == "training"
    assert record["settings"]["validation_share"] == 0.2
    assert "Training, validated on 1 case" in (tmp_path / "report.html").read_text()


def test_page_and_predictions_only_where_wanted(fake_model, tmp_path):
    model = fake_model()
    arguments = {"epochs": 3, "evaluation_path": tmp_path, "run_detailed_evaluation": True}
    split_validation(list(model.truth), model, **arguments, report=False, save_predictions=False)
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "predictions").exists()


def test_figures_of_the_scores_may_be_asked_for_later(fake_model, tmp_path):
    model = fake_model()
    arguments = {"epochs": 3, "evaluation_path": tmp_path, "run_detailed_evaluation": True}
    split_validation(list(model.truth), model, **arguments)
    assert not (tmp_path / "scores.png").exists()
    predicted = list(model.predicted)
    split_validation(list(model.truth), model, **arguments, draw_figures=True)
    assert (tmp_path / "scores.png").is_file()
    assert model.predicted == predicted
    assert len(model.calls) == 1


def test_finished_results_of_another_split_are_not_overwritten(fake_model, tmp_path):
    model = fake_model()
    split_validation(list(model.truth), model, epochs=1, evaluation_path=tmp_path)
    with pytest.raises(ConfigurationError, match="resume=False"):
        split_validation(list(model.truth), model, 0.5, epochs=1, evaluation_path=tmp_path)
    split_validation(list(model.truth), model, 0.5, epochs=1, evaluation_path=tmp_path, resume=False)
    assert len(model.calls) == 2


@pytest.mark.parametrize("percentage", [0, 1, 30])
def test_share_is_checked_before_anything_is_written(fake_model, tmp_path, percentage):
    model = fake_model()
    with pytest.raises(ConfigurationError, match="percentage"):
        split_validation(list(model.truth), model, percentage, evaluation_path=tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_patients_stay_together_and_strata_are_shared_out(fake_model, tmp_path):
    model = fake_model(12)
    split_validation(
        *(list(model.truth), model, 1 / 3, 1),
        evaluation_path=tmp_path,
        groups=lambda name: int(name[-3:]) // 2,
        strata={name: int(name[-3:]) < 6 for name in model.truth},
    )
    (call,) = model.calls
    numbers = [int(name[-3:]) for name in call["validation"]]
    assert len(numbers) == 4
    assert sum(number < 6 for number in numbers) == 2
    assert all((number ^ 1) in numbers for number in numbers)


def test_a_group_is_refused_before_anything_is_written(tmp_path):
    class Group:
        def evaluate(self): ...
        def predict(self): ...
        def reset(self): ...

    with pytest.raises(ConfigurationError, match="Group without learning_rate"):
        split_validation(["a", "b"], Group(), evaluation_path=tmp_path / "evaluation")
    assert not (tmp_path / "evaluation").exists()
