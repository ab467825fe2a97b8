"""Terms of segmentation losses and metrics: overlaps, logarithms, means over voxels and classes.

All in float32, channels-last, for any number of spatial axes and classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from miscnn_tf.errors import ConfigurationError

__all__ = [
    "LOG_FLOOR",
    "Tensor",
    "class_mean",
    "class_weight_factors",
    "counted",
    "crossentropy_map",
    "foreground_classes",
    "identify_axis",
    "in_float32",
    "mean_crossentropy",
    "overlaps",
    "per_class",
    "pooled_dice",
    "safe_log",
    "soft_dice_per_class",
    "spatial_sum",
    "voxel_mean",
    "weighted_truth",
]

Tensor = Any

# Lower limit of probabilities in logarithms: Keras' epsilon, which float32 can represent.
LOG_FLOOR = 1e-7

# Probability in all channels of voxels without annotation: losses that divide by the sum of the channels stay finite,
# and a billion of such voxels add less to a sum than float32 can represent.
UNCOUNTED = 1e-30

FLOAT16_MAX = 65504.0


def counted(y_pred: Tensor) -> Tensor:
    """Return 1 for voxels that count and 0 for those without annotation, float32 ``(batch, x, y[, z], 1)``."""
    return 1.0 - ops.cast(ops.all(y_pred == UNCOUNTED, -1, keepdims=True), "float32")


def identify_axis(shape: Sequence[int | None]) -> list[int]:
    """Return the spatial axes of a batch: [1, 2] for images, [1, 2, 3] for volumes.

    Args:
        shape: ``(batch, x, y[, z], channels)``.

    Raises:
        ConfigurationError: (a ValueError) If it has another number of axes.
    """
    if len(shape) not in (4, 5):
        raise ConfigurationError(
            f"a batch of shape {tuple(shape)} is neither (batch, x, y, classes) nor (batch, x, y, z, classes)"
        )
    return list(range(1, len(shape) - 1))


def overlaps(y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return the sums of region losses per sample and class, each ``(batch, classes)`` in float32.

    Returns:
        The intersection :math:`\sum_v t p`, the size of the truth :math:`\sum_v t` and that of the prediction
        :math:`\sum_v p`.

    Raises:
        ConfigurationError: If the shapes of the arrays do not match.
    """
    y_true, y_pred = in_float32(y_true, y_pred)
    return spatial_sum(y_true * y_pred), spatial_sum(y_true), spatial_sum(y_pred)


def spatial_sum(values: Tensor) -> Tensor:
    """Sum over the voxels of each sample and class: ``(batch, x, y[, z], classes)`` to ``(batch, classes)``.

    Raises:
        ConfigurationError: If the array has another number of axes.
    """
    # Axis by axis: a single sum over a million voxels loses small values in float32, and is slower.
    for axis in reversed(identify_axis(values.shape)):
        values = ops.sum(values, axis)
    return values


def soft_dice_per_class(y_true: Tensor, y_pred: Tensor, smooth: float = 1e-5) -> Tensor:
    r"""Soft Dice of each sample and class: :math:`(2 \sum_v t p + s) / (\sum_v t + \sum_v p + s)`.

    Returns:
        ``(batch, classes)``, float32.
    """
    intersection, truth, prediction = overlaps(y_true, y_pred)
    return (2.0 * intersection + smooth) / (truth + prediction + smooth)


def pooled_dice(y_true: Tensor, y_pred: Tensor, smooth: float = 1e-5, class_weights: Any = None) -> Tensor:
    """Return the Dice over all voxels, samples and classes, a scalar. Weights multiply the sums of a class."""
    intersection, truth, prediction = overlaps(y_true, y_pred)
    weights = class_weight_factors(class_weights, intersection.shape[-1])
    if weights is not None:
        intersection, truth, prediction = intersection * weights, truth * weights, prediction * weights
    return (2.0 * ops.sum(intersection) + smooth) / (ops.sum(truth) + ops.sum(prediction) + smooth)


