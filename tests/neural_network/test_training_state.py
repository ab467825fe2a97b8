"""A training that is killed goes on as if nothing had happened."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.neural_network import hardware
from miscnn_tf.neural_network.callbacks import PolynomialDecay, TimeLimit
from miscnn_tf.neural_network.checkpoint import BestModel, TrainingState

CASES = [f"case_{number}" for number in range(4)]


class Interrupt(keras.callbacks.Callback):
    """Ends a training in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch
        self.now = -1

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch:
            raise KeyboardInterrupt


class Counter(keras.callbacks.Callback):
    """Remembers something, and can say so."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[int] = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)

    def get_state(self):
        return {"epochs": self.epochs, "array": np.array(self.epochs)}

    def set_state(self, state):
        np.testing.assert_array_equal(state["array"], state["epochs"])
        self.epochs = state["epochs"]


@pytest.fixture
def network(make_network):
    def make(seed=1, **arguments):
        data = {"shape": (12, 12), "cases": 4}
        return make_network(data=data, processing={"seed": seed}, learning_rate=0.01, seed=5, **arguments)

    return make


def without_time(history):
    return {name: values for name, values in history.history.items() if name != "data_wait"}


def callbacks(network, folder):
    return [
        keras.callbacks.EarlyStopping(patience=100, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(patience=1, min_delta=10),  # nothing is good enough: it acts at every chance
        BestModel(network, folder / "best.keras"),
    ]


def test_numbers_of_numpy_may_say_how_long(network, tmp_path):
    model = network()
    state = TrainingState(tmp_path, keep=True)
    model.train(CASES[:2], epochs=np.int64(1), iterations=np.int32(1), callbacks=[state])
    history = model.train(CASES[:2], epochs=1, iterations=1, callbacks=[TrainingState(tmp_path)])  # the same to it
    assert history.epoch == [0]
    assert not (tmp_path / "training_state.npz").exists()


def test_interrupted_training_is_as_if_it_had_not_been(network, tmp_path):
    whole = network()
    expected = whole.evaluate(CASES[:3], CASES[3:], epochs=5, callbacks=callbacks(whole, tmp_path / "whole"))

    first = network()
    with pytest.raises(KeyboardInterrupt):
        first.evaluate(
            *(CASES[:3], CASES[3:]),
            epochs=5,
            callbacks=[TrainingState(tmp_path), *callbacks(first, tmp_path), Interrupt(3)],
        )
    assert (tmp_path / "training_state.npz").is_file()
    # Another process would draw another seed, where none is given.
    second = network(seed=77)
    again = callbacks(second, tmp_path)
    history = second.evaluate(CASES[:3], CASES[3:], epochs=5, callbacks=[TrainingState(tmp_path), *again])

    assert history.epoch == expected.epoch == [0, 1, 2, 3, 4]
    for name, values in without_time(expected).items():
        np.testing.assert_allclose(history.history[name], values, rtol=1e-4, err_msg=name)
    assert len(set(history.history["learning_rate"])) > 2
    for found, wanted in zip(second.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    assert int(second.model.optimizer.iterations) == int(whole.model.optimizer.iterations) == 10
    assert second.epochs_trained == whole.epochs_trained == 5
    assert again[2].best == pytest.approx(min(history.history["val_loss"]))
    assert not (tmp_path / "training_state.npz").exists()


def test_callbacks_go_on_with_what_they_remember(network, tmp_path, caplog):
    counter, decay, limit = Counter(), PolynomialDecay(warmup_steps=3), TimeLimit(minutes=10)
    model = network()
    with pytest.raises(KeyboardInterrupt):
        model.train(CASES, epochs=3, callbacks=[TrainingState(tmp_path), counter, decay, limit, Interrupt(2)])
    rates = []
    recorder = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: rates.append(float(model.model.optimizer.learning_rate))
    )
    counter, decay, limit = Counter(), PolynomialDecay(warmup_steps=3), TimeLimit(minutes=10)
    model = network()
    model.train(CASES, epochs=3, callbacks=[TrainingState(tmp_path), counter, decay, limit, recorder])
    assert counter.epochs == [0, 1, 2]
    # Steps 5 and 6 of 6: no warm-up, and the schedule of the rate that the training began with.
    np.testing.assert_allclose(rates, [0.01 * (1 - 4 / 6) ** 0.9, 0.01 * (1 - 5 / 6) ** 0.9], rtol=1e-6)
    assert float(model.model.optimizer.learning_rate) == pytest.approx(0.01)
    assert not caplog.records


def test_a_callback_without_a_state_is_named(network, tmp_path, caplog):
    model = network()
    with pytest.raises(KeyboardInterrupt):
        model.train(CASES, epochs=2, callbacks=[TrainingState(tmp_path), Interrupt(1)])
    model.train(CASES, epochs=2, callbacks=[TrainingState(tmp_path), Interrupt(7)])
    assert "Interrupt begins anew" in caplog.text


def test_state_is_written_at_the_asked_interval_and_at_the_end(network, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(TrainingState, "_write", lambda self, done: written.append(done))
    network().train(CASES[:2], epochs=5, callbacks=[TrainingState(tmp_path, every=2)])
    assert written == [2, 4, 5]


def test_training_that_had_ended_does_no_epoch_again(network, tmp_path):
    model = network()

    def stop(epoch, logs):
        model.model.stop_training = epoch == 1

    early = keras.callbacks.LambdaCallback(on_epoch_end=stop)
    before = model.train(CASES, epochs=9, callbacks=[TrainingState(tmp_path, keep=True), early])
    assert before.epoch == [0, 1]
    again = network()
    counter = Counter()
    history = again.train(CASES, epochs=9, callbacks=[TrainingState(tmp_path, keep=True), counter])
    assert counter.epochs == []
    assert history.history == before.history
    assert again.epochs_trained == model.epochs_trained == 2
    for found, wanted in zip(again.model.get_weights(), model.model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_more_epochs_after_the_end_are_those_of_a_longer_training(network, tmp_path):
    """Defect: refused, and none of the three pieces of advice helped."""
    whole = network(seed=3)
    history = whole.train(CASES, epochs=3, callbacks=[keras.callbacks.ReduceLROnPlateau("loss")])
    network(seed=3).train(
        CASES, epochs=1, callbacks=[TrainingState(tmp_path, keep=True), keras.callbacks.ReduceLROnPlateau("loss")]
    )
    longer, counter = network(seed=3), Counter()
    callbacks = [TrainingState(tmp_path, keep=True), keras.callbacks.ReduceLROnPlateau("loss"), counter]
    found = longer.train(CASES, epochs=3, callbacks=callbacks)
    assert counter.epochs == [1, 2]
    assert found.history["loss"] == pytest.approx(history.history["loss"], rel=1e-4)
    for one, two in zip(longer.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)
    assert longer.epochs_trained == 3


def test_more_epochs_after_a_schedule_over_all_of_them_are_refused_with_the_way_on(network, tmp_path):
    network().train(CASES, epochs=1, callbacks=[TrainingState(tmp_path, keep=True), PolynomialDecay()])
    told = r"PolynomialDecay, whose .* it cannot go on to 2\. .*epochs=1.*--continue-from"
    with pytest.raises(ConfigurationError, match=told):
        network().train(CASES, epochs=2, callbacks=[TrainingState(tmp_path, keep=True), PolynomialDecay()])


@pytest.mark.parametrize("change", ["samples", "epochs", "batch_size", "learning_rate"])
def test_state_of_another_training_is_never_taken_up(network, tmp_path, change):
    model = network()
    model.train(CASES[:2], epochs=2, callbacks=[TrainingState(tmp_path, keep=True)])
    content = (tmp_path / "training_state.npz").read_bytes()
    if change == "batch_size":
        model.preprocessor.batch_size = 1
    if change == "learning_rate":
        model.learning_rate = 0.5
    with pytest.raises(ConfigurationError, match=rf"training_state\.npz.* other {change}"):
        model.train(
            CASES[: 3 if change == "samples" else 2],
            epochs=1 if change == "epochs" else 2,
            callbacks=[TrainingState(tmp_path)],
        )
    assert (tmp_path / "training_state.npz").read_bytes() == content


def weighted(y_true, y_pred, weight=1.0):
    return weight * keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)


def test_settings_bound_to_a_loss_or_metric_are_noticed(network, tmp_path):
    def made(loss=2.0, metric=3.0):
        bound = functools.partial(weighted, weight=metric)
        bound.__name__ = "bound"
        return network(loss=functools.partial(weighted, weight=loss), metrics=[bound])

    made().train(CASES[:3], epochs=1, callbacks=[TrainingState(tmp_path, keep=True)])
    with pytest.raises(ConfigurationError, match="it had other loss"):
        made(loss=2.5).train(CASES[:3], epochs=1, callbacks=[TrainingState(tmp_path)])
    with pytest.raises(ConfigurationError, match="it had other metrics"):
        made(metric=3.5).train(CASES[:3], epochs=1, callbacks=[TrainingState(tmp_path)])
    made().train(CASES[:3], epochs=1, callbacks=[TrainingState(tmp_path)])


def test_damaged_file_is_named(network, tmp_path):
    for content in (b"", b"PK\x03\x04 half a file"):
        (tmp_path / "training_state.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"training_state\.npz.*delete it"):
            network().train(CASES[:2], epochs=1, callbacks=[TrainingState(tmp_path)])


def test_no_pickle_is_read(network, tmp_path):
    np.savez(tmp_path / "training_state.npz", description=np.array([{"format": 1}], dtype=object))
    with pytest.raises(DataError, match="pickle"):
        network().train(CASES[:2], epochs=1, callbacks=[TrainingState(tmp_path)])


def test_misuse_is_told(network, tmp_path):
    with pytest.raises(ConfigurationError, match="every"):
        TrainingState(tmp_path, every=0)
    with pytest.raises(ConfigurationError, match="more than one"):
        network().train(CASES, epochs=1, callbacks=[TrainingState(tmp_path / "a"), TrainingState(tmp_path / "b")])
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    with pytest.raises(ConfigurationError, match=r"not in fit\(\)"):
        model.fit(np.zeros((2, 1)), np.zeros((2, 1)), verbose=0, callbacks=[TrainingState(tmp_path)])


TRAIN = """
    import json, os, signal, sys
    import numpy as np
    sys.path.insert(0, sys.argv[1])
    from toy import ToyInterface
    import keras
    from miscnn_tf import Data_IO, Neural_Network, Preprocessor
    from miscnn_tf.neural_network.architecture.unet.standard import Architecture
    from miscnn_tf.neural_network.callbacks import PolynomialDecay
    from miscnn_tf.neural_network.checkpoint import BestModel, TrainingState
    from miscnn_tf.neural_network.metrics import PooledDice, dice_soft

    folder, kill_in = sys.argv[2], int(sys.argv[3])
    io = Data_IO(ToyInterface(shape=(12, 12), cases=4), "toy", batch_path=folder + "/batches")
    preprocessor = Preprocessor(io, 2, patch_shape=(8, 8), seed=3)
    network = Neural_Network(
        preprocessor, Architecture(n_filters=4, depth=1), learning_rate=0.01, precision="float32", deterministic=True,
        metrics=[dice_soft, PooledDice(2)], validation_batches=3, best_by="val_pooled_dice",
    )
    network.verbose = 0

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch
        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == kill_in:
                os.kill(os.getpid(), signal.SIGKILL)

    names = io.get_indiceslist()
    history = network.evaluate(
        names[:3], names[3:], epochs=6, callbacks=[
            Kill(), TrainingState(folder), PolynomialDecay(), BestModel(network, folder + "/best.keras"),
            network.best_model(folder + "/average.keras"),
        ],
    )
    history.history.pop("data_wait")
    with open(folder + "/result.json", "w") as file:
        json.dump({name: [float(value).hex() for value in values] for name, values in history.history.items()}, file)
    moments = [keras.ops.convert_to_numpy(one) for one in network.model.optimizer.variables]
    np.savez(folder + "/weights.npz", *network.model.get_weights(), *moments)
