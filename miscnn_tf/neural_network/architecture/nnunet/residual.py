"""nnU-Net's U-Net with a residual encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from miscnn_tf.neural_network.architecture.nnunet.family import NnUNet, PerLevel, leaky_relu, unit

_POOLING = {2: keras.layers.AveragePooling2D, 3: keras.layers.AveragePooling3D}


class Architecture(NnUNet):
    """The U-Net with a residual encoder of nnU-Net version 2, ``ResidualEncoderUNet``.

    A block has two convolutions with instance normalisation and a shortcut, whose grid is adapted by average pooling
    and whose width by a convolution with kernel 1, as in ResNet-D (He et al., arXiv 1812.01187). The decoder is that of
    the plain U-Net, with one convolution per level. nnU-Net's presets M, L and XL are this network with larger patches;
    ``miscnn-tf init --preset residual_L`` plans them.

    Args:
        features: Filters of each level, finest first; their number is that of the levels.
        kernel_sizes: Kernel of the convolutions, odd: a number for all levels and axes, or for each level a number or
            one number per axis.
        strides: Stride of the first block of each level, in the same forms. A number is that of all levels but the
            first, whose stride is 1.
        blocks: Residual blocks of each level of the encoder, or one number for all.
        decoder_convolutions: Convolutions of each level of the decoder, finest first, or one number for all.
        activation: Activation of the outputs; see `unet.standard.Architecture`.
        deep_supervision: Return an output for each level of the decoder; see `nnunet.plain.Architecture`.

    Raises:
        ConfigurationError: If an argument is invalid.

    Example:
        >>> network = Architecture(features=(8, 16, 32), blocks=(1, 2, 2))
        >>> network.create_model((32, 32, 1), n_labels=2).output_shape
        (None, 32, 32, 2)

    References:
        Isensee et al., "nnU-Net Revisited: A Call for Rigorous Validation in 3D Medical Image Segmentation", MICCAI
        2024, arXiv 2404.09556.
    """

    def __init__(
        self,
        features: Sequence[int] = (32, 64, 128, 256, 320, 320),
        kernel_sizes: PerLevel = 3,
        strides: PerLevel = 2,
        blocks: int | Sequence[int] = (1, 3, 4, 6, 6, 6),
        decoder_convolutions: int | Sequence[int] = 1,
        activation: str = "softmax",
        deep_supervision: bool = False,
    ) -> None:
        super().__init__(features, kernel_sizes, strides, blocks, decoder_convolutions, activation, deep_supervision)

    def encode(self, image: Any) -> list[Any]:
        """Return the features of each level, finest first."""
        n_axes, levels = len(image.shape) - 2, []
        x = unit(image, self.features[0], self.kernel(0, n_axes), "stem")
        for level in range(len(self.features)):
            for number in range(self.blocks[level]):
                x = self._block(x, level, number)
            levels.append(x)
        return levels

    def _block(self, x: Any, level: int, number: int) -> Any:
        n_axes, features, name = len(x.shape) - 2, self.features[level], f"down{level}_block{number}"
        kernel, stride = self.kernel(level, n_axes), self.stride(level, n_axes) if number == 0 else (1,) * n_axes
        shortcut = x
        if any(step > 1 for step in stride):
            shortcut = _POOLING[n_axes](stride, strides=stride, name=f"{name}_pool")(shortcut)
        if x.shape[-1] != features:
            shortcut = unit(shortcut, features, 1, f"{name}_shortcut", activate=False, use_bias=False)
        inner = unit(x, features, kernel, f"{name}_conv1", stride)
        inner = unit(inner, features, kernel, f"{name}_conv2", activate=False)
        return leaky_relu(keras.layers.Add(name=f"{name}_sum")([inner, shortcut]), f"{name}_activation")
