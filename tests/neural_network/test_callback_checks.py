"""Callbacks that cannot work are refused before the first step; so are samples on both sides named."""

from __future__ import annotations

import functools
import sys

import keras
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from miscnn_tf.errors import ConfigurationError, MissingExtraError
from miscnn_tf.neural_network.callbacks import PolynomialDecay
from miscnn_tf.neural_network.checkpoint import BestModel

CASES = [f"case_{number}" for number in range(4)]


class Steps(keras.callbacks.Callback):
    """Counts them."""

    def __init__(self):
        super().__init__()
        self.number = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.number += 1


@pytest.fixture
def network(make_tiny_network):
    return make_tiny_network(data={"shape": (12, 12)}, learning_rate=0.01)


def refused(network, callback, error, told, validation=None):
    steps = Steps()
    train = network.train if validation is None else functools.partial(network.evaluate, validation_samples=validation)
    with pytest.raises(error, match=told):
        train(CASES, epochs=1, callbacks=[callback, steps])
    assert steps.number == 0


def test_tensorboard_without_its_package_is_refused_before_the_first_step(network, tmp_path, monkeypatch):
    """Defect: it failed at the end of the first epoch."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    told = r"TensorBoard needs the package tensorboard: pip install 'miscnn_tf\[tensorboard\]'"
    refused(network, keras.callbacks.TensorBoard(str(tmp_path)), MissingExtraError, told)


def test_tensorboard_writes_loss_and_metrics(network, tmp_path):
    board = keras.callbacks.TensorBoard(str(tmp_path), histogram_freq=1)
    history = network.evaluate(CASES[:2], CASES[2:], epochs=2, callbacks=[board]).history
    for part, prefix in (("train", ""), ("validation", "val_")):
        events = EventAccumulator(str(tmp_path / part))
        events.Reload()
        assert "epoch_loss" in events.Tags()["tensors"]
        written = [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors("epoch_loss")]
        assert written == pytest.approx(history[f"{prefix}loss"], rel=1e-5)


def test_remote_monitor_without_requests_is_refused(network, monkeypatch):
    monkeypatch.setattr("miscnn_tf.neural_network.callbacks.find_spec", lambda name: None)
    refused(network, keras.callbacks.RemoteMonitor(), MissingExtraError, "RemoteMonitor needs the package requests")


@pytest.mark.parametrize(
    "callback",
    [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
        keras.callbacks.ReduceLROnPlateau("loss"),
        PolynomialDecay(),
    ],
)
def test_callbacks_that_set_the_rate_of_an_optimizer_with_a_schedule_are_refused(network, callback):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 100, 0.9)
    network.model.compile(keras.optimizers.SGD(schedule), loss=network.loss)
    refused(network, callback, ConfigurationError, f"{type(callback).__name__} sets the learning rate, but")


def test_averaged_weights_need_an_optimizer_that_averages_them(network, make_tiny_network):
    refused(network, keras.callbacks.SwapEMAWeights(), ConfigurationError, r"SwapEMAWeights needs .*use_ema=True")
    averaging = make_tiny_network(data={"shape": (12, 12)}, optimizer=keras.optimizers.Adam(0.01, use_ema=True))
    averaging.evaluate(CASES[:2], CASES[2:], epochs=1, callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)])


def test_the_best_model_by_the_validation_is_refused_where_nothing_validates(network, tmp_path):
    told = "BestModel monitors 'val_loss', but the training has no validation samples"
    refused(network, BestModel(network, tmp_path / "best.keras"), ConfigurationError, told)
    refused(
        network,
        BestModel(network, tmp_path / "best.pb"),
        ConfigurationError,
        "must end in .keras or .h5",
        validation=CASES[:1],
    )


def test_samples_that_are_trained_on_and_validated_on_are_named_in_a_warning(network, caplog):
    network.evaluate(CASES[:3], CASES[2:], epochs=1)
    assert "1 sample is in both training and validation: case_2. " in caplog.text
    caplog.clear()
    network.evaluate(CASES, CASES, epochs=1)
    assert "4 samples are in both training and validation: case_0, case_1, case_2, case_3. " in caplog.text
    caplog.clear()
    network.evaluate(CASES[:2], CASES[2:], epochs=1)
    assert "both" not in caplog.text
