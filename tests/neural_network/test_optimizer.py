"""The optimizer that the user chose is the one that trains, everywhere."""

from __future__ import annotations

import json
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import fold_workers
import keras
import numpy as np
import pytest

import miscnn_tf
from miscnn_tf.errors import ConfigurationError, ModelFileError
from miscnn_tf.evaluation import cross_validation
from miscnn_tf.neural_network.callbacks import PolynomialDecay
from miscnn_tf.neural_network.checkpoint import TrainingState
from miscnn_tf.neural_network.optimizer import OptimizerRecipe, known_optimizers

CASES = [f"case_{number}" for number in range(4)]
SMALL = {"data": {"shape": (12, 12)}}


def sgd(**settings):
    return keras.optimizers.SGD(**{"learning_rate": 0.02, "momentum": 0.8, "clipnorm": 0.5, **settings})


def is_the_same(optimizer):
    return (type(optimizer), optimizer.momentum, optimizer.clipnorm) == (keras.optimizers.SGD, 0.8, 0.5)


def rate(network):
    return pytest.approx(float(network.model.optimizer.learning_rate))


class Rates(keras.callbacks.Callback):
    """The rate of each step."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(np.asarray(self.model.optimizer.learning_rate)))


@keras.saving.register_keras_serializable(package="tests")
class Slow(keras.optimizers.SGD):
    """A class of the user's own."""

    def __init__(self, factor=0.5, **settings):
        super().__init__(**settings)
        self.factor = factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Forgetful(keras.optimizers.SGD):
    """Its configuration lacks an argument."""

    def __init__(self, factor, **settings):
        super().__init__(**settings)


def test_an_optimizer_object_is_cloned_and_trains_with_its_own_rate(make_network):
    given = sgd()
    network = make_network(optimizer=given, **SMALL)
    assert is_the_same(network.optimizer)
    assert network.optimizer is not given
    assert network.learning_rate == 0.02
    rates = Rates()
    network.train(CASES, epochs=1, callbacks=[rates])
    assert rates.rates == pytest.approx([0.02] * 2)
    # What Keras does by hand, from the same weights and batches.
    other = make_network(**SMALL)
    other.model.compile(sgd(), loss=other.loss)
    other.train(CASES, epochs=1)
    for one, two in zip(network.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_adam_is_the_default_and_gives_the_same_bits_by_name_and_as_object(make_network):
    networks = [
        make_network(learning_rate=0.01, **SMALL),
        make_network(learning_rate=0.01, optimizer="adam", **SMALL),
        make_network(optimizer=keras.optimizers.Adam(0.01), **SMALL),
    ]
    for network in networks:
        network.train(CASES, epochs=1)
        assert network.settings_beyond_defaults() == {}
    for weights in zip(*(network.model.get_weights() for network in networks), strict=True):
        np.testing.assert_array_equal(weights[0], weights[1])
        np.testing.assert_array_equal(weights[0], weights[2])


# One of each kind; the slow run trains with all.
@pytest.mark.parametrize(
    "name",
    [
        one if one in ("adafactor", "muon", "sgd") else pytest.param(one, marks=pytest.mark.slow)
        for one in sorted(known_optimizers())
    ],
)
def test_each_of_keras_optimizers_trains_by_its_name(make_network, name):
    network = make_network(optimizer=name, learning_rate=0.01, **SMALL)
    history = network.train(CASES[:2], epochs=1, iterations=1)
    assert type(network.optimizer).__name__.lower() == name
    assert np.isfinite(history.history["loss"]).all()
    description = json.loads(json.dumps(network.settings_beyond_defaults()["optimizer"]))
    assert type(OptimizerRecipe.of_description(description, {}).make(0.1)) is type(network.optimizer)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"optimizer": "sdg"}, "the optimizer 'sdg' is unknown. Did you mean 'sgd'"),
        ({"optimizer": keras.optimizers.SGD}, "add parentheses to the class"),
        ({"optimizer": 3}, "optimizer must be a Keras optimizer or the name of one, got 3"),
        (
            {"optimizer": sgd(), "learning_rate": 0.5},
            r"learning_rate=0\.5 differs from the learning rate 0\.02 of the optimizer",
        ),
        ({"optimizer": Forgetful(1)}, "cannot be rebuilt from its configuration"),
        (
            {"optimizer": sgd(learning_rate=keras.optimizers.schedules.ExponentialDecay(0.01, 100, 0.9))},
            "PolynomialDecay",
        ),
    ],
)
def test_an_optimizer_that_cannot_work_is_refused_when_the_network_is_made(make_network, arguments, told):
    with pytest.raises(ConfigurationError, match=told):
        make_network(**SMALL, **arguments)


