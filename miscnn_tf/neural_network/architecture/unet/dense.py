"""The dense U-Net."""

from __future__ import annotations

from typing import Any

import keras

from miscnn_tf.neural_network.architecture.blocks import conv_block
from miscnn_tf.neural_network.architecture.unet.family import UNet


class Architecture(UNet):
    """The U-Net with dense blocks: each convolution sees the block's input and all earlier convolutions of the block.

    This is the connectivity of Huang et al. within a level. A block hands on the maps of its last convolution alone, so
    that each level is as wide as the standard U-Net's; Jégou et al. stop the growth in the same way in their decoder.

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
        """Two convolutions, the second of which sees the first one's output beside the block's input."""
        first = conv_block(x, self.filters(level), self.normalisation, f"{name}_first", repeats=1)
        seen = keras.layers.Concatenate(name=f"{name}_dense")([x, first])
        return conv_block(seen, self.filters(level), self.normalisation, f"{name}_second", repeats=1)
