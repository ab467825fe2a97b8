"""Depthwise convolutions against those of scipy, one channel at a time."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import signal

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.depthwise import DepthwiseConvolution

SHAPES = [(8, 6), (7, 5), (1, 2), (6, 4, 8), (5, 7, 3), (1, 2, 1)]


def expected_of(image, kernel, bias, grid):
    """Centred windows of the image; of every second voxel; or of an image with zeros between its voxels."""
    halves = (slice(None, None, 2),) * image.ndim
    if grid == "double":
        spread = np.zeros([2 * size - 1 for size in image.shape])
        spread[halves] = image
        return signal.convolve(np.pad(spread, kernel.shape[0] // 2), kernel, mode="valid", method="direct") + bias
    same = signal.correlate(np.pad(image, kernel.shape[0] // 2), kernel, mode="valid", method="direct") + bias
    return same[halves] if grid == "half" else same


@pytest.mark.parametrize("grid", ["same", "half", "double"])
@pytest.mark.parametrize("known", [True, False])
def test_against_scipy(grid, known, rng):
    for shape, size in itertools.product(SHAPES, (3, 5, 7)):
        layer = DepthwiseConvolution(size, grid)
        image = keras.Input((*(shape if known else [None] * len(shape)), 3))
        model = keras.Model(image, layer(image))
        kernel, bias = rng.normal(size=(size,) * len(shape) + (1, 3)), rng.normal(size=3)
        layer.set_weights([kernel, bias])
        images = rng.normal(size=(2, *shape, 3)).astype(np.float32)
        found = tf.function(model, autograph=False)(images)
        assert model.output_shape[1:-1] == (found.shape[1:-1] if known else (None,) * len(shape))
        for number, channel in itertools.product(range(2), range(3)):
            expected = expected_of(images[number, ..., channel], kernel[..., 0, channel], bias[channel], grid)
            np.testing.assert_allclose(found[number, ..., channel], expected, atol=1e-4, err_msg=f"{shape} {size}")


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16", "float32"])
@pytest.mark.parametrize("shape", [(4, 64, 64, 2), (1, 16, 32, 32, 2)])
def test_the_gradient_of_the_kernel_is_a_sum_in_float32(precision, shape):
    """TensorFlow's own is 1,024 in bfloat16."""
    layer = DepthwiseConvolution(3, dtype=precision)
    layer.build(shape)
    with tf.GradientTape() as tape:
        outputs = layer(tf.ones(shape))
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32))
    kernel, bias = tape.gradient(loss, [layer.kernel.value, layer.bias.value])
    centre = (1,) * (len(shape) - 2)
    np.testing.assert_array_equal(kernel[(*centre, 0)], 16384)
    np.testing.assert_array_equal(bias, 16384)
    assert outputs.dtype == layer.compute_dtype
    assert kernel.dtype == "float32"


def test_the_initial_weights_are_those_of_pytorch():
    layer = DepthwiseConvolution(3)
    layer.build((None, 8, 8, 8, 4096))
    kernel = np.asarray(layer.kernel)
    limit = 27**-0.5
    assert np.abs(kernel).max() == pytest.approx(limit, rel=1e-3)
    assert kernel.std() == pytest.approx(limit / 3**0.5, rel=0.01)
    assert np.asarray(layer.bias).std() == pytest.approx(limit / 3**0.5, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((4,), "kernel_size=4 must be odd"), ((1,), "kernel_size"), ((3, "twice"), "'twice' must be one of same, half")],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        DepthwiseConvolution(*arguments)
