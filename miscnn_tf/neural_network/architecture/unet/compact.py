"""The compact U-Net."""

from __future__ import annotations

from typing import Any

import keras

from miscnn_tf.neural_network.architecture.unet.family import UNet


class Architecture(UNet):
    """The standard U-Net with the input of each block concatenated to its output.

    The bridge, and the decoder through the skip connections, get the features of all finer levels. The layers of a
    DenseNet are connected in the same way; here a layer is the U-Net's block of two convolutions.

    The arguments are those of `standard.Architecture`.

    Example:
        >>> Architecture(n_filters=8, depth=2).create_model((32, 32, 16, 1), n_labels=3).output_shape
        (None, 32, 32, 16, 3)

    References:
        Huang, Liu, van der Maaten & Weinberger, "Densely Connected Convolutional Networks", CVPR 2017, arXiv
        1608.06993. Guan et al., "Fully Dense UNet for 2D Sparse Photoacoustic Tomography Artifact Removal", IEEE JBHI
        2020, arXiv 1808.10848.
    """

    def block(self, x: Any, level: int, name: str) -> Any:
        """Concatenate the block's input and the standard block's output."""
        return keras.layers.Concatenate(name=f"{name}_compact")([x, super().block(x, level, name)])
