"""The attention U-Net."""

from __future__ import annotations

from typing import Any

from miscnn_tf.neural_network.architecture.blocks import attention_gate
from miscnn_tf.neural_network.architecture.unet.family import UNet


class AttentionSkips(UNet):
    """U-Net with additive attention gates on its skip connections, for any block.

    As in the paper, the finest skip connection is not gated, because its features are not specific enough. With
    ``depth=1`` it is the only one and is gated.
    """

    def skip(self, features: Any, below: Any, level: int, name: str) -> Any:
        """Weight the features by the attention of the coarser level."""
        if level == 0 and self.depth > 1:
            return features
        size = self.pool_sizes(len(features.shape) - 2)[level]
        return attention_gate(features, below, self.filters(level), size, f"{name}_gate")


class Architecture(AttentionSkips):
    """The standard U-Net with attention gates on its skip connections.

    Each gate compares the encoder's features with those of the next coarser level of the decoder, and weights each
    voxel; see `blocks.attention_gate`. The finest skip connection is not gated, as in the paper.

    The arguments are those of `standard.Architecture`.

    Example:
        >>> Architecture(n_filters=8, depth=2).create_model((32, 32, 16, 1), n_labels=3).output_shape
        (None, 32, 32, 16, 3)

    References:
        Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018, arXiv 1804.03999.
    """
