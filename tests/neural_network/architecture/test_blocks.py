"""The blocks keep the grid, or halve or double it, in 2D and 3D."""

import keras
import numpy as np
import pytest

from miscnn_tf.neural_network.architecture import blocks


@pytest.mark.parametrize("spatial", [(8, 6), (8, 6, 4)])
def test_shapes(spatial):
    x = keras.Input((*spatial, 2))
    assert blocks.conv_block(x, 5, "batch", "a").shape == (None, *spatial, 5)
    assert blocks.downsample(x, "b").shape == (None, *(size // 2 for size in spatial), 2)
    assert blocks.upsample(x, 3, "c").shape == (None, *(size * 2 for size in spatial), 3)


@pytest.mark.parametrize(("kind", "layers"), [("batch", 2), ("instance", 2), (None, 0)])
def test_each_convolution_is_followed_by_relu_and_then_the_normalisation(kind, layers):
    image = keras.Input((4, 4, 4, 1))
    model = keras.Model(image, blocks.conv_block(image, 3, kind, "block"))
    convolutions = [layer for layer in model.layers if "Conv" in type(layer).__name__]
    assert [layer.activation.__name__ for layer in convolutions] == ["relu", "relu"]
    assert sum("Normalization" in type(layer).__name__ for layer in model.layers) == layers
    if kind:
        assert "Normalization" in type(model.layers[-1]).__name__


def test_instance_normalisation_against_its_formula(rng):
    x = rng.normal(3.0, 2.0, (2, 4, 3, 5, 2)).astype("float32")
    y = blocks.normalise(keras.ops.convert_to_tensor(x), "instance", "n")
    axes = (1, 2, 3)
    expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_output_layer_is_float32_in_a_half_precision_network():
    image = keras.Input((4, 4, 2), dtype="bfloat16")
    y = blocks.output_layer(image, 3, "softmax")
    assert y.dtype == "float32"
