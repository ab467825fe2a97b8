"""Keras layers: variants with correct gradients on CPUs, and layers that Keras does not have.

On CPUs TensorFlow 2.21 sums the gradient of a bfloat16 bias in bfloat16,
which cannot count beyond 256. For 179,200 voxels the gradient is wrong by half, and computing it takes ten times as
long as a sum in float32.

Batch and instance normalisation use TensorFlow's fused kernel, for any number of spatial axes. A 3D U-Net spends 30 %
of its training step in Keras' batch normalisation, and more in its group normalisation: both consist of a dozen
elementwise operations in float32. With the fused kernel it is 5 %.

The layers are registered: ``keras.saving.load_model`` finds them once this package is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from miscnn_tf._base.arguments import sizes, whole_number
from miscnn_tf._machine import onednn
from miscnn_tf.neural_network.keras_internals import all_layers

__all__ = [
    "BatchNormalization",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "InstanceNormalization",
    "LinearUpsampling",
    "MaxPooling3D",
    "SelectChannels",
    "mend_layers",
]


# Activations may have lower precision; the fused kernel keeps the statistics in float32.
_FUSED_DTYPES = ("float32", "bfloat16", "float16")


class _FastBias:
    """Mixin that adds the bias with a gradient summed in float32 by a fast kernel."""

    def call(self, inputs: Any) -> Any:
        as_keras = self.compute_dtype != "bfloat16" or self.data_format != "channels_last"  # type: ignore[attr-defined]
        if not self.use_bias or as_keras:  # type: ignore[attr-defined]
            return super().call(inputs)  # type: ignore[misc]
        outputs = self.convolution_op(inputs, self.kernel)  # type: ignore[attr-defined]
        outputs = _add_bias(outputs, tf.convert_to_tensor(self.bias))  # type: ignore[attr-defined]
        activation = self.activation  # type: ignore[attr-defined]
        return outputs if activation is None else activation(outputs)


@keras.saving.register_keras_serializable(package="miscnn_tf")
class Conv2D(_FastBias, keras.layers.Conv2D):
    """``keras.layers.Conv2D`` with a correct bias gradient in bfloat16."""


@keras.saving.register_keras_serializable(package="miscnn_tf")
class Conv3D(_FastBias, keras.layers.Conv3D):
    """``keras.layers.Conv3D`` with correct bias and kernel gradients in bfloat16.

    On CPUs, oneDNN's gradient of a bfloat16 kernel of size 3 is uninitialised memory (1e26, NaN) if the first spatial
    axis has length 2, as in the bridge of a U-Net (TensorFlow 2.21).
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve; pad a first axis of length 2 by a slice of zeros, which "same" padding implies anyway."""
        if self.compute_dtype != "bfloat16" or self.padding != "same" or self.data_format != "channels_last":
            return super().convolution_op(inputs, kernel)
        length = inputs.shape[1]
        if (length is not None and length != 2) or set(self.strides) != {1} or self.kernel_size[0] == 1:
            return super().convolution_op(inputs, kernel)
        missing: Any = 1
        if length is None:
            length = tf.shape(inputs)[1]
            missing = tf.cast(tf.equal(length, 2), tf.int32)
        # Not tf.pad: TensorFlow's graph optimizer fuses it with the convolution, and the shape changes.
        padded = tf.concat([inputs, tf.zeros_like(inputs[:, :missing])], axis=1)
        outputs = super().convolution_op(padded, kernel)[:, :length]
        outputs.set_shape((*inputs.shape[:-1], self.filters))
        return outputs


class _Transposed(_FastBias):
    """Mixin that gives Keras' transposed convolutions the method ``convolution_op`` of the others."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve, without the bias."""
        return keras.ops.conv_transpose(
            inputs,
            kernel,
            strides=list(self.strides),  # type: ignore[attr-defined]
            padding=self.padding,  # type: ignore[attr-defined]
            output_padding=self.output_padding,  # type: ignore[attr-defined]
            dilation_rate=self.dilation_rate,  # type: ignore[attr-defined]
            data_format=self.data_format,  # type: ignore[attr-defined]
        )


@keras.saving.register_keras_serializable(package="miscnn_tf")
class Conv2DTranspose(_Transposed, keras.layers.Conv2DTranspose):
    """``keras.layers.Conv2DTranspose`` with a correct bias gradient in bfloat16."""


@keras.saving.register_keras_serializable(package="miscnn_tf")
class Conv3DTranspose(_Transposed, keras.layers.Conv3DTranspose):
    """``keras.layers.Conv3DTranspose`` with a correct bias gradient in bfloat16."""


