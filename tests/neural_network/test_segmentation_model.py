from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.neural_network.architecture.unet.plain import Architecture as Plain
from miscnn_tf.neural_network.losses import dice_crossentropy, dice_soft_loss
from miscnn_tf.neural_network.metrics import ClassDice, dice_soft
from miscnn_tf.neural_network.segmentation_model import SegmentationModel


@pytest.mark.parametrize("axes", [2, 3])
def test_labels_and_one_hot_targets_are_the_same_to_the_step(rng, axes):
    image = keras.Input((*(None,) * axes, 1))
    convolution = {2: keras.layers.Conv2D, 3: keras.layers.Conv3D}[axes]
    model = SegmentationModel(image, convolution(3, 1, activation="softmax")(image))
    model.compile(loss=dice_crossentropy, metrics=[dice_soft])
    images = rng.normal(size=(2, *(6,) * axes, 1)).astype(np.float32)
    labels = rng.integers(0, 3, (2, *(6,) * axes)).astype(np.uint8)
    one_hot = np.eye(3, dtype=np.float32)[labels]
    as_labels = model.evaluate(images, labels, verbose=0, return_dict=True)
    as_one_hot = model.evaluate(images, one_hot, verbose=0, return_dict=True)
    assert as_labels == pytest.approx(as_one_hot, rel=1e-6)
    assert as_labels["loss"] > 0.1


class PlainNet(Abstract_Architecture):
    """A network as users write them: not a word of precision."""

    def create_model_2D(self, input_shape, n_labels=2):
        inputs = keras.Input(input_shape)
        hidden = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
        return keras.Model(inputs, keras.layers.Conv2D(n_labels, 1, activation="softmax")(hidden))

    def create_model_3D(self, input_shape, n_labels=2):
        raise NotImplementedError


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_users_network_gives_its_probabilities_in_float32_to_losses_and_predictions(
    make_network, precision, tmp_path
):
    seen = []

    def loss(y_true, y_pred):
        seen.append(keras.backend.standardize_dtype(y_pred.dtype))
        return -ops.mean(ops.sum(y_true * ops.log(y_pred + 1e-7), -1))

    network = make_network(data={"shape": (16, 16)}, architecture=PlainNet(), precision=precision, loss=loss)
    assert network.model.layers[1].compute_dtype != "float32"  # the work is done in the lower precision
    network.train(["case_0", "case_1"], epochs=1)
    assert set(seen) == {"float32"}
    (probabilities,) = network.predict(["case_0"], return_output=True, activation_output=True)
    # Rounded to 8 or 11 bits, probabilities of two classes would sum to 1 up to about 1e-3.
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    assert len(np.unique(probabilities.astype("float16"))) < len(np.unique(probabilities))
    network.dump(tmp_path / "model.keras")
    other = make_network(data={"shape": (16, 16)}, architecture=PlainNet(), precision="float32", loss=loss)
    other.load(tmp_path / "model.keras")
    np.testing.assert_array_equal(other.model.get_weights()[0], network.model.get_weights()[0])


def test_in_float32_a_users_network_is_left_as_it_is(make_network):
    network = make_network(data={"shape": (16, 16)}, architecture=PlainNet())
    assert len(network.model.layers) == 3


def trained(make_network, shape, precision, jit_compile, loss="dice_crossentropy"):
    network = make_network(
        data={"shape": shape, "cases": 3, "classes": 3},
        architecture=Plain(feature_maps=(4,), instance_normalization=False),
        loss=loss,
        metrics=[dice_soft, ClassDice(1)],
        learning_rate=0.01,
        precision=precision,
        jit_compile=jit_compile,
    )
    history = network.train(["case_0", "case_1"], epochs=1, iterations=3, class_weight={1: 2.0}).history
    history.pop("data_wait")
    return network, history


