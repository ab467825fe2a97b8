import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from miscnn_tf.errors import ConfigurationError, ModelFileError, StorageError
from miscnn_tf.neural_network.checkpoint import BestModel, restore_weights


class Dumping:
    """Writes which epoch it is in."""

    def __init__(self) -> None:
        self.epoch = 0
        self.dumps = 0
        self.breaks = False

    def dump(self, path: str) -> None:
        self.dumps += 1
        Path(path).write_text(str(self.epoch))
        if self.breaks:
            raise OSError(28, "No space left on device")


def run(callback: BestModel, network: Dumping, values: list[float], name: str = "val_loss") -> None:
    callback.on_train_begin()
    for network.epoch, value in enumerate(values):
        callback.on_epoch_end(network.epoch, {"loss": 0.0, name: value})


@pytest.mark.parametrize(
    ("mode", "values", "best", "dumps"),
    [
        ("min", [0.9, 0.5, 0.7, 0.4, 0.4, 0.6], 3, 3),
        ("max", [0.1, 0.5, 0.3, 0.5], 1, 2),
        ("min", [float("nan"), 0.5, float("-inf"), 0.6], 1, 1),
        ("min", [2.0], 0, 1),
    ],
)
def test_file_holds_the_best_epoch(tmp_path, mode, values, best, dumps):
    network = Dumping()
    callback = BestModel(network, tmp_path / "new" / "best.keras", mode=mode)
    run(callback, network, values)
    assert (tmp_path / "new" / "best.keras").read_text() == str(best)
    assert (callback.best, callback.best_epoch) == (values[best], best)
    assert network.dumps == dumps


def averaging(network, path):
    return BestModel(network, path, "val_pooled_dice", "max", momentum=0.9)


def test_the_best_epoch_of_a_moving_average_is_not_that_of_a_lucky_value(tmp_path):
    """As nnU-Net: nine tenths of the average so far, which begins with the first value."""
    network = Dumping()
    callback = averaging(network, tmp_path / "best.keras")
    callback.on_train_begin()
    values, averages = [0.5, 0.9, 0.3, float("nan"), 0.6, 0.6], []
    for network.epoch, value in enumerate(values):
        logs = {"val_pooled_dice": value}
        callback.on_epoch_end(network.epoch, logs)
        averages.append(logs["val_pooled_dice_average"])
    np.testing.assert_allclose(averages, [0.5, 0.54, 0.516, np.nan, 0.5244, 0.53196], rtol=1e-12)
    assert (callback.best, callback.best_epoch) == (averages[1], 1)
    assert (tmp_path / "best.keras").read_text() == "1"
    callback.on_epoch_end(6, {"val_pooled_dice": 0.9})
    assert callback.best_epoch == 6


@pytest.mark.parametrize("kept", [True, False])
def test_a_moving_average_goes_on_bit_for_bit_after_an_interruption(tmp_path, rng, kept):
    values = rng.random(9).tolist()
    whole, first, second = (averaging(Dumping(), tmp_path / name) for name in ("whole.keras", "a.keras", "a.keras"))
    logs = [{"val_pooled_dice": value} for value in values]
    for callback, part in ((whole, values), (first, values[:4])):
        callback.on_train_begin()
        for epoch, value in enumerate(part):
            logs[epoch] = {"val_pooled_dice": value}
            callback.on_epoch_end(epoch, logs[epoch])
    if not kept:
        (tmp_path / "a.keras").unlink()
    second.on_train_begin()
    second.set_state(json.loads(json.dumps(first.get_state())))
    for epoch, value in enumerate(values[4:], start=4):
        second.on_epoch_end(epoch, {"val_pooled_dice": value})
    assert second.get_state()["average"] == whole.get_state()["average"]
    if kept:
        assert second.get_state() == whole.get_state()


def test_the_momentum_is_checked(tmp_path):
    with pytest.raises(ConfigurationError, match=r"momentum=1 must be at least 0 and less than 1"):
        BestModel(Dumping(), tmp_path / "best.keras", momentum=1)


def test_each_training_starts_from_nothing(tmp_path):
    network = Dumping()
    callback = BestModel(network, tmp_path / "best.keras")
    run(callback, network, [0.1, 0.2])
    run(callback, network, [0.9, 0.8])
    assert (tmp_path / "best.keras").read_text() == "1"
    assert callback.best == 0.8


def test_earlier_file_stays_whole_when_writing_fails(tmp_path):
    network = Dumping()
    callback = BestModel(network, tmp_path / "best.keras")
    run(callback, network, [0.5])
    network.breaks = True
    with pytest.raises(StorageError, match=r"best\.keras"):
        callback.on_epoch_end(1, {"val_loss": 0.1})
    assert (tmp_path / "best.keras").read_text() == "0"
    assert [path.name for path in tmp_path.iterdir()] == ["best.keras"]
    # What was not written is not the best.
    assert callback.best == 0.5


def test_missing_number_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"'val_loss'.*loss"):
        BestModel(Dumping(), tmp_path / "best.keras").on_epoch_end(0, {"loss": 1.0})


def test_mode_is_checked(tmp_path):
    with pytest.raises(ConfigurationError, match="mode"):
        BestModel(Dumping(), tmp_path / "best.keras", mode="lowest")


def small_network(units: int = 2) -> SimpleNamespace:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    return SimpleNamespace(model=model, dump=model.save)


def test_best_weights_of_a_real_training_come_back(tmp_path, rng):
    network = small_network()
    images, targets = rng.random((8, 3)).astype("float32"), rng.random((8, 2)).astype("float32")
    weights = []

    class Diverge(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.1 if epoch < 2 else 30.0

        def on_epoch_end(self, epoch, logs=None):
            weights.append(self.model.get_weights())

    callback = BestModel(network, tmp_path / "best.keras")
    history = network.model.fit(
        images, targets, validation_data=(images, targets), epochs=4, verbose=0, callbacks=[callback, Diverge()]
    )
    assert callback.best_epoch == int(np.argmin(history.history["val_loss"])) < 3
    restore_weights(network, tmp_path / "best.keras")
    for found, expected in zip(network.model.get_weights(), weights[callback.best_epoch], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_weights_that_do_not_fit_or_are_damaged_are_refused(tmp_path):
    small_network(2).dump(tmp_path / "other.keras")
    with pytest.raises(ModelFileError, match=r"other\.keras"):
        restore_weights(small_network(3), tmp_path / "other.keras")
    (tmp_path / "damaged.keras").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(ModelFileError, match=r"damaged\.keras"):
        restore_weights(small_network(2), tmp_path / "damaged.keras")


def test_an_optimizer_that_made_no_step_yet_is_no_reason_to_warn(tmp_path, rng):
    network, fresh = small_network(), small_network()
    for each in (network, fresh):
        each.model.compile(optimizer="adam", loss="mse")
    network.model.fit(rng.random((8, 3)), rng.random((8, 2)), verbose=0)
    network.dump(tmp_path / "best.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restore_weights(fresh, tmp_path / "best.keras")
    for found, expected in zip(fresh.model.get_weights(), network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