def crossentropy_map(y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
    r"""Categorical cross-entropy of each voxel, :math:`-\sum_c t \log p`, shape ``(batch, x, y[, z])``."""
    y_true, y_pred = in_float32(y_true, y_pred)
    y_true = weighted_truth(y_true, class_weights)
    return -ops.sum(y_true * safe_log(y_pred), -1)


def mean_crossentropy(y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
    """Categorical cross-entropy, averaged over the voxels of each sample: ``(batch,)``."""
    return voxel_mean(crossentropy_map(y_true, y_pred, class_weights))


def in_float32(y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
    """Convert labels and probabilities to float32 tensors.

    Raises:
        ConfigurationError: If the labels are not one-hot, or have another number of classes than the predictions.
    """
    y_true = ops.cast(ops.convert_to_tensor(y_true), "float32")
    y_pred = ops.convert_to_tensor(y_pred)
    half = keras.backend.standardize_dtype(y_pred.dtype) == "float16"
    y_pred = _float32_from_float16(y_pred) if half else ops.cast(y_pred, "float32")
    # Other labels would be broadcast against the probabilities, and the network would not learn.
    if len(y_true.shape) != len(y_pred.shape) or y_true.shape[-1] != y_pred.shape[-1]:
        raise ConfigurationError(
            f"the labels have shape {tuple(y_true.shape)}, the predictions {tuple(y_pred.shape)}: the loss needs "
            "one-hot labels (batch, x, y[, z], classes) with as many classes as the network predicts"
        )
    return y_true, y_pred


@ops.custom_gradient
def _float32_from_float16(values: Tensor) -> Any:
    """Cast with a gradient clipped to float16's range, which the slope of a loss near 0 or 1 often exceeds."""

    def gradient(*upstream: Tensor) -> Tensor:
        return ops.cast(ops.clip(upstream[0], -FLOAT16_MAX, FLOAT16_MAX), "float16")

    return ops.cast(values, "float32"), gradient


def foreground_classes(loss: str, y_pred: Tensor) -> int:
    """Return the number of classes without the background, class 0.

    Args:
        loss: Name of the loss, for the message.
        y_pred: Probabilities ``(batch, x, y[, z], classes)``.

    Raises:
        ConfigurationError: If the background is the only class.
    """
    classes = int(y_pred.shape[-1])
    if classes < 2:
        raise ConfigurationError(
            f"{loss} needs a background, class 0, and other classes, but the network predicts {classes} class: "
            "predict the background as a class as well (classes=2, softmax)"
        )
    return classes - 1


def safe_log(probability: Tensor) -> Tensor:
    """Return the logarithm of probabilities, finite at 0."""
    return ops.log(ops.maximum(probability, LOG_FLOOR))


def voxel_mean(values: Tensor) -> Tensor:
    """Average over the voxels of each sample: ``(batch, x, y[, z])`` to ``(batch,)``."""
    return ops.mean(values, list(range(1, len(values.shape))))


def class_mean(terms: Tensor, class_weights: Any) -> Tensor:
    """Average over the classes, weighted if weights are given: ``(batch, classes)`` to ``(batch,)``."""
    weights = class_weight_factors(class_weights, terms.shape[-1])
    return ops.mean(terms if weights is None else terms * weights, -1)


def weighted_truth(y_true: Tensor, class_weights: Any) -> Tensor:
    """Multiply one-hot labels by the weights of their classes, for losses per voxel."""
    weights = class_weight_factors(class_weights, y_true.shape[-1])
    return y_true if weights is None else y_true * weights


def class_weight_factors(class_weights: Any, classes: int) -> Tensor | None:
    """Scale the weights to a mean of one, so that equal weights change nothing: ``(classes,)``, or None.

    Raises:
        ConfigurationError: If the number of weights differs from that of the classes.
    """
    if class_weights is None:
        return None
    weights = per_class("class_weights", class_weights, classes)
    return weights * (classes / ops.sum(weights))


def per_class(what: str, numbers: Any, classes: int) -> Tensor:
    """Return numbers as a float32 tensor: one for all classes, or one per class.

    Raises:
        ConfigurationError: If their number differs; `what` is their name in the message.
    """
    tensor = ops.convert_to_tensor(numbers, dtype="float32")
    if len(tensor.shape) > 0 and tuple(tensor.shape) != (classes,):
        raise ConfigurationError(
            f"{what} has shape {tuple(tensor.shape)}, but there are {classes} classes: pass one number per class"
        )
    return tensor
