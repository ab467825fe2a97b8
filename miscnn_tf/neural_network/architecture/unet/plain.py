"""nnU-Net's plain U-Net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from miscnn_tf._base.arguments import number, sizes
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.blocks import convolution, normalise
from miscnn_tf.neural_network.architecture.layers import InstanceNormalization
from miscnn_tf.neural_network.architecture.unet.family import UNet, known_activation

#: Negative slope of nnU-Net's leaky ReLU.
_SLOPE = 0.01
_DROPOUT = {2: keras.layers.SpatialDropout2D, 3: keras.layers.SpatialDropout3D}


class Architecture(UNet):
    """The plain U-Net of nnU-Net, with instance normalisation, leaky ReLU and anisotropic pooling.

    A block is convolution (kernel 3), dropout, instance normalisation and leaky ReLU, twice. The number of filters is
    at most 320, which limits the memory. Volumes with thick slices are pooled within the slices first (`pooling`), and
    by 2 along every axis at all deeper levels. Deep supervision is not supported.

    With the defaults, the axes of a volume must be divisible by (16, 32, 32), those of an image by 32. The paper uses
    patches of 80 x 160 x 160.

    Args:
        activation: Activation of the output; see `standard.Architecture`.
        conv_layer_activation: Activation of the blocks: "lrelu" (slope 0.01), or the name of a Keras activation.
        instance_normalization: Normalise each image by its own statistics.
        instance_normalization_params: Arguments of ``keras.layers.GroupNormalization`` instead of ``epsilon=1e-5``,
            such as ``{"epsilon": 1e-3, "scale": False}``.
        dropout: Fraction of the feature maps that is dropped after each convolution in training, from 0 to below 1.
        pooling: The first pooling in 3D, one factor per axis; 2D images are always halved.
        feature_maps: Filters of each level of the encoder; the bridge has as many as the last level. Their number is
            the depth.
        batch_normalization: Normalise by the batch's statistics; set ``instance_normalization=False`` with it.

    Raises:
        ConfigurationError: If an argument is invalid.

    Example:
        >>> Architecture().divisors(3)
        (16, 32, 32)
        >>> Architecture(feature_maps=(8, 16)).create_model((32, 32, 16, 1), n_labels=3).output_shape
        (None, 32, 32, 16, 3)

    References:
        Isensee & Maier-Hein, "An attempt at beating the 3D U-Net", KiTS 2019, arXiv 1908.02182. Isensee et al.,
        "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature Methods 2021,
        arXiv 1904.08128.
    """

    def __init__(
        self,
        activation: str = "softmax",
        conv_layer_activation: str = "lrelu",
        instance_normalization: bool = True,
        instance_normalization_params: Mapping[str, Any] | None = None,
        dropout: float = 0,
        pooling: Sequence[int] = (1, 2, 2),
        feature_maps: Sequence[int] = (30, 60, 120, 240, 320),
        batch_normalization: bool = False,
    ) -> None:
        self.feature_maps = sizes(feature_maps, "feature_maps")
        super().__init__(
            self.feature_maps[0], len(self.feature_maps), activation, batch_normalization, instance_normalization
        )
        self.conv_layer_activation = (
            "lrelu"
            if conv_layer_activation == "lrelu"
            else known_activation(conv_layer_activation, "conv_layer_activation")
        )
        self.instance_normalization_params = _known_params(instance_normalization_params)
        self.dropout = number(dropout, "dropout")
        if not 0 <= self.dropout < 1:
            raise ConfigurationError(f"dropout must be a number from 0 to below 1, got {dropout!r}")
        self.pooling = sizes(pooling, "pooling")
        if len(self.pooling) != 3:
            raise ConfigurationError(f"pooling must have 3 factors, such as (1, 2, 2), got {pooling!r}")

    def filters(self, level: int) -> int:
        """Return the number of filters of a level; the bridge has as many as the last level."""
        return self.feature_maps[min(level, self.depth - 1)]

    def pool_sizes(self, n_axes: int) -> tuple[tuple[int, ...], ...]:
        """Return `pooling` for the first level in 3D, and 2 per axis otherwise."""
        halves = super().pool_sizes(n_axes)
        return (self.pooling, *halves[1:]) if n_axes == 3 else halves

    def block(self, x: Any, level: int, name: str) -> Any:
        """Apply convolution, dropout, normalisation and activation twice."""
        options = self.instance_normalization_params if self.instance_normalization else None
        for repeat in range(2):
            step = f"{name}_conv{repeat}"
            x = convolution(x, self.filters(level), 3, step)
            if self.dropout:
                x = _DROPOUT[len(x.shape) - 2](self.dropout, name=f"{step}_dropout")(x)
            x = normalise(x, self.normalisation, step, **(options or {}))
            x = self._activate(x, f"{step}_activation")
        return x

    def _activate(self, x: Any, name: str) -> Any:
        if self.conv_layer_activation == "lrelu":
            return keras.layers.LeakyReLU(negative_slope=_SLOPE, name=name)(x)
        return keras.layers.Activation(self.conv_layer_activation, name=name)(x)


def _known_params(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if params is None:
        return None
    try:
        InstanceNormalization(**params)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"instance_normalization_params={params!r} are not valid arguments of keras.layers.GroupNormalization "
            f"({error}); use arguments such as epsilon, center or scale"
        ) from error
    return dict(params)
