"""A trained network is the beginning of another one: of other classes or channels, or in a cross-validation."""

from __future__ import annotations

import logging

import keras
import numpy as np
import pytest

import miscnn_tf
from miscnn_tf.errors import ConfigurationError, ModelFileError
from miscnn_tf.evaluation import cross_validation, leave_one_out, split_validation
from miscnn_tf.evaluation.cross_validation import run_fold, split_folds
from miscnn_tf.neural_network.architecture.unet.dense import Architecture as Dense
from miscnn_tf.neural_network.architecture.unet.standard import Architecture

CASES = [f"case_{number}" for number in range(4)]


@pytest.fixture
def make(make_network):
    return lambda channels=1, classes=2, **arguments: make_network(
        data={"shape": (12, 12), "channels": channels, "classes": classes}, learning_rate=0.01, **arguments
    )


@pytest.fixture
def trained(make, tmp_path):
    network = make(seed=1)
    network.train(CASES, epochs=1, iterations=2)
    network.dump(tmp_path / "trained.keras")
    return network


def by_name(network):
    return {"/".join(one.path.split("/")[-2:]): np.array(one) for one in network.model.weights}


def test_all_but_the_output_layer_is_read_into_a_network_of_other_classes(trained, make, tmp_path, caplog):
    """Defect: a ModelFileError, and no way offered."""
    network = make(classes=4, seed=2)
    initial = by_name(network)
    with pytest.raises(ModelFileError, match=r"2 classes, .* 4 classes; load\(path, head=False\), or load_head"):
        network.load(tmp_path / "trained.keras")
    with caplog.at_level(logging.INFO):
        network.load(tmp_path / "trained.keras", head=False)
    source, result = by_name(trained), by_name(network)
    head = [name for name in result if source[name].shape[-1:] != result[name].shape[-1:]]
    assert len(head) == 2
    assert f"{len(result) - 2} arrays of {len(result)} read; the output layer ({', '.join(head)})" in caplog.text
    for name, value in result.items():
        np.testing.assert_array_equal(value, initial[name] if name in head else source[name], err_msg=name)
    assert network.epochs_trained == 0
    history = network.train(CASES, epochs=1, iterations=1).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (3, 2)])
def test_kernels_that_see_the_image_are_fitted_to_other_channels(make, tmp_path, before, after):
    """An image whose channels are all alike gives the same response, but for the output layer."""
    source, target = make(channels=before, seed=1), make(channels=after, seed=2)
    source.dump(tmp_path / "source.keras")
    target.load(tmp_path / "source.keras", head=False)
    kernel = source.model.weights[0].numpy().mean(axis=-2, keepdims=True)
    expected = np.repeat(kernel, after, axis=-2) * before / after
    np.testing.assert_allclose(target.model.weights[0].numpy(), expected, rtol=1e-5)
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype(np.float32)
    features = [
        keras.Model(one.model.inputs, one.model.layers[-1].input).predict(np.repeat(image, n, axis=-1), verbose=0)
        for one, n in ((source, before), (target, after))
    ]
    np.testing.assert_allclose(features[0], features[1], atol=1e-4)


def test_the_output_layer_is_not_read_where_it_would_fit_either(trained, make, tmp_path):
    network = make(seed=2)
    initial, source = by_name(network), by_name(trained)
    network.load(tmp_path / "trained.keras", head=False)
    kept = [name for name, value in by_name(network).items() if np.array_equal(value, initial[name])]
    assert [name for name in kept if not np.array_equal(source[name], initial[name])] == list(initial)[-2:]


def test_what_does_not_fit_is_named(trained, make, tmp_path, caplog):
    """A network of more levels takes what has the same name and shape."""
    network = make(architecture=Architecture(n_filters=4, depth=2), seed=2)
    network.load(tmp_path / "trained.keras", head=False)
    assert "these weights do not fit this network and keep their initial values: " in caplog.text
    np.testing.assert_array_equal(network.model.weights[0].numpy(), trained.model.weights[0].numpy())
    with pytest.raises(ModelFileError, match="architecture differs"):
        make(architecture=Architecture(n_filters=6, depth=1, batch_normalization=False)).load(
            tmp_path / "trained.keras", head=False
        )


