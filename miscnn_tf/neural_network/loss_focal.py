"""Focal losses, which emphasise hard voxels or regions. See `losses` for the conventions of all losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from miscnn_tf.neural_network.loss_settings import ConfiguredLoss, non_negative, within
from miscnn_tf.neural_network.loss_terms import (
    LOG_FLOOR,
    Tensor,
    class_mean,
    in_float32,
    per_class,
    safe_log,
    spatial_sum,
    voxel_mean,
    weighted_truth,
)

__all__ = [
    "CategoricalFocalLoss",
    "FocalTverskyLoss",
    "categorical_focal_loss",
    "focal_crossentropy",
    "focal_tversky_loss",
    "focal_tversky_terms",
]


def focal_crossentropy(y_true: Tensor, y_pred: Tensor, alpha: Any, gamma: Any, class_weights: Any) -> Tensor:
    r"""Return the mean over the voxels of :math:`-\sum_c \alpha_c t (1 - p)^{\gamma_c} \log p`: ``(batch,)``.

    Args:
        y_true: One-hot labels ``(batch, x, y[, z], classes)``.
        y_pred: Probabilities of the same shape.
        alpha: One number, or one per class.
        gamma: One number, or one per class.
        class_weights: One number per class, or None; weights each voxel by its true class.
    """
    y_true, y_pred = in_float32(y_true, y_pred)
    # The floor keeps the gradient finite at p = 1 where gamma is below 1.
    focus = ops.power(ops.maximum(1.0 - y_pred, LOG_FLOOR), gamma)
    return voxel_mean(-ops.sum(weighted_truth(y_true, class_weights) * alpha * focus * safe_log(y_pred), -1))


def focal_tversky_terms(
    y_true: Tensor, y_pred: Tensor, delta: float, exponents: Any, smooth: float, class_weights: Any
) -> Tensor:
    r"""Return the sum over the classes of :math:`(1 - TI_c)^{e_c}`, misses weighted with delta: ``(batch,)``.

    Args:
        y_true: One-hot labels ``(batch, x, y[, z], classes)``.
        y_pred: Probabilities of the same shape.
        delta: Weight of the misses; that of false alarms is ``1 - delta``.
        exponents: One number, or one per class.
        smooth: Keeps the quotient of the Tversky index finite.
        class_weights: One number per class, or None; weights the terms.
    """
    y_true, y_pred = in_float32(y_true, y_pred)
    found = spatial_sum(y_true * y_pred)
    # Summed separately: the difference of large sums has a rounding error, which a small power would enlarge.
    misses = spatial_sum(y_true * (1.0 - y_pred))
    false_alarms = spatial_sum((1.0 - y_true) * y_pred)
    errors = delta * misses + (1.0 - delta) * false_alarms
    distance = errors / (found + errors + smooth)
    # The power has an infinite slope at 0; below the floor it is replaced by its chord.
    terms = distance * ops.power(ops.maximum(distance, LOG_FLOOR), exponents - 1.0)
    return terms.shape[-1] * class_mean(terms, class_weights)


@keras.saving.register_keras_serializable(package="miscnn_tf")
class CategoricalFocalLoss(ConfiguredLoss):
    r"""Focal cross-entropy, which emphasises hard voxels, averaged over the voxels of each sample.

    .. math:: -\sum_c \alpha_c \, t_{vc} (1 - p_{vc})^\gamma \log p_{vc}

    Args:
        alpha: Weight of every class: one number, or one per class.
        gamma: Strength of the suppression of easy voxels; 0 gives the weighted cross-entropy.
        name: Name of the loss; None means ``categorical_focal_loss``.
        reduction: Reduction over the samples of a batch, as in Keras.

    Example:
        >>> keras_model.compile(loss=categorical_focal_loss(alpha=[0.1, 0.3, 0.6], gamma=2.0))  # doctest: +SKIP

    Reference: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002, equation 5; the
    defaults are the paper's.
    """

    def __init__(
        self,
        alpha: float | Sequence[float] = 0.25,
        gamma: float = 2.0,
        name: str | None = None,
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name, reduction)
        numbers = non_negative("alpha", alpha)
        self.alpha = numbers[0] if np.ndim(alpha) == 0 else numbers
        self.gamma = within("categorical_focal_loss: gamma", gamma, 0, float("inf"))

    def call(self, y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
        """Return the loss of each sample, ``(batch,)``."""
        y_true, y_pred = in_float32(y_true, y_pred)
        alpha = per_class("categorical_focal_loss: alpha", self.alpha, y_pred.shape[-1])
        return focal_crossentropy(y_true, y_pred, alpha, self.gamma, class_weights)


categorical_focal_loss = CategoricalFocalLoss()


@keras.saving.register_keras_serializable(package="miscnn_tf")
class FocalTverskyLoss(ConfiguredLoss):
    r"""Sum over the classes of a power of the distance from a Tversky index of one.

    .. math:: \sum_c (1 - TI_c)^\gamma, \quad TI_c = \frac{TP_c + s}{TP_c + \delta FN_c + (1 - \delta) FP_c + s}

    per sample, with :math:`TP = \sum_v t p`, :math:`FN = \sum_v t (1 - p)`, :math:`FP = \sum_v (1 - t) p`.

    Args:
        delta: Weight of false negatives, 0 to 1; that of false positives is ``1 - delta``.
        gamma: The exponent, 1/γ in the paper; the default is its best, γ = 4/3. Below 1 it emphasises small distances,
            above 1 large ones; 1 with ``delta=0.5`` is the `losses.tversky_loss`.
        smooth: Keeps the quotient finite; a class absent from truth and prediction counts as found.
        name: Name of the loss; None means ``focal_tversky_loss``.
        reduction: Reduction over the samples of a batch, as in Keras.

    Raises:
        ConfigurationError: If a setting is outside its range.

    Example:
        >>> keras_model.compile(loss=focal_tversky_loss(delta=0.8))  # doctest: +SKIP

    Reference: Abraham & Khan, "A Novel Focal Tversky Loss Function with Improved Attention U-Net for Lesion
    Segmentation", ISBI 2019, arXiv 1810.07842.
    """

    def __init__(
        self,
        delta: float = 0.7,
        gamma: float = 0.75,
        smooth: float = 1e-6,
        name: str | None = None,
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name, reduction)
        self.delta = within("focal_tversky_loss: delta", delta, 0, 1)
        self.gamma = within("focal_tversky_loss: gamma", gamma, 0, float("inf"), but=0)
        self.smooth = within("focal_tversky_loss: smooth", smooth, 0, float("inf"), but=0)

    def call(self, y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
        """Return the loss of each sample, ``(batch,)``, between 0 and the number of classes."""
        return focal_tversky_terms(y_true, y_pred, self.delta, self.gamma, self.smooth, class_weights)


focal_tversky_loss = FocalTverskyLoss()
