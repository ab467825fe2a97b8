"""The dense U-Net."""

from __future__ import annotations

from typing import Any

import keras

from miscnn_tf.neural_network.architecture.blocks import conv_block
from miscnn_tf.neural_network.architecture.unet.family import UNet


class Architecture(UNet):
    """The U-Net with dense blocks: each convolution gets the outputs of all earlier ones and the block's input.

    Within a level the connections are those of Huang et al. The output of a block is that of its last convolution, so
    that each level is as wide as in the standard U-Net; Jégou et al. limit the growth in their decoder in the same way.

    The arguments are those of `standard.Architecture`.

    Example:
        >>> Architecture(n_filters=8, depth=2).create_model((32, 32, 16, 1), n_labels=3).output_shape
        (None, 32, 32, 16, 3)

    References:
        Huang, Liu, van der Maaten & Weinberger, "Densely Connected Convolutional Networks", CVPR 2017, arXiv
        1608.06993, equation 2. Jégou et al., "The One Hundred Layers Tiramisu: Fully Convolutional DenseNets for
        Semantic Segmentation", CVPRW 2017, arXiv 1611.09326.
    """

    def block(self, x: Any, level: int, name: str) -> Any:
        """Apply two convolutions; the second one also gets the block's input."""
        first = conv_block(x, self.filters(level), self.normalisation, f"{name}_first", repeats=1)
        inputs = keras.layers.Concatenate(name=f"{name}_dense")([x, first])
        return conv_block(inputs, self.filters(level), self.normalisation, f"{name}_second", repeats=1)
