"""Weights of nnU-Net's networks and MedNeXt in PyTorch and here: names of the parameters, and order of the axes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import keras
import numpy as np

_BLOCK = re.compile(r"down(\d+)_block(\d+)_(conv1|conv2|shortcut)")
_HALVINGS = 4  # of MedNeXt


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


def from_pytorch(model: keras.Model, weights: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Copy the weights of a PyTorch network into a Keras model, and yield the name and value of each.

    Raises:
        KeyError: If a weight is missing.
        ValueError: If a weight has another shape.
    """
    levels = 1 + max(int(layer.name[2]) for layer in model.layers if layer.name.startswith("up")) + 1
    names = {layer.name for layer in model.layers}
    for layer in model.layers:
        if not layer.weights:
            continue
        base = layer.name.removesuffix("_norm")
        pooled = f"{base.removesuffix('_shortcut')}_pool" in names
        module = pytorch_name(base, levels, pooled)
        if layer.name.endswith("_norm"):
            module = f"{module.removesuffix('.conv')}.norm"
        yield from _copied(layer, module, weights)


def mednext_name(layer: str) -> str:
    """Return the name of the PyTorch module, in MONAI's MedNeXt, of a convolution.

    Args:
        layer: Name of the Keras layer.

    Example:
        >>> mednext_name("up3_block1_conv2"), mednext_name("down0_halved_shortcut")
        ('dec_stages.0.1.conv2', 'down_blocks.0.res_conv')
    """
    if layer == "stem":
        return layer
    if match := re.fullmatch(r"output(\d*)", layer):
        return f"out_blocks.{_HALVINGS - int(match[1])}.conv_out" if match[1] else "out_0.conv_out"
    match = re.fullmatch(r"(down|up|bottleneck)(\d*)_(halved|doubled|block(\d+))_(conv\d|shortcut)", layer)
    assert match, layer
    part, level, kind, block, inner = match.groups()
    place = int(level or 0) if part == "down" else _HALVINGS - 1 - int(level or 0)
    module = {
        "halved": f"down_blocks.{place}",
        "doubled": f"up_blocks.{place}",
        "down": f"enc_stages.{place}.{block}",
        "up": f"dec_stages.{place}.{block}",
        "bottleneck": f"bottleneck.{block}",
    }[part if block else kind]
    return f"{module}.{'res_conv' if inner == 'shortcut' else inner}"


def mednext_from_pytorch(model: keras.Model, weights: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Copy the weights of MONAI's MedNeXt into a Keras model, and yield the name and value of each.

    Raises:
        KeyError: If a weight is missing.
        ValueError: If a weight has another shape.
    """
    for layer in model.layers:
        if not layer.weights:
            continue
        module = mednext_name(layer.name.removesuffix("_norm"))
        if layer.name.endswith("_norm"):
            module = f"{module.rpartition('.')[0]}.norm"
        # Transposed convolutions with kernel 1 there.
        swapped = module.startswith("out_") or (module.startswith("up_") and module.endswith("res_conv"))
        yield from _copied(layer, module, weights, swapped)


def _copied(
    layer: keras.layers.Layer, module: str, weights: Mapping[str, np.ndarray], swapped: bool = False
) -> Iterator[tuple[str, np.ndarray]]:
    values = []
    for weight in layer.weights:
        kind = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}[weight.name]
        value = weights[f"{module}.{kind}"]
        if weight.name == "kernel":
            # PyTorch: (out, in, x, ...), transposed (in, out, x, ...); Keras: (x, ..., in, out), (x, ..., out, in).
            value = np.moveaxis(value, (0, 1) if swapped else (1, 0), (-2, -1))
        values.append(value)
        yield f"{module}.{kind}", value
    layer.set_weights(values)
