"""Transposed convolutions with kernel 1 against those of Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from miscnn_tf.neural_network.architecture.layers import Conv2DTranspose, Conv3DTranspose
from miscnn_tf.neural_network.architecture.spread import SpreadConv2D, SpreadConv3D


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("spread", "transposed", "shape"),
    [(SpreadConv2D, Conv2DTranspose, (5, 4)), (SpreadConv3D, Conv3DTranspose, (3, 1, 4))],
)
def test_against_keras(spread, transposed, shape, known, rng):
    layer, reference = spread(3, 1), transposed(3, 1, strides=2, padding="same")
    image = keras.Input((*(shape if known else [None] * len(shape)), 2))
    model = keras.Model(image, layer(image))
    reference.build((None, *shape, 2))
    kernel, bias = rng.normal(size=(2, 3)), rng.normal(size=3)
    ones = (1,) * len(shape)
    layer.set_weights([kernel.reshape(*ones, 2, 3), bias])
    reference.set_weights([kernel.T.reshape(*ones, 3, 2), bias])
    images = tf.constant(rng.normal(size=(2, *shape, 2)), tf.float32)

    def computed(function, weights):
        with tf.GradientTape() as tape:
            outputs = function(images)[(slice(None), *(slice(2 * size - 1) for size in shape))]
            loss = tf.reduce_sum(tf.square(outputs))
        return outputs, tape.gradient(loss, weights)

    found, (kernel_slope, bias_slope) = computed(model, [layer.kernel.value, layer.bias.value])
    expected, slopes = computed(reference, [reference.kernel.value, reference.bias.value])
    assert model.output_shape[1:-1] == (found.shape[1:-1] if known else (None,) * len(shape))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.reshape(kernel_slope, (2, 3)), np.reshape(slopes[0], (3, 2)).T, rtol=1e-4)
    np.testing.assert_allclose(bias_slope, slopes[1], rtol=1e-4)
