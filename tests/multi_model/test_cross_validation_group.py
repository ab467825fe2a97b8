import json

import numpy as np
import pytest
from own_model import Constant

from miscnn_tf.errors import ConfigurationError, ModelFileError, ModelGroupError
from miscnn_tf.evaluation import cross_validation
from miscnn_tf.evaluation.folds import make_folds
from miscnn_tf.multi_model import CrossValidationGroup, load_group
from miscnn_tf.neural_network.model import Neural_Network

SAMPLES = ["case_0", "case_1", "case_2", "case_3"]


@pytest.fixture(scope="module")
def model(make_kit):
    made = make_kit(classes=2)
    network = made.network(0, learning_rate=0.01)
    network.kit = made
    return network


@pytest.fixture
def constant(model):
    return Constant(model.preprocessor)


def weights_differ(first, second):
    return any((one != other).any() for one, other in zip(first, second, strict=True))


def test_cross_validation_group_can_be_imported():
    # In MIScnn it cannot.
    from miscnn_tf.multi_model import cross_validation_group

    assert cross_validation_group.CrossValidationGroup is CrossValidationGroup


def test_each_member_is_trained_on_its_fold(constant):
    group = CrossValidationGroup(constant, constant.preprocessor, 4)
    group.train(SAMPLES, epochs=2)
    folds = make_folds(SAMPLES, 4, seed=0)
    assert [set(model.trained_on) for model in group.models] == [set(fold.training) for fold in folds]
    assert constant.asked == []  # the members are copies
    group.evaluate(SAMPLES, epochs=2)
    assert [model.validated_on for model in group.models] == [list(fold.validation) for fold in folds]
    group.evaluate(SAMPLES[:3] + SAMPLES[3:], ["case_3"], epochs=2)
    assert [model.validated_on for model in group.models] == [["case_3"]] * 4


def test_folds_may_be_handed_in(constant):
    folds = [(["case_0", "case_1"], ["case_2"]), (["case_2"], ["case_0", "case_1"])]
    group = CrossValidationGroup(constant, constant.preprocessor, folds)
    group.train(SAMPLES[:3])
    assert [model.trained_on for model in group.models] == [["case_0", "case_1"], ["case_2"]]
    with pytest.raises(ConfigurationError, match=r"not those of the folds.*case_3"):
        group.train(SAMPLES)


@pytest.mark.parametrize("folds", [1, 0, True, 2.5, "ab", None, [("case_0", "case_1")], [["case_0"]], []])
def test_folds_that_are_none_are_refused(constant, folds):
    with pytest.raises(ConfigurationError, match="folds"):
        CrossValidationGroup(constant, constant.preprocessor, folds)


def test_a_sample_on_both_sides_is_refused(constant):
    with pytest.raises(ConfigurationError, match="'case_1' is on both sides"):
        CrossValidationGroup(constant, constant.preprocessor, [(["case_0", "case_1"], ["case_1"])])


def test_what_is_no_model_and_another_preprocessor_are_refused(model, kit):
    for wrong in ("a model", Constant):
        with pytest.raises(RuntimeError, match="is not a model"):
            CrossValidationGroup(wrong, model.preprocessor, 2)
    with pytest.raises(ModelGroupError, match="another preprocessor"):
        CrossValidationGroup(model, kit.preprocessor, 2)


def test_what_cannot_go_together_is_told(constant, tmp_path):
    group = CrossValidationGroup(constant, constant.preprocessor, 2)
    with pytest.raises(ConfigurationError, match="need an evaluation_path"):
        group.evaluate(SAMPLES, draw_figures=True)
    with pytest.raises(ConfigurationError, match="class_weight"):
        group.evaluate(SAMPLES, class_weight={0: 1}, evaluation_path=tmp_path)