@keras.saving.register_keras_serializable(package="miscnn_tf")
class MaxPooling3D(keras.layers.MaxPooling3D):
    """``keras.layers.MaxPooling3D`` with a correct gradient and float16 support on CPUs.

    TensorFlow has no float16 kernel for CPUs, so a model trained in mixed_float16 on a GPU could not predict on a
    laptop. If several voxels of a pool share the maximum, for instance 0 after a ReLU, TensorFlow's own kernel (2.21)
    gives the whole gradient to each of them, up to eight times too much. oneDNN (in graphs) and GPUs give it to one
    voxel. Without them, this layer divides it among the voxels.
    """

    def call(self, inputs: Any) -> Any:
        """Pool, in float32 if float16 is not supported; the maximum is the same."""
        if tf.config.get_visible_devices("GPU"):
            return super().call(inputs)
        if inputs.dtype == "float16":
            return tf.cast(self._pool(tf.cast(inputs, tf.float32)), tf.float16)
        return self._pool(inputs)

    def _pool(self, inputs: Any) -> Any:
        right = onednn.computes() and not tf.executing_eagerly()
        apart = self.pool_size == self.strides and self.padding == "valid" and self.data_format == "channels_last"
        if right or not apart:
            return super().call(inputs)
        outputs = inputs
        for axis, size in enumerate(self.pool_size, start=1):
            outputs = _maxima(outputs, axis, size)
        return outputs


_CONVOLUTIONS: dict[type, type] = {
    keras.layers.Conv2D: Conv2D,
    keras.layers.Conv2DTranspose: Conv2DTranspose,
    keras.layers.Conv3D: Conv3D,
    keras.layers.Conv3DTranspose: Conv3DTranspose,
}


def mend_layers(model: keras.Model, precision: str) -> None:
    """Replace Keras layers whose gradients are wrong, in place.

    Each layer stays the same object, with its name, weights and connections; only its class changes. Layers whose
    gradients are correct stay unchanged, so that files of such models can be read without this package.

    Args:
        model: The Keras model, before its first use.
        precision: The precision of the model; convolutions are replaced in "mixed_bfloat16" only.

    Example:
        >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3)])
        >>> mend_layers(network, "mixed_bfloat16")
        >>> type(network.layers[0]) is Conv2D
        True
    """
    replacements = dict(_CONVOLUTIONS) if precision == "mixed_bfloat16" else {}
    if precision == "mixed_float16" or not onednn.computes():
        replacements[keras.layers.MaxPooling3D] = MaxPooling3D
    for layer in all_layers(model):
        if type(layer) in replacements:  # subclasses may override call()
            layer.__class__ = replacements[type(layer)]


@keras.saving.register_keras_serializable(package="miscnn_tf")
class LinearUpsampling(keras.layers.Layer):
    """Bilinear or trilinear upsampling by whole factors.

    Voxels are areas, not points (``align_corners=False``): the borders of the image stay in place, and values within
    half a voxel of the border are those of the nearest voxel. Keras interpolates in 2D only.

    Args:
        size: Upsampling factor of each spatial axis.
        **options: Arguments of ``keras.layers.Layer``.

    Input shape: ``(batch, x, y[, z], channels)``. Output shape: ``(batch, x * size[0], y * size[1], …, channels)``.

    Raises:
        ConfigurationError: If `size` has an entry that is not a whole number of at least 1.

    Example:
        >>> LinearUpsampling((1, 2, 2))(tf.zeros((1, 4, 4, 4, 3))).shape
        TensorShape([1, 4, 8, 8, 3])
    """

    def __init__(self, size: Sequence[int], **options: Any) -> None:
        super().__init__(**options)
        self.size = sizes(size, "LinearUpsampling: size")

    def call(self, inputs: Any) -> Any:
        """Interpolate along each axis in turn."""
        outputs = inputs
        for axis, factor in enumerate(self.size, start=1):
            outputs = _interpolate(outputs, axis, factor)
        return outputs

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the upsampled shape; unknown sizes stay unknown."""
        grid = [None if n is None else n * f for n, f in zip(input_shape[1:-1], self.size, strict=True)]
        return (input_shape[0], *grid, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "size": list(self.size)}


@keras.saving.register_keras_serializable(package="miscnn_tf")
class SelectChannels(keras.layers.Layer):
    """Selection of every `step`-th channel, starting with `first`.

    Args:
        first: Index of the first channel.
        step: Distance between selected channels.
        **options: Arguments of ``keras.layers.Layer``.

    Input shape: ``(batch, x, y[, z], channels)``. Output shape: the same with fewer channels.

    Raises:
        ConfigurationError: If an argument is not such a number.

    Example:
        >>> SelectChannels(first=1, step=2)(tf.constant([[[[0.0, 1.0, 2.0, 3.0]]]])).numpy().tolist()
        [[[[1.0, 3.0]]]]
    """

    def __init__(self, first: int, step: int, **options: Any) -> None:
        super().__init__(**options)
        self.first = whole_number(first, "SelectChannels: first")
        self.step = whole_number(step, "SelectChannels: step", 1)

    def call(self, inputs: Any) -> Any:
        """Select the channels."""
        return inputs[..., self.first :: self.step]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the input's shape with the number of selected channels."""
        channels = input_shape[-1]
        return (*input_shape[:-1], None if channels is None else len(range(self.first, channels, self.step)))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "first": self.first, "step": self.step}


