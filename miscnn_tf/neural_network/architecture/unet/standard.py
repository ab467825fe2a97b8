"""The standard U-Net."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from miscnn_tf.arguments import whole_number
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture, number_of_axes
from miscnn_tf.neural_network.architecture.blocks import (
    Normalisation,
    conv_block,
    downsample,
    output_layer,
    upsample,
)


class Architecture(Abstract_Architecture):
    """The U-Net of Ronneberger et al. for images and volumes, with padded convolutions.

    Each level of the encoder is twice (3-convolution, ReLU, batch normalisation), then 2-max-pooling; the number of
    filters doubles from level to level. After a bridge of the same kind each level of the decoder is a 2-transposed
    convolution, the concatenation with the encoder's output of that level, and again the two convolutions. A
    1-convolution with the activation gives the class probabilities, in float32 under mixed precision too.

    Args:
        n_filters: Filters of the first level.
        depth: How often the image is halved. Every spatial axis must be divisible by ``2 ** depth``.
        activation: Of the output: "softmax" (classes exclude each other) or "sigmoid" (each for itself), or any other
            that Keras knows by name.
        batch_normalization: Normalise by the batch's statistics (momentum 0.99) after each convolution.
        instance_normalization: Normalise each image of a batch by its own statistics instead. Choose it for batches of
            one or two patches; set ``batch_normalization=False`` with it.

    Raises:
        ConfigurationError: If an argument cannot work.

    Example:
        >>> model = Architecture(n_filters=8, depth=2).create_model((32, 32, 16, 1), n_labels=3)
        >>> model.output_shape
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
        self.depth = whole_number(depth, "depth", 1)
        self.activation = _known_activation(activation)
        if batch_normalization and instance_normalization:
            raise ConfigurationError(
                "batch_normalization and instance_normalization exclude each other: pass batch_normalization=False "
                "with instance_normalization=True"
            )
        self.batch_normalization = bool(batch_normalization)
        self.instance_normalization = bool(instance_normalization)

    @property
    def divisor(self) -> int:
        """Every spatial axis must be divisible by ``2 ** depth``."""
        return int(2**self.depth)

    def create_model(self, input_shape: Sequence[int | None], n_labels: int = 2) -> keras.Model:
        """Build the network for ``(x, y[, z], channels)``; see `Abstract_Architecture.create_model`."""
        number_of_axes(input_shape)
        self.check_shape(input_shape[:-1])
        whole_number(n_labels, "n_labels", 1)
        whole_number(input_shape[-1], "channels (the last entry of input_shape)", 1)

        image = keras.Input(tuple(input_shape), name="image")
        x = image
        skips = []
        for level in range(self.depth):
            x = self._block(x, level, f"down{level}")
            skips.append(x)
            x = downsample(x, f"down{level}_pool")
        x = self._block(x, self.depth, "bridge")
        for level in reversed(range(self.depth)):
            x = upsample(x, self.n_filters * 2**level, f"up{level}_upsample")
            x = keras.layers.Concatenate(name=f"up{level}_skip")([skips[level], x])
            x = self._block(x, level, f"up{level}")
        return keras.Model(image, output_layer(x, n_labels, self.activation), name="unet_standard")

    def _block(self, x: keras.KerasTensor, level: int, name: str) -> keras.KerasTensor:
        return conv_block(x, self.n_filters * 2**level, self._normalisation, name)

    @property
    def _normalisation(self) -> Normalisation:
        if self.batch_normalization:
            return "batch"
        return "instance" if self.instance_normalization else None


def _known_activation(activation: str) -> str:
    try:
        known = isinstance(activation, str) and keras.activations.get(activation) is not None
    except ValueError:
        known = False
    if not known:
        raise ConfigurationError(
            f"activation={activation!r} is not the name of a Keras activation; use 'softmax' or 'sigmoid'"
        )
    return activation