COMPILED = [
    ((12, 12), "float32", 1e-5),
    pytest.param((12, 12, 12), "float32", 1e-5, marks=pytest.mark.slow),
    pytest.param((12, 12), "mixed_float16", 1e-3, marks=pytest.mark.slow),
    pytest.param((12, 12, 12), "mixed_float16", 1e-3, marks=pytest.mark.slow),
    pytest.param((12, 12, 12), "mixed_bfloat16", 1e-2, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("shape", "precision", "tolerance"), COMPILED)
def test_the_whole_step_compiles_and_gives_what_it_gives_without(make_network, shape, precision, tolerance):
    """One-hot, loss, class weights, gradients, optimizer and metrics, and prediction, by XLA."""
    (plain, before), (compiled, after) = (trained(make_network, shape, precision, jit) for jit in (False, True))
    assert (plain.model.jit_compile, compiled.model.jit_compile) == (False, True)
    assert sorted(before) == sorted(after)
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, rtol=tolerance, atol=tolerance, err_msg=name)
    if precision == "float32":  # Adam makes steps of the size of the rate of what is but rounding
        for one, other in zip(plain.model.get_weights(), compiled.model.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    (one,), (other,) = (network.predict("case_2", True, activation_output=True) for network in (plain, compiled))
    np.testing.assert_allclose(one, other, atol=20 * tolerance)


def test_half_precision_scales_the_loss(make_network):
    """Gradients that float16 cannot hold reach the weights, and a step that overflows is left out."""
    network = make_network(data={"shape": (12, 12), "cases": 2}, precision="mixed_float16")
    optimizer = network.model.optimizer
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    network.train(["case_0"], epochs=1, iterations=2)
    scale = float(keras.ops.convert_to_numpy(optimizer.dynamic_scale))
    assert int(keras.ops.convert_to_numpy(optimizer.iterations)) == 2
    assert scale == 2.0**15
    optimizer.dynamic_scale.assign(1e38)
    before = network.model.trainable_variables[0].numpy()
    network.train(["case_0"], epochs=1, iterations=1)
    assert float(keras.ops.convert_to_numpy(optimizer.dynamic_scale)) == pytest.approx(0.5e38)
    np.testing.assert_array_equal(network.model.trainable_variables[0].numpy(), before)
    # Unscaled, a loss of this size has gradients below the least number of float16.
    tiny = make_network(
        data={"shape": (12, 12), "cases": 2}, precision="mixed_float16", loss=lambda t, p: 1e-7 * dice_soft_loss(t, p)
    )
    first = tiny.model.trainable_variables[0].numpy()
    tiny.train(["case_0"], epochs=1, iterations=1)
    assert not np.array_equal(tiny.model.trainable_variables[0].numpy(), first)


class UpsamplingNet(PlainNet):
    """A U as users write it, of Keras' own layers."""

    def create_model_2D(self, input_shape, n_labels=2):
        inputs = keras.Input(input_shape)
        down = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
        hidden = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(keras.layers.MaxPooling2D()(down))
        up = keras.layers.Conv2DTranspose(4, 2, strides=2)(hidden)
        together = keras.layers.Concatenate()([down, up])
        return keras.Model(inputs, keras.layers.Conv2D(n_labels, 1, activation="softmax")(together))


def test_gradients_of_a_users_network_in_bfloat16_are_those_in_float32(make_network, rng):
    images = rng.normal(size=(2, 256, 256, 1)).astype("float32")
    labels = (images[..., 0] > 0).astype("uint8")
    found = []
    for precision in ("float32", "mixed_bfloat16"):
        io = {"shape": (256, 256)}
        network = make_network(
            data=io, architecture=UpsamplingNet(), precision=precision, processing={"patch_shape": (256, 256)}
        )
        model = network.model
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x=images, y=labels, y_pred=model(images, training=True), training=True)
        found.append([np.asarray(one) for one in tape.gradient(loss, [v.value for v in model.trainable_variables])])
    for expected, result in zip(*found, strict=True):
        assert np.linalg.norm(result - expected) < 0.1 * np.linalg.norm(expected)