@keras.saving.register_keras_serializable(package="miscnn_tf")
class BackgroundChannel(keras.layers.Layer):
    """Conversion of the probability of class 1 (one sigmoid channel) to the probabilities of both classes.

    Class 1 is the more probable one if the sigmoid is above 0.5.

    Input shape: ``(batch, x, y[, z], 1)``. Output shape: ``(batch, x, y[, z], 2)``.

    Example:
        >>> BackgroundChannel()(tf.constant([[[[0.25]]]])).numpy().tolist()
        [[[[0.75, 0.25]]]]
    """

    def call(self, inputs: Any) -> Any:
        """Prepend the probability of the background, ``1 - inputs``."""
        return tf.concat([1 - inputs, inputs], -1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the input's shape with two channels."""
        return (*input_shape[:-1], 2)


def _interpolate(x: Any, axis: int, factor: int) -> Any:
    """Interpolate linearly along one axis, between each coarse voxel and its neighbours."""
    if factor == 1:
        return x

    def part(start: int | None, stop: int | None) -> Any:
        return x[(*(slice(None),) * axis, slice(start, stop))]

    before = tf.concat([part(None, 1), part(None, -1)], axis)
    after = tf.concat([part(1, None), part(-1, None)], axis)
    fine = []
    for number in range(factor):
        # Distance of the fine voxel's centre from the coarse voxel's centre, in coarse voxels.
        offset = (number + 0.5) / factor - 0.5
        fine.append(x * (1 - abs(offset)) + (after if offset > 0 else before) * abs(offset))
    static, dynamic = x.shape.as_list(), tf.shape(x)
    shape = [dynamic[number] if n is None else n for number, n in enumerate(static)]
    shape[axis] = shape[axis] * factor
    return tf.reshape(tf.stack(fine, axis + 1), shape)


def _maxima(x: Any, axis: int, size: int) -> Any:
    """Return the maximum of each `size` neighbours along one axis, without the remainder at its end."""
    if size == 1:
        return x
    static, dynamic = x.shape.as_list(), tf.shape(x)
    shape = [dynamic[number] if n is None else n for number, n in enumerate(static)]
    pools = shape[axis] // size
    whole = x[(*(slice(None),) * axis, slice(pools * size))]
    return tf.reduce_max(tf.reshape(whole, [*shape[:axis], pools, size, *shape[axis + 1 :]]), axis + 1)


@tf.custom_gradient
def _add_bias(outputs: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Any]:
    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        axes = list(range(len(upstream.shape) - 1))
        return upstream, tf.cast(tf.reduce_sum(tf.cast(upstream, tf.float32), axes), bias.dtype)

    return tf.nn.bias_add(outputs, bias), gradient


@keras.saving.register_keras_serializable(package="miscnn_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation over the last axis with TensorFlow's fused kernel, for any number of spatial axes.

    Arguments and results are those of ``keras.layers.BatchNormalization``, which still handles what the fused kernel
    does not support (another axis, masks, synchronised statistics, float64). The moving averages differ: at the n-th
    update their momentum is at most ``(1 + n) / (10 + n)``, as in TensorFlow's ``ExponentialMovingAverage`` with
    ``num_updates``, so that they describe the data from the first epoch on. With a constant momentum of 0.99, the
    initial values still contribute 37 % after 100 steps, and predictions are much worse than the training.

    Input shape: ``(batch, ..., channels)``. Output shape: the same.

    Example:
        >>> BatchNormalization(momentum=0.99)(tf.zeros((2, 8, 8, 8, 16))).shape
        TensorShape([2, 8, 8, 8, 16])

    Reference: Ioffe & Szegedy 2015, arXiv 1502.03167.
    """

    def build(self, input_shape: Any) -> None:
        """Create Keras' weights and the number of updates."""
        super().build(input_shape)
        self.updates = self.add_weight(
            shape=(), name="updates", initializer="zeros", dtype="float32", trainable=False, autocast=False
        )

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise by the statistics of the batch in training, by the moving averages otherwise."""
        special = mask is not None or self.synchronized or getattr(self, "renorm", False)
        if special or not _can_fuse(self, inputs):
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        # The kernel needs four axes; merging the spatial axes does not change the result.
        flat = tf.reshape(inputs, (1, -1, 1, channels))
        in_training = bool(training and self.trainable)
        scale, offset = _scale_and_offset(self, channels)
        none = tf.zeros((0,))
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=flat,
            scale=scale,
            offset=offset,
            mean=none if in_training else tf.convert_to_tensor(self.moving_mean),
            variance=none if in_training else tf.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon,
            is_training=in_training,
        )
        if in_training:
            # The kernel returns the sample variance (n - 1); Keras uses the population variance (n).
            count = tf.cast(tf.shape(flat)[1], variance.dtype)
            variance *= (count - 1.0) / count
            updates = tf.convert_to_tensor(self.updates)
            momentum = tf.minimum(self.momentum, (1.0 + updates) / (10.0 + updates))
            self.moving_mean.assign(self.moving_mean * momentum + mean * (1.0 - momentum))
            self.moving_variance.assign(self.moving_variance * momentum + variance * (1.0 - momentum))
            self.updates.assign(updates + 1.0)
        outputs = tf.reshape(outputs, tf.shape(inputs))
        outputs.set_shape(inputs.shape)
        return outputs


@keras.saving.register_keras_serializable(package="miscnn_tf")
class InstanceNormalization(keras.layers.GroupNormalization):
    """Instance normalisation over the spatial axes: each channel of each image by its own mean and variance.

    Arguments, weights and results are those of ``keras.layers.GroupNormalization(groups=-1)``, which still handles what
    the fused kernel does not support (another axis, float64). Epsilon is 1e-5, as in nnU-Net and MONAI.

    Args:
        epsilon: Added to the variance.
        **options: Further arguments of ``keras.layers.GroupNormalization``, except ``groups``.

    Input shape: ``(batch, ..., channels)``. Output shape: the same.

    Example:
        >>> InstanceNormalization()(tf.zeros((2, 8, 8, 8, 16))).shape
        TensorShape([2, 8, 8, 8, 16])

    Reference: Ulyanov et al. 2016, arXiv 1607.08022.
    """

    def __init__(self, epsilon: float = 1e-5, **options: Any) -> None:
        super().__init__(groups=-1, epsilon=epsilon, **options)

    def add_weight(self, *arguments: Any, **options: Any) -> Any:
        """Keep scale and offset in float32 under mixed precision, as batch normalisation does."""
        return super().add_weight(*arguments, **{**options, "autocast": False})

    def call(self, inputs: Any) -> Any:
        """Normalise each image of the batch; the kernel gets them as channels of one image."""
        if not _can_fuse(self, inputs):
            return super().call(inputs)
        channels, shape = inputs.shape[-1], tf.shape(inputs)
        images = shape[0]
        scale, offset = _scale_and_offset(self, channels)
        beside = tf.transpose(tf.reshape(inputs, (images, -1, channels)), (1, 0, 2))
        none = tf.zeros((0,))
        normal, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.reshape(beside, (1, -1, 1, images * channels)),
            scale=tf.tile(scale, [images]),
            offset=tf.tile(offset, [images]),
            mean=none,
            variance=none,
            epsilon=self.epsilon,
            is_training=True,
        )
        outputs = tf.reshape(tf.transpose(tf.reshape(normal, (-1, images, channels)), (1, 0, 2)), shape)
        outputs.set_shape(inputs.shape)
        return outputs

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        config: dict[str, Any] = super().get_config()
        del config["groups"]
        return config


def _can_fuse(layer: Any, inputs: Any) -> bool:
    return (
        layer.axis in (-1, len(inputs.shape) - 1)
        and keras.backend.standardize_dtype(inputs.dtype) in _FUSED_DTYPES
        and layer.variable_dtype == "float32"
    )


def _scale_and_offset(layer: Any, channels: int) -> tuple[tf.Tensor, tf.Tensor]:
    scale = tf.convert_to_tensor(layer.gamma) if layer.scale else tf.ones((channels,))
    return scale, tf.convert_to_tensor(layer.beta) if layer.center else tf.zeros((channels,))
