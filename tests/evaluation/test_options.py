from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, fields

import pytest

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.evaluation.cross_validation import ValidationOptions, cross_validation, run_fold, split_folds
from miscnn_tf.evaluation.leave_one_out import leave_one_out
from miscnn_tf.evaluation.split_validation import split_validation

OPTIONS = [field.name for field in fields(ValidationOptions)]


def run_first_fold(sample_list, model, **arguments):
    split_folds(sample_list, 2, arguments.get("evaluation_path", "evaluation"))
    return run_fold(0, model, **arguments)


ALL = (cross_validation, split_validation, leave_one_out, run_first_fold)


@pytest.mark.parametrize("validate", ALL)
def test_all_validations_take_the_same_options(fake_model, tmp_path, validate):
    """Defect: cross_validation had class_weight and 20 parameters, run_fold 13, and neither had those of the other."""
    model, asked = fake_model(4), []
    evaluate = model.evaluate

    def weighted(*args, class_weight=None, **kwargs):
        asked.append((class_weight, kwargs["epochs"]))
        return evaluate(*args, **kwargs)

    model.evaluate = weighted
    options = ValidationOptions(epochs=2, class_weight=[1, 2, 2], report=False, backup_every=0)
    validate(list(model.truth), model, evaluation_path=tmp_path / "object", options=options)
    by_object = list(asked)
    assert by_object
    assert all(one == ([1, 2, 2], 2) for one in by_object)
    asked.clear()
    validate(
        list(model.truth), model, evaluation_path=tmp_path / "keywords",
        epochs=2, class_weight=[1, 2, 2], report=False, backup_every=0,
    )  # fmt: skip
    assert asked == by_object


@pytest.mark.parametrize("validate", ALL)
@pytest.mark.parametrize("given", [{"epochs": 3}, {"resume": False}, {"epochs": 3, "archive": True}])
def test_an_option_that_is_given_twice_is_an_error(fake_model, tmp_path, validate, given):
    model = fake_model(4)
    with pytest.raises(ConfigurationError, match=rf"got options and also {', '.join(given)}; set .* in options"):
        validate(list(model.truth), model, evaluation_path=tmp_path / "run", options=ValidationOptions(), **given)
    assert not model.calls


@pytest.mark.parametrize("validate", ALL)
def test_an_unknown_keyword_is_a_type_error(fake_model, tmp_path, validate):
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'save_model'\. Did you mean 'save_models'"):
        validate(list(fake_model(4).truth), fake_model(4), evaluation_path=tmp_path, save_model=False)


@pytest.mark.parametrize("validate", [cross_validation, split_validation, leave_one_out, run_fold])
def test_defaults_are_those_of_the_options(validate):
    """Defect: leave_one_out did not save models, and run_fold wrote no report."""
    for name, parameter in inspect.signature(validate).parameters.items():
        # MIScnn's signature of run_fold draws figures.
        if name in OPTIONS and not (validate is run_fold and name == "draw_figures"):
            assert parameter.default == getattr(ValidationOptions(), name), name
    assert len(inspect.signature(validate).parameters) <= 17


def test_options_are_values():
    options = ValidationOptions(epochs=5)
    assert options == ValidationOptions(epochs=5)
    with pytest.raises(FrozenInstanceError):
        options.epochs = 6
    with pytest.raises(TypeError):
        ValidationOptions(5)
    with pytest.raises(ConfigurationError, match="backup_every"):
        ValidationOptions(backup_every=-1)


def test_run_fold_draws_as_in_miscnn_unless_options_are_given(fake_model, tmp_path):
    model = fake_model(4)
    split_folds(list(model.truth), 2, tmp_path)
    run_fold(0, model, 1, evaluation_path=tmp_path)
    assert (tmp_path / "fold_0" / "validation.loss.png").is_file()
    run_fold(1, model, evaluation_path=tmp_path, options=ValidationOptions(epochs=1))
    assert not (tmp_path / "fold_1" / "validation.loss.png").exists()
