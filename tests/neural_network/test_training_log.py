"""Why a training ended, and the fold in Keras' progress bar."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from miscnn_tf.neural_network.callbacks import TimeLimit
from miscnn_tf.neural_network.training_log import EpochBar, TrainingLog, with_epoch_bar
from miscnn_tf.runs.tables import read_history
from miscnn_tf.runs.training_progress import read_progress


class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            self.model.stop_training = True


@pytest.fixture(scope="module")
def model():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def fit(model, callbacks, epochs=4, verbose=0):
    x = np.zeros((2, 1), np.float32)
    return model.fit(x, x, validation_data=(x, x), epochs=epochs, callbacks=callbacks, verbose=verbose)


@pytest.mark.parametrize(
    ("others", "reason", "epochs"),
    [
        ([], "All 4 epochs are trained.", 4),
        ([keras.callbacks.EarlyStopping(patience=2)], "val_loss did not improve for 2 epochs (early stopping).", 3),
        ([TimeLimit(minutes=1e-9)], "The time limit of 1e-09 min was reached in epoch 1.", 1),
        ([TimeLimit(minutes=60), Stop()], "A callback ended the training after epoch 2.", 2),
    ],
    ids=["all", "early stopping", "time", "another callback"],
)
def test_the_reason_of_the_end(model, tmp_path, others, reason, epochs):
    log = TrainingLog(tmp_path, 4, others)
    history = fit(model, [*others, log])
    log.finish()
    progress = read_progress(tmp_path)
    assert progress.stopped == reason
    assert progress.epoch == epochs
    assert read_history(tmp_path / "history.tsv") == history.history


def test_the_time_limit_bounds_the_remaining_time(model, tmp_path):
    limit = TimeLimit(minutes=1)
    log = TrainingLog(tmp_path, 10**6, [limit])
    limit.on_train_begin()
    assert 50 < log.seconds_until_limit() <= 60
    assert TrainingLog(tmp_path, 4).seconds_until_limit() is None


@pytest.mark.parametrize(
    ("epochs", "expected"), [(2, ["Fold 2/5 - Epoch 1/2", "Fold 2/5 - Epoch 2/2"]), (1, ["Fold 2/5"])]
)
def test_the_fold_is_in_the_progress_bar(model, capsys, epochs, expected):
    fit(model, [EpochBar(1, 5)], epochs, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "Fold" in line] == expected
    assert sum("step" in line for line in lines) == epochs  # one bar per epoch, not two
    fit(model, [EpochBar(1, 5)], verbose=0)
    assert capsys.readouterr().out == ""


def test_a_training_with_a_time_limit_shows_the_remaining_time(model, capsys):
    """Defect: it showed "Epoch 1/1000000"."""
    limit = TimeLimit(minutes=30)
    callbacks = with_epoch_bar([limit])
    assert [type(one) for one in callbacks] == [TimeLimit, EpochBar]
    fit(model, callbacks, 2, verbose=2)
    shown = [line for line in capsys.readouterr().out.splitlines() if "Epoch" in line]
    assert shown == ["Epoch 1, 30.0 of 30 minutes left", "Epoch 2, 30.0 of 30 minutes left"]
    fold = EpochBar(0, 5)
    assert with_epoch_bar([limit, fold]) == [limit, fold]
    fit(model, [limit, fold], 2, verbose=2)
    assert "Fold 1/5 - Epoch 2, 30.0 of 30 minutes left" in capsys.readouterr().out
    mine = keras.callbacks.ProgbarLogger()
    assert with_epoch_bar([limit, mine]) == [limit, mine]
    assert with_epoch_bar([]) == []
