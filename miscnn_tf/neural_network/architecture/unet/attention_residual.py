"""The residual U-Net with attention gates."""

from __future__ import annotations

from miscnn_tf.neural_network.architecture.unet import residual
from miscnn_tf.neural_network.architecture.unet.attention import AttentionSkips


class Architecture(AttentionSkips, residual.Architecture):
    """The U-Net with residual blocks and attention gates on its skip connections.

    The arguments are those of `standard.Architecture`.

    Example:
        >>> Architecture(n_filters=8, depth=2).create_model((32, 32, 16, 1), n_labels=3).output_shape
        (None, 32, 32, 16, 3)

    References:
        Oktay et al., "Attention U-Net", MIDL 2018, arXiv 1804.03999. Zhang, Liu & Wang, "Road Extraction by Deep
        Residual U-Net", IEEE GRSL 2018, arXiv 1711.10684.
    """
