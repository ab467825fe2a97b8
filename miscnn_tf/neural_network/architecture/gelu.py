"""GELU that can be exported and needs little memory."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

__all__ = ["GELU"]


@keras.saving.register_keras_serializable(package="miscnn_tf")
class GELU(keras.layers.Layer):
    """The Gaussian error linear unit, ``x Φ(x)``, exact, with intermediate values in float32.

    Keras' own uses TensorFlow's `Erfc`, which cannot be exported to ONNX, and keeps several tensors for the gradient;
    this layer keeps its input alone.

    Input shape: any. Output shape: the same.

    Example:
        >>> GELU()(tf.constant([1.0])).numpy().round(4).tolist()
        [0.8413000106811523]

    References:
        Hendrycks & Gimpel, "Gaussian Error Linear Units", arXiv 1606.08415.
    """

    def call(self, inputs: Any) -> Any:
        """Apply the function."""
        return _gelu(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the input."""
        return input_shape


@tf.custom_gradient
def _gelu(inputs: tf.Tensor) -> tuple[tf.Tensor, Any]:
    def cumulative(x: tf.Tensor) -> tf.Tensor:
        return 0.5 * (1.0 + tf.math.erf(x * math.sqrt(0.5)))

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        x = tf.cast(inputs, tf.float32)
        density = tf.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return tf.cast(tf.cast(upstream, tf.float32) * (cumulative(x) + x * density), inputs.dtype)

    x = tf.cast(inputs, tf.float32)
    return tf.cast(x * cumulative(x), inputs.dtype), gradient
