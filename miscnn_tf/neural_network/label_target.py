"""Training target of label maps, and the parts of a network that a label scheme excludes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from miscnn_tf.data_loading.label_scheme import LabelScheme
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.loss_terms import UNCOUNTED

# Losses of this package that treat each channel alone, so that channels may overlap.
_OF_REGIONS = ("dice_soft_loss", "dice_coefficient_loss", "tversky_loss", "dice_weighted")
_OF_CLASSES = ("categorical", "Categorical", "softmax")


def compared(y: Any, y_pred: Any, scheme: LabelScheme | None) -> tuple[Any, Any]:
    """Return truth and prediction as losses and metrics compare them.

    The probabilities of voxels without annotation are `UNCOUNTED` and their truth is 0, so that they add nothing to
    sums over voxels, and get no gradient.

    Args:
        y: Labels ``(batch, x, y[, z])``, or the target ``(batch, x, y[, z], outputs)``.
        y_pred: Probabilities ``(batch, x, y[, z], outputs)``.
        scheme: Meaning of the labels; None: a class per channel.

    Raises:
        ConfigurationError: If `y` is the target of regions, and there are voxels without annotation.
    """
    if y is None:
        return y, y_pred
    if len(y.shape) == len(y_pred.shape):
        if scheme is not None and scheme.has_ignored:
            if scheme.regions:
                raise ConfigurationError(
                    "targets of overlapping regions do not show which voxels are annotated; train on labels (batch, x, "
                    "y[, z]), such as those of DataGenerator(…, labels=True)"
                )
            return y, _masked(keras.ops.sum(y, -1, keepdims=True) > 0, y_pred)
        return y, y_pred
    labels = keras.ops.cast(y, "int32")
    if scheme is None or not (scheme.has_ignored or scheme.regions):
        return keras.ops.one_hot(labels, y_pred.shape[-1], dtype="float32"), y_pred
    target = tf.gather(tf.constant(scheme.table()), labels)
    return target, _masked((labels < scheme.classes)[..., None], y_pred) if scheme.has_ignored else y_pred


def _masked(annotated: Any, y_pred: Any) -> Any:
    return keras.ops.where(annotated, y_pred, keras.ops.cast(UNCOUNTED, y_pred.dtype))


def require_parts_for(scheme: LabelScheme, loss: Any, metrics: Sequence[Any]) -> None:
    """Require a loss and metrics that are right for overlapping regions and for voxels without annotation.

    Args:
        scheme: Meaning of the labels.
        loss: The loss, resolved by `losses.get`.
        metrics: The metrics, resolved by `metrics.get_all`.

    Raises:
        ConfigurationError: If one of them is not; the message names those that are.
    """
    # The setting of losses and metrics that are for both, such as nnU-Net's.
    overlapping = getattr(loss, "regions", None)
    for kind, part in (("loss", loss), *(("metric", metric) for metric in metrics)):
        found = getattr(part, "regions", None)
        if found is not None and bool(found) != bool(scheme.regions):
            raise ConfigurationError(
                f"the {kind} {_name(part)} has regions={found}, but the network predicts "
                f"{'overlapping regions' if scheme.regions else 'classes'}; set regions={bool(scheme.regions)}"
            )
    if scheme.regions:
        ignore = getattr(loss, "ignore", None)
        if ignore is not None and bool(ignore) != scheme.has_ignored:
            raise ConfigurationError(
                f"the loss {_name(loss)} has ignore={ignore}, but the label maps can"
                f"{'' if scheme.has_ignored else 'not'} have voxels without annotation; set ignore={scheme.has_ignored}"
            )
        name = _name(loss)
        of_package = _module(loss).startswith("miscnn_tf.") and overlapping is None
        if (of_package and name not in _OF_REGIONS) or any(part in name for part in _OF_CLASSES):
            raise ConfigurationError(
                f"the loss {name} needs one class per voxel, but the network predicts overlapping regions; use one of "
                f"{', '.join(_OF_REGIONS)}, nnunet_loss(regions=True), binary_crossentropy of Keras, or your own"
            )
        for metric in metrics:
            if _name(metric).startswith("dice_class-") or any(part in _name(metric) for part in _OF_CLASSES):
                raise ConfigurationError(
                    f"the metric {_name(metric)} needs one class per voxel, but the network predicts overlapping "
                    "regions; use dice_soft, RegionDice or PooledDice(regions=True)"
                )
    if scheme.has_ignored:
        for metric in metrics:
            if isinstance(metric, str) or _module(metric).startswith("keras."):
                raise ConfigurationError(
                    f"the metric {_name(metric)} of Keras would count voxels without annotation; use dice_soft, "
                    "ClassDice or another metric of this package, or a function of your own: the truth of such voxels "
                    "is 0 in all channels"
                )


def _name(part: Any) -> str:
    if isinstance(part, str):
        return part
    return str(getattr(part, "__name__", None) or getattr(part, "name", type(part).__name__))


def _module(part: Any) -> str:
    return str(getattr(part, "__module__", None) or type(part).__module__)
