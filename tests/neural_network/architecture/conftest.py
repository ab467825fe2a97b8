from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def same_as_keras(rng):
    """Compares a layer with Keras' own: outputs, gradients, and weights afterwards, all from the same weights."""
    import keras
    import tensorflow as tf

    def output_and_gradients(layer, x, upstream, training):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training) if isinstance(layer, keras.layers.BatchNormalization) else layer(x)
            objective = tf.reduce_sum(tf.cast(y, tf.float32) * upstream)
        return [y, *tape.gradient(objective, [x, *(variable.value for variable in layer.trainable_variables)])]

    def compare(ours, reference, spatial, tolerance, training=True):
        low = reference.compute_dtype == "bfloat16"
        x = tf.constant(rng.normal(1.0, 2.0, (2, *spatial, 3)), dtype="bfloat16" if low else "float32")
        upstream = tf.constant(rng.normal(size=reference.compute_output_shape(x.shape)), dtype="float32")
        ours.build(x.shape)
        reference.build(x.shape)
        weights = [np.abs(rng.normal(1, 0.3, weight.shape)) for weight in reference.get_weights()]
        # So many updates that the momentum is the full one.
        ours.set_weights(weights if len(ours.weights) == len(weights) else [*weights, np.array(1e6)])
        reference.set_weights(weights)
        results = zip(
            output_and_gradients(ours, x, upstream, training),
            output_and_gradients(reference, x, upstream, training),
            strict=True,
        )
        for result, expected in results:
            assert result.dtype == expected.dtype
            result, expected = (np.asarray(tf.cast(array, tf.float32)) for array in (result, expected))
            np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
        for result, expected in zip(ours.get_weights()[: len(weights)], reference.get_weights(), strict=True):
            np.testing.assert_allclose(result, expected, rtol=1e-5)

    return compare
