"""Building blocks of U-Nets. The number of spatial axes is read from the tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras

from miscnn_tf.neural_network.architecture.layers import (
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    InstanceNormalization,
    LinearUpsampling,
    MaxPooling3D,
)

__all__ = [
    "attention_gate",
    "conv_block",
    "conv_unit",
    "convolution",
    "downsample",
    "normalise",
    "output_layer",
    "upsample",
]

Normalisation = Literal["batch", "instance"] | None

_CONVOLUTION: dict[int, type[keras.layers.Layer]] = {2: Conv2D, 3: Conv3D}
_TRANSPOSED: dict[int, type[keras.layers.Layer]] = {2: Conv2DTranspose, 3: Conv3DTranspose}
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


def normalise(x: Any, kind: Normalisation, name: str, **options: Any) -> Any:
    """Apply batch normalisation, instance normalisation (Ulyanov et al., arXiv 1607.08022), or nothing.

    Args:
        x: The Keras tensor ``(batch, x, y[, z], channels)``.
        kind: "batch", "instance" or None.
        name: Prefix of the layer's name, ``<name>_norm``.
        **options: Arguments of the layer that override the defaults (momentum 0.99, epsilon 1e-5).
    """
    if kind == "batch":
        return BatchNormalization(name=f"{name}_norm", **{"momentum": 0.99, **options})(x)
    if kind == "instance":
        return InstanceNormalization(name=f"{name}_norm", **options)(x)
    return x


def conv_block(x: Any, filters: int, normalisation: Normalisation, name: str, repeats: int = 2) -> Any:
    """Apply convolution (kernel 3), ReLU and normalisation `repeats` times.

    Example:
        >>> conv_block(keras.Input((16, 16, 1)), 8, "batch", name="down0").shape
        (None, 16, 16, 8)
    """
    for repeat in range(repeats):
        step = f"{name}_conv{repeat}"
        x = convolution(x, filters, 3, step, activation="relu")
        x = normalise(x, normalisation, step)
    return x


def conv_unit(
    x: Any, filters: int, kernel_size: int, normalisation: Normalisation, name: str, activation: str | None = "relu"
) -> Any:
    """Apply convolution, normalisation and activation (if any). The convolution has a bias only without normalisation.

    Example:
        >>> conv_unit(keras.Input((16, 16, 1)), 8, 3, "batch", name="unit").shape
        (None, 16, 16, 8)
    """
    x = convolution(x, filters, kernel_size, name, use_bias=normalisation is None)
    x = normalise(x, normalisation, name)
    return x if activation is None else keras.layers.Activation(activation, name=f"{name}_{activation}")(x)


def attention_gate(x: Any, gating: Any, filters: int, size: Sequence[int], name: str) -> Any:
    """Weight a skip connection by additive, grid-wise attention from the coarser features.

    With the features x of the encoder and the gating signal g of the coarser level,
    ``α = sigmoid(ψ · relu(W_x x + W_g g + b_g) + b_ψ)`` on the grid of g, interpolated linearly to the grid of x; the
    result is ``α x``, one weight per voxel for all channels. W_x is a strided convolution from the grid of x to that of
    g; W_g and ψ are convolutions with kernel 1.

    Args:
        x: ``(batch, x, y[, z], channels)``, the skip connection.
        gating: ``(batch, x / size[0], y / size[1], …, channels)``, features of the next coarser level.
        filters: Channels of the sum before ψ.
        size: Factor by which the grid of `gating` is coarser, per spatial axis.
        name: Prefix of the layers' names.

    Returns:
        A tensor of the shape of `x`.

    Example:
        >>> skip, coarse = keras.Input((16, 16, 8)), keras.Input((8, 8, 16))
        >>> attention_gate(skip, coarse, 8, (2, 2), name="gate").shape
        (None, 16, 16, 8)

    References:
        Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018, arXiv 1804.03999,
        equations 1 and 2, figure 2.
    """
    size = tuple(size)
    theta = _CONVOLUTION[_axes(x)](filters, size, strides=size, padding="same", use_bias=False, name=f"{name}_theta")(x)
    phi = convolution(gating, filters, 1, f"{name}_phi")
    total = keras.layers.Activation("relu", name=f"{name}_relu")(keras.layers.Add(name=f"{name}_sum")([theta, phi]))
    alpha = convolution(total, 1, 1, f"{name}_psi", activation="sigmoid")
    alpha = LinearUpsampling(size, name=f"{name}_alpha")(alpha)
    return keras.layers.Multiply(name=f"{name}_gated")([x, alpha])


def downsample(x: Any, name: str, size: int | Sequence[int] = 2) -> Any:
    """Max-pool each spatial axis by `size` (one number, or one per axis)."""
    return _POOLING[_axes(x)](size, name=name)(x)


def upsample(x: Any, filters: int, name: str, size: int | Sequence[int] = 2) -> Any:
    """Upsample each spatial axis by `size` with a transposed convolution to `filters` channels (kernel = stride)."""
    return _TRANSPOSED[_axes(x)](filters, size, strides=size, padding="same", name=name)(x)


def output_layer(x: Any, n_labels: int, activation: str, name: str = "output") -> Any:
    """Apply a convolution with kernel 1 to `n_labels` channels and the activation, always in float32.

    In half precision probabilities would not sum to one, and logarithms of small ones would be lost.
    """
    return convolution(x, n_labels, 1, name, activation=activation, dtype="float32")


def _axes(x: Any) -> int:
    return len(x.shape) - 2
