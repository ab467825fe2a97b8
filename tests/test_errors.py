"""The errors keep the built-in class that a caller would expect, and print their message and nothing else."""

from __future__ import annotations

import pickle

import pytest

from miscnn_tf import errors


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ConfigurationError, ValueError),
        (errors.UnknownClassError, errors.ConfigurationError),
        (errors.DataError, ValueError),
        (errors.MissingDataError, FileNotFoundError),
        (errors.MissingDataError, errors.DataError),
        (errors.GridError, errors.DataError),
        (errors.LabelError, errors.DataError),
        (errors.StorageError, OSError),
        (errors.FolderInUseError, errors.StorageError),
        (errors.ModelFileError, ValueError),
        (errors.MissingExtraError, ImportError),
        (errors.TrainingError, RuntimeError),
        (errors.ModelGroupError, RuntimeError),
        (errors.ModelGroupError, errors.ConfigurationError),
    ],
)
def test_each_error_is_caught_as_the_built_in_one(error: type[Exception], builtin: type[Exception]) -> None:
    with pytest.raises(builtin, match=r"^the file x is gone; restore it$") as caught:
        raise error("the file x is gone; restore it")
    assert isinstance(caught.value, errors.MiscnnError)
    assert str(caught.value) == "the file x is gone; restore it"


def test_an_error_without_a_message_prints_nothing() -> None:
    assert str(errors.MissingDataError()) == str(errors.StorageError()) == ""


def test_a_repeated_warning_comes_whole_out_of_another_process() -> None:
    warning = pickle.loads(pickle.dumps(errors.RepeatedWarning("a: Body is left out", ("Body",))))
    assert (str(warning), warning.key) == ("a: Body is left out", ("Body",))
