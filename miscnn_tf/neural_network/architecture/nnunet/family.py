"""Base class of nnU-Net's networks: strides, kernels and filters for each level and axis, and deep supervision."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Final

import keras

from miscnn_tf._base.arguments import flag, sizes, whole_number
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture, number_of_axes
from miscnn_tf.neural_network.architecture.blocks import normalise
from miscnn_tf.neural_network.architecture.layers import Conv2D, Conv2DTranspose, Conv3D, Conv3DTranspose
from miscnn_tf.neural_network.architecture.unet.family import known_activation

#: Negative slope of nnU-Net's leaky ReLU.
SLOPE: Final = 0.01

_CONVOLUTION: Final[dict[int, type[keras.layers.Layer]]] = {2: Conv2D, 3: Conv3D}
_TRANSPOSED: Final[dict[int, type[keras.layers.Layer]]] = {2: Conv2DTranspose, 3: Conv3DTranspose}
_PADDING: Final = {2: keras.layers.ZeroPadding2D, 3: keras.layers.ZeroPadding3D}

PerLevel = int | Sequence[int] | Sequence[Sequence[int]]


class NnUNet(Abstract_Architecture):
    """Base class of nnU-Net's networks; subclasses build the encoder.

    Args:
        features: Filters of each level, finest first; their number is that of the levels.
        kernel_sizes: Kernel of the convolutions, odd: a number for all levels and axes, or for each level a number or
            one number per axis, ``((3, 3, 1), (3, 3, 3), …)``.
        strides: Stride of the first convolution of each level, in the same forms. A number is that of all levels but
            the first, whose stride is 1.
        blocks: Convolutions or residual blocks of each level of the encoder, or one number for all.
        decoder_convolutions: Convolutions of each level of the decoder, finest first, or one number for all.
        activation: Activation of the outputs; see `unet.standard.Architecture`.
        deep_supervision: Return an output for each level of the decoder, finest first. The loss is then the sum over
            all but the coarsest, weighted with 1, 1/2, 1/4, …; predictions are those of the first.

    Raises:
        ConfigurationError: If an argument is invalid.
    """

    #: Name of the argument `blocks` in a subclass, for messages.
    _blocks_argument = "blocks"

    def __init__(
        self,
        features: Sequence[int],
        kernel_sizes: PerLevel,
        strides: PerLevel,
        blocks: int | Sequence[int],
        decoder_convolutions: int | Sequence[int],
        activation: str,
        deep_supervision: bool,
    ) -> None:
        self.features = sizes(features, "features")
        levels = len(self.features)
        if levels < 2:
            raise ConfigurationError(f"features={features!r} must have at least two levels")
        self.kernel_sizes = _per_level_and_axis(kernel_sizes, "kernel_sizes", levels)
        if any(edge % 2 == 0 for kernel in self.kernel_sizes for edge in kernel):
            raise ConfigurationError(f"kernel_sizes={kernel_sizes!r} must be odd numbers")
        self.strides = _per_level_and_axis(strides, "strides", levels)
        if isinstance(strides, int):
            self.strides = ((1,), *self.strides[1:])
        if set(self.strides[0]) != {1}:
            raise ConfigurationError(f"strides={strides!r}: the first level must have the stride 1")
        self.blocks = _per_level(blocks, self._blocks_argument, levels)
        self.decoder_convolutions = _per_level(decoder_convolutions, "decoder_convolutions", levels - 1)
        self.activation = known_activation(activation)
        self.deep_supervision = flag(deep_supervision, "deep_supervision")

    # ------------------------------------------------------------ hooks

    @abstractmethod
    def encode(self, image: Any) -> list[Any]:
        """Return the features of each level, finest first."""

    # ------------------------------------------------------------ the network

    def divisors(self, n_axes: int) -> tuple[int, ...]:
        """Return the divisor of each axis: the product of its strides.

        Raises:
            ConfigurationError: If the strides have another number of axes.
        """
        along = zip(*(self.stride(level, n_axes) for level in range(len(self.features))), strict=True)
        return tuple(math.prod(steps) for steps in along)

    def stride(self, level: int, n_axes: int) -> tuple[int, ...]:
        """Return the stride of a level for each axis."""
        return _for_axes(self.strides[level], n_axes, "strides")

    def kernel(self, level: int, n_axes: int) -> tuple[int, ...]:
        """Return the kernel of a level for each axis."""
        return _for_axes(self.kernel_sizes[level], n_axes, "kernel_sizes")

    def create_model(self, input_shape: Sequence[int | None], n_labels: int = 2) -> keras.Model:
        """Build the network for ``(x, y[, z], channels)``; see `Abstract_Architecture.create_model`.

        With `deep_supervision` the model has several outputs.
        """
        n_axes = number_of_axes(input_shape)
        self.check_shape(input_shape[:-1])
        whole_number(n_labels, "n_labels", 1)
        image = keras.Input(tuple(input_shape), name="image")
        levels = self.encode(image)
        x, outputs = levels[-1], []
        for level in reversed(range(len(levels) - 1)):
            name, stride = f"up{level}", self.stride(level + 1, n_axes)
            upsample = _TRANSPOSED[n_axes](
                self.features[level],
                stride,
                strides=stride,
                padding="same",
                kernel_initializer=he_normal(),
                name=f"{name}_upsample",
            )
            x = keras.layers.Concatenate(name=f"{name}_skip")([upsample(x), levels[level]])
            for number in range(self.decoder_convolutions[level]):
                x = unit(x, self.features[level], self.kernel(level, n_axes), f"{name}_conv{number}")
            if self.deep_supervision or level == 0:
                outputs.append(self._output(x, n_labels, "output" if level == 0 else f"output{level}"))
        outputs = outputs[::-1]
        return keras.Model(image, outputs if len(outputs) > 1 else outputs[0], name=self._name())

    def _output(self, x: Any, n_labels: int, name: str) -> Any:
        # Always in float32: in half precision probabilities would not sum to one.
        return convolve(x, n_labels, 1, name, activation=self.activation, dtype="float32")

    def _name(self) -> str:
        return f"nnunet_{type(self).__module__.rpartition('.')[2]}"


def he_normal() -> keras.initializers.Initializer:
    """Return nnU-Net's initializer: He et al. (arXiv 1502.01852) for a leaky ReLU of slope 0.01, not truncated."""
    return keras.initializers.VarianceScaling(2 / (1 + SLOPE**2), "fan_in", "untruncated_normal")


