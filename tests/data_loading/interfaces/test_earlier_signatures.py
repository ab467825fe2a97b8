"""Interfaces of scripts for MIScnn 1.1 and 1.2, whose save_prediction() had no sample."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from toy import ToyInterface

from miscnn_tf import Data_IO
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.data_loading.interfaces.earlier_signatures import with_current_arguments


def with_method(method):
    """An interface of a script, and what its method was called with."""
    calls = []

    class Own(ToyInterface):
        def save_prediction(self, *arguments):
            raise NotImplementedError

    Own.save_prediction = method(calls)
    return Own(), calls


def two(calls):
    return lambda self, pred, index: calls.append((pred, index))


def three(calls):
    return lambda self, pred, i, output_path: calls.append((pred, i, str(output_path)))


def with_default(calls):
    return lambda self, pred, index, affine=None: calls.append((pred, index))


def current(calls):
    return lambda self, sample, output_path: calls.append((sample, str(output_path)))


@pytest.mark.parametrize("method", [two, three, with_default])
@pytest.mark.parametrize("activation", [False, True])
def test_earlier_arguments_work_with_a_warning(tmp_path, method, activation):
    interface, calls = with_method(method)
    data_io = Data_IO(interface, "anywhere", output_path=tmp_path / "predictions")
    sample = data_io.sample_loader(data_io.get_indiceslist()[0], load_seg=False)
    labels = (np.arange(sample.img_data[..., 0].size).reshape(sample.img_data.shape[:-1]) % interface.classes).astype(
        np.uint8
    )
    prediction = np.eye(interface.classes, dtype=np.float32)[labels] if activation else labels
    sample.add_prediction(prediction, activation_output=activation)
    with pytest.warns(
        FutureWarning, match=r"the signature \(pred, .*use \(sample, output_path\) with sample.pred_data"
    ):
        data_io.save_prediction(sample)
    ((array, index, *rest),) = calls
    np.testing.assert_array_equal(array, prediction)
    assert array.shape == prediction.shape  # without the axis of the channels
    assert index == sample.index
    assert rest == ([str(tmp_path / "predictions")] if method is three else [])


def test_todays_arguments_work_without_a_word(tmp_path):
    interface, calls = with_method(current)
    data_io = Data_IO(interface, "anywhere", output_path=tmp_path)
    sample = data_io.sample_loader(data_io.get_indiceslist()[0], load_seg=False)
    sample.add_prediction(np.zeros(sample.img_data.shape[:-1], np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data_io.save_prediction(sample)
    assert calls == [(sample, str(tmp_path))]


def test_own_interfaces_are_called_as_they_are():
    method = NIFTI_interface().save_prediction
    assert with_current_arguments(method) == method
    assert with_current_arguments(print) is print


def test_the_warning_points_to_the_definition_and_is_shown_once(tmp_path):
    interface, _ = with_method(two)
    data_io = Data_IO(interface, "anywhere", output_path=tmp_path)
    sample = data_io.sample_loader(data_io.get_indiceslist()[0], load_seg=False)
    sample.add_prediction(np.zeros(sample.img_data.shape[:-1], np.uint8))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        data_io.save_prediction(sample)
        data_io.save_prediction(sample)
    (one,) = [warning for warning in caught if warning.category is FutureWarning]
    assert one.filename == __file__
    assert one.lineno == two([]).__code__.co_firstlineno
