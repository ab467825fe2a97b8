"""Transposed convolutions with kernel 1 and stride 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from miscnn_tf.neural_network.architecture.depthwise import interleaved
from miscnn_tf.neural_network.architecture.layers import Conv2D, Conv3D

__all__ = ["SpreadConv2D", "SpreadConv3D"]


class _Spread:
    """Mixin that puts zeros between the voxels of a convolution's output, before the bias."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve, and put zeros between the voxels."""
        outputs = super().convolution_op(inputs, kernel)  # type: ignore[misc]
        axes = range(1, len(outputs.shape) - 1)
        for axis in axes:
            outputs = interleaved(outputs, tf.zeros_like(outputs), axis)
        return outputs[(slice(None), *(slice(-1) for _ in axes))]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the output; unknown sizes stay unknown."""
        batch, *sizes, filters = super().compute_output_shape(input_shape)  # type: ignore[misc]
        return (batch, *(None if size is None else 2 * size - 1 for size in sizes), filters)


@keras.saving.register_keras_serializable(package="miscnn_tf")
class SpreadConv2D(_Spread, Conv2D):
    """Transposed convolution of images with kernel 1 and stride 2, from ``n`` to ``2 n - 1`` pixels.

    Arguments are those of ``keras.layers.Conv2D`` with kernel and stride 1. Between the pixels of the input, the output
    is the bias. Exported to ONNX, ``keras.layers.Conv2DTranspose`` with kernel 1 cannot be loaded (tf2onnx 1.17).

    Example:
        >>> SpreadConv2D(2, 1)(tf.zeros((1, 4, 4, 3))).shape
        TensorShape([1, 7, 7, 2])
    """


@keras.saving.register_keras_serializable(package="miscnn_tf")
class SpreadConv3D(_Spread, Conv3D):
    """Transposed convolution of volumes with kernel 1 and stride 2; see `SpreadConv2D`."""
