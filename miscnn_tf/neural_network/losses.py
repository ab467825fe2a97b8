r"""Segmentation losses in 2D and 3D, for any number of classes, and their registry.

All take ``(y_true, y_pred)``: one-hot labels (any dtype) and class probabilities, both ``(batch, x, y[, z], classes)``.
They compute in float32 for any precision of the network, and return one value per sample, shape ``(batch,)``, which
Keras averages, so that splitting a batch over several GPUs does not change the gradient. Values and gradients stay
finite if a class is absent, or a probability is exactly 0 or 1.

Some losses have settings. ``loss=categorical_focal_loss`` compiles with the defaults, and so does
``loss=categorical_focal_loss()``; ``loss=categorical_focal_loss(gamma=3.0)`` sets them. All are saved and loaded with
the model.

Every loss takes the keyword ``class_weights``, one number per class; only the ratios matter. Region losses weight the
terms of the classes, voxel losses each voxel by its true class. ``Neural_Network.train(class_weight=...)`` uses it.

Notation in the formulas: :math:`t_{vc}` is 1 where voxel v has class c, :math:`p_{vc}` its predicted probability, C the
number of classes, s the smoothing.

`loss_region` has Dice, Tversky and sums with them, `loss_nnunet` the loss of nnU-Net, `loss_focal` the focal losses,
`loss_unified_focal` the Unified Focal losses.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import keras

from miscnn_tf._base.messages import unknown_name
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.loss_focal import (
    CategoricalFocalLoss,
    FocalTverskyLoss,
    categorical_focal_loss,
    focal_tversky_loss,
)
from miscnn_tf.neural_network.loss_nnunet import NnUNetLoss, nnunet_loss
from miscnn_tf.neural_network.loss_region import (
    ComboLoss,
    DiceWeighted,
    combo_loss,
    dice_coefficient_loss,
    dice_crossentropy,
    dice_soft_loss,
    dice_weighted,
    tversky_crossentropy,
    tversky_loss,
)
from miscnn_tf.neural_network.loss_settings import ConfiguredLoss
from miscnn_tf.neural_network.loss_terms import Tensor, identify_axis
from miscnn_tf.neural_network.loss_unified_focal import (
    AsymmetricFocalLoss,
    AsymmetricFocalTverskyLoss,
    AsymUnifiedFocalLoss,
    SymmetricFocalLoss,
    SymmetricFocalTverskyLoss,
    SymUnifiedFocalLoss,
    asym_unified_focal_loss,
    asymmetric_focal_loss,
    asymmetric_focal_tversky_loss,
    sym_unified_focal_loss,
    symmetric_focal_loss,
    symmetric_focal_tversky_loss,
)
from miscnn_tf.registry import Registry

__all__ = [
    "AsymUnifiedFocalLoss",
    "AsymmetricFocalLoss",
    "AsymmetricFocalTverskyLoss",
    "CategoricalFocalLoss",
    "ComboLoss",
    "ConfiguredLoss",
    "DiceWeighted",
    "FocalTverskyLoss",
    "NnUNetLoss",
    "SymUnifiedFocalLoss",
    "SymmetricFocalLoss",
    "SymmetricFocalTverskyLoss",
    "asym_unified_focal_loss",
    "asymmetric_focal_loss",
    "asymmetric_focal_tversky_loss",
    "categorical_focal_loss",
    "combo_loss",
    "dice_coefficient_loss",
    "dice_crossentropy",
    "dice_soft_loss",
    "dice_weighted",
    "focal_tversky_loss",
    "get",
    "identify_axis",
    "losses",
    "nnunet_loss",
    "sym_unified_focal_loss",
    "symmetric_focal_loss",
    "symmetric_focal_tversky_loss",
    "tversky_crossentropy",
    "tversky_loss",
]

Loss = Callable[[Tensor, Tensor], Tensor]

losses: Registry[Any] = Registry("loss", "miscnn_tf.losses")

for _loss in (
    asym_unified_focal_loss,
    asymmetric_focal_loss,
    asymmetric_focal_tversky_loss,
    categorical_focal_loss,
    combo_loss,
    dice_coefficient_loss,
    dice_crossentropy,
    dice_soft_loss,
    focal_tversky_loss,
    nnunet_loss,
    sym_unified_focal_loss,
    symmetric_focal_loss,
    symmetric_focal_tversky_loss,
    tversky_crossentropy,
    tversky_loss,
):
    losses.register(_loss.__name__, _loss)


def get(loss: Any) -> Loss:
    """Return a loss for ``model.compile``.

    Args:
        loss: A name (of this package, the registry or Keras), a loss class (called with its defaults), a loss object or
            a function ``(y_true, y_pred)``.

    Raises:
        ConfigurationError: If the name is unknown, or the class needs arguments.

    Example:
        >>> get("tversky_loss") is tversky_loss
        True
    """
    if isinstance(loss, str):
        if loss in losses:
            return get(losses[loss])
        try:
            known: Loss = keras.losses.get(loss)
        except ValueError:
            raise ConfigurationError(
                f"{unknown_name('loss', loss, losses)}, and those of Keras; or pass a function (y_true, y_pred)"
            ) from None
        return known
    if inspect.isclass(loss):
        try:
            return cast(Loss, loss())
        except TypeError as missing:
            raise ConfigurationError(f"the loss {loss.__name__} needs arguments: {missing}") from missing
    if not callable(loss):
        raise ConfigurationError(
            f"loss={loss!r} is not a loss: pass a name, a loss class or a function (y_true, y_pred)"
        )
    return loss
