"""MedNeXt beside MONAI's: number of weights of each layer, logits of all outputs, and gradients.

The blocks that halve have the expansion ratio of the coarser level in both. In MONAI's own B, M and L it is that of the
finer level; S, where both are equal, is compared with MONAI's network as it is. The logits are up to 20, so that their
differences are relative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from comparison import Comparison, reference_arrays
from weights import mednext_from_pytorch, mednext_name

from miscnn_tf.neural_network.architecture import architectures


def case(size: str, kernel: int, shape: list[int], filters: int = 4, channels: int = 1) -> dict[str, Any]:
    """Return the arguments of a network."""
    return {
        "size": size,
        "kernel": kernel,
        "shape": shape,
        "filters": filters,
        "channels": channels,
        "classes": 3,
        "monai": size == "S",
    }


CASES = [
    *(case(size, kernel, [32, 16, 48]) for size in "SBML" for kernel in (3, 5)),
    *(case(size, kernel, [32, 48], channels=2) for size in "SBML" for kernel in (3, 5)),
    case("S", 7, [32, 16, 32]),
    # The published width: shapes of the weights alone.
    *(case(size, kernel, [32, 32, 32], 32) for size in "SBML" for kernel in (3, 5)),
]


def compare(python: str) -> list[Comparison]:
    """Compare all cases.

    Args:
        python: Interpreter of the environment with MONAI.
    """
    comparisons = []
    for one, theirs in zip(CASES, reference_arrays(python, "_reference_mednext.py", CASES), strict=True):
        name = f"MedNeXt {one['size']}, kernel {one['kernel']}, {len(one['shape'])}D, {one['filters']} filters"
        model = _model(one)
        comparisons.append(_weights_compared(name, model, _part(theirs, "shape:")))
        if "image" in theirs:
            comparisons += _logits_compared(name, model, theirs)
    return comparisons


def _model(one: dict[str, Any]) -> keras.Model:
    architecture = architectures["mednext"](
        one["size"], one["kernel"], one["filters"], activation="linear", deep_supervision=True
    )
    return architecture.create_model((*one["shape"], one["channels"]), one["classes"])


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def _weights_compared(name: str, model: keras.Model, shapes: Mapping[str, np.ndarray]) -> Comparison:
    """Compare the number of weights of each layer."""
    counts: dict[str, int] = {}
    for key, shape in shapes.items():
        module = key.rpartition(".")[0]
        counts[module] = counts.get(module, 0) + int(np.prod(shape))
    for layer in model.layers:
        if layer.weights:
            module = mednext_name(layer.name.removesuffix("_norm"))
            module = f"{module.rpartition('.')[0]}.norm" if layer.name.endswith("_norm") else module
            counts[module] = counts.get(module, 0) - layer.count_params()
    return Comparison(f"weights of each layer of {name}", float(sum(map(abs, counts.values()))), 0)


def _logits_compared(name: str, model: keras.Model, theirs: Mapping[str, np.ndarray]) -> list[Comparison]:
    dict(mednext_from_pytorch(model, _part(theirs, "weight:")))
    image = np.moveaxis(theirs["image"], 1, -1)

    @tf.function  # as in training: the optimizer of graphs merges operations
    def computed() -> Any:
        with tf.GradientTape() as tape:
            outputs = model(image)
            loss = tf.add_n([tf.reduce_mean(tf.square(output)) for output in outputs])
        return outputs, tape.gradient(loss, [weight.value for weight in model.trainable_weights])

    outputs, gradients = computed()
    references = [np.moveaxis(theirs[f"output:{place}"], 1, -1) for place in range(len(outputs))]
    difference = max(
        float(np.abs(output.numpy() - reference).max() / np.abs(reference).max())
        for output, reference in zip(outputs, references, strict=True)
    )
    # Copying PyTorch's gradients as if they were weights brings their axes into our order.
    dict(mednext_from_pytorch(model, _part(theirs, "gradient:")))
    reference = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    largest = max(float(np.abs(one).max()) for one in reference)
    apart = max(float(np.abs(own - other).max()) for own, other in zip(gradients, reference, strict=True))
    return [
        Comparison(f"logits of {len(outputs)} outputs of {name}, relative to the largest", difference, 1e-4),
        Comparison(f"gradients of {name}, relative to the largest", apart / largest, 1e-4),
    ]