def test_the_rate_of_the_users_own_compile_wins(make_network):
    """Defect: train reset it to the network's without a word."""
    network = make_network(learning_rate=0.001, **SMALL)
    network.train(CASES, epochs=1)
    network.model.compile(sgd(), loss=network.loss)
    rates = Rates()
    network.train(CASES, epochs=1, callbacks=[rates])
    assert rates.rates == pytest.approx([0.02] * 2)
    assert network.learning_rate == 0.02
    network.learning_rate = 0.003
    network.train(CASES, epochs=1, callbacks=[rates])
    assert rates.rates[2:] == pytest.approx([0.003] * 2)
    assert is_the_same(network.optimizer)


def test_a_rate_that_is_set_on_the_optimizer_itself_wins(make_network):
    network = make_network(learning_rate=0.001, **SMALL)
    network.train(CASES, epochs=1)
    network.model.optimizer.learning_rate = 0.005
    rates = Rates()
    network.train(CASES, epochs=1, callbacks=[rates])
    assert rates.rates == pytest.approx([0.005] * 2)
    network.reset()
    assert network.learning_rate == 0.001


def test_a_rate_that_a_callback_leaves_behind_does_not_win(make_network):
    class Lower(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 1e-6

    network = make_network(learning_rate=0.001, **SMALL)
    network.train(CASES, epochs=1, callbacks=[Lower()])
    rates = Rates()
    network.train(CASES, epochs=1, callbacks=[rates])
    assert rates.rates == pytest.approx([0.001] * 2)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("how", ["copy", "reset", "file", "load"])
def test_copies_reset_and_model_files_keep_the_optimizer(make_network, tmp_path, how, compiled):
    """Defect: all of them used Adam."""
    network = make_network(**SMALL, **({} if compiled else {"optimizer": sgd()}))
    if compiled:
        network.model.compile(sgd(), loss=network.loss)
    network.train(CASES, epochs=1)
    network.dump(tmp_path / "model.keras")
    if how == "copy":
        other = network.copy()
    elif how == "reset":
        other = network
        network.reset()
    elif how == "file":
        other = miscnn_tf.load_model(tmp_path / "model.keras", network.preprocessor.data_io)
    else:
        other = network
        network.load(tmp_path / "model.keras")
    other.verbose = 0
    assert is_the_same(other.optimizer)
    assert int(other.optimizer.iterations) == (2 if how in ("file", "load") else 0)
    assert other.learning_rate == 0.02
    rates = Rates()
    other.train(CASES, epochs=1, callbacks=[rates])
    assert rates.rates == pytest.approx([0.02] * 2)


def test_a_training_goes_on_from_a_file_with_the_momentum_it_had(make_network, tmp_path):
    network = make_network(optimizer=sgd(), **SMALL)
    network.train(CASES, epochs=1)
    network.dump(tmp_path / "model.keras")
    other = miscnn_tf.load_model(tmp_path / "model.keras", network.preprocessor.data_io)
    for one, two in zip(network.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.array(one), np.array(two))
    # Of another optimizer, and be it with as many variables, nothing is taken.
    adam = make_network(optimizer=keras.optimizers.Adagrad(0.01), **SMALL)
    adam.load(tmp_path / "model.keras")
    assert int(adam.optimizer.iterations) == 0


def test_weights_are_read_whatever_optimizer_the_file_was_trained_with(make_network, tmp_path):
    """Defect: Keras also reads the optimizer: here of as many variables as the network's, but of other shapes."""
    network = make_network(optimizer=keras.optimizers.Adafactor(0.01), **SMALL)
    network.train(CASES, epochs=1)
    network.dump(tmp_path / "model.keras")
    other = make_network(optimizer=keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True), **SMALL)
    other.train(CASES, epochs=1)
    other.load(tmp_path / "model.keras")
    for one, two in zip(network.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert isinstance(other.optimizer, keras.optimizers.RMSprop)


def test_an_optimizer_of_ones_own_is_kept_in_model_files(make_network, tmp_path):
    network = make_network(optimizer=Slow(0.25, learning_rate=0.01), **SMALL)
    network.dump(tmp_path / "model.keras")
    loaded = miscnn_tf.load_model(tmp_path / "model.keras").optimizer
    assert isinstance(loaded, Slow)
    assert loaded.factor == 0.25


@pytest.mark.parametrize(
    "description",
    [
        {"class_name": "Unknown", "config": {}},
        {"class_name": "system", "config": {"command": "true"}},
        {"class_name": "SGD", "config": {"learning_rate": {"module": "os", "class_name": "system", "config": {}}}},
        {"class_name": "SGD", "config": {"no_such_setting": 1}},
        {"class_name": "SGD", "config": {"momentum": {"class_name": "system"}}},
        {"class_name": "SGD", "config": {"momentum": [["os"], {}]}},
    ],
)
def test_an_optimizer_that_is_not_known_here_does_not_keep_a_file_from_predicting(
    make_network, tmp_path, caplog, description
):
    network = make_network(optimizer=sgd(), **SMALL)
    network.dump(tmp_path / "model.keras")
    with_optimizer(tmp_path / "model.keras", tmp_path / "other.keras", description)
    loaded = miscnn_tf.load_model(tmp_path / "other.keras")
    assert "Further training would use Adam" in caplog.text
    assert isinstance(loaded.optimizer, keras.optimizers.Adam)
    assert loaded.predict_array(np.zeros((12, 12), np.float32)).shape == (12, 12)


@pytest.mark.parametrize("description", [{"class_name": 3, "config": {}}, {"class_name": "SGD", "config": []}, [], 1])
def test_a_description_of_an_optimizer_of_another_type_is_damage(make_network, tmp_path, description):
    make_network(optimizer=sgd(), **SMALL).dump(tmp_path / "model.keras")
    with_optimizer(tmp_path / "model.keras", tmp_path / "other.keras", description)
    with pytest.raises(ModelFileError, match=r"other\.keras is damaged: optimizer.* must be"):
        miscnn_tf.load_model(tmp_path / "other.keras")


def with_optimizer(path, other, description):
    """A copy of a model file whose description has another optimizer."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["miscnn_tf.json"] = json.dumps(json.loads(members["miscnn_tf.json"]) | {"optimizer": description}).encode()
    with zipfile.ZipFile(other, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_folds_keep_the_optimizer_and_count_it_among_their_settings(make_network, tmp_path):
    network = make_network(optimizer=sgd(), **SMALL)
    seen = []

    class Seen(Rates):
        def on_train_begin(self, logs=None):
            seen.append(self.model.optimizer)

    rates = Seen()
    cross_validation(CASES, network, 2, 1, 1, tmp_path, callbacks=[rates])
    assert [is_the_same(one) for one in seen] == [True, True]
    assert seen[0] is not seen[1]
    assert rates.rates == pytest.approx([0.02] * 2)
    with pytest.raises(ConfigurationError, match=r"optimizer was \{'class_name': 'SGD', .*, now None"):
        cross_validation(CASES, make_network(learning_rate=0.02, **SMALL), 2, 1, 1, tmp_path)


def test_folds_keep_the_optimizer_that_the_user_compiled_with_a_schedule(make_network, tmp_path):
    network = make_network(**SMALL)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.04, 1, 0.5)
    network.model.compile(keras.optimizers.SGD(schedule), loss=network.loss)
    rates = Rates()
    cross_validation(CASES, network, 2, 1, 2, tmp_path, callbacks=[rates])
    assert rates.rates == pytest.approx([0.02, 0.01] * 2)


def test_folds_in_other_processes_keep_the_optimizer(tmp_path):
    by_executor = fold_workers.network(tmp_path, optimizer=sgd(learning_rate=0.01))
    here = fold_workers.network(tmp_path, optimizer=sgd(learning_rate=0.01))
    cross_validation(CASES, here, 2, 1, 2, tmp_path / "here", report=False)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        cross_validation(CASES, by_executor, 2, 1, 2, tmp_path / "there", executor=pool, report=False)
    for fold in ("fold_0", "fold_1"):
        one, two = (fold_workers.weights(tmp_path / place / fold / "model.keras") for place in ("here", "there"))
        for first, second in zip(one, two, strict=True):
            np.testing.assert_allclose(first, second, atol=1e-5)


def test_an_interrupted_training_goes_on_with_the_same_optimizer(make_network, tmp_path):
    def train(folder, epochs, network=None):
        network = network or make_network(optimizer=sgd(), seed=2, **SMALL)
        network.train(CASES, epochs=epochs, callbacks=[TrainingState(folder, keep=True)])
        return network

    whole = train(tmp_path / "whole", 2)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    first = make_network(optimizer=sgd(), seed=2, **SMALL)
    with pytest.raises(KeyboardInterrupt):
        first.train(CASES, epochs=2, callbacks=[Stop(), TrainingState(tmp_path / "parts", keep=True)])
    second = make_network(optimizer=sgd(), seed=2, **SMALL)
    second.train(CASES, epochs=2, callbacks=[TrainingState(tmp_path / "parts", keep=True)])
    for one, two in zip(whole.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    with pytest.raises(ConfigurationError, match="it had other learning_rate, optimizer"):
        make_network(seed=2, **SMALL).train(CASES, epochs=2, callbacks=[TrainingState(tmp_path / "parts", keep=True)])


def test_an_optimizer_of_the_users_compile_that_cannot_be_made_again_trains_with_a_warning(make_network, caplog):
    network = make_network(learning_rate=0.001, **SMALL)
    network.model.compile(Forgetful(1, learning_rate=0.02), loss=network.loss)
    network.train(CASES, epochs=1)
    assert isinstance(network.optimizer, Forgetful)
    assert "cannot be rebuilt from its configuration" in caplog.text
    network.reset()
    assert isinstance(network.optimizer, keras.optimizers.Adam)


def test_an_optimizer_can_be_set_between_trainings(make_network):
    network = make_network(learning_rate=0.01, **SMALL)
    network.train(CASES, epochs=1)
    network.optimizer = "sgd"
    network.train(CASES, epochs=1)
    assert isinstance(network.optimizer, keras.optimizers.SGD)
    assert network.learning_rate == 0.01
    network.optimizer = sgd()
    assert network.learning_rate == 0.02


def test_half_precision_wraps_the_optimizer_and_knows_it_again(make_network):
    network = make_network(optimizer=sgd(), **SMALL, precision="mixed_float16")
    network.train(CASES, epochs=1)
    assert is_the_same(network.copy().optimizer)
    assert network.learning_rate == 0.02


def test_each_fold_starts_with_the_learning_rate_of_the_first(make_network, tmp_path):
    """Defect: reading the best weights of a fold also read the rate of its epoch, which the next fold started with."""
    network, rates = make_network(learning_rate=0.01), []
    watch = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: rates.append(float(network.model.optimizer.learning_rate))
    )
    cross_validation(CASES, network, 2, 3, evaluation_path=tmp_path, callbacks=[watch, PolynomialDecay()])
    assert rates == pytest.approx([0.01, 0.01])
    assert network.learning_rate == pytest.approx(0.01)
