"""Weights of MedNeXt in PyTorch and here: names of the parameters, and order of the axes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import keras
import numpy as np

_HALVINGS = 4  # of MedNeXt


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
