"""Metrics for segmentation, in 2D and 3D, and the losses under the name where MIScnn keeps them.

All take ``(y_true, y_pred)``: one-hot labels and class probabilities, both ``(batch, x, y[, z], classes)``; they
compute in float32. Where a value per sample is returned, Keras averages over all samples, whatever the sizes of the
batches.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from miscnn_tf.neural_network.loss_terms import identify_axis, pooled_dice, soft_dice_per_class
from miscnn_tf.neural_network.losses import (
    categorical_focal_loss,
    dice_coefficient_loss,
    dice_crossentropy,
    dice_soft_loss,
    dice_weighted,
    tversky_crossentropy,
    tversky_loss,
)

__all__ = [
    "categorical_focal_loss",
    "dice_coefficient",
    "dice_coefficient_loss",
    "dice_crossentropy",
    "dice_soft",
    "dice_soft_loss",
    "dice_weighted",
    "identify_axis",
    "tversky_crossentropy",
    "tversky_loss",
]


@keras.saving.register_keras_serializable(package="miscnn_tf")
def dice_coefficient(y_true: Any, y_pred: Any, smooth: float = 1e-5) -> Any:
    r"""The Dice coefficient over all voxels, samples and classes of the batch together.

    .. math:: \frac{2 \sum t p + s}{\sum t + \sum p + s}

    The background dominates it; `dice_soft` counts each class alike.

    Args:
        y_true: One-hot labels ``(batch, x, y[, z], classes)``.
        y_pred: Probabilities of the same shape.
        smooth: Keeps the quotient finite.

    Returns:
        A scalar, float32.

    Example:
        >>> float(dice_coefficient(ops.one_hot([[[0, 1]]], 2), ops.one_hot([[[0, 1]]], 2)))
        1.0

    Reference: Dice, Ecology 1945.
    """
    return pooled_dice(y_true, y_pred, smooth)


@keras.saving.register_keras_serializable(package="miscnn_tf")
def dice_soft(y_true: Any, y_pred: Any, smooth: float = 1e-5) -> Any:
    r"""The mean of the classes' soft Dice, per sample.

    .. math:: \frac{1}{C} \sum_c \frac{2 \sum_v t p + s}{\sum_v t + \sum_v p + s}

    Args:
        y_true: One-hot labels ``(batch, x, y[, z], classes)``.
        y_pred: Probabilities of the same shape.
        smooth: Keeps the quotient finite; a class absent from truth and prediction counts as found.

    Returns:
        ``(batch,)``, float32.
    """
    return ops.mean(soft_dice_per_class(y_true, y_pred, smooth), -1)
