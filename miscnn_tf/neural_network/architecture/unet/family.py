"""Base class of all U-Nets: encoder, bridge, decoder and skip connections. Variants override its hooks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from miscnn_tf._base.arguments import flag, whole_number
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture, number_of_axes
from miscnn_tf.neural_network.architecture.blocks import (
    Normalisation,
    conv_block,
    downsample,
    output_layer,
    upsample,
)


class UNet(Abstract_Architecture):
    """Base class of the U-Nets, for images and volumes. It builds the standard U-Net itself.

    A variant overrides one or more hooks, which are independent of each other:

    - `filters`: width of a level,
    - `pool_sizes`: factors by which each level is coarser than the one before,
    - `block`: the convolutions of a level, in the encoder, the bridge and the decoder,
    - `skip`: the skip connection of a level,
    - `encode`: the whole encoder.

    Args:
        n_filters: Filters of the first level; each level has twice as many as the one above.
        depth: Number of times that the image is halved. Every spatial axis must be divisible by ``2 ** depth``.
        activation: Activation of the output: "softmax" (exclusive classes), "sigmoid" (independent classes), or another
            name of a Keras activation.
        batch_normalization: Normalise by the batch's statistics (momentum 0.99) after each convolution.
        instance_normalization: Normalise each image of a batch by its own statistics instead. Choose it for batches of
            one or two patches; set ``batch_normalization=False`` with it.

    Raises:
        ConfigurationError: If an argument is invalid.

    Example:
        >>> class Wide(UNet):
        ...     def filters(self, level):
        ...         return self.n_filters
        >>> Wide(n_filters=8, depth=2).create_model((32, 32, 16, 1), n_labels=3).output_shape
        (None, 32, 32, 16, 3)

    References:
        Ronneberger, Fischer & Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
        arXiv 1505.04597. Çiçek et al., "3D U-Net", MICCAI 2016, arXiv 1606.06650.
    """

    def __init__(
        self,
        n_filters: int = 32,
        depth: int = 4,
        activation: str = "softmax",
        batch_normalization: bool = True,
        instance_normalization: bool = False,
    ) -> None:
        self.n_filters = whole_number(n_filters, "n_filters", 1)
        # 16 levels need an axis of 65,536 voxels, and each level doubles the filters.
        self.depth = whole_number(depth, "depth", 1, 16)
        self.activation = known_activation(activation)
        self.batch_normalization = flag(batch_normalization, "batch_normalization")
        self.instance_normalization = flag(instance_normalization, "instance_normalization")
        if batch_normalization and instance_normalization:
            raise ConfigurationError(
                "batch_normalization and instance_normalization exclude each other: pass batch_normalization=False "
                "with instance_normalization=True"
            )

    # ------------------------------------------------------------ hooks

    def filters(self, level: int) -> int:
        """Return the number of filters of a level: 0 is the finest, `depth` the bridge."""
        return int(self.n_filters * 2**level)

    def pool_sizes(self, n_axes: int) -> tuple[tuple[int, ...], ...]:
        """Return the pool size of each level and spatial axis: ``depth`` tuples of `n_axes` numbers."""
        return ((2,) * n_axes,) * self.depth

    def block(self, x: Any, level: int, name: str) -> Any:
        """Apply the convolutions of one level. `name` is the prefix of the layers' names."""
        return conv_block(x, self.filters(level), self.normalisation, name)

    def skip(self, features: Any, below: Any, level: int, name: str) -> Any:
        """Return the features of a level that the decoder gets from the encoder.

        Args:
            features: The encoder's output of the level.
            below: The decoder's output of the next coarser level, on its grid.
            level: The level, 0 the finest.
            name: Prefix of the layers' names.
        """
        return features

    def encode(self, image: Any) -> tuple[list[Any], Any]:
        """Return the features of each level of the encoder, finest first, and the bridge's input."""
        x, skips = image, []
        for level, size in enumerate(self.pool_sizes(len(image.shape) - 2)):
            x = self.block(x, level, f"down{level}")
            skips.append(x)
            x = downsample(x, f"down{level}_pool", size)
        return skips, x

    # ------------------------------------------------------------ results of the hooks

    @property
    def normalisation(self) -> Normalisation:
        """Normalisation of the blocks, either "batch", "instance" or None."""
        if self.batch_normalization:
            return "batch"
        return "instance" if self.instance_normalization else None

    @property
    def divisor(self) -> int:
        """Divisor of every spatial axis in 2D and 3D, ``2 ** depth`` unless `pool_sizes` is overridden."""
        return math.lcm(*self.divisors(2), *self.divisors(3))

    def divisors(self, n_axes: int) -> tuple[int, ...]:
        """Return the divisor of each of `n_axes` spatial axes: the product of its pool sizes."""
        return tuple(math.prod(along) for along in zip(*self.pool_sizes(n_axes), strict=True))

    def create_model(self, input_shape: Sequence[int | None], n_labels: int = 2) -> keras.Model:
        """Build the network for ``(x, y[, z], channels)``; see `Abstract_Architecture.create_model`."""
        n_axes = number_of_axes(input_shape)
        self.check_shape(input_shape[:-1])
        whole_number(n_labels, "n_labels", 1)
        whole_number(input_shape[-1], "channels (the last entry of input_shape)", 1)

        image = keras.Input(tuple(input_shape), name="image")
        skips, x = self.encode(image)
        x = self.block(x, self.depth, "bridge")
        for level, size in reversed(list(enumerate(self.pool_sizes(n_axes)))):
            features = self.skip(skips[level], x, level, f"up{level}")
            x = upsample(x, self.filters(level), f"up{level}_upsample", size)
            x = keras.layers.Concatenate(name=f"up{level}_skip")([features, x])
            x = self.block(x, level, f"up{level}")
        return keras.Model(image, output_layer(x, n_labels, self.activation), name=self._model_name())

    def _model_name(self) -> str:
        # The class of every U-Net is called Architecture; the module name distinguishes them.
        cls = type(self)
        return f"unet_{cls.__module__.rpartition('.')[2]}" if cls.__name__ == "Architecture" else cls.__name__


def known_activation(activation: str, argument: str = "activation") -> str:
    """Return the name of a Keras activation.

    Raises:
        ConfigurationError: If Keras has no such activation.
    """
    try:
        known = isinstance(activation, str) and keras.activations.get(activation) is not None
    except ValueError:
        known = False
    if not known:
        raise ConfigurationError(
            f"{argument}={activation!r} is not the name of a Keras activation; use 'softmax' or 'sigmoid' for the "
            "output, 'relu' between convolutions"
        )
    return activation
