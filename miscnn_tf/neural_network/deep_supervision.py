"""Networks with an output for each of several grids, on which the loss is computed (deep supervision).

The first output has the grid of the image; metrics, predictions and exports use it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from miscnn_tf.errors import ConfigurationError


def outputs_of(y_pred: Any) -> list[Any]:
    """Return the outputs of a network as a list, finest first."""
    return list(y_pred) if isinstance(y_pred, list | tuple) else [y_pred]


def first_output(y_pred: Any) -> Any:
    """Return the output with the grid of the image."""
    return outputs_of(y_pred)[0]


def output_weights(number: int) -> list[float]:
    """Return the weight of each output in the loss: 1, 1/2, 1/4, …, 0 for the coarsest of several; their sum is 1.

    Example:
        >>> output_weights(4), output_weights(1)
        ([0.5714285714285714, 0.2857142857142857, 0.14285714285714285, 0.0], [1.0])

    References:
        Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
        Nature Methods 2021. Lee et al., "Deeply-Supervised Nets", AISTATS 2015, arXiv 1409.5185.
    """
    weights = [2.0**-level for level in range(number)]
    if number > 1:
        weights[-1] = 0.0
    return [weight / sum(weights) for weight in weights]


def on_grid_of(y: Any, y_pred: Any, finest: Any) -> Any:
    """Return the labels at the voxels in the middle of those of a coarser output, as nnU-Net does.

    Args:
        y: Labels ``(batch, x, y[, z])``, or targets ``(batch, x, y[, z], outputs)``.
        y_pred: The coarser output.
        finest: The output with the grid of `y`.
    """
    for axis in range(1, len(finest.shape) - 1):
        known = finest.shape[axis] is not None and y_pred.shape[axis] is not None
        fine, coarse = (one.shape[axis] if known else tf.shape(one)[axis] for one in (finest, y_pred))
        y = tf.gather(y, (2 * tf.range(coarse) + 1) * fine // (2 * coarse), axis=axis)
    return y


def require_coarser_outputs(kind: str, outputs: Sequence[Any]) -> None:
    """Require that each further output divides the grid of the first one, and has its channels.

    Args:
        kind: The architecture's class, for the message.
        outputs: The symbolic outputs, finest first.

    Raises:
        ConfigurationError: If one does not.
    """
    first = outputs[0]
    for number, output in enumerate(outputs[1:], start=2):
        sizes = list(zip(first.shape[1:-1], output.shape[1:-1], strict=False))
        fits = len(output.shape) == len(first.shape) and output.shape[-1] == first.shape[-1]
        if not fits or any(None not in pair and (pair[1] == 0 or pair[0] % pair[1]) for pair in sizes):
            raise ConfigurationError(
                f"the network of {kind} has several outputs, and output {number} has the shape "
                f"{tuple(output.shape)}, which does not fit the first one, {tuple(first.shape)}: for deep supervision, "
                "each needs all classes, and a grid that divides that of the first"
            )


def with_first_output(model: keras.Model) -> keras.Model:
    """Return a model with the first output alone, which shares the weights; the model itself if it has one."""
    return model if len(model.outputs) == 1 else keras.Model(model.inputs, model.outputs[0], name=model.name)
