"""The residual U-Net."""

from __future__ import annotations

from typing import Any

import keras

from miscnn_tf.neural_network.architecture.blocks import convolution
from miscnn_tf.neural_network.architecture.unet.family import UNet


class Architecture(UNet):
    """The standard U-Net with residual blocks: their projected input is added to their output.

    As in Zhang et al., each level is a residual unit, and a shortcut convolution (kernel 1) projects its input to its
    number of filters. Unlike theirs, ReLU and normalisation follow the convolutions, as in the standard U-Net.

    The arguments are those of `standard.Architecture`.

    Example:
        >>> Architecture(n_filters=8, depth=2).create_model((32, 32, 16, 1), n_labels=3).output_shape
        (None, 32, 32, 16, 3)

    References:
        Zhang, Liu & Wang, "Road Extraction by Deep Residual U-Net", IEEE GRSL 2018, arXiv 1711.10684. He et al., "Deep
        Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385, equation 2.
    """

    def block(self, x: Any, level: int, name: str) -> Any:
        """Add the projected input to the standard block's output."""
        shortcut = convolution(x, self.filters(level), 1, f"{name}_shortcut")
        return keras.layers.Add(name=f"{name}_add")([super().block(x, level, name), shortcut])