def convolve(
    x: Any, filters: int, kernel: int | Sequence[int], name: str, stride: Sequence[int] | None = None, **options: Any
) -> Any:
    """Convolve with the padding of PyTorch, ``(kernel - 1) / 2`` voxels before the first one.

    With a stride, padding "same" of TensorFlow would begin one voxel later.

    Args:
        x: ``(batch, x, y[, z], channels)``; each axis is divisible by its stride.
        filters: Number of output channels.
        kernel: Edge of the kernel, odd, for all axes or for each.
        name: Name of the layer.
        stride: Stride for each axis; None for 1.
        **options: Further arguments of ``keras.layers.Conv3D``.
    """
    n_axes = len(x.shape) - 2
    kernel = (kernel,) * n_axes if isinstance(kernel, int) else tuple(kernel)
    stride = (1,) * n_axes if stride is None else tuple(stride)
    padding = "same"
    if any(step > 1 for step in stride):
        before = [(edge - 1) // 2 for edge in kernel]
        # The voxels that the last window reaches.
        after = [max(0, edge - step - first) for edge, step, first in zip(kernel, stride, before, strict=True)]
        if any(before):
            x = _PADDING[n_axes](tuple(zip(before, after, strict=True)), name=f"{name}_padding")(x)
        padding = "valid"
    return _CONVOLUTION[n_axes](
        filters, kernel, strides=stride, padding=padding, kernel_initializer=he_normal(), name=name, **options
    )(x)


def unit(
    x: Any,
    filters: int,
    kernel: int | Sequence[int],
    name: str,
    stride: Sequence[int] | None = None,
    *,
    activate: bool = True,
    use_bias: bool = True,
) -> Any:
    """Apply convolution, instance normalisation, and leaky ReLU if asked.

    Args:
        x: ``(batch, x, y[, z], channels)``.
        filters: Number of output channels.
        kernel: Edge of the kernel, for all axes or for each.
        name: Name of the convolution, and prefix of the others.
        stride: Stride for each axis; None for 1.
        activate: Apply leaky ReLU.
        use_bias: Add a bias to the convolution.
    """
    x = convolve(x, filters, kernel, name, stride, use_bias=use_bias)
    x = normalise(x, "instance", name)
    return leaky_relu(x, f"{name}_activation") if activate else x


def leaky_relu(x: Any, name: str) -> Any:
    """Apply the leaky ReLU."""
    return keras.layers.LeakyReLU(negative_slope=SLOPE, name=name)(x)


def _per_level(value: Any, argument: str, levels: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (whole_number(value, argument, 1),) * levels
    numbers = sizes(value, argument)
    if len(numbers) != levels:
        raise ConfigurationError(f"{argument}={value!r} must be one number, or {levels} numbers, one per level")
    return numbers


def _per_level_and_axis(value: Any, argument: str, levels: int) -> tuple[tuple[int, ...], ...]:
    """Return for each level the numbers of the axes; one number applies to all axes."""
    each = [value] * levels if isinstance(value, int) else list(value)
    if len(each) != levels:
        raise ConfigurationError(f"{argument}={value!r} must have {levels} entries, one per level")
    numbers = [(one,) if isinstance(one, int) else one for one in each]
    return tuple(sizes(one, argument) for one in numbers)


def _for_axes(numbers: tuple[int, ...], n_axes: int, argument: str) -> tuple[int, ...]:
    if len(numbers) not in (1, n_axes):
        raise ConfigurationError(
            f"{argument} has {len(numbers)} numbers per level, {numbers}, but the data have {n_axes} spatial axes"
        )
    return numbers * n_axes if len(numbers) == 1 else numbers
