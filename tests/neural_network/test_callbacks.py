from __future__ import annotations

import time

import keras
import numpy as np
import pytest

from miscnn_tf.errors import ConfigurationError, TrainingError
from miscnn_tf.neural_network import callbacks
from miscnn_tf.neural_network.callbacks import PolynomialDecay, TimeLimit


class Rates(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))


def test_the_rate_follows_the_epochs_down_to_zero_and_is_given_back(make_tiny_network):
    network = make_tiny_network(data={"cases": 4}, learning_rate=0.01)
    rates = Rates()
    network.train([f"case_{i}" for i in range(4)], epochs=5, callbacks=[PolynomialDecay(power=0.9), rates])
    expected = 0.01 * (1 - np.arange(10) / 10) ** 0.9
    np.testing.assert_allclose(rates.rates, expected, rtol=1e-5)
    assert float(network.model.optimizer.learning_rate) == pytest.approx(0.01)


def test_the_rate_follows_what_ends_first_of_epochs_and_time(make_tiny_network):
    network = make_tiny_network(data={"cases": 4}, learning_rate=0.01)
    rates = Rates()
    network.train([f"case_{i}" for i in range(4)], epochs=5, callbacks=[PolynomialDecay(minutes=1000), rates])
    np.testing.assert_allclose(rates.rates, 0.01 * (1 - np.arange(10) / 10) ** 0.9, rtol=1e-5)


def test_the_rate_rises_during_warm_up(make_tiny_network):
    network = make_tiny_network(data={"cases": 2}, learning_rate=0.01)
    rates = Rates()
    network.train(["case_0"], epochs=4, iterations=5, callbacks=[PolynomialDecay(warmup_steps=4), rates])
    assert rates.rates[0] == pytest.approx(0.0025)
    assert rates.rates[:4] == sorted(rates.rates[:4])
    assert rates.rates[4:] == sorted(rates.rates[4:], reverse=True)


def test_training_ends_when_its_time_is_up_and_the_rate_with_it(make_tiny_network, monkeypatch):
    network = make_tiny_network(data={"cases": 2}, learning_rate=0.01)
    now = {"seconds": 0.0}
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now["seconds"])

    class TenSecondsPerStep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            now["seconds"] += 10

    rates = Rates()
    # Two minutes are twelve steps.
    network.train(
        ["case_0", "case_1"],
        epochs=1000,
        iterations=5,
        callbacks=[TenSecondsPerStep(), TimeLimit(2), PolynomialDecay(power=1.0, minutes=2), rates],
    )
    np.testing.assert_allclose(rates.rates, 0.01 * (1 - np.arange(12) / 12), rtol=1e-5)


@pytest.mark.parametrize("minutes", [0, -1, float("nan")])
def test_impossible_times_are_refused(minutes):
    with pytest.raises(ConfigurationError, match="minutes"):
        TimeLimit(minutes)
    with pytest.raises(ConfigurationError, match="minutes"):
        PolynomialDecay(minutes=minutes)


def nan_where_class_one_is_absent(y_true, y_pred):
    volume = keras.ops.sum(y_true[..., 1], axis=(1, 2, 3))
    return keras.ops.mean(y_pred, axis=(1, 2, 3, 4)) * volume / volume


def test_a_loss_that_is_no_number_stops_the_training_and_names_the_samples(make_tiny_network):
    network = make_tiny_network(
        data={"cases": 4, "shape": (8, 8, 8), "empty": ("case_3",)}, loss=nan_where_class_one_is_absent
    )
    network.preprocessor.data_augmentation = None
    network.shuffle_batches = False
    with pytest.raises(TrainingError, match=r"case_2.*case_3") as caught:
        network.train([f"case_{i}" for i in range(4)], epochs=2)
    assert "case_0" not in str(caught.value)
    assert "epoch 1, step 2" in str(caught.value)


def test_the_time_spent_waiting_for_data_is_shown_every_epoch(make_tiny_network):
    network = make_tiny_network(data={"cases": 3})
    history = network.train(["case_0", "case_1", "case_2"], epochs=3)
    assert len(history.history["data_wait"]) == 3
    assert all(0 <= share <= 1 for share in history.history["data_wait"])
    original = network.preprocessor.prepare_sample_subfunctions

    def late(index, training=True, **options):
        time.sleep(0.1)
        return original(index, training, **options)

    network.preprocessor.prepare_sample_subfunctions = late
    assert network.train(["case_0", "case_1"], epochs=1, iterations=10).history["data_wait"][0] > 0.3


def test_the_rate_at_the_start_of_each_epoch_is_that_of_nnunet(make_tiny_network):
    """``PolyLRScheduler``: ``initial_lr * (1 - epoch / epochs) ** 0.9``; ours goes on falling within the epoch."""

    class OfEpochs(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.values = []

        def on_train_batch_begin(self, batch, logs=None):
            if batch == 0:
                self.values.append(float(self.model.optimizer.learning_rate))

    network, rates, initial = make_tiny_network(learning_rate=0.01), OfEpochs(), 0.01
    network.train(["case_0"], epochs=5, iterations=3, callbacks=[PolynomialDecay(power=0.9), rates])
    np.testing.assert_allclose(rates.values, [initial * (1 - epoch / 5) ** 0.9 for epoch in range(5)], rtol=1e-6)
