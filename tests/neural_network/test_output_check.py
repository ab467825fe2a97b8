"""What an architecture builds is checked when the network is made, and a single sigmoid channel works."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

import miscnn_tf
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.neural_network.losses import tversky_crossentropy
from miscnn_tf.neural_network.metrics import ClassDice, dice_soft

CASES = [f"case_{number}" for number in range(4)]
LEARNS = {"learning_rate": 0.01, "loss": tversky_crossentropy, "processing": {"data_aug": None}}


def convolution(x, filters, activation=None, **arguments):
    kind = keras.layers.Conv2D if len(x.shape) == 4 else keras.layers.Conv3D
    return kind(filters, 3, padding="same", activation=activation, **arguments)(x)


class Built(Abstract_Architecture):
    """What a function makes of the image and the number of classes."""

    def __init__(self, end):
        self.end = end

    def create_model(self, input_shape, n_labels=2):
        image = keras.Input(input_shape)
        return keras.Model(image, self.end(image, convolution(image, 4, "relu"), n_labels))


class OneSigmoid(Abstract_Architecture):
    """A single channel: the probability of class 1."""

    def create_model(self, input_shape, n_labels=2):
        image = keras.Input(input_shape)
        return keras.Model(image, convolution(convolution(image, 4, "relu"), 1, "sigmoid"))


class Returns(Abstract_Architecture):
    """Any model."""

    def __init__(self, make):
        self.make = make

    def create_model(self, input_shape, n_labels=2):
        return self.make(input_shape, n_labels)


def two_inputs(shape, labels):
    one, two = keras.Input(shape), keras.Input(shape)
    return keras.Model([one, two], convolution(keras.layers.Add()([one, two]), labels, "softmax"))


def several_outputs(shape, labels):
    image = keras.Input(shape)
    coarse = convolution(keras.layers.AveragePooling2D(2)(image), labels, "softmax")
    return keras.Model(image, [convolution(image, labels, "softmax"), coarse])


def other_input(shape, labels):
    image = keras.Input((4, 4, 1))
    return keras.Model(image, convolution(image, labels, "softmax"))


class Subclassed(keras.Model):
    """No functional model."""

    def __init__(self, labels, outputs=1):
        super().__init__()
        self.heads = [keras.layers.Conv2D(labels, 1, activation="softmax") for _ in range(outputs)]

    def call(self, image):
        found = [head(image) for head in self.heads]
        return found[0] if len(found) == 1 else found


@pytest.mark.parametrize(
    ("architecture", "told"),
    [
        (Built(lambda image, x, n: convolution(x, n)), r"Built ends in 'Conv2D', .*\(8, 8, 3\).*activation='softmax'"),
        (Built(lambda image, x, n: convolution(x, n, "relu")), r"Built ends in 'relu'"),
        (Built(lambda image, x, n: keras.layers.Activation("tanh")(convolution(x, n))), r"ends in 'tanh'"),
        (Built(lambda image, x, n: keras.layers.BatchNormalization()(convolution(x, n))), "'BatchNormalization'"),
        (Built(lambda image, x, n: keras.layers.Activation("linear")(convolution(x, n))), r"ends in 'Conv2D'"),
        (Built(lambda image, x, n: keras.layers.Reshape((8, 8, n))(convolution(x, n))), r"ends in 'Conv2D'"),
        (
            Built(lambda image, x, n: convolution(x, 5, "softmax")),
            r"Built has the output shape \(8, 8, 5\), expected \(8, 8, 3\): it needs a channel for each of the 3",
        ),
        (
            Built(lambda image, x, n: convolution(x, 2, "softmax")),
            r"has the output shape \(8, 8, 2\), expected \(8, 8, 3\)",
        ),
        (
            Built(lambda image, x, n: convolution(x, n, "softmax", strides=2)),
            r"has the output shape \(4, 4, 3\), expected \(8, 8, 3\): it needs the size of the image and a channel",
        ),
        (
            Built(lambda image, x, n: keras.layers.Dense(n, "softmax")(keras.layers.Flatten()(x))),
            r"has the output shape \(3,\), expected \(8, 8, 3\)",
        ),
        (Returns(two_inputs), r"has 2 inputs \(\(None, 8, 8, 1\), \(None, 8, 8, 1\)\), not one"),
        (Returns(other_input), r"has the input shape \(4, 4, 1\), expected \(8, 8, 1\)"),
        (Returns(lambda shape, n: Subclassed(5)), r"has the output shape \(8, 8, 5\), expected \(8, 8, 3\)"),
        (Returns(lambda shape, n: None), r"Returns returns None, not a Keras model"),
    ],
)
def test_an_output_that_is_not_the_probability_of_each_class_and_voxel_is_refused(make_network, architecture, told):
    """Defect: it trained on nonsense, dropped outputs, or failed in Keras."""
    with pytest.raises(ConfigurationError, match=told):
        make_network(data={"shape": (12, 12), "classes": 3}, architecture=architecture)


@pytest.mark.parametrize("end", ["half", "whole"])
def test_the_size_of_the_output_is_checked_for_whole_images_too(make_network, end):
    architecture = Built(lambda image, x, n: convolution(x, n, "softmax", strides=2 if end == "half" else 1))
    arguments = {"data": {"shape": (12, 12)}, "processing": {"analysis": "fullimage", "patch_shape": None}}
    if end == "half":
        with pytest.raises(ConfigurationError, match=r"has the output shape \(32, 32, 2\), expected \(64, 64, 2\)"):
            make_network(architecture=architecture, **arguments)
    else:
        make_network(architecture=architecture, **arguments).train(CASES, epochs=1, iterations=1)


def softmax_of_ones_own(x):
    return keras.ops.softmax(x, axis=-1)


@pytest.mark.parametrize(
    "end",
    [
        lambda image, x, n: keras.layers.Softmax()(convolution(x, n)),
        lambda image, x, n: keras.layers.Activation("softmax")(convolution(x, n)),
        lambda image, x, n: keras.ops.softmax(convolution(x, n)),
        lambda image, x, n: convolution(x, n, softmax_of_ones_own),
        lambda image, x, n: convolution(x, n, "sigmoid"),
        lambda image, x, n: keras.layers.Dense(n, activation="softmax")(x),
        lambda image, x, n: keras.layers.UpSampling2D()(convolution(x, n, "softmax", strides=2)),
        lambda image, x, n: keras.layers.Average()([convolution(x, n, "softmax"), convolution(x, n, "softmax")]),
        lambda image, x, n: keras.layers.Concatenate()([1 - (p := convolution(x, 1, "sigmoid")), p, 0 * p]),
        lambda image, x, n: keras.Sequential([keras.layers.Conv2D(n, 1, activation="softmax")])(x),
        lambda image, x, n: keras.layers.Lambda(softmax_of_ones_own)(convolution(x, n)),
    ],
)
def test_probabilities_of_any_making_are_accepted(make_network, end):
    network = make_network(data={"shape": (12, 12), "classes": 3}, architecture=Built(end))
    network.train(CASES[:2], epochs=1, iterations=1)


@pytest.mark.parametrize("shape", [(16, 16), (12, 12, 12)])
def test_one_sigmoid_channel_for_two_classes_trains_and_predicts_by_the_threshold_one_half(make_network, shape):
    """Defect: it trained, showed the Dice of the background, and then predict failed."""
    metrics = [dice_soft, ClassDice(1)]
    network = make_network(data={"shape": shape}, architecture=OneSigmoid(), metrics=metrics, **LEARNS)
    assert network.model.output_shape[-1] == 2
    history = network.train(CASES, epochs=8, iterations=8).history
    assert history["dice_class-1"][-1] > 0.8 > history["dice_class-1"][0]
    (labels,) = network.predict("case_0", return_output=True)
    (probabilities,) = network.predict("case_0", return_output=True, activation_output=True)
    np.testing.assert_array_equal(labels, probabilities[..., 1] > 0.5)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    truth = network.preprocessor.data_io.interface.load_segmentation("case_0")
    assert 2 * np.sum(labels * truth) / (labels.sum() + truth.sum()) > 0.8


def test_one_sigmoid_channel_learns_as_two_channels_that_are_its_own_do(make_network):
    class Two(Abstract_Architecture):
        def create_model(self, input_shape, n_labels=2):
            image = keras.Input(input_shape)
            p = convolution(convolution(image, 4, "relu"), 1, "sigmoid")
            return keras.Model(image, keras.layers.Concatenate()([1 - p, p]))

    data = {"shape": (12, 12)}
    one, two = (make_network(data=data, architecture=each, learning_rate=0.01) for each in (OneSigmoid(), Two()))
    for network in (one, two):
        network.train(CASES, epochs=1)
    for first, second in zip(one.model.get_weights(), two.model.get_weights(), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_model_files_hold_one_sigmoid_channel(make_network, tmp_path, ending):
    network = make_network(data={"shape": (12, 12)}, architecture=OneSigmoid(), **LEARNS)
    network.train(CASES, epochs=1)
    network.dump(tmp_path / f"model{ending}")
    image = np.random.default_rng(0).normal(size=(12, 12)).astype(np.float32)
    expected = network.predict_array(image, activation_output=True)
    for known in ({}, {"OneSigmoid": OneSigmoid}):  # built from the file, and by its class
        loaded = miscnn_tf.load_model(tmp_path / f"model{ending}", custom_objects=known)
        np.testing.assert_array_equal(loaded.predict_array(image, activation_output=True), expected)


def test_onnx_files_hold_one_sigmoid_channel(make_network, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = make_network(data={"shape": (12, 12)}, architecture=OneSigmoid(), **LEARNS)
    network.export_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    images = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype(np.float32)
    (probabilities,) = session.run(None, {"image": images})
    np.testing.assert_allclose(probabilities, network.model.predict(images, verbose=0), atol=1e-5)
    assert json.loads(session.get_modelmeta().custom_metadata_map["miscnn_tf"])["classes"] == 2


@pytest.mark.parametrize(
    ("classes", "activation"), [(2, "softmax"), (2, "relu"), (2, softmax_of_ones_own), (3, "sigmoid")]
)
def test_one_channel_that_is_no_sigmoid_for_two_classes_is_refused_with_the_fix(make_network, classes, activation):
    told = r"has the output shape \(8, 8, 1\), expected .*" + ("activation='sigmoid'" if classes == 2 else "3 classes")
    with pytest.raises(ConfigurationError, match=told):
        make_network(
            data={"shape": (12, 12), "classes": classes},
            architecture=Built(lambda image, x, n: convolution(x, 1, activation)),
        )


def test_half_precision_makes_one_sigmoid_channel_in_float32(make_network):
    network = make_network(data={"shape": (12, 12)}, architecture=OneSigmoid(), precision="mixed_bfloat16")
    assert network.model.outputs[0].dtype == "float32"
    history = network.train(CASES, epochs=1, iterations=2).history
    assert np.isfinite(history["loss"]).all()
