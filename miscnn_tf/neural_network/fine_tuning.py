"""The weights of a trained network for another one: all that fit, but for its output layer."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np

from miscnn_tf.errors import ModelFileError
from miscnn_tf.messages import plural
from miscnn_tf.neural_network.keras_internals import maker_of

logger = logging.getLogger(__name__)


def fitting_weights(target: keras.Model, source: keras.Model, path: Path) -> list[np.ndarray]:
    """The weights of `source` where they fit into `target`, and those of `target` itself elsewhere.

    The output layer keeps its own. Of kernels that see the image, for another number of channels, the mean over the
    channels is repeated, scaled so that an image whose channels are all alike gives the same response. What else does
    not fit is named in a warning.

    Args:
        target: The model that is to be trained.
        source: The trained model.
        path: Its file, for messages.

    Returns:
        The arrays for ``target.set_weights``.

    Raises:
        ModelFileError: If nothing fits.
    """
    own, others = target.weights, source.weights
    if len(own) != len(others):
        # Of different depths: layers of the same name do the same.
        by_name = {_name(weight): weight for weight in others}
        others = [by_name.get(_name(weight)) for weight in own]
    head = {id(weight) for weight in _head(target)}
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
            f"{path} holds no weights that fit this network: it is of another architecture. Build the Neural_Network "
            "with the architecture of the file"
        )
    logger.info(
        "%s: %s of %d read; the output layer (%s) begins anew%s",
        *(path, plural(read, "array"), len(own), ", ".join(_name(weight) for weight in _head(target)) or "unknown"),
        f"; from {channels[0]} to {channels[1]} channels: {', '.join(adapted)}" if adapted else "",
    )
    if misfits:
        logger.warning("%s: these do not fit this network, and begin anew: %s", path, ", ".join(misfits))
    return result


def _fitted(other: Any, shape: tuple[int, ...], channels: tuple[int, int]) -> np.ndarray | None:
    """The values for a weight of this shape, or None."""
    value: np.ndarray = keras.ops.convert_to_numpy(other)
    if value.shape == shape:
        return value
    before, after = channels
    sees_image = len(shape) == value.ndim >= 3 and (value.shape[-2], shape[-2]) == (before, after)
    if not sees_image or value.shape[:-2] + value.shape[-1:] != shape[:-2] + shape[-1:]:
        return None
    mean = value.mean(axis=-2, keepdims=True, dtype=np.float64) * (before / after)
    return np.repeat(mean, after, axis=-2).astype(value.dtype)


def _head(model: keras.Model) -> list[Any]:
    """The weights of the layer that makes the output; none where several do."""
    output = model.outputs[0]
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
    """Layer and weight, such as ``conv/kernel``, without the models that they are in."""
    return "/".join(str(weight.path).split("/")[-2:])
