"""Layers that are found, and scores before the activation. Gradients are checked with Grad-CAM."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture import unet
from miscnn_tf.neural_network.attribution import (
    ClassGradients,
    LayerMap,
    bottleneck_layer,
    check_layer,
    feature_layers,
)


@pytest.mark.parametrize("name", [name for name in unet.__all__ if name.startswith("UNet_")])
def test_the_bottleneck_of_every_unet_is_found(name):
    """Attention gates, residual paths and shortcuts are of the bridge's size, too."""
    model = getattr(unet, name)().create_model((64, 64, 1), n_labels=2)
    layers = feature_layers(model, (64, 64))
    found = next(layer for layer in layers if layer.name == bottleneck_layer(layers))
    assert found.name.startswith("bridge")
    assert found.kernel == 9
    assert found.shape == min(layer.shape for layer in layers)


def test_shapes_are_those_of_the_window_where_the_network_takes_any():
    model = unet.UNet_standard(n_filters=2, depth=2).create_model((None, None, None, 1))
    shapes = {layer.name: layer.shape for layer in feature_layers(model, (8, 12, 16))}
    assert shapes["down0_conv0"] == (8, 12, 16)
    assert shapes["bridge_conv1"] == (2, 3, 4)
    assert "output" not in shapes
    assert "image" not in shapes


def test_convolutions_of_kernel_1_or_with_strides_count_where_there_are_no_others():
    one, strided, pool = LayerMap("one", (4,), 1), LayerMap("strided", (8,), 9, True), LayerMap("pool", (2,))
    assert bottleneck_layer([LayerMap("full", (9,), 9), one, strided, pool]) == "full"
    assert bottleneck_layer([one, strided, pool]) == "strided"
    assert bottleneck_layer([one, pool]) == "one"
    assert bottleneck_layer([pool]) is None


def test_a_layer_has_to_be_one_of_those_that_there_are():
    layers = [LayerMap("conv", (8, 8), 9), LayerMap("pool", (4, 4))]
    assert check_layer(None, layers) == "conv"
    assert check_layer("pool", layers) == "pool"
    with pytest.raises(ConfigurationError, match=r"layer='x'.*conv \(8, 8\), pool \(4, 4\)"):
        check_layer("x", layers)
    with pytest.raises(ConfigurationError, match="functional API"):
        check_layer(None, layers[1:])


def ends(kind):
    image = keras.Input((4, 4, 1))
    features = keras.layers.Conv2D(2, 3, padding="same", name="features")(image)
    linear = keras.layers.Conv2D(3, 1, name="linear")
    if kind == "softmax_inside":
        output = keras.layers.Conv2D(3, 1, activation="softmax", name="linear")(features)
    elif kind == "sigmoid_inside":
        output = keras.layers.Conv2D(3, 1, activation="sigmoid", name="linear")(features)
    elif kind == "softmax_layer":
        output = keras.layers.Softmax()(linear(features))
    elif kind == "activation_layer":
        output = keras.layers.Activation("softmax")(linear(features))
    else:
        output = linear(features)
    return keras.Model(image, output)


@pytest.mark.parametrize(
    "kind", ["softmax_inside", "sigmoid_inside", "softmax_layer", "activation_layer", "no_activation"]
)
def test_scores_are_those_before_the_activation(kind, rng):
    model = ends(kind)
    image = rng.normal(size=(2, 4, 4, 1)).astype(np.float32)
    parts = ClassGradients(model, "features", (4, 4))
    assert parts.features == 2
    kernel, bias = model.get_layer("linear").get_weights()
    features = parts.feature_maps(image)
    scores = parts.scores(image)
    np.testing.assert_allclose(scores, features @ kernel[0, 0] + bias, rtol=1e-5, atol=1e-6)
    # The model itself still ends as it did.
    output = model.predict(image, verbose=0)
    activation = {"sigmoid_inside": keras.activations.sigmoid, "no_activation": keras.activations.linear}
    expected = activation.get(kind, keras.activations.softmax)(keras.ops.convert_to_tensor(scores))
    np.testing.assert_allclose(output, keras.ops.convert_to_numpy(expected), rtol=1e-4, atol=1e-6)
    # Each feature counts by its weight.
    weights = np.ones((2, 4, 4), np.float32)
    np.testing.assert_allclose(parts.gradient(image, weights, 1), 2 * kernel[0, 0, :, 1], rtol=1e-5)


def test_a_model_is_traced_once():
    model = ends("softmax_inside")
    parts = ClassGradients.of(model, "features", (4, 4))
    assert ClassGradients.of(model, "features", (4, 4)) is parts
    assert ClassGradients.of(ends("softmax_inside"), "features", (4, 4)) is not parts


@pytest.mark.parametrize("kind", ["softmax_inside", "sigmoid_inside"])
def test_scores_follow_a_model_that_is_trained_on(kind, rng):
    """The last layer without its activation is a copy, which must not stay as it was when it was traced."""
    model = ends(kind)
    image = rng.normal(size=(1, 4, 4, 1)).astype(np.float32)
    parts = ClassGradients.of(model, "features", (4, 4))
    last = model.get_layer("linear")
    last.set_weights([weight + rng.normal(size=weight.shape) for weight in last.get_weights()])
    kernel, bias = last.get_weights()
    assert ClassGradients.of(model, "features", (4, 4)) is parts
    np.testing.assert_allclose(
        parts.scores(image), parts.feature_maps(image) @ kernel[0, 0] + bias, rtol=1e-5, atol=1e-6
    )
    gradient = parts.gradient(image, np.ones((1, 4, 4), np.float32), 1)
    np.testing.assert_allclose(gradient, kernel[0, 0, :, 1], rtol=1e-5)