@pytest.mark.slow
def test_an_interrupted_evaluation_goes_on_where_it_stopped(model, tmp_path, monkeypatch):
    trained = []
    evaluate = Neural_Network.evaluate

    def count(self, training, *arguments, **settings):
        if len(trained) == 1 and not resumed:
            raise KeyboardInterrupt
        trained.append(list(training))
        return evaluate(self, training, *arguments, **settings)

    monkeypatch.setattr(Neural_Network, "evaluate", count)
    resumed = False
    with pytest.raises(KeyboardInterrupt):
        CrossValidationGroup(model, model.preprocessor, 2).evaluate(SAMPLES, epochs=1, evaluation_path=tmp_path)
    resumed = True
    # As after a new start of the program: another group, the same call.
    group = CrossValidationGroup(model, model.preprocessor, 2)
    histories = group.evaluate(SAMPLES, epochs=1, evaluation_path=tmp_path)
    folds = make_folds(SAMPLES, 2, seed=0)
    assert [sorted(names) for names in trained] == [sorted(fold.training) for fold in folds]
    assert all({"loss", "val_loss"} <= set(history) for history in histories)
    # Each member has the weights of its fold, also the one that was trained before.
    initial = model.model.get_weights()
    first, second = (member.model.get_weights() for member in group.models)
    assert weights_differ(first, initial)
    assert weights_differ(first, second)
    written = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert written == {"fold_0", "fold_1", "run.json"}
    settings = json.loads((tmp_path / "run.json").read_text())["settings"]
    assert (settings["folds"], settings["seed"], settings["epochs"]) == (2, 0, 1)

    # A dump holds the folds, too.
    group.dump(tmp_path / "models")
    loaded = load_group(tmp_path / "models", model.kit.io)
    assert isinstance(loaded, CrossValidationGroup)
    assert [set(fold.validation) for fold in loaded.trained_folds] == [set(fold.validation) for fold in folds]
    twin = loaded.copy()
    for other in (loaded, twin):
        np.testing.assert_array_equal(
            other.predict(["case_0"], activation_output=True, return_output=True),
            group.predict(["case_0"], activation_output=True, return_output=True),
        )
    assert twin.trained_folds == loaded.trained_folds
    (file,) = (tmp_path / "models").glob("group_*/metadata.json")
    content = json.loads(file.read_text())
    content["description"]["folds"] = 3
    file.write_text(json.dumps(content))
    with pytest.raises(ModelFileError, match="2 members do not fit"):
        load_group(tmp_path / "models")


@pytest.mark.slow
def test_a_finished_cross_validation_becomes_a_group(model, tmp_path, monkeypatch):
    network = model.copy()
    cross_validation(SAMPLES, network, 2, epochs=1, evaluation_path=tmp_path)
    monkeypatch.setattr(Neural_Network, "evaluate", lambda *_, **__: pytest.fail("trained again"))
    group = CrossValidationGroup(model, model.preprocessor, 2)
    group.evaluate(SAMPLES, epochs=1, evaluation_path=tmp_path)
    # The network has the weights of the last fold.
    for found, expected in zip(group.models[1].model.get_weights(), network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_finished_folds_of_another_split_are_not_overwritten(model, tmp_path):
    folds = [(["case_0", "case_1"], ["case_2"]), (["case_2"], ["case_0", "case_1"])]
    group = CrossValidationGroup(model, model.preprocessor, folds)
    group.evaluate(SAMPLES[:3], epochs=1, evaluation_path=tmp_path, run_detailed_evaluation=True)
    assert (tmp_path / "summary.json").is_file()
    other = CrossValidationGroup(model, model.preprocessor, folds[:1] + [(["case_1"], ["case_0", "case_2"])])
    for refused in (other, CrossValidationGroup(model, model.preprocessor, folds[:1])):
        names = sorted({name for fold in refused.folds for side in (fold.training, fold.validation) for name in side})
        before = (tmp_path / "fold_1" / "sample_list.json").read_text()
        with pytest.raises(ConfigurationError, match="resume=False"):
            refused.evaluate(names, epochs=1, evaluation_path=tmp_path)
        assert (tmp_path / "fold_1" / "sample_list.json").read_text() == before
    other.evaluate(SAMPLES[:3], epochs=1, evaluation_path=tmp_path, resume=False)
    assert json.loads((tmp_path / "fold_1" / "sample_list.json").read_text())["TRAINING"] == ["case_1"]
    # Nor does anything of the run before pass for this one's.
    assert not [*tmp_path.rglob("summary.json"), *tmp_path.rglob("scores.csv")]
