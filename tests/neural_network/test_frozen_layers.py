"""Layers that the user freezes or unfreezes: trainings, copies, model files and folds obey."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import fold_workers
import keras
import numpy as np
import pytest

import miscnn_tf
from miscnn_tf.errors import ConfigurationError, ModelFileError
from miscnn_tf.evaluation import cross_validation
from miscnn_tf.neural_network.checkpoint import TrainingState
from miscnn_tf.neural_network.compiled_model import TrainableSet

CASES = [f"case_{number}" for number in range(4)]
SMALL = {"data": {"shape": (12, 12)}, "learning_rate": 0.01}


def freeze_all_but_the_last(network):
    for layer in network.model.layers[:-1]:
        layer.trainable = False


def arrays(network):
    return [weight.copy() for weight in network.model.get_weights()]


def changed(before, after):
    return [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]


def train(network):
    before = arrays(network)
    network.train(CASES[:2], epochs=1, iterations=2)
    return changed(before, arrays(network))


def test_freezing_and_unfreezing_between_trainings_is_obeyed_by_each(make_network):
    """Defect: only the first training obeyed: after unfreezing 2 of 46 arrays changed, after freezing 46 of 46."""
    network = make_network(**SMALL)
    assert all(train(network))
    freeze_all_but_the_last(network)
    assert train(network) == [False] * (len(arrays(network)) - 2) + [True, True]
    network.model.trainable = True
    assert all(train(network))
    # One weight alone can be frozen, too.
    network.model.weights[0].trainable = False
    assert train(network) == [False] + [True] * (len(arrays(network)) - 1)


def test_the_optimizer_remembers_what_it_knew_of_weights_that_stay_trained(make_network):
    network = make_network(**SMALL)
    network.train(CASES[:2], epochs=1, iterations=2)
    known = {one.path.partition("/")[2]: np.array(one) for one in network.optimizer.variables}
    freeze_all_but_the_last(network)
    moments = []

    class AtTheBeginning(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            moments.append({one.path.partition("/")[2]: np.array(one) for one in network.optimizer.variables})

    network.train(CASES[:2], epochs=1, iterations=1, callbacks=[AtTheBeginning()])
    assert len(moments[0]) == 2 + 4 < len(known)
    for name, value in moments[0].items():
        np.testing.assert_array_equal(value, known[name], err_msg=name)
    assert int(network.optimizer.iterations) == 3


def test_frozen_layers_change_no_bit_of_a_training_where_none_is_frozen(make_network):
    """Flags that were switched and switched back leave the training as it was."""
    once, twice = make_network(**SMALL), make_network(**SMALL)
    once.train(CASES[:2], epochs=1, iterations=2)
    freeze_all_but_the_last(twice)
    twice.model.trainable = True
    twice.train(CASES[:2], epochs=1, iterations=2)
    assert not any(changed(arrays(once), arrays(twice)))


def test_a_network_of_frozen_layers_alone_is_refused(make_network):
    network = make_network(**SMALL)
    network.model.trainable = False
    with pytest.raises(ConfigurationError, match="all layers of the network are frozen"):
        network.train(CASES, epochs=1)


@pytest.mark.parametrize("how", ["copy", "file", "h5", "reset"])
def test_frozen_layers_stay_frozen_in_copies_files_and_after_reset(make_network, tmp_path, how):
    network = make_network(**SMALL)
    freeze_all_but_the_last(network)
    network.train(CASES[:2], epochs=1, iterations=1)
    if how == "copy":
        other = network.copy()
    elif how == "reset":
        other = network
        network.reset()
    else:
        path = tmp_path / ("model.keras" if how == "file" else "model.h5")
        network.dump(path)
        other = miscnn_tf.load_model(path, network.preprocessor.data_io)
        other.verbose = 0
    assert TrainableSet.of(other.model) == TrainableSet.of(network.model)
    assert train(other) == [False] * (len(arrays(network)) - 2) + [True, True]


def test_load_keeps_the_networks_own_frozen_layers(make_network, tmp_path):
    network = make_network(**SMALL)
    network.train(CASES[:2], epochs=1)
    network.dump(tmp_path / "model.keras")
    other = make_network(**SMALL)
    freeze_all_but_the_last(other)
    other.load(tmp_path / "model.keras")
    assert not any(changed(arrays(network), arrays(other)))
    assert sum(train(other)) == 2


def test_a_file_whose_frozen_layers_do_not_fit_is_refused(make_network):
    network = make_network(**SMALL)
    for wrong in (None, [], {"layers": "1"}, {"layers": "1", "weights": 3}, {"layers": "12", "weights": ""}):
        with pytest.raises(ModelFileError, match="two texts of 0 and 1"):
            TrainableSet.of_description(wrong)
    with pytest.raises(ModelFileError, match="flags for 2 layers and 1 weights, but the architecture has"):
        TrainableSet("10", "1").set(network.model)


def test_frozen_layers_stay_frozen_in_folds(make_network, tmp_path):
    network = make_network(**SMALL)
    initial = arrays(network)
    freeze_all_but_the_last(network)
    cross_validation(CASES, network, 2, 1, 1, tmp_path)
    for fold in range(2):
        trained = fold_workers.weights(tmp_path / f"fold_{fold}" / "model.keras")
        assert changed(initial, trained) == [False] * (len(initial) - 2) + [True, True]
    # They belong to what makes a finished fold the same one.
    network.model.trainable = True
    with pytest.raises(ConfigurationError, match=r"trainable was \{'layers': '\d+', .*, now None"):
        cross_validation(CASES, network, 2, 1, 1, tmp_path)


def test_frozen_layers_stay_frozen_in_folds_of_other_processes(tmp_path):
    network = fold_workers.network(tmp_path)
    initial = arrays(network)
    freeze_all_but_the_last(network)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        cross_validation(CASES, network, 2, 1, 1, tmp_path / "evaluation", executor=pool, report=False)
    for fold in range(2):
        trained = fold_workers.weights(tmp_path / "evaluation" / f"fold_{fold}" / "model.keras")
        assert changed(initial, trained) == [False] * (len(initial) - 2) + [True, True]


def test_a_training_with_other_frozen_layers_does_not_go_on_from_a_state(make_network, tmp_path):
    network = make_network(**SMALL)
    network.train(CASES, epochs=1, callbacks=[TrainingState(tmp_path, keep=True)])
    other = make_network(**SMALL)
    freeze_all_but_the_last(other)
    with pytest.raises(ConfigurationError, match="it had other trainable"):
        other.train(CASES, epochs=1, callbacks=[TrainingState(tmp_path, keep=True)])
