"""The loss of nnU-Net. See `losses` for the conventions of all losses."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from miscnn_tf._base.arguments import flag
from miscnn_tf.neural_network.loss_settings import ConfiguredLoss, within
from miscnn_tf.neural_network.loss_terms import (
    Tensor,
    class_weight_factors,
    counted,
    foreground_classes,
    in_float32,
    overlaps,
    spatial_sum,
    weighted_truth,
)
from miscnn_tf.neural_network.shared_gradients import sum_over_batch

__all__ = ["NnUNetLoss", "nnunet_loss"]

# Smallest normal number of float32, about. With it the gradient of the cross-entropy of probabilities is that of the
# cross-entropy of logits, which nnU-Net computes, also for voxels that are very wrong.
_FLOOR = 1e-37


@keras.saving.register_keras_serializable(package="miscnn_tf")
class NnUNetLoss(ConfiguredLoss):
    r"""One minus the mean Dice, plus the cross-entropy.

    .. math:: 1 - \frac{1}{C} \sum_c \frac{2 \sum t_c p_c + s}{\sum t_c + \sum p_c + s} - \frac{1}{N} \sum_{v, c}
        t_{vc} \log p_{vc}

    The sums of the Dice run over the voxels of a sample, or of the whole batch with `batch_dice`, which is steadier if
    patches often lack a class. Devices that share a batch add up their sums in training, as in nnU-Net. Voxels without
    annotation do not count.

    Args:
        batch_dice: Compute the Dice over the batch instead of each sample. nnU-Net does for images, and for volumes of
            which a patch shows a small part.
        background: Include the background, class 0, in the Dice.
        regions: The channels are overlapping regions with sigmoid: the Dice has all of them, and the cross-entropy is
            the binary one, averaged over voxels and channels.
        ignore: The labels of the regions have an ignore label: the binary cross-entropy is then summed over the
            channels instead of averaged, as nnU-Net's is. Without `regions` it changes nothing.
        smooth: Keeps the quotient finite, in voxels.
        name: Name of the loss; None means ``nnunet_loss``.
        reduction: Reduction over the samples of a batch, as in Keras.

    Raises:
        ConfigurationError: If a setting is outside its range; when called, if the background is the only class.

    Example:
        >>> keras_model.compile(loss=nnunet_loss(batch_dice=True))  # doctest: +SKIP

    Reference: Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image
    segmentation", Nature Methods 2021. Drozdzal et al., arXiv 1608.04117, equation 1, for the Dice.
    """

    def __init__(
        self,
        batch_dice: bool = False,
        background: bool = False,
        regions: bool = False,
        ignore: bool = False,
        smooth: float = 1e-5,
        name: str | None = None,
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name or "nnunet_loss", reduction)
        self.batch_dice = flag(batch_dice, "nnunet_loss: batch_dice")
        self.background = flag(background, "nnunet_loss: background")
        self.regions = flag(regions, "nnunet_loss: regions")
        self.ignore = flag(ignore, "nnunet_loss: ignore")
        self.smooth = within("nnunet_loss: smooth", smooth, 0, float("inf"), but=0)

    def call(self, y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
        """Return the loss of each sample, ``(batch,)``. Class weights weight the Dice terms and the voxels."""
        y_true, y_pred = in_float32(y_true, y_pred)
        return 1.0 - self._dice(y_true, y_pred, class_weights) + self._crossentropy(y_true, y_pred, class_weights)

    def _dice(self, y_true: Tensor, y_pred: Tensor, class_weights: Any) -> Tensor:
        factors = class_weight_factors(class_weights, y_pred.shape[-1])
        if not (self.background or self.regions):
            foreground_classes("nnunet_loss", y_pred)
            y_true, y_pred = y_true[..., 1:], y_pred[..., 1:]
            factors = None if factors is None else factors[1:]
        sums = overlaps(y_true, y_pred)
        if self.batch_dice:
            samples = ops.ones_like(sums[0][:, :1])
            pooled = sum_over_batch(tuple(ops.sum(one, 0, keepdims=True) for one in sums))
            sums = tuple(samples * one for one in pooled)
        intersection, truth, prediction = sums
        dice = (2.0 * intersection + self.smooth) / (truth + prediction + self.smooth)
        return ops.mean(dice if factors is None else dice * factors, -1)

    def _crossentropy(self, y_true: Tensor, y_pred: Tensor, class_weights: Any) -> Tensor:
        annotated = counted(y_pred)
        weighted = weighted_truth(y_true, class_weights)
        if self.regions:
            absent = (1.0 - y_true) * ops.log(ops.maximum(1.0 - y_pred, _FLOOR))
            over_channels = ops.sum if self.ignore else ops.mean
            terms = over_channels(weighted * ops.log(ops.maximum(y_pred, _FLOOR)) + absent, -1, keepdims=True)
            terms = terms * annotated
        else:
            terms = ops.sum(weighted * ops.log(ops.maximum(y_pred, _FLOOR)), -1, keepdims=True)
        # The mean over the annotated voxels of all samples, of which each may have another number.
        mean_number = ops.maximum(ops.mean(spatial_sum(annotated)), 1.0)
        return -spatial_sum(terms)[:, 0] / mean_number


nnunet_loss = NnUNetLoss()
