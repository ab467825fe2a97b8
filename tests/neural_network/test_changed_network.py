"""What users change about a network after it was made: its Keras model, and the preprocessor's patches."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from miscnn_tf.errors import ConfigurationError

CASES = [f"case_{number}" for number in range(4)]


def test_another_keras_model_is_refused_and_the_ways_to_other_weights_are_named(make_network):
    """Defect: training used it, and prediction stayed with the old one."""
    network, other = make_network(data={"shape": (12, 12)}), make_network(data={"shape": (12, 12)}, seed=9)
    before = network.model
    with pytest.raises(ConfigurationError, match=r"network.model cannot be replaced .* call network.load\(path\)"):
        network.model = other.model
    assert network.model is before
    network.model.set_weights(other.model.get_weights())
    image = np.random.default_rng(0).normal(size=(12, 12)).astype(np.float32)
    np.testing.assert_array_equal(
        network.predict_array(image, activation_output=True), other.predict_array(image, activation_output=True)
    )


def test_a_larger_patch_shape_works_in_prediction_and_in_the_next_training(make_network):
    """Defect: a TensorFlow traceback from the depths."""
    network = make_network(data={"shape": (24, 24)}, learning_rate=0.01)
    network.train(CASES, epochs=1)
    network.predict("case_0", return_output=True)
    weights = network.model.get_weights()
    moments = [np.array(one) for one in network.optimizer.variables]
    network.preprocessor.patch_shape = (24, 24)
    (found,) = network.predict("case_0", return_output=True, activation_output=True)
    # A network that was made for such patches, with the same weights.
    other = make_network(data={"shape": (24, 24)}, processing={"patch_shape": (24, 24)})
    other.model.set_weights(weights)
    (expected,) = other.predict("case_0", return_output=True, activation_output=True)
    np.testing.assert_array_equal(found, expected)
    # The training goes on with the optimizer as it was.
    for one, two in zip(network.optimizer.variables, moments, strict=True):
        np.testing.assert_array_equal(np.array(one), two)
    history = network.train(CASES, epochs=1).history
    assert np.isfinite(history["loss"]).all()
    assert network.model.input_shape == (None, 24, 24, 1)
    assert network.epochs_trained == 2


def test_whole_images_after_patches_work_too(make_network):
    network = make_network(data={"shape": (24, 24)}, processing={"batch_size": 1})
    network.predict("case_0", return_output=True)
    network.preprocessor.analysis = "fullimage"
    (found,) = network.predict("case_0", return_output=True, activation_output=True)
    other = make_network(
        data={"shape": (24, 24)}, processing={"batch_size": 1, "analysis": "fullimage", "patch_shape": None}
    )
    other.model.set_weights(network.model.get_weights())
    (expected,) = other.predict("case_0", return_output=True, activation_output=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    network.train(CASES, epochs=1)


def test_frozen_layers_and_the_optimizer_survive_another_patch_shape(make_network):
    network = make_network(data={"shape": (24, 24)}, optimizer="sgd", learning_rate=0.01)
    network.train(CASES, epochs=1)
    for layer in network.model.layers[:-1]:
        layer.trainable = False
    network.preprocessor.patch_shape = (16, 16)
    before = network.model.get_weights()
    network.train(CASES, epochs=1)
    assert sum(not np.array_equal(a, b) for a, b in zip(before, network.model.get_weights(), strict=True)) == 2
    assert isinstance(network.optimizer, keras.optimizers.SGD)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((9, 16), r"patch_shape=\(9, 16\) does not fit .*axis 0: 9 -> 8 or 10"),
        ((16,), "needs a tuple of 2"),
        (7, "needs"),
    ],
)
def test_a_patch_shape_that_cannot_work_is_one_clear_error(make_network, shape, told):
    network = make_network(data={"shape": (24, 24)})
    network.preprocessor.patch_shape = shape
    for act in (lambda: network.predict("case_0", return_output=True), lambda: network.train(CASES, epochs=1)):
        with pytest.raises(ConfigurationError, match=told):
            act()
    network.preprocessor.patch_shape = (8, 8)
    network.train(CASES, epochs=1)


def test_a_patch_shape_that_changes_during_the_training_is_refused(make_network):
    network = make_network(data={"shape": (24, 24)})

    class Predicts(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            network.preprocessor.patch_shape = (16, 16)
            network.predict("case_0", return_output=True)

    with pytest.raises(ConfigurationError, match=r"changed from \(8, 8\) to \(16, 16\) while the network is trained"):
        network.train(CASES, epochs=1, callbacks=[Predicts()])
