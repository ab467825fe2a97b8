"""Networks beside those of ``dynamic_network_architectures``: number of weights, and logits of all outputs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from comparison import Comparison, reference_arrays

from miscnn_tf.neural_network.architecture import architectures
from miscnn_tf.nnunet.weights import copy_weights


def case(kind: str, shape: list[int], features: list[int], **others: Any) -> dict[str, Any]:
    """Return a network with the arguments of both libraries."""
    levels, axes = len(features), len(shape)
    plain = kind == "nnunet_plain"
    defaults = {
        "channels": 1,
        "classes": 3,
        "kernel_sizes": [[3] * axes] * levels,
        "strides": [[1] * axes, *[[2] * axes] * (levels - 1)],
        "blocks": [2] * levels if plain else [1, 3, 4, 6, 6][:levels],
        "decoder_convolutions": [2 if plain else 1] * (levels - 1),
    }
    return {"kind": kind, "shape": shape, "features": features, **defaults, **others}


_THICK = {
    "kernel_sizes": [[3, 3, 1], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 2]],
}
CASES = [
    one
    for kind in ("nnunet_plain", "nnunet_residual")
    for one in (
        case(kind, [32, 32, 32], [8, 16, 32, 32]),
        case(kind, [32, 48, 10], [8, 16, 24], channels=2, **_THICK),
        case(kind, [48, 64], [8, 16, 32, 64], channels=3, classes=2),
        case(kind, [27, 16, 20], [4, 8, 8], strides=[[1, 1, 1], [3, 1, 2], [3, 2, 1]], classes=5),
        case(kind, [20, 24], [4, 8, 12], kernel_sizes=[[5, 3], [3, 5], [5, 5]], decoder_convolutions=[3, 1]),
        case(kind, [16, 16, 12], [4, 4, 4], kernel_sizes=[[1, 3, 3], [3, 1, 5], [3, 3, 3]], blocks=[1, 2, 3]),
    )
]


def compare(python: str) -> list[Comparison]:
    """Compare all cases.

    Args:
        python: Interpreter of the environment with dynamic_network_architectures.
    """
    comparisons = []
    for one, theirs in zip(CASES, reference_arrays(python, "_reference_networks.py", CASES), strict=True):
        name = f"{one['kind']} {'x'.join(map(str, one['shape']))}, strides {one['strides'][1:]}"
        comparisons += _compared(name, one, theirs)
    return comparisons


def _compared(name: str, one: dict[str, Any], theirs: dict[str, np.ndarray]) -> list[Comparison]:
    plain = one["kind"] == "nnunet_plain"
    architecture = architectures[one["kind"]](
        one["features"],
        one["kernel_sizes"],
        one["strides"],
        **{"convolutions" if plain else "blocks": one["blocks"]},
        decoder_convolutions=one["decoder_convolutions"],
        activation="linear",
        deep_supervision=True,
    )
    model = architecture.create_model((*one["shape"], one["channels"]), one["classes"])
    # Modules occur twice in PyTorch's list of names.
    weights = {key.removeprefix("weight:"): value for key, value in theirs.items() if key.startswith("weight:")}
    weights = {key: value for key, value in weights.items() if "all_modules" not in key}
    missing = set(weights) ^ set(copy_weights(model, weights))
    outputs = model(np.moveaxis(theirs["image"], 1, -1))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    difference = max(
        float(np.abs(np.moveaxis(keras.ops.convert_to_numpy(output), -1, 1) - theirs[f"output:{place}"]).max())
        for place, output in enumerate(outputs)
    )
    return [
        Comparison(f"weights of {name}", float(len(missing)), 0),
        Comparison(f"logits of {len(outputs)} outputs of {name}", difference, 1e-4),
    ]
