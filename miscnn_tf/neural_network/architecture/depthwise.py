"""Depthwise convolution of images and volumes, also strided and transposed.

TensorFlow has depthwise convolutions in 2D only, and no grouped 3D convolutions on CPUs. A volume is convolved as the
sum of 2D convolutions of its planes, one for each plane of the kernel, shifted along the first axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal

import keras
import tensorflow as tf

from miscnn_tf._base.arguments import whole_number
from miscnn_tf.errors import ConfigurationError

__all__ = ["DepthwiseConvolution", "interleaved"]

_GRIDS: Final = ("same", "half", "double")


@keras.saving.register_keras_serializable(package="miscnn_tf")
class DepthwiseConvolution(keras.layers.Layer):
    """Convolution of each channel with a kernel of its own, with the padding and initial weights of PyTorch.

    It is computed in float32: in bfloat16 and float16, TensorFlow 2.21 sums the gradient of the kernel in that
    precision, and for 16,384 voxels of 1 returns 1,024 and 8,192.

    Args:
        kernel_size: Edge of the kernel, odd and at least 3.
        grid: "same"; "half": stride 2, ``(n + 1) // 2`` voxels; or "double": transposed with stride 2, ``2 n - 1``
            voxels.
        **options: Arguments of ``keras.layers.Layer``.

    Input shape: ``(batch, x, y[, z], channels)``. Output shape: the same, with the voxels of `grid`.

    Raises:
        ConfigurationError: If an argument is invalid.

    Example:
        >>> DepthwiseConvolution(3, "double")(tf.zeros((2, 4, 4, 4, 8))).shape
        TensorShape([2, 7, 7, 7, 8])
    """

    def __init__(self, kernel_size: int = 3, grid: Literal["same", "half", "double"] = "same", **options: Any) -> None:
        super().__init__(**options)
        self.kernel_size = whole_number(kernel_size, "DepthwiseConvolution: kernel_size", 3)
        if self.kernel_size % 2 == 0:
            raise ConfigurationError(f"DepthwiseConvolution: kernel_size={kernel_size} must be odd")
        if grid not in _GRIDS:
            raise ConfigurationError(f"DepthwiseConvolution: grid={grid!r} must be one of {', '.join(_GRIDS)}")
        self.grid = grid

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the weights; the kernel has the axes of a Keras convolution in as many groups as channels."""
        n_axes, channels = len(input_shape) - 2, input_shape[-1]
        limit = 1 / math.sqrt(self.kernel_size**n_axes)
        for name, shape in (("kernel", (self.kernel_size,) * n_axes + (1, channels)), ("bias", (channels,))):
            weight = self.add_weight(
                name=name, shape=shape, initializer=keras.initializers.RandomUniform(-limit, limit), autocast=False
            )
            setattr(self, name, weight)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Convolve, and add the bias."""
        x = tf.cast(inputs, tf.float32)
        kernel = tf.squeeze(tf.convert_to_tensor(self.kernel), -2)
        if self.grid == "double":
            axes = range(len(x.shape) - 2)
            outputs = _doubled(x, tf.reverse(kernel, list(axes)))
            # The last voxel would be beyond the last one of the input.
            outputs = outputs[(slice(None), *(slice(-1) for _ in axes))]
        else:
            outputs = _convolved(x, kernel, 2 if self.grid == "half" else 1)
        outputs = tf.cast(tf.nn.bias_add(outputs, tf.convert_to_tensor(self.bias)), inputs.dtype)
        outputs.set_shape(self.compute_output_shape(inputs.shape))
        return outputs

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the output; unknown sizes stay unknown."""
        sizes = list(input_shape[1:-1])
        if self.grid == "half":
            sizes = [None if n is None else (n + 1) // 2 for n in sizes]
        elif self.grid == "double":
            sizes = [None if n is None else 2 * n - 1 for n in sizes]
        return (input_shape[0], *sizes, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "kernel_size": self.kernel_size, "grid": self.grid}


def _convolved(x: Any, kernel: Any, stride: int) -> Any:
    """Convolve with ``(size - 1) // 2`` zeros before the first voxel of each axis.

    Args:
        x: ``(batch, x, y[, z], channels)``.
        kernel: ``(size, size[, size], channels)``.
        stride: 1 or 2.
    """
    padding = "SAME"
    if stride > 1:
        # The padding "SAME" would begin one voxel later.
        edges: list[tuple[int, Any]] = [((size - 1) // 2, size // 2) for size in kernel.shape[:-1]]
        if len(edges) == 3:  # the planes are shifted instead; each phase needs as many
            planes = tf.shape(x)[1] if x.shape[1] is None else x.shape[1]
            edges[0] = (0, planes % stride)
        x = tf.pad(x, [(0, 0), *edges, (0, 0)])
        padding = "VALID"

    def convolved(images: Any, plane: Any) -> Any:
        return tf.nn.depthwise_conv2d(images, plane[..., None], (1, stride, stride, 1), padding)

    if len(x.shape) == 4:
        return convolved(x, kernel)
    phases = [x[:, phase::stride] for phase in range(stride)]
    first = (kernel.shape[0] - 1) // 2
    terms = []
    for number in range(kernel.shape[0]):
        shift, phase = divmod(number - first, stride)
        volumes = phases[phase]
        # The planes of all volumes are one batch of images.
        images = convolved(tf.reshape(volumes, [-1, *_sizes(volumes)[2:]]), kernel[number])
        convolved_volumes = tf.reshape(images, [*_sizes(volumes)[:2], *_sizes(images)[1:]])
        terms.append(_shifted(convolved_volumes, shift))
    return tf.add_n(terms)


def _doubled(x: Any, kernel: Any, axis: int = 0) -> Any:
    """Return the transposed convolution of stride 2 with a reversed kernel, as ``2 n`` voxels per axis.

    An even and an odd voxel of the output depend on every second voxel of the kernel each, so both are convolutions
    with stride 1, without products with zeros. TensorFlow's transposed depthwise convolution cannot be exported to
    ONNX.
    """
    if axis == len(x.shape) - 2:
        return _convolved(x, kernel, 1)
    half = (kernel.shape[axis] - 1) // 2
    even, odd = (
        _doubled(x, kernel[(*(slice(None),) * axis, slice((half + phase) % 2, None, 2))], axis + 1) for phase in (0, 1)
    )
    return interleaved(even, odd, axis + 1)


def interleaved(first: Any, second: Any, axis: int) -> Any:
    """Return the voxels of two tensors of one shape in turn along an axis, ``2 n`` of them."""
    sizes = _sizes(first)
    sizes[axis] *= 2
    return tf.reshape(tf.stack([first, second], axis + 1), sizes)


def _sizes(x: Any) -> list[Any]:
    """Return the sizes for a reshape, without operations in the graph where all but the batch are known."""
    static = x.shape.as_list()
    if None not in static[1:]:
        return [-1, *static[1:]]
    dynamic = tf.shape(x)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(static)]


def _shifted(volumes: Any, shift: int) -> Any:
    """Return the planes that are `shift` further along the first axis, zeros beyond it."""
    if shift == 0:
        return volumes
    padding = [(0, 0)] * len(volumes.shape)
    padding[1] = (max(0, -shift), max(0, shift))
    padded = tf.pad(volumes, padding)
    return padded[:, shift:] if shift > 0 else padded[:, :shift]
