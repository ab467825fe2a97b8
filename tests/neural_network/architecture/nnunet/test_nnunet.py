"""nnU-Net's networks: shapes, padding, initial weights, and errors. ``benchmarks/parity.py`` compares the logits."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import signal

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.nnunet import NnUNet_plain, NnUNet_residual
from miscnn_tf.neural_network.architecture.nnunet.family import convolve

THICK = {"kernel_sizes": ((3, 3, 1), 3, 3), "strides": ((1, 1, 1), (2, 2, 1), (2, 2, 2))}
BOTH = pytest.mark.parametrize("architecture", [NnUNet_plain, NnUNet_residual])


@BOTH
def test_thick_slices_are_halved_late(architecture):
    network = architecture((4, 8, 8), **THICK, **({} if architecture is NnUNet_plain else {"blocks": 1}))
    assert network.divisors(3) == (4, 4, 2)
    model = network.create_model((16, 12, 10, 2), n_labels=3)
    assert model.output_shape == (None, 16, 12, 10, 3)
    down = [
        layer for layer in model.layers if layer.name.startswith("down0") and "conv" in layer.name and layer.weights
    ]
    assert down[0].kernel_size == (3, 3, 1)
    with pytest.raises(ConfigurationError, match=r"does not fit .*axis 2: 9 -> 8 or 10"):
        network.create_model((16, 12, 9, 2))
    with pytest.raises(ConfigurationError, match=r"3 numbers per level, .*but the data have 2 spatial axes"):
        network.create_model((16, 12, 2))


@BOTH
@pytest.mark.parametrize("shape", [(16, 24, 1), (8, 16, 8, 1)])
def test_deep_supervision_adds_outputs_of_the_coarser_levels(architecture, shape):
    blocks = {} if architecture is NnUNet_plain else {"blocks": 1}
    model = architecture((4, 8, 8, 8), deep_supervision=True, **blocks).create_model(shape, n_labels=3)
    expected = [(None, *(size // step for size in shape[:-1]), 3) for step in (1, 2, 4)]
    assert model.output_shape == expected
    image = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    for output in model(image):
        np.testing.assert_allclose(keras.ops.sum(output, -1), 1, rtol=1e-5)
    # The same network without it: the first output and the same weights.
    alone = architecture((4, 8, 8, 8), **blocks).create_model(shape, n_labels=3)
    names = {weight.path: weight for weight in model.weights}
    for weight in alone.weights:
        weight.assign(names[weight.path])
    np.testing.assert_allclose(alone(image), model(image)[0], atol=1e-6)


@pytest.mark.parametrize(("kernel", "stride"), [((3, 3), (2, 2)), ((3, 5), (2, 1)), ((1, 3), (2, 3)), ((5, 3), (2, 2))])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_strided_convolution_pads_as_pytorch_does(kernel, stride, compiled):
    rng = np.random.default_rng(0)
    image = keras.Input((12, 12, 1))
    model = keras.Model(image, convolve(image, 1, kernel, "conv", stride))
    weights, pixels = rng.normal(size=kernel), rng.normal(size=(12, 12))
    model.get_layer("conv").set_weights([weights[..., None, None], np.zeros(1)])
    predict = tf.function(model) if compiled else model
    found = predict(pixels[None, ..., None].astype(np.float32))[0, ..., 0]
    # (kernel - 1) / 2 zeros before and after, then every stride-th window.
    full = signal.correlate2d(pixels, weights, mode="same")
    np.testing.assert_allclose(found, full[:: stride[0], :: stride[1]], atol=1e-4)


def test_the_residual_block_by_its_formula():
    """Average pooling and a convolution of kernel 1 in the shortcut; no projection where the width stays."""
    model = NnUNet_residual((2, 4), blocks=2).create_model((8, 8, 1))
    names = {layer.name for layer in model.layers}
    assert {"stem", "down0_block0_conv1", "down1_block0_pool", "down1_block0_shortcut"} <= names
    assert not {"down0_block0_shortcut", "down0_block0_pool", "down1_block1_shortcut"} & names
    assert model.get_layer("down1_block0_shortcut").use_bias is False
    assert model.get_layer("down1_block0_conv1").use_bias is True
    assert isinstance(model.get_layer("down1_block0_pool"), keras.layers.AveragePooling2D)


def test_the_initial_weights_are_he_normal_and_the_biases_zero():
    model = NnUNet_plain((64, 64)).create_model((16, 16, 8, 1))
    layer = model.get_layer("down0_conv1")
    fan_in = 27 * 64
    assert float(np.std(layer.kernel)) == pytest.approx(np.sqrt(2 / 1.0001 / fan_in), rel=0.01)
    assert np.abs(np.asarray(layer.kernel)).max() > 3 * np.sqrt(2 / fan_in)  # not truncated
    assert not np.any(layer.bias)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": (4,)}, "at least two levels"),
        ({"kernel_sizes": 2}, "kernel_sizes=2 must be odd"),
        ({"kernel_sizes": (3, 3)}, "kernel_sizes=.* must have 3 entries, one per level"),
        ({"strides": (2, 2, 2)}, "the first level must have the stride 1"),
        ({"convolutions": (2, 2)}, "convolutions=.* must be one number, or 3 numbers"),
        ({"decoder_convolutions": (1, 1, 1)}, "decoder_convolutions=.* must be one number, or 2 numbers"),
        ({"activation": "softmx"}, "not the name of a Keras activation"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        NnUNet_plain(**{"features": (4, 8, 8), **arguments})


@BOTH
def test_a_network_of_slices_is_the_2d_network(architecture):
    """Kernels and strides of 1 across the slices: the weights and outputs of the network of images."""
    features, levels = (4, 8, 16), 3

    def make(last: tuple[int, ...]):
        strides = [(1, 1, *last), *[(2, 2, *last)] * (levels - 1)]
        kernels = [(3, 3, *last)] * levels
        blocks = {} if architecture is NnUNet_plain else {"blocks": 1}
        made = architecture(features=features, strides=strides, kernel_sizes=kernels, **blocks)
        return made.create_model((16, 24, *last, 2), n_labels=3)

    flat, deep = make(()), make((1,))
    assert flat.count_params() == deep.count_params()
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=weight.shape).astype("float32") for weight in flat.get_weights()]
    deep.set_weights([weight.reshape(own.shape) for weight, own in zip(weights, deep.get_weights(), strict=True)])
    flat.set_weights(weights)
    images = rng.normal(size=(2, 16, 24, 2)).astype("float32")
    alone, sliced = flat(images, training=False), deep(images[..., None, :], training=False)
    np.testing.assert_allclose(sliced[..., 0, :], alone, atol=2e-4)
