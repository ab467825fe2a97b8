"""The multi-path U-Net."""

from __future__ import annotations

from typing import Any

import keras

from miscnn_tf._base.arguments import whole_number
from miscnn_tf.neural_network.architecture.blocks import conv_block, downsample
from miscnn_tf.neural_network.architecture.layers import SelectChannels
from miscnn_tf.neural_network.architecture.unet.family import UNet


class Architecture(UNet):
    """A U-Net with several densely connected encoders, whose features are fused for one decoder.

    It is designed for images with several modalities as channels, with one encoder per modality. As in Dolz et al.,
    each block of an encoder gets the pooled features of all encoders, its own first; the bridge and the skip
    connections get the features of all encoders. The filters of a level are divided among the encoders (rounded up), so
    that the network is about as large as the standard U-Net.

    With fewer channels than paths, every path gets the whole image, and the paths differ in their receptive fields,
    like the branches of the paper's Inception modules: the first has one convolution (kernel 3) per level, the second
    two (the field of a kernel 5), and so on.

    Args:
        n_filters: Filters of the first level, summed over the paths.
        depth: Number of times that the image is halved. Every spatial axis must be divisible by ``2 ** depth``.
        activation: Activation of the output; see `standard.Architecture`.
        batch_normalization: Normalise by the batch's statistics after each convolution.
        instance_normalization: Normalise each image by its own statistics instead.
        paths: Number of encoders, at least 2; channel number c goes to encoder ``c % paths``. None (default): one per
            channel, and two for images with one channel.

    Raises:
        ConfigurationError: If an argument is invalid.

    Example:
        >>> Architecture(n_filters=8, depth=2).create_model((32, 32, 16, 4), n_labels=3).output_shape
        (None, 32, 32, 16, 3)

    References:
        Dolz, Ben Ayed & Desrosiers, "Dense Multi-path U-Net for Ischemic Stroke Lesion Segmentation in Multiple Image
        Modalities", BrainLes 2018, arXiv 1810.07003.
    """

    def __init__(
        self,
        n_filters: int = 32,
        depth: int = 4,
        activation: str = "softmax",
        batch_normalization: bool = True,
        instance_normalization: bool = False,
        paths: int | None = None,
    ) -> None:
        super().__init__(n_filters, depth, activation, batch_normalization, instance_normalization)
        self.paths = None if paths is None else whole_number(paths, "paths", 2)

    def encode(self, image: Any) -> tuple[list[Any], Any]:
        """Run all encoders level by level; features and bridge input combine all of them."""
        channels = image.shape[-1]
        paths = self.paths or max(2, channels)
        own = channels >= paths
        inputs = [SelectChannels(path, paths, name=f"path{path}")(image) if own else image for path in range(paths)]
        skips = []
        for level, size in enumerate(self.pool_sizes(len(image.shape) - 2)):
            filters = -(-self.filters(level) // paths)
            outputs = [
                conv_block(x, filters, self.normalisation, f"down{level}_path{path}", repeats=2 if own else path + 1)
                for path, x in enumerate(inputs)
            ]
            skips.append(keras.layers.Concatenate(name=f"down{level}_fused")(outputs))
            pooled = [downsample(x, f"down{level}_path{path}_pool", size) for path, x in enumerate(outputs)]
            inputs = [
                keras.layers.Concatenate(name=f"down{level}_path{path}_all")([*pooled[path:], *pooled[:path]])
                for path in range(paths)
            ]
        return skips, inputs[0]
