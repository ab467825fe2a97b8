"""Weights of nnU-Net's networks in PyTorch: names of the parameters, and order of the axes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from miscnn_tf.errors import ModelFileError

if TYPE_CHECKING:
    import keras

_BLOCK = re.compile(r"down(\d+)_block(\d+)_(conv1|conv2|shortcut)")
_KINDS: Final = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
_REPEATED = re.compile(r"\.all_modules\.|^decoder\.encoder\.|^decoder\.seg_layers\.")
#: What compilation and training on several devices add to the names.
_PREFIX = re.compile(r"^(_orig_mod\.|module\.)+")


def pytorch_name(layer: str, levels: int, pooled: bool) -> str:
    """Return the name of the PyTorch module of a convolution.

    Args:
        layer: Name of the Keras layer.
        levels: Levels of the network.
        pooled: True for the shortcut of a block whose grid is pooled before.

    Example:
        >>> pytorch_name("up1_conv0", 4, False)
        'decoder.stages.1.convs.0.conv'
    """
    if layer == "stem":
        return "encoder.stem.convs.0.conv"
    if match := _BLOCK.fullmatch(layer):
        level, block, part = match.groups()
        inner = f"skip.{int(pooled)}" if part == "shortcut" else part
        return f"encoder.stages.{level}.blocks.{block}.{inner}.conv"
    if match := re.fullmatch(r"down(\d+)_conv(\d+)", layer):
        return f"encoder.stages.{match[1]}.0.convs.{match[2]}.conv"
    if match := re.fullmatch(r"up(\d+)_conv(\d+)", layer):
        return f"decoder.stages.{levels - 2 - int(match[1])}.convs.{match[2]}.conv"
    if match := re.fullmatch(r"up(\d+)_upsample", layer):
        return f"decoder.transpconvs.{levels - 2 - int(match[1])}"
    match = re.fullmatch(r"output(\d*)", layer)
    assert match, layer
    return f"decoder.seg_layers.{levels - 2 - int(match[1] or 0)}"


def copy_weights(
    model: keras.Model, weights: Mapping[str, np.ndarray], axes: Sequence[int] | None = None
) -> dict[str, np.ndarray]:
    """Copy the weights of a PyTorch network into a Keras model.

    Args:
        model: The model of `nnunet_plain` or `nnunet_residual`.
        weights: The parameters by their names in PyTorch.
        axes: The model's axis for each axis of the network in PyTorch; None: the same. Along other axes of the model
            the kernels have one voxel.

    Returns:
        The value of each parameter, by its name in PyTorch, in the order of the layers.

    Raises:
        ModelFileError: If a weight is missing or has another shape; the message names it.
    """
    levels = 2 + max(int(layer.name[2]) for layer in model.layers if layer.name.startswith("up"))
    names = {layer.name for layer in model.layers}
    given = {_PREFIX.sub("", name): value for name, value in weights.items()}
    copied = {}
    for layer in model.layers:
        if not layer.weights:
            continue
        base = layer.name.removesuffix("_norm")
        pooled = f"{base.removesuffix('_shortcut')}_pool" in names
        module = pytorch_name(base, levels, pooled)
        if layer.name.endswith("_norm"):
            module = f"{module.removesuffix('.conv')}.norm"
        for weight in layer.weights:
            name = f"{module}.{_KINDS[weight.name]}"
            if name not in given:
                raise ModelFileError(f"the network weights have no {name}; plans and weights are of different networks")
            value = given[name]
            if weight.name == "kernel":
                value = _kernel(value, len(weight.shape) - 2, axes)
            if value.shape != tuple(weight.shape):
                raise ModelFileError(
                    f"the network weight {name} has the shape {given[name].shape}, which gives {value.shape}, but the "
                    f"plans need {tuple(weight.shape)}; plans and weights are of different networks"
                )
            weight.assign(value)
            copied[name] = value
    return copied


def unused(weights: Mapping[str, np.ndarray], copied: Mapping[str, np.ndarray]) -> list[str]:
    """Return the names of parameters that a network here does not have.

    PyTorch lists modules that belong to two others twice, and the outputs of deep supervision are not needed.
    """
    names = [_PREFIX.sub("", name) for name in weights]
    return [name for name in names if name not in copied and not _REPEATED.search(name)]


def _kernel(value: np.ndarray, number: int, axes: Sequence[int] | None) -> np.ndarray:
    """Return a kernel with Keras' order of the axes.

    PyTorch has ``(out, in, …)``, transposed ``(in, out, …)``; Keras has ``(…, in, out)`` and ``(…, out, in)``.
    """
    spatial = tuple(range(value.ndim - 2)) if axes is None else tuple(axes)
    moved = np.moveaxis(value, (1, 0), (-2, -1))
    missing = [axis for axis in range(number) if axis not in spatial]
    if len(spatial) != moved.ndim - 2:
        raise ModelFileError(
            f"a kernel of the network weights has {moved.ndim - 2} axes, but {len(spatial)} are planned"
        )
    ordered = np.transpose(moved, (*np.argsort(spatial), moved.ndim - 2, moved.ndim - 1))
    return np.expand_dims(ordered, missing)