"""


def run(folder: Path, kill_in: int) -> int:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", textwrap.dedent(TRAIN), str(Path(__file__).parents[1]), str(folder), str(kill_in)]
    done = subprocess.run(command, check=False, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()[-3000:]
    return done.returncode


@pytest.mark.slow
def test_killed_training_equals_an_uninterrupted_one_to_the_last_bit(tmp_path):
    assert run(tmp_path / "whole", -1) == 0
    assert run(tmp_path / "killed", 2) == -signal.SIGKILL
    assert not (tmp_path / "killed" / "result.json").exists()
    assert run(tmp_path / "killed", 4) == -signal.SIGKILL
    assert run(tmp_path / "killed", -1) == 0
    whole, killed = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "killed"))
    assert killed == whole
    assert len(whole["val_loss"]) == len(whole["val_pooled_dice_average"]) == 6
    with np.load(tmp_path / "whole" / "weights.npz") as a, np.load(tmp_path / "killed" / "weights.npz") as b:
        assert a.files == b.files
        assert len(a.files) > 30
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("began", ["mixed_bfloat16", "float32"])
def test_an_interrupted_training_goes_on_in_its_precision(network, tmp_path, monkeypatch, began):
    """Defect: "auto" measured again, and could choose another precision for the rest of the training."""
    others = {"mixed_bfloat16": "float32", "float32": "mixed_bfloat16"}

    def trained(*precisions):
        for precision, more in precisions:
            monkeypatch.setattr(hardware, "_cpu_precision", lambda *_, precision=precision: (precision, "measured"))
            one = network(precision="auto")
            assert one.hardware.precision == precision
            try:
                one.train(CASES, epochs=2, callbacks=[TrainingState(tmp_path), *more])
            except KeyboardInterrupt:
                continue
        return one

    whole = trained((began, []))
    resumed = trained((began, [Interrupt(1)]), (others[began], []))
    assert resumed.hardware.precision == resumed.model.dtype_policy.name == began
    assert f"continued in {began}" in repr(resumed)
    assert resumed.model.layers[1].compute_dtype == whole.model.layers[1].compute_dtype
    for ours, expected in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)
