"""The MultiResUNet."""

from __future__ import annotations

from typing import Any

import keras

from miscnn_tf._base.arguments import positive
from miscnn_tf.neural_network.architecture.blocks import conv_unit, normalise
from miscnn_tf.neural_network.architecture.unet.family import UNet

#: 1/6, 1/3 and 1/2, rounded as in table 1 of the paper (284 of 855 filters, not 285).
_SHARES = (0.167, 0.333, 0.5)


class Architecture(UNet):
    """MultiResUNet: blocks with several receptive fields, and skip connections with convolutions.

    A MultiRes block of a level with U filters has three successive convolutions (kernel 3) with W/6, W/3 and W/2
    filters (rounded down), where W = alpha · U. Their outputs, with the receptive fields of kernels 3, 5 and 7, are
    concatenated, and a shortcut convolution (kernel 1) is added. Res paths replace the skip connections: residual
    convolutions (kernel 3) with shortcut convolutions (kernel 1), `depth` of them at the finest level and one fewer at
    each coarser level. Every convolution is followed by normalisation, then ReLU.

    Args:
        activation: Activation of the output; see `standard.Architecture`.
        n_filters: U of the first level; it doubles with each level.
        depth: Number of times that the image is halved. Every spatial axis must be divisible by ``2 ** depth``.
        alpha: Width factor of the blocks. With 1.67, as in the paper, the network has about as many weights as the
            U-Net.
        batch_normalization: Normalise by the batch's statistics.
        instance_normalization: Normalise each image by its own statistics instead.

    Raises:
        ConfigurationError: If an argument is invalid.

    Example:
        >>> Architecture(n_filters=8, depth=2).create_model((32, 32, 16, 1), n_labels=3).output_shape
        (None, 32, 32, 16, 3)

    References:
        Ibtehaz & Rahman, "MultiResUNet: Rethinking the U-Net architecture for multimodal biomedical image
        segmentation", Neural Networks 2020, arXiv 1902.04049, figures 3 to 5, table 1.
    """

    def __init__(
        self,
        activation: str = "softmax",
        n_filters: int = 32,
        depth: int = 4,
        alpha: float = 1.67,
        batch_normalization: bool = True,
        instance_normalization: bool = False,
    ) -> None:
        super().__init__(n_filters, depth, activation, batch_normalization, instance_normalization)
        self.alpha = positive(alpha, "alpha")

    def widths(self, level: int) -> tuple[int, int, int]:
        """Return the filters of the three convolutions of a block, each at least 1."""
        width = self.alpha * self.filters(level)
        sixth, third, half = (max(1, int(width * share)) for share in _SHARES)
        return sixth, third, half

    def block(self, x: Any, level: int, name: str) -> Any:
        """Apply a MultiRes block."""
        widths = self.widths(level)
        shortcut = conv_unit(x, sum(widths), 1, self.normalisation, f"{name}_shortcut", activation=None)
        scales = []
        for number, filters in enumerate(widths):
            x = conv_unit(x, filters, 3, self.normalisation, f"{name}_conv{number}")
            scales.append(x)
        x = normalise(keras.layers.Concatenate(name=f"{name}_scales")(scales), self.normalisation, f"{name}_scales")
        return self._added(x, shortcut, name)

    def skip(self, features: Any, below: Any, level: int, name: str) -> Any:
        """Apply a Res path, which is longer at finer levels."""
        filters = self.filters(level)
        x = features
        for number in range(self.depth - level):
            step = f"{name}_path{number}"
            shortcut = conv_unit(x, filters, 1, self.normalisation, f"{step}_shortcut", activation=None)
            x = conv_unit(x, filters, 3, self.normalisation, f"{step}_conv")
            x = self._added(x, shortcut, step)
        return x

    def _added(self, x: Any, shortcut: Any, name: str) -> Any:
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
        x = keras.layers.Activation("relu", name=f"{name}_add_relu")(x)
        return normalise(x, self.normalisation, f"{name}_add")
