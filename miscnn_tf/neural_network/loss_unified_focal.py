r"""Losses of Yeung et al., "Unified Focal loss", in 2D and 3D: focal cross-entropy, focal Tversky, and their sum.

They distinguish the background, class 0, from all other classes. The paper's equations for the foreground, its class r,
apply to each class from 1 on, with the paper's sums over the classes; with two classes they are its binary equations.
See `losses` for the conventions of all losses.

The exponents are those of the paper's asymmetric losses and the authors' code: :math:`\gamma` for the cross-entropy
and :math:`1 - \gamma` for the Tversky terms. (The paper exchanges the two in its symmetric losses, which with
:math:`\gamma = 0.5`, the default of the unified losses, is the same.) As in the paper the terms of the classes are
summed and ``weight`` is the share of the focal cross-entropy; the authors' code averages the terms and gives
``weight`` to the Tversky terms.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import ops

from miscnn_tf.neural_network.loss_focal import focal_crossentropy, focal_tversky_terms
from miscnn_tf.neural_network.loss_settings import ConfiguredLoss, within
from miscnn_tf.neural_network.loss_terms import Tensor, foreground_classes

__all__ = [
    "AsymUnifiedFocalLoss",
    "AsymmetricFocalLoss",
    "AsymmetricFocalTverskyLoss",
    "SymUnifiedFocalLoss",
    "SymmetricFocalLoss",
    "SymmetricFocalTverskyLoss",
    "asym_unified_focal_loss",
    "asymmetric_focal_loss",
    "asymmetric_focal_tversky_loss",
    "sym_unified_focal_loss",
    "symmetric_focal_loss",
    "symmetric_focal_tversky_loss",
]


def _for_background_and_others(what: str, y_pred: Tensor, background: float, others: float) -> Tensor:
    """Return one number for class 0 and another for the other classes, ``(classes,)``.

    Raises:
        ConfigurationError: If the background is the only class.
    """
    return ops.convert_to_tensor([background] + [others] * foreground_classes(what, y_pred), "float32")


class _BackgroundFocal(ConfiguredLoss):
    """Base class of focal cross-entropies with a separate weight for the background."""

    symmetric: ClassVar[bool]

    def __init__(
        self,
        delta: float = 0.7,
        gamma: float = 2.0,
        name: str | None = None,
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name, reduction)
        self.delta = within(f"{self.name}: delta", delta, 0, 1)
        self.gamma = within(f"{self.name}: gamma", gamma, 0, float("inf"))

    def call(self, y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
        """Return the loss of each sample, ``(batch,)``. Class weights weight each voxel by its true class."""
        alpha = _for_background_and_others(self.name, y_pred, 1.0 - self.delta, self.delta)
        gamma = _for_background_and_others(self.name, y_pred, self.gamma, self.gamma if self.symmetric else 0.0)
        return focal_crossentropy(y_true, y_pred, alpha, gamma, class_weights)


@keras.saving.register_keras_serializable(package="miscnn_tf")
class SymmetricFocalLoss(_BackgroundFocal):
    r"""Focal cross-entropy with one weight for the background and another for all other classes.

    .. math:: -\frac{1}{V} \sum_v \left((1 - \delta) t_{v0} (1 - p_{v0})^\gamma \log p_{v0} +
        \delta \sum_{c > 0} t_{vc} (1 - p_{vc})^\gamma \log p_{vc}\right)

    per sample, V its number of voxels.

    Args:
        delta: Weight of the classes from 1 on, 0 to 1; that of the background is ``1 - delta``.
        gamma: Strength of the suppression of easy voxels; 0 gives the weighted cross-entropy.
        name: Name of the loss; None means ``symmetric_focal_loss``.
        reduction: Reduction over the samples of a batch, as in Keras.

    Raises:
        ConfigurationError: If a setting is outside its range; when called, if the background is the only class.

    Example:
        >>> keras_model.compile(loss=symmetric_focal_loss(gamma=1.5))  # doctest: +SKIP

    Reference: Yeung et al., "Unified Focal loss: Generalising Dice and cross entropy-based losses to handle class
    imbalanced medical image segmentation", Comput. Med. Imaging Graph. 2022, arXiv 2102.04525, the modified focal loss.
    """

    symmetric = True


@keras.saving.register_keras_serializable(package="miscnn_tf")
class AsymmetricFocalLoss(_BackgroundFocal):
    r"""Cross-entropy that suppresses easy voxels of the background only.

    .. math:: -\frac{1}{V} \sum_v \left((1 - \delta) t_{v0} (1 - p_{v0})^\gamma \log p_{v0} +
        \delta \sum_{c > 0} t_{vc} \log p_{vc}\right)

    per sample, V its number of voxels.

    Args:
        delta: Weight of the classes from 1 on, 0 to 1; that of the background is ``1 - delta``.
        gamma: Strength of the suppression of easy background voxels; 0 gives the weighted cross-entropy.
        name: Name of the loss; None means ``asymmetric_focal_loss``.
        reduction: Reduction over the samples of a batch, as in Keras.

    Raises:
        ConfigurationError: If a setting is outside its range; when called, if the background is the only class.

    Example:
        >>> keras_model.compile(loss=asymmetric_focal_loss(delta=0.8))  # doctest: +SKIP

    Reference: Yeung et al., as `SymmetricFocalLoss`; the modified asymmetric focal loss.
    """

    symmetric = False


class _BackgroundTversky(ConfiguredLoss):
    """Base class of Tversky distances with separate exponents for the background and the other classes."""

    symmetric: ClassVar[bool]

    def __init__(
        self,
        delta: float = 0.7,
        gamma: float = 0.75,
        smooth: float = 1e-6,
        name: str | None = None,
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name, reduction)
        self.delta = within(f"{self.name}: delta", delta, 0, 1)
        # With 1 each term would be 1 for any prediction.
        self.gamma = within(f"{self.name}: gamma", gamma, 0, 1, but=1)
        self.smooth = within(f"{self.name}: smooth", smooth, 0, float("inf"), but=0)

    def call(self, y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
        """Return the loss of each sample, ``(batch,)``, between 0 and the number of classes."""
        enhanced = 1.0 - self.gamma
        exponents = _for_background_and_others(self.name, y_pred, enhanced if self.symmetric else 1.0, enhanced)
        return focal_tversky_terms(y_true, y_pred, self.delta, exponents, self.smooth, class_weights)


@keras.saving.register_keras_serializable(package="miscnn_tf")
class SymmetricFocalTverskyLoss(_BackgroundTversky):
    r"""Tversky distances with small ones enhanced for all classes.

    .. math:: \sum_c (1 - TI_c)^{1 - \gamma}, \quad TI_c = \frac{TP_c + s}{TP_c + \delta FN_c + (1 - \delta) FP_c + s}

    per sample: `FocalTverskyLoss` with the exponent :math:`1 - \gamma`.

    Args:
        delta: Weight of false negatives, 0 to 1; that of false positives is ``1 - delta``.
        gamma: Enhancement of small distances, from 0 (none) to less than 1.
        smooth: Keeps the quotient finite; a class absent from truth and prediction counts as found.
        name: Name of the loss; None means ``symmetric_focal_tversky_loss``.
        reduction: Reduction over the samples of a batch, as in Keras.

    Raises:
        ConfigurationError: If a setting is outside its range; when called, if the background is the only class.

    Example:
        >>> keras_model.compile(loss=symmetric_focal_tversky_loss(gamma=0.5))  # doctest: +SKIP

    Reference: Yeung et al., as `SymmetricFocalLoss`; the modified focal Tversky loss.
    """

    symmetric = True


@keras.saving.register_keras_serializable(package="miscnn_tf")
class AsymmetricFocalTverskyLoss(_BackgroundTversky):
    r"""Tversky distances with small ones enhanced for all classes except the background.

    .. math:: (1 - TI_0) + \sum_{c > 0} (1 - TI_c)^{1 - \gamma}, \quad
        TI_c = \frac{TP_c + s}{TP_c + \delta FN_c + (1 - \delta) FP_c + s}

    per sample.

    Args:
        delta: Weight of false negatives, 0 to 1; that of false positives is ``1 - delta``.
        gamma: Enhancement of small distances, from 0 (none) to less than 1.
        smooth: Keeps the quotient finite; a class absent from truth and prediction counts as found.
        name: Name of the loss; None means ``asymmetric_focal_tversky_loss``.
        reduction: Reduction over the samples of a batch, as in Keras.

    Raises:
        ConfigurationError: If a setting is outside its range; when called, if the background is the only class.

    Example:
        >>> keras_model.compile(loss=asymmetric_focal_tversky_loss(delta=0.6))  # doctest: +SKIP

    Reference: Yeung et al., as `SymmetricFocalLoss`; the modified asymmetric focal Tversky loss.
    """

    symmetric = False


class _UnifiedFocal(ConfiguredLoss):
    """Base class of sums of a focal cross-entropy and a focal Tversky loss with common settings."""

    focal: ClassVar[type[_BackgroundFocal]]
    tversky: ClassVar[type[_BackgroundTversky]]

    def __init__(
        self,
        weight: float = 0.5,
        delta: float = 0.6,
        gamma: float = 0.5,
        name: str | None = None,
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name, reduction)
        self.weight = within(f"{self.name}: weight", weight, 0, 1)
        self.delta = within(f"{self.name}: delta", delta, 0, 1)
        self.gamma = within(f"{self.name}: gamma", gamma, 0, 1, but=1)

    def call(self, y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
        """Return the loss of each sample, ``(batch,)``."""
        focal, tversky = (
            loss(self.delta, self.gamma, name=self.name).call(y_true, y_pred, class_weights)
            for loss in (self.focal, self.tversky)
        )
        return self.weight * focal + (1.0 - self.weight) * tversky


@keras.saving.register_keras_serializable(package="miscnn_tf")
class SymUnifiedFocalLoss(_UnifiedFocal):
    r"""The weighted sum of `SymmetricFocalLoss` and `SymmetricFocalTverskyLoss`, which share their settings.

    .. math:: \lambda L_{F} + (1 - \lambda) L_{FT}

    Args:
        weight: The share :math:`\lambda` of the focal cross-entropy, 0 to 1.
        delta: Weight of the classes from 1 on in the cross-entropy, and of false negatives in the Tversky index, 0 to
            1.
        gamma: Suppression of easy voxels and enhancement of small distances, from 0 (none) to less than 1.
        name: Name of the loss; None means ``sym_unified_focal_loss``.
        reduction: Reduction over the samples of a batch, as in Keras.

    Raises:
        ConfigurationError: If a setting is outside its range; when called, if the background is the only class.

    Example:
        >>> keras_model.compile(loss=sym_unified_focal_loss(weight=0.3))  # doctest: +SKIP

    Reference: Yeung et al., as `SymmetricFocalLoss`; the symmetric Unified Focal loss.
    """

    focal = SymmetricFocalLoss
    tversky = SymmetricFocalTverskyLoss


@keras.saving.register_keras_serializable(package="miscnn_tf")
class AsymUnifiedFocalLoss(_UnifiedFocal):
    r"""The weighted sum of `AsymmetricFocalLoss` and `AsymmetricFocalTverskyLoss`, which share their settings.

    .. math:: \lambda L_{F} + (1 - \lambda) L_{FT}

    Args:
        weight: The share :math:`\lambda` of the cross-entropy, 0 to 1.
        delta: Weight of the classes from 1 on in the cross-entropy, and of false negatives in the Tversky index, 0 to
            1.
        gamma: Suppression of easy background voxels and enhancement of the other classes' small distances, from 0
            (none) to less than 1.
        name: Name of the loss; None means ``asym_unified_focal_loss``.
        reduction: Reduction over the samples of a batch, as in Keras.

    Raises:
        ConfigurationError: If a setting is outside its range; when called, if the background is the only class.

    Example:
        >>> keras_model.compile(loss=asym_unified_focal_loss(gamma=0.3))  # doctest: +SKIP

    Reference: Yeung et al., as `SymmetricFocalLoss`; the asymmetric Unified Focal loss.
    """

    focal = AsymmetricFocalLoss
    tversky = AsymmetricFocalTverskyLoss


symmetric_focal_loss = SymmetricFocalLoss()
asymmetric_focal_loss = AsymmetricFocalLoss()
symmetric_focal_tversky_loss = SymmetricFocalTverskyLoss()
asymmetric_focal_tversky_loss = AsymmetricFocalTverskyLoss()
sym_unified_focal_loss = SymUnifiedFocalLoss()
asym_unified_focal_loss = AsymUnifiedFocalLoss()
