"""nnU-Net's plain U-Net, with strides and kernels per axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from miscnn_tf.neural_network.architecture.nnunet.family import NnUNet, PerLevel, unit


class Architecture(NnUNet):
    """The plain U-Net of nnU-Net version 2, ``PlainConvUNet``.

    Each level has convolutions with instance normalisation and leaky ReLU; the first one of a level is strided instead
    of a pooling. Strides and kernels may differ between axes, for thick slices. `unet.plain.Architecture` is the
    network of nnU-Net's first version with MIScnn's arguments.

    Args:
        features: Filters of each level, finest first; their number is that of the levels. nnU-Net doubles 32 filters
            up to 320 in 3D and 512 in 2D.
        kernel_sizes: Kernel of the convolutions, odd: a number for all levels and axes, or for each level a number or
            one number per axis, ``((3, 3, 1), (3, 3, 3), …)``.
        strides: Stride of the first convolution of each level, in the same forms. A number is that of all levels but
            the first, whose stride is 1.
        convolutions: Convolutions of each level of the encoder, or one number for all.
        decoder_convolutions: Convolutions of each level of the decoder, finest first, or one number for all.
        activation: Activation of the outputs; see `unet.standard.Architecture`.
        deep_supervision: Return an output for each level of the decoder, finest first. The loss is then the sum over
            all but the coarsest, weighted with 1, 1/2, 1/4, …; predictions are those of the first.

    Raises:
        ConfigurationError: If an argument is invalid.

    Example:
        >>> thick = Architecture((8, 16, 32), ((3, 3, 1), 3, 3), ((1, 1, 1), (2, 2, 1), (2, 2, 2)))
        >>> thick.divisors(3)
        (4, 4, 2)
        >>> thick.create_model((32, 32, 10, 1), n_labels=3).output_shape
        (None, 32, 32, 10, 3)

    References:
        Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
        Nature Methods 2021, arXiv 1904.08128.
    """

    _blocks_argument = "convolutions"

    def __init__(
        self,
        features: Sequence[int] = (32, 64, 128, 256, 320),
        kernel_sizes: PerLevel = 3,
        strides: PerLevel = 2,
        convolutions: int | Sequence[int] = 2,
        decoder_convolutions: int | Sequence[int] = 2,
        activation: str = "softmax",
        deep_supervision: bool = False,
    ) -> None:
        super().__init__(
            features, kernel_sizes, strides, convolutions, decoder_convolutions, activation, deep_supervision
        )
        self.convolutions = self.blocks

    def encode(self, image: Any) -> list[Any]:
        """Return the features of each level, finest first."""
        n_axes, x, levels = len(image.shape) - 2, image, []
        for level, features in enumerate(self.features):
            for number in range(self.convolutions[level]):
                stride = self.stride(level, n_axes) if number == 0 else None
                x = unit(x, features, self.kernel(level, n_axes), f"down{level}_conv{number}", stride)
            levels.append(x)
        return levels
