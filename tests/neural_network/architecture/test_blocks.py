"""The blocks keep the grid, or halve or double it, in 2D and 3D."""

import keras
import numpy as np
import pytest
import scipy.ndimage

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


@pytest.mark.parametrize("size", [(1, 2, 2), (2, 1, 3)])
def test_axes_may_be_pooled_differently(size):
    x = keras.Input((4, 4, 6, 2))
    pooled = blocks.downsample(x, "a", size)
    assert pooled.shape == (None, *(n // f for n, f in zip((4, 4, 6), size, strict=True)), 2)
    assert blocks.upsample(pooled, 3, "b", size).shape == (None, 4, 4, 6, 3)


def test_a_unit_normalises_before_the_activation(rng):
    image = keras.Input((8, 8, 2))
    model = keras.Model(image, blocks.conv_unit(image, 3, 3, "instance", "unit"))
    y = np.asarray(model(rng.normal(size=(1, 8, 8, 2)).astype("float32")))
    assert y.min() == 0
    assert [type(layer).__name__ for layer in model.layers[1:]] == ["Conv2D", "InstanceNormalization", "Activation"]
    assert not model.layers[1].use_bias
    linear = keras.Model(image, blocks.conv_unit(image, 3, 3, None, "linear", activation=None))
    assert [type(layer).__name__ for layer in linear.layers[1:]] == ["Conv2D"]
    assert linear.layers[1].use_bias


@pytest.mark.parametrize("size", [(2, 2), (1, 2), (2, 2, 2), (1, 2, 2)])
def test_attention_gate_against_the_papers_equation(size, rng):
    """α = σ(ψ relu(W_x x + W_g g + b_g) + b_ψ), interpolated to the grid of x, in float64 numpy."""
    coarse = (3, 2, 4)[: len(size)]
    fine = tuple(n * f for n, f in zip(coarse, size, strict=True))
    inputs = [keras.Input((*fine, 3)), keras.Input((*coarse, 5))]
    model = keras.Model(inputs, blocks.attention_gate(*inputs, filters=4, size=size, name="gate"))
    model.set_weights([rng.normal(size=weight.shape) for weight in model.get_weights()])
    x, g = rng.normal(size=(2, *fine, 3)), rng.normal(size=(2, *coarse, 5))

    def weights(name):
        return [weight.astype(float) for weight in model.get_layer(f"gate_{name}").get_weights()]

    ((w_x,), (w_g, b_g), (w_psi, b_psi)) = weights("theta"), weights("phi"), weights("psi")
    # Each coarse voxel is the weighted sum over its own fine voxels.
    total = np.tensordot(g, w_g.reshape(5, 4), 1) + b_g
    for offset in np.ndindex(size):
        cells = x[(slice(None), *(slice(o, None, f) for o, f in zip(offset, size, strict=True)))]
        total += np.tensordot(cells, w_x[offset], 1)
    alpha = 1 / (1 + np.exp(-(np.tensordot(np.maximum(total, 0), w_psi.reshape(4, 1), 1) + b_psi)))
    alpha = scipy.ndimage.zoom(alpha, (1, *size, 1), order=1, mode="nearest", grid_mode=True, prefilter=False)
    np.testing.assert_allclose(model([x.astype("float32"), g.astype("float32")]), alpha * x, atol=1e-4)
