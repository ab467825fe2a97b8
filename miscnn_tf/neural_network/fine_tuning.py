"""Transfer of weights to a network with other classes or channels."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np

from miscnn_tf._base.messages import plural
from miscnn_tf.errors import ModelFileError
from miscnn_tf.neural_network.keras_internals import maker_of

logger = logging.getLogger(__name__)


def fitting_weights(target: keras.Model, source: keras.Model, path: Path) -> list[np.ndarray]:
    """Return the weights of `source` that fit into `target`, and the weights of `target` elsewhere.

    The output layer keeps the weights of `target`. Kernels that are applied to the image are fitted to its number of
    channels: the mean over the channels is repeated, scaled so that an image with equal channels gives the same
    response. A warning names all other weights that do not fit.

    Args:
        target: The model to be trained.
        source: The trained model.
        path: The file of `source`, for messages.

    Returns:
        The arrays for ``target.set_weights``.

    Raises:
        ModelFileError: If no weights fit.
    """
    own, others = target.weights, source.weights
    if len(own) != len(others):
        # Networks of different depth: match layers by name.
        by_name = {_name(weight): weight for weight in others}
        others = [by_name.get(_name(weight)) for weight in own]
    head = {id(weight) for output in target.outputs for weight in _head(output)}
    channels = source.input_shape[-1], target.input_shape[-1]
    result, read, adapted, misfits = [], 0, [], []
    for weight, other in zip(own, others, strict=True):
        value = None if other is None or id(weight) in head else _fitted(other, tuple(weight.shape), channels)
        result.append(keras.ops.convert_to_numpy(weight) if value is None else value)
        read += value is not None
        if value is not None and tuple(other.shape) != tuple(weight.shape):
            adapted.append(_name(weight))
        elif value is None and id(weight) not in head:
            misfits.append(_name(weight))
    if not read:
        raise ModelFileError(
            f"{path} holds no weights that fit this network, because its architecture differs. Build the "
            "Neural_Network with the architecture of the file"
        )
    logger.info(
        "%s: %s of %d read; the output layer (%s) keeps its initial weights%s",
        *(path, plural(read, "array"), len(own), ", ".join(map(_name, _head(target.outputs[0]))) or "unknown"),
        f"; from {channels[0]} to {channels[1]} channels: {', '.join(adapted)}" if adapted else "",
    )
    if misfits:
        logger.warning(
            "%s: these weights do not fit this network and keep their initial values: %s", path, ", ".join(misfits)
        )
    return result


def _fitted(other: Any, shape: tuple[int, ...], channels: tuple[int, int]) -> np.ndarray | None:
    """Return the values for a weight of this shape, or None."""
    value: np.ndarray = keras.ops.convert_to_numpy(other)
    if value.shape == shape:
        return value
    before, after = channels
    sees_image = len(shape) == value.ndim >= 3 and (value.shape[-2], shape[-2]) == (before, after)
    if not sees_image or value.shape[:-2] + value.shape[-1:] != shape[:-2] + shape[-1:]:
        return None
    mean = value.mean(axis=-2, keepdims=True, dtype=np.float64) * (before / after)
    return np.repeat(mean, after, axis=-2).astype(value.dtype)


def _head(output: Any) -> list[Any]:
    """Return the weights of the layer that makes an output; empty if several layers make it."""
    while True:
        layer: Any = maker_of(output)
        if isinstance(layer, keras.Model) and getattr(layer, "outputs", None):
            output = layer.outputs[0]
        elif getattr(layer, "weights", None):
            return list(layer.weights)
        else:
            try:
                output = layer.input
            except (AttributeError, ValueError):  # the input itself, or a layer that is called several times
                return []
            if not hasattr(output, "shape"):
                return []


def _name(weight: Any) -> str:
    """Return layer and weight, such as ``conv/kernel``, without the enclosing models."""
    return "/".join(str(weight.path).split("/")[-2:])
