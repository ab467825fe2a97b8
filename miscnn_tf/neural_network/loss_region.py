"""Region losses: Dice, Tversky, and their sums with cross-entropy. See `losses` for the conventions of all losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from miscnn_tf.neural_network.loss_settings import ConfiguredLoss, non_negative, within
from miscnn_tf.neural_network.loss_terms import (
    Tensor,
    class_mean,
    class_weight_factors,
    foreground_classes,
    in_float32,
    mean_crossentropy,
    overlaps,
    per_class,
    pooled_dice,
    safe_log,
    soft_dice_per_class,
    voxel_mean,
)

__all__ = [
    "ComboLoss",
    "DiceWeighted",
    "combo_loss",
    "dice_coefficient_loss",
    "dice_crossentropy",
    "dice_soft_loss",
    "dice_weighted",
    "tversky_crossentropy",
    "tversky_loss",
]


@keras.saving.register_keras_serializable(package="miscnn_tf")
def dice_coefficient_loss(y_true: Tensor, y_pred: Tensor, smooth: float = 1e-5, class_weights: Any = None) -> Tensor:
    r"""One minus the Dice coefficient over all voxels, samples and classes of the batch together.

    .. math:: 1 - \frac{2 \sum t p + s}{\sum t + \sum p + s}

    Large classes dominate it; `dice_soft_loss` gives each class the same weight.

    Args:
        y_true: One-hot labels ``(batch, x, y[, z], classes)``.
        y_pred: Probabilities of the same shape.
        smooth: Keeps the quotient finite.
        class_weights: One number per class; only the ratios matter.

    Returns:
        ``(batch,)``, float32: the batch's value for each sample.

    Example:
        >>> dice_coefficient_loss(ops.one_hot([[[0, 1]]], 2), ops.one_hot([[[0, 0]]], 2)).numpy().round(4)
        array([0.5], dtype=float32)
    """
    loss = 1.0 - pooled_dice(y_true, y_pred, smooth, class_weights)
    # A scalar would escape Keras' division by the number of replicas under tf.distribute.
    return ops.broadcast_to(loss, ops.shape(y_pred)[:1])


@keras.saving.register_keras_serializable(package="miscnn_tf")
def dice_soft_loss(y_true: Tensor, y_pred: Tensor, smooth: float = 1e-5, class_weights: Any = None) -> Tensor:
    r"""One minus the mean of the classes' soft Dice, per sample.

    .. math:: 1 - \frac{1}{C} \sum_c \frac{2 \sum_v t p + s}{\sum_v t + \sum_v p + s}

    Args:
        y_true: One-hot labels ``(batch, x, y[, z], classes)``.
        y_pred: Probabilities of the same shape.
        smooth: Keeps the quotient finite; a class absent from truth and prediction counts as found.
        class_weights: One number per class; the mean is weighted with them.

    Returns:
        ``(batch,)``, float32.

    Reference: Milletari et al., V-Net, 3DV 2016, arXiv 1606.04797 (there with squares in the denominator).
    """
    return 1.0 - class_mean(soft_dice_per_class(y_true, y_pred, smooth), class_weights)


@keras.saving.register_keras_serializable(package="miscnn_tf")
def dice_crossentropy(y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
    """The sum of `dice_soft_loss` and the mean categorical cross-entropy, per sample: ``(batch,)``, float32.

    This is the loss of nnU-Net and a good first choice.

    Args:
        y_true: One-hot labels ``(batch, x, y[, z], classes)``.
        y_pred: Probabilities of the same shape.
        class_weights: One number per class; weights the Dice terms and the voxels.

    Reference: Isensee et al., nnU-Net, Nature Methods 2021.
    """
    return dice_soft_loss(y_true, y_pred, class_weights=class_weights) + mean_crossentropy(
        y_true, y_pred, class_weights
    )


@keras.saving.register_keras_serializable(package="miscnn_tf")
def tversky_loss(
    y_true: Tensor,
    y_pred: Tensor,
    smooth: float = 1e-6,
    alpha: float = 0.5,
    beta: float = 0.5,
    class_weights: Any = None,
) -> Tensor:
    r"""The number of classes minus the sum of their Tversky indices, per sample.

    .. math:: C - \sum_c \frac{TP_c + s}{TP_c + \alpha FP_c + \beta FN_c + s}

    with :math:`TP = \sum_v t p`, :math:`FP = \sum_v (1 - t) p`, :math:`FN = \sum_v t (1 - p)`.

    Args:
        y_true: One-hot labels ``(batch, x, y[, z], classes)``.
        y_pred: Probabilities of the same shape.
        smooth: Keeps the quotient finite.
        alpha: Weight of false positives.
        beta: Weight of false negatives; with alpha = beta = 0.5 the index is the Dice.
        class_weights: One number per class; weights the classes' terms.

    Returns:
        ``(batch,)``, float32, between 0 and the number of classes.

    Reference: Salehi et al., MLMI 2017, arXiv 1706.05721.
    """
    intersection, truth, prediction = overlaps(y_true, y_pred)
    errors = alpha * (prediction - intersection) + beta * (truth - intersection)
    index = (intersection + smooth) / (intersection + errors + smooth)
    return index.shape[-1] * (1.0 - class_mean(index, class_weights))


@keras.saving.register_keras_serializable(package="miscnn_tf")
def tversky_crossentropy(y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
    """The sum of `tversky_loss` and the mean categorical cross-entropy, per sample: ``(batch,)``, float32.

    Args:
        y_true: One-hot labels ``(batch, x, y[, z], classes)``.
        y_pred: Probabilities of the same shape.
        class_weights: One number per class; weights the Tversky terms and the voxels.
    """
    return tversky_loss(y_true, y_pred, class_weights=class_weights) + mean_crossentropy(y_true, y_pred, class_weights)


@keras.saving.register_keras_serializable(package="miscnn_tf")
class DiceWeighted(ConfiguredLoss):
    r"""Minus the weighted soft Dice of the classes.

    .. math:: -\frac{1}{C} \sum_c w_c \frac{2 \sum_v t p + s}{\sum_v t + \sum_v p + s}

    Args:
        weights: One number per class; they are not normalised.
        smooth: Keeps the quotient finite.
        name: Name of the loss; None means ``dice_weighted``.
        reduction: Reduction over the samples of a batch, as in Keras.
    """

    def __init__(
        self,
        weights: Sequence[float],
        smooth: float = 1e-5,
        name: str | None = None,
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name, reduction)
        self.weights = non_negative("weights", weights)
        self.smooth = float(smooth)

    def call(self, y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
        """Return the loss of each sample, ``(batch,)``."""
        dice = soft_dice_per_class(y_true, y_pred, self.smooth)
        return -class_mean(dice * per_class("dice_weighted: weights", self.weights, dice.shape[-1]), class_weights)


def dice_weighted(weights: Sequence[float], smooth: float = 1e-5) -> DiceWeighted:
    """Return minus the weighted soft Dice of the classes; see `DiceWeighted`.

    Args:
        weights: One number per class; they are not normalised.
        smooth: Keeps the quotient finite.

    Raises:
        ConfigurationError: If a weight is negative or not a number.

    Example:
        >>> keras_model.compile(loss=dice_weighted([0.2, 1.0, 3.0]))  # doctest: +SKIP
    """
    return DiceWeighted(weights, smooth)


@keras.saving.register_keras_serializable(package="miscnn_tf")
class ComboLoss(ConfiguredLoss):
    r"""Binary cross-entropy of each class, with separate weights for misses and false alarms, minus the classes' Dice.

    .. math:: -\frac{\alpha}{N} \sum_{v, c} \left(\beta t_{vc} \log p_{vc} + (1 - \beta) (1 - t_{vc}) \log(1 -
        p_{vc})\right) - (1 - \alpha) \sum_c \frac{2 \sum_v t_{vc} p_{vc} + s}{\sum_v t_{vc} + \sum_v p_{vc} + s}

    per sample, where c are the classes from 1 on and N is the number of voxels times these classes. The background,
    class 0, is excluded: with two classes it would cancel :math:`\beta`. The loss of a perfect prediction is :math:`-(1
    - \alpha)(C - 1)`.

    Args:
        alpha: Share of the cross-entropy, 0 to 1.
        beta: Share of the misses in the cross-entropy, 0 to 1; above 0.5 a miss costs more than a false alarm.
        smooth: Keeps the quotient finite, in voxels; 1 as in the authors' code.
        name: Name of the loss; None means ``combo_loss``.
        reduction: Reduction over the samples of a batch, as in Keras.

    Raises:
        ConfigurationError: If a setting is outside its range; when called, if the background is the only class.

    Example:
        >>> keras_model.compile(loss=combo_loss(alpha=0.3))  # doctest: +SKIP

    Reference: Taghanaki et al., "Combo Loss: Handling Input and Output Imbalance in Multi-Organ Segmentation", Comput.
    Med. Imaging Graph. 2019, arXiv 1805.02798.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        smooth: float = 1.0,
        name: str | None = None,
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name, reduction)
        self.alpha = within("combo_loss: alpha", alpha, 0, 1)
        self.beta = within("combo_loss: beta", beta, 0, 1)
        self.smooth = within("combo_loss: smooth", smooth, 0, float("inf"), but=0)

    def call(self, y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
        """Return the loss of each sample, ``(batch,)``. Class weights weight the Dice terms and the voxels."""
        y_true, y_pred = in_float32(y_true, y_pred)
        foreground_classes("combo_loss", y_pred)
        factors = class_weight_factors(class_weights, y_pred.shape[-1])
        t, p = y_true[..., 1:], y_pred[..., 1:]
        misses, false_alarms = t * safe_log(p), (1.0 - t) * safe_log(1.0 - p)
        crossentropy = -ops.mean(self.beta * misses + (1.0 - self.beta) * false_alarms, -1)
        dice = soft_dice_per_class(t, p, self.smooth)
        if factors is not None:
            crossentropy, dice = crossentropy * ops.sum(y_true * factors, -1), dice * factors[1:]
        return self.alpha * voxel_mean(crossentropy) - (1.0 - self.alpha) * ops.sum(dice, -1)


combo_loss = ComboLoss()
