r"""The losses of Yeung et al., "Unified Focal loss", in 2D and 3D: cross-entropy and Tversky, focal, and their sum.

They tell class 0, the background, from all other classes: what the paper says of the foreground, its class r, holds
here for each class from 1 on, and the sums over the classes are the paper's. With two classes they are its binary
equations. `losses` says what all losses share.

The exponents are those of the paper's asymmetric losses and of the authors' code: :math:`\gamma` for the cross-entropy
and :math:`1 - \gamma` for the Tversky terms. (The paper writes its symmetric losses with the two exchanged, which with
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
    """A number for class 0 and another for the rest, ``(classes,)``.

    Raises:
        ConfigurationError: If there is no class but the background.
    """
    return ops.convert_to_tensor([background] + [others] * foreground_classes(what, y_pred), "float32")


class _BackgroundFocal(ConfiguredLoss):
    """Focal cross-entropy of the background against the other classes."""

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
        """The loss of each sample, ``(batch,)``. Class weights weight each voxel by its true class."""
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
        delta: Weight of the classes from 1 on, 0 to 1; the background has the rest.
        gamma: How much easy voxels are played down; 0 gives the weighted cross-entropy.
        name: Of the loss; ``symmetric_focal_loss`` where it is None.
        reduction: Over the samples of a batch, as in Keras.

    Raises:
        ConfigurationError: If a setting lies outside its range; when called, if there is no class but the background.

    Example:
        >>> keras_model.compile(loss=symmetric_focal_loss(gamma=1.5))  # doctest: +SKIP

    Reference: Yeung et al., "Unified Focal loss: Generalising Dice and cross entropy-based losses to handle class
    imbalanced medical image segmentation", Comput. Med. Imaging Graph. 2022, arXiv 2102.04525, the modified focal loss.
    """

    symmetric = True


@keras.saving.register_keras_serializable(package="miscnn_tf")
class AsymmetricFocalLoss(_BackgroundFocal):
    r"""Cross-entropy in which only the easy voxels of the background are played down.

    .. math:: -\frac{1}{V} \sum_v \left((1 - \delta) t_{v0} (1 - p_{v0})^\gamma \log p_{v0} +
        \delta \sum_{c > 0} t_{vc} \log p_{vc}\right)

    per sample, V its number of voxels.

    Args:
        delta: Weight of the classes from 1 on, 0 to 1; the background has the rest.
        gamma: How much easy voxels of the background are played down; 0 gives the weighted cross-entropy.
        name: Of the loss; ``asymmetric_focal_loss`` where it is None.
        reduction: Over the samples of a batch, as in Keras.

    Raises:
        ConfigurationError: If a setting lies outside its range; when called, if there is no class but the background.

    Example:
        >>> keras_model.compile(loss=asymmetric_focal_loss(delta=0.8))  # doctest: +SKIP

    Reference: Yeung et al., as `SymmetricFocalLoss`; the modified asymmetric focal loss.
    """

    symmetric = False


class _BackgroundTversky(ConfiguredLoss):
    """Tversky distances of the background and of the other classes, with a power each."""

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
        # With 1 each term would be 1, whatever the network predicts.
        self.gamma = within(f"{self.name}: gamma", gamma, 0, 1, but=1)
        self.smooth = within(f"{self.name}: smooth", smooth, 0, float("inf"), but=0)

    def call(self, y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
        """The loss of each sample, ``(batch,)``, between 0 and the number of classes."""
        enhanced = 1.0 - self.gamma
        exponents = _for_background_and_others(self.name, y_pred, enhanced if self.symmetric else 1.0, enhanced)
        return focal_tversky_terms(y_true, y_pred, self.delta, exponents, self.smooth, class_weights)


@keras.saving.register_keras_serializable(package="miscnn_tf")
class SymmetricFocalTverskyLoss(_BackgroundTversky):
    r"""Tversky distances in which the small ones of all classes are enhanced.

    .. math:: \sum_c (1 - TI_c)^{1 - \gamma}, \quad TI_c = \frac{TP_c + s}{TP_c + \delta FN_c + (1 - \delta) FP_c + s}

    per sample: `FocalTverskyLoss` with the exponent :math:`1 - \gamma`.

    Args:
        delta: Weight of the misses (false negatives), 0 to 1; false alarms have the rest.
        gamma: How much small distances are enhanced, 0 (not at all) to less than 1.
        smooth: Keeps the quotient finite; a class absent from truth and prediction counts as found.
        name: Of the loss; ``symmetric_focal_tversky_loss`` where it is None.
        reduction: Over the samples of a batch, as in Keras.

    Raises:
        ConfigurationError: If a setting lies outside its range; when called, if there is no class but the background.

    Example:
        >>> keras_model.compile(loss=symmetric_focal_tversky_loss(gamma=0.5))  # doctest: +SKIP

    Reference: Yeung et al., as `SymmetricFocalLoss`; the modified focal Tversky loss.
    """

    symmetric = True


@keras.saving.register_keras_serializable(package="miscnn_tf")
class AsymmetricFocalTverskyLoss(_BackgroundTversky):
    r"""Tversky distances in which the small ones of all classes but the background are enhanced.

    .. math:: (1 - TI_0) + \sum_{c > 0} (1 - TI_c)^{1 - \gamma}, \quad
        TI_c = \frac{TP_c + s}{TP_c + \delta FN_c + (1 - \delta) FP_c + s}

    per sample.

    Args:
        delta: Weight of the misses (false negatives), 0 to 1; false alarms have the rest.
        gamma: How much small distances are enhanced, 0 (not at all) to less than 1.
        smooth: Keeps the quotient finite; a class absent from truth and prediction counts as found.
        name: Of the loss; ``asymmetric_focal_tversky_loss`` where it is None.
        reduction: Over the samples of a batch, as in Keras.

    Raises:
        ConfigurationError: If a setting lies outside its range; when called, if there is no class but the background.

    Example:
        >>> keras_model.compile(loss=asymmetric_focal_tversky_loss(delta=0.6))  # doctest: +SKIP

    Reference: Yeung et al., as `SymmetricFocalLoss`; the modified asymmetric focal Tversky loss.
    """

    symmetric = False


class _UnifiedFocal(ConfiguredLoss):
    """Focal cross-entropy and focal Tversky loss with one delta and one gamma."""

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
        """The loss of each sample, ``(batch,)``."""
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
        delta: Weight of the classes from 1 on in the cross-entropy, and of the misses in the Tversky index, 0 to 1.
        gamma: How much easy voxels are played down and small distances enhanced, 0 (not at all) to less than 1.
        name: Of the loss; ``sym_unified_focal_loss`` where it is None.
        reduction: Over the samples of a batch, as in Keras.

    Raises:
        ConfigurationError: If a setting lies outside its range; when called, if there is no class but the background.

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
        delta: Weight of the classes from 1 on in the cross-entropy, and of the misses in the Tversky index, 0 to 1.
        gamma: How much the background's easy voxels are played down and the other classes' small distances enhanced,
            0 (not at all) to less than 1.
        name: Of the loss; ``asym_unified_focal_loss`` where it is None.
        reduction: Over the samples of a batch, as in Keras.

    Raises:
        ConfigurationError: If a setting lies outside its range; when called, if there is no class but the background.

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