def test_inputs_that_are_joined_with_features_begin_anew_in_other_channels(make, tmp_path, caplog):
    dense = {"architecture": Dense(n_filters=4, depth=1)}
    make(**dense).dump(tmp_path / "dense.keras")
    network = make(channels=2, **dense)
    network.load(tmp_path / "dense.keras", head=False)
    history = network.train(CASES, epochs=1, iterations=1).history
    assert np.isfinite(history["loss"]).all()


def test_volumes_and_images_do_not_mix(make_network, trained, tmp_path):
    network = make_network(data={"shape": (12, 12, 12)})
    with pytest.raises(ModelFileError, match=r"holds a 2D model .* but this network is 3D"):
        network.load(tmp_path / "trained.keras", head=False)


# ---------------------------------------------------------------- start of folds


class Start(keras.callbacks.Callback):
    """The first kernel at the beginning of each training."""

    def __init__(self):
        super().__init__()
        self.kernels = []

    def on_train_begin(self, logs=None):
        self.kernels.append(self.model.weights[0].numpy())


def test_a_loaded_model_starts_each_fold_from_its_weights_if_asked_to(trained, tmp_path, caplog):
    """Defect: every fold started from random weights, silently."""
    model = miscnn_tf.load_model(tmp_path / "trained.keras", trained.preprocessor.data_io)
    model.verbose = 0
    loaded, initial = model.model.weights[0].numpy(), model.initialization_weights
    start = Start()
    cross_validation(CASES, model, 2, 1, 1, tmp_path / "warm", callbacks=[start], start="weights")
    assert "but each training starts from its initial weights" not in caplog.text
    for kernel in start.kernels:
        np.testing.assert_array_equal(kernel, loaded)
    assert len(start.kernels) == 2
    assert model.initialization_weights is initial
    assert model.start_digest is None
    # The same call finds it finished; from other weights it would be another one.
    model.load(tmp_path / "trained.keras")
    cross_validation(CASES, model, 2, 1, 1, tmp_path / "warm", callbacks=[start], start="weights")
    assert len(start.kernels) == 2
    model.reset()
    with pytest.raises(ConfigurationError, match=r"start was '[0-9a-f]{32}', now '[0-9a-f]{32}'"):
        cross_validation(CASES, model, 2, 1, 1, tmp_path / "warm", start="weights")


def test_a_trained_model_that_is_reset_for_each_fold_is_named_in_a_warning(trained, tmp_path, caplog):
    start = Start()
    initial = trained.initialization_weights[0].copy()
    cross_validation(CASES, trained, 2, 1, 1, tmp_path, callbacks=[start])
    assert "the model was trained for 1 epoch, but each training starts from its initial weights" in caplog.text
    assert "start='weights'" in caplog.text
    for kernel in start.kernels:
        np.testing.assert_array_equal(kernel, initial)


def test_all_evaluations_start_where_they_are_asked_to(trained, tmp_path):
    weights = trained.model.get_weights()
    start = Start()

    def again():
        trained.model.set_weights(weights)
        return {"callbacks": [start], "start": "weights"}

    split_validation(CASES, trained, 0.5, 1, 1, tmp_path / "split", **again())
    leave_one_out(CASES[:2], trained, 1, 1, evaluation_path=tmp_path / "one", **again())
    split_folds(CASES, 2, tmp_path / "folds")
    run_fold(0, trained, 1, 1, tmp_path / "folds", False, **again())
    assert len(start.kernels) == 4
    for kernel in start.kernels:
        np.testing.assert_array_equal(kernel, weights[0])


def test_folds_of_an_executor_start_from_the_weights_too(trained, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    weights = trained.model.get_weights()
    trained.learning_rate = 1e-12
    with ThreadPoolExecutor(1) as pool:
        cross_validation(CASES, trained, 2, 1, 1, tmp_path / "warm", executor=pool, start="weights", report=False)
    for fold in range(2):
        network = miscnn_tf.load_model(tmp_path / "warm" / f"fold_{fold}" / "model.keras")
        np.testing.assert_allclose(network.model.weights[0].numpy(), weights[0], atol=1e-9)


def test_another_start_is_refused(trained, tmp_path):
    with pytest.raises(ConfigurationError, match="start='warm' must be one of 'initial', 'weights'"):
        cross_validation(CASES, trained, 2, 1, 1, tmp_path, start="warm")
