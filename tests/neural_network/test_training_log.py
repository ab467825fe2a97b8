"""Why a training ended, and the fold in Keras' progress bar."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from miscnn_tf.neural_network import callbacks
from miscnn_tf.neural_network.callbacks import TimeLimit
from miscnn_tf.neural_network.training_log import EpochBar, TrainingLog, shown_logs, with_epoch_bar
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
    both = with_epoch_bar([limit])
    assert [type(one) for one in both] == [TimeLimit, EpochBar]
    fit(model, both, 2, verbose=2)
    shown = [line for line in capsys.readouterr().out.splitlines() if "Epoch" in line]
    assert shown == ["Epoch 1, 30.0 of 30 minutes left", "Epoch 2, 30.0 of 30 minutes left"]
    fold = EpochBar(0, 5)
    assert with_epoch_bar([limit, fold]) == [limit, fold]
    fit(model, [limit, fold], 2, verbose=2)
    assert "Fold 1/5 - Epoch 2, 30.0 of 30 minutes left" in capsys.readouterr().out
    mine = keras.callbacks.ProgbarLogger()
    assert with_epoch_bar([limit, mine]) == [limit, mine]
    (bar,) = with_epoch_bar([], ["background", "kidney"])
    assert (type(bar), bar.limit, bar.class_names) == (EpochBar, None, ["background", "kidney"])


NAMES = ["background", "kidney", "tumour", "cyst", "vein", "artery"]

NOT_FOUND = {1: math.nan, 2: 0.8, 3: 0.5}


def logs_of(classes, **others):
    dice = {f"{prefix}dice_class-{label}": label / 10 for prefix in ("", "val_") for label in range(1, classes)}
    soft = {"dice_soft": 0.3, "val_dice_soft": 0.3}
    return {"loss": 0.5, "val_loss": 0.6, **soft, "learning_rate": 1e-3, **dice, **others}


def test_a_line_shows_what_a_person_reads():
    assert shown_logs(logs_of(4, data_wait=0.02), NAMES) == {
        "loss": 0.5, "val_loss": 0.6, "val Dice kidney": 0.1, "tumour": 0.2, "cyst": 0.3
    }  # fmt: skip
    many = shown_logs(logs_of(6, data_wait=0.25), NAMES)
    assert many["val Dice mean"] == pytest.approx(0.3)
    assert many["lowest, kidney"] == 0.1
    assert many["share of time waiting for data"] == 0.25
    assert len(many) == 5
    # In the middle of an epoch there is no validation yet; without names the class has its number.
    assert shown_logs({"loss": 1.0, "dice_class-1": 0.4}) == {"loss": 1.0, "Dice 1": 0.4}
    # Logs without a better name stay: two classes without ClassDice, and the metrics of users.
    assert shown_logs({"dice_soft": 0.7, "mine": 1.0}) == {"dice_soft": 0.7, "mine": 1.0}


def test_the_pooled_dice_takes_the_place_of_the_mean():
    pooled = {"pooled_dice": 0.7, "val_pooled_dice": 0.65, "val_pooled_dice_average": 0.6}
    assert shown_logs({**logs_of(3), **pooled}, NAMES) == {
        "loss": 0.5, "val_loss": 0.6, "val Dice pooled": 0.65, "kidney": 0.1, "tumour": 0.2
    }  # fmt: skip
    more = shown_logs({**logs_of(4), **pooled}, NAMES)
    assert more == {"loss": 0.5, "val_loss": 0.6, "val Dice pooled": 0.65, "lowest, kidney": 0.1}
    assert shown_logs({"loss": 1.0, "pooled_dice": 0.7, "dice_class-1": 0.4}) == {
        "loss": 1.0, "Dice pooled": 0.7, "1": 0.4
    }  # fmt: skip
    # Pooled Dice of single classes come before means over patches; that of a class that did not occur is NaN.
    both = {**logs_of(4), **pooled, **{f"val_pooled_dice_class-{label}": one for label, one in NOT_FOUND.items()}}
    assert shown_logs(both, NAMES) == {
        "loss": 0.5, "val_loss": 0.6, "val Dice pooled": 0.65, "lowest, cyst": 0.5
    }  # fmt: skip
    alone = {"loss": 1.0, "pooled_dice": 0.7, "pooled_dice_class-1": 0.7}
    assert shown_logs({**alone, "val_pooled_dice": 0.6, "val_pooled_dice_class-1": 0.6}, NAMES) == {
        "loss": 1.0, "val Dice kidney": 0.6
    }  # fmt: skip
    # Without a Dice of single classes, that of the validation stays.
    assert shown_logs({"loss": 1.0, **pooled}) == {"loss": 1.0, "val_pooled_dice": 0.65}


def test_classes_of_one_name_are_all_shown():
    """Defect: of two classes with one name the line had one, and the mean of many left it out."""
    names = ["background", "node", "node", "loss"]
    assert shown_logs({"loss": 1.0, **{f"dice_class-{label}": label / 10 for label in (1, 2, 3)}}, names) == {
        "loss": 1.0, "Dice node": 0.1, "node (2)": 0.2, "loss (3)": 0.3
    }  # fmt: skip
    many = {f"dice_class-{label}": label / 10 for label in range(1, 6)}
    assert shown_logs(many, ["background", *["node"] * 5]) == {"Dice mean": pytest.approx(0.3), "lowest, node": 0.1}


def test_a_line_of_three_classes_has_at_most_120_columns(model, capsys):
    class Values(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs.update(logs_of(4, loss=0.5))

    fit(model, [Values(), *with_epoch_bar([], NAMES)], 1, verbose=2)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "kidney" in line]
    assert len(line) <= 120
    assert "dice_soft" not in line


def test_a_time_limit_for_few_steps_is_a_warning(model, caplog, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: clock[0])
    for seconds, warns in ((5.0, True), (0.1, False)):
        limit = TimeLimit(minutes=1)
        caplog.clear()
        clock[0] = 0.0
        limit.on_train_begin()
        for _ in range(2):
            for step in range(4):
                clock[0] += 30 if clock[0] == 0 else seconds  # the first step compiles
                limit.set_model(model)
                limit.on_train_batch_end(step)
            limit.on_epoch_end(0)
        expected = (
            "the time limit of 1 min leaves about 7 training steps, and the result will be poor; give more minutes, "
            "at least about 29"
        )
        assert [record.message for record in caplog.records] == [expected] * warns
    model.stop_training = False
