"""The parts that U-Nets are built from, for 2D and 3D alike: the number of spatial axes is read from the tensor."""

from __future__ import annotations

from typing import Any, Literal

import keras

from miscnn_tf.neural_network.architecture.layers import BatchNormalization, Conv2D, Conv3D, MaxPooling3D

__all__ = ["conv_block", "convolution", "downsample", "normalise", "output_layer", "upsample"]

Normalisation = Literal["batch", "instance"] | None

_CONVOLUTION: dict[int, type[keras.layers.Layer]] = {2: Conv2D, 3: Conv3D}
_TRANSPOSED = {2: keras.layers.Conv2DTranspose, 3: keras.layers.Conv3DTranspose}
_POOLING = {2: keras.layers.MaxPooling2D, 3: MaxPooling3D}


def convolution(x: Any, filters: int, kernel_size: int, name: str, **options: Any) -> Any:
    """Convolve ``(batch, x, y[, z], channels)`` to `filters` channels on the same grid.

    Args:
        x: The Keras tensor.
        filters: Number of output channels.
        kernel_size: Edge of the kernel, in voxels.
        name: Name of the layer.
        **options: Further arguments of ``keras.layers.Conv3D``.
    """
    return _CONVOLUTION[_axes(x)](filters, kernel_size, padding="same", name=name, **options)(x)


def normalise(x: Any, kind: Normalisation, name: str) -> Any:
    """Batch normalisation, instance normalisation (Ulyanov et al., arXiv 1607.08022), or nothing."""
    if kind == "batch":
        return BatchNormalization(momentum=0.99, name=f"{name}_norm")(x)
    if kind == "instance":
        return keras.layers.GroupNormalization(groups=-1, epsilon=1e-5, name=f"{name}_norm")(x)
    return x


def conv_block(x: Any, filters: int, normalisation: Normalisation, name: str, repeats: int = 2) -> Any:
    """`repeats` times: 3-convolution, ReLU, normalisation.

    Example:
        >>> conv_block(keras.Input((16, 16, 1)), 8, "batch", name="down0").shape
        (None, 16, 16, 8)
    """
    for repeat in range(repeats):
        step = f"{name}_conv{repeat}"
        x = convolution(x, filters, 3, step, activation="relu")
        x = normalise(x, normalisation, step)
    return x


def downsample(x: Any, name: str) -> Any:
    """Halve each spatial axis by 2-max-pooling."""
    return _POOLING[_axes(x)](2, name=name)(x)


def upsample(x: Any, filters: int, name: str) -> Any:
    """Double each spatial axis by a 2-transposed convolution to `filters` channels."""
    return _TRANSPOSED[_axes(x)](filters, 2, strides=2, padding="same", name=name)(x)


def output_layer(x: Any, n_labels: int, activation: str, name: str = "output") -> Any:
    """1-convolution to `n_labels` channels and the activation, in float32 whatever the precision of the network.

    In half precision the probabilities of a batch would not sum to one, and the logarithm of a small one is lost.
    """
    return convolution(x, n_labels, 1, name, activation=activation, dtype="float32")


def _axes(x: Any) -> int:
    return len(x.shape) - 2
