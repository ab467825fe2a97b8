"""MedNeXt, a U-Net of ConvNeXt blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import keras

from miscnn_tf._base.arguments import flag, whole_number
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture, number_of_axes
from miscnn_tf.neural_network.architecture.blocks import convolution, normalise
from miscnn_tf.neural_network.architecture.depthwise import DepthwiseConvolution
from miscnn_tf.neural_network.architecture.gelu import GELU
from miscnn_tf.neural_network.architecture.spread import SpreadConv2D, SpreadConv3D
from miscnn_tf.neural_network.architecture.unet.family import known_activation

_SPREAD: Final[dict[int, type[keras.layers.Layer]]] = {2: SpreadConv2D, 3: SpreadConv3D}
_PADDING: Final = {2: keras.layers.ZeroPadding2D, 3: keras.layers.ZeroPadding3D}
_HALVINGS: Final = 4


class Variant(NamedTuple):
    """Blocks and expansion ratios of the levels of the encoder, finest first; the last level is the bottleneck."""

    blocks: tuple[int, ...]
    ratios: tuple[int, ...]


#: The published sizes. The decoder mirrors the encoder.
VARIANTS: Final = {
    "S": Variant((2, 2, 2, 2, 2), (2, 2, 2, 2, 2)),
    "B": Variant((2, 2, 2, 2, 2), (2, 3, 4, 4, 4)),
    "M": Variant((3, 4, 4, 4, 4), (2, 3, 4, 4, 4)),
    "L": Variant((3, 4, 8, 8, 8), (3, 4, 8, 8, 8)),
}


class Architecture(Abstract_Architecture):
    """MedNeXt: a U-Net with residual blocks of a depthwise convolution, an expansion and a compression.

    A block has a depthwise convolution, instance normalisation, a convolution with kernel 1 to more channels, GELU, and
    one back to fewer. Blocks also halve and double the grid, with strided and transposed depthwise convolutions. Images
    are halved four times along each axis.

    A block that halves has the expansion ratio of the coarser level. MONAI's has that of the finer one, and up to 0.2 %
    fewer weights in B, M and L.

    Args:
        size: "S", "B", "M" or "L": 5.6, 10.5, 17.6 or 61.8 million weights with kernel 3 in 3D.
        kernel_size: Edge of the depthwise kernels, odd; published are 3 and 5.
        n_filters: Filters of the first level; each level has twice as many as the one above.
        activation: Activation of the outputs; see `unet.standard.Architecture`.
        deep_supervision: Return an output for each level of the decoder and for the bottleneck, finest first. The loss
            is then the sum over all but the coarsest, weighted with 1, 1/2, 1/4, …; predictions are those of the first.

    Raises:
        ConfigurationError: If an argument is invalid.

    Example:
        >>> network = Architecture("S", n_filters=4, deep_supervision=True)
        >>> [shape[1:-1] for shape in network.create_model((32, 32, 1), n_labels=2).output_shape]
        [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]

    References:
        Roy et al., "MedNeXt: Transformer-driven Scaling of ConvNets for Medical Image Segmentation", MICCAI 2023, arXiv
        2303.09975.
    """

    def __init__(
        self,
        size: Literal["S", "B", "M", "L"] = "S",
        kernel_size: int = 3,
        n_filters: int = 32,
        activation: str = "softmax",
        deep_supervision: bool = False,
    ) -> None:
        if size not in VARIANTS:
            raise ConfigurationError(f"size={size!r} must be one of {', '.join(VARIANTS)}")
        self.size = size
        self.kernel_size = whole_number(kernel_size, "kernel_size", 3)
        if self.kernel_size % 2 == 0:
            raise ConfigurationError(f"kernel_size={kernel_size} must be odd")
        self.n_filters = whole_number(n_filters, "n_filters", 1)
        self.activation = known_activation(activation)
        self.deep_supervision = flag(deep_supervision, "deep_supervision")

    @property
    def divisor(self) -> int:
        """Divisor of every spatial axis of the input."""
        return 2**_HALVINGS

    def create_model(self, input_shape: Sequence[int | None], n_labels: int = 2) -> keras.Model:
        """Build the network for ``(x, y[, z], channels)``; see `Abstract_Architecture.create_model`.

        With `deep_supervision` the model has several outputs.
        """
        number_of_axes(input_shape)
        self.check_shape(input_shape[:-1])
        whole_number(n_labels, "n_labels", 1)
        image = keras.Input(tuple(input_shape), name="image")
        ratios = VARIANTS[self.size].ratios
        x, skips = _pointwise(image, self.n_filters, "stem"), []
        for level in range(_HALVINGS):
            x = self._stage(x, level, f"down{level}")
            skips.append(x)
            x = self._halved(x, ratios[level + 1], f"down{level}_halved")
        x = self._stage(x, _HALVINGS, "bottleneck")
        outputs = []
        for level in reversed(range(_HALVINGS)):
            if self.deep_supervision:
                outputs.append(self._output(x, n_labels, f"output{level + 1}"))
            x = self._doubled(x, ratios[level], f"up{level}_doubled")
            x = keras.layers.Add(name=f"up{level}_skip")([x, skips[level]])
            x = self._stage(x, level, f"up{level}")
        outputs.append(self._output(x, n_labels, "output"))
        outputs = outputs[::-1]
        return keras.Model(image, outputs if len(outputs) > 1 else outputs[0], name="mednext")

    def _stage(self, x: Any, level: int, name: str) -> Any:
        variant = VARIANTS[self.size]
        for number in range(variant.blocks[level]):
            block = f"{name}_block{number}"
            inner = self._inner(x, x.shape[-1], variant.ratios[level], block, "same")
            x = keras.layers.Add(name=f"{block}_sum")([inner, x])
        return x

    def _halved(self, x: Any, ratio: int, name: str) -> Any:
        features = 2 * x.shape[-1]
        shortcut = _pointwise(x, features, f"{name}_shortcut", strides=2)
        return keras.layers.Add(name=f"{name}_sum")([self._inner(x, features, ratio, name, "half"), shortcut])

    def _doubled(self, x: Any, ratio: int, name: str) -> Any:
        n_axes, features = len(x.shape) - 2, x.shape[-1] // 2
        shortcut = _SPREAD[n_axes](features, 1, name=f"{name}_shortcut", **_initial(features))(x)
        x = keras.layers.Add(name=f"{name}_sum")([self._inner(x, features, ratio, name, "double"), shortcut])
        # n voxels became 2 n - 1.
        return _PADDING[n_axes](((1, 0),) * n_axes, name=f"{name}_padding")(x)

    def _inner(self, x: Any, features: int, ratio: int, name: str, grid: Literal["same", "half", "double"]) -> Any:
        expanded = ratio * x.shape[-1]
        x = DepthwiseConvolution(self.kernel_size, grid, name=f"{name}_conv1")(x)
        x = normalise(x, "instance", f"{name}_conv1")
        x = _pointwise(x, expanded, f"{name}_conv2")
        x = GELU(name=f"{name}_gelu")(x)
        return _pointwise(x, features, f"{name}_conv3")

    def _output(self, x: Any, n_labels: int, name: str) -> Any:
        # The published output is a transposed convolution, whose initial weights depend on its number of outputs.
        initial = _initial(n_labels)
        # Always in float32: in half precision probabilities would not sum to one.
        return convolution(x, n_labels, 1, name, activation=self.activation, dtype="float32", **initial)


def _pointwise(x: Any, filters: int, name: str, **options: Any) -> Any:
    return convolution(x, filters, 1, name, **_initial(x.shape[-1]), **options)


def _initial(fan: int) -> dict[str, Any]:
    """Return the initial weights of PyTorch's convolutions with kernel 1."""
    limit = 1 / math.sqrt(fan)
    return {f"{weight}_initializer": keras.initializers.RandomUniform(-limit, limit) for weight in ("kernel", "bias")}
