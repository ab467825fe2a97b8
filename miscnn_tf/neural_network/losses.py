r"""Losses for segmentation, in 2D and 3D, for any number of classes.

All take ``(y_true, y_pred)``: one-hot labels (any dtype) and class probabilities, both ``(batch, x, y[, z], classes)``.
They compute in float32 whatever the precision of the network, and return one value per sample, shape ``(batch,)``,
which Keras averages (so that a batch that is split over several GPUs gives the same gradient as an undivided one).
Where a class is absent, or a probability is exactly 0 or 1, values and gradients stay finite.

Some losses have settings. ``loss=categorical_focal_loss`` compiles with the defaults, and so does
``loss=categorical_focal_loss()``; ``loss=categorical_focal_loss(gamma=3.0)`` sets them. All are saved and loaded with
the model.

Every loss takes the keyword ``class_weights``, one number per class of which only the ratios matter: region losses
weight the terms of the classes with them, voxel losses each voxel by its true class.
``Neural_Network.train(class_weight=...)`` uses it.

Notation in the formulas: :math:`t_{vc}` is 1 where voxel v has class c, :math:`p_{vc}` its predicted probability, C the
number of classes, s the smoothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

import keras
import numpy as np
from keras import ops

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.loss_terms import (
    LOG_FLOOR,
    Tensor,
    class_mean,
    identify_axis,
    in_float32,
    mean_crossentropy,
    overlaps,
    per_class,
    pooled_dice,
    safe_log,
    soft_dice_per_class,
    voxel_mean,
    weighted_truth,
)
from miscnn_tf.registry import Registry

__all__ = [
    "CategoricalFocalLoss",
    "ConfiguredLoss",
    "DiceWeighted",
    "categorical_focal_loss",
    "dice_coefficient_loss",
    "dice_crossentropy",
    "dice_soft_loss",
    "dice_weighted",
    "get",
    "identify_axis",
    "losses",
    "tversky_crossentropy",
    "tversky_loss",
]

Loss = Callable[[Tensor, Tensor], Tensor]

losses: Registry[Any] = Registry("loss", "miscnn_tf.losses")


def get(loss: Any) -> Loss:
    """Turn what a user may pass as a loss into what ``model.compile`` takes.

    Args:
        loss: A name (ours, of the registry, or Keras'), a loss class (which is made with its defaults), a loss object
            or a function ``(y_true, y_pred)``.

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
                f"there is no loss called {loss!r}. Known: {', '.join(losses.names())}, and those of Keras; or pass a "
                "function (y_true, y_pred)"
            ) from None
        return known
    if inspect.isclass(loss):
        try:
            return cast(Loss, loss())
        except TypeError as missing:
            raise ConfigurationError(f"the loss {loss.__name__} needs arguments: {missing}") from missing
    if not callable(loss):
        raise ConfigurationError(f"loss={loss!r} is no loss: pass a name, a loss class or a function (y_true, y_pred)")
    return loss


class ConfiguredLoss(keras.losses.Loss):
    """Base of the losses that have settings.

    An object of it is a Keras loss with the settings it was made with; called with settings instead of arrays it
    returns another one that has those. So the object made with the defaults serves as the loss's public name.

    A subclass keeps each constructor argument in an attribute of the same name, implements
    ``call(y_true, y_pred, class_weights=None)``, and is registered with Keras.

    Args:
        name: Of the loss, in histories and figures.
        reduction: Over the samples of a batch, as in Keras.
    """

    def __init__(self, name: str, reduction: str = "sum_over_batch_size") -> None:
        super().__init__(name=name, reduction=reduction)
        # A function would have one, and whoever draws a curve asks for it.
        self.__name__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The loss of ``(y_true, y_pred[, sample_weight])``, reduced over the batch; or one with other settings."""
        if "y_pred" in kwargs or (len(args) > 1 and len(ops.shape(args[1])) > 1):
            return super().__call__(*args, **kwargs)
        return type(self)(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as plain data."""
        return {argument: getattr(self, argument) for argument in inspect.signature(type(self)).parameters}


@losses.register("dice_coefficient_loss")
@keras.saving.register_keras_serializable(package="miscnn_tf")
def dice_coefficient_loss(y_true: Tensor, y_pred: Tensor, smooth: float = 1e-5, class_weights: Any = None) -> Tensor:
    r"""One minus the Dice coefficient over all voxels, samples and classes of the batch together.

    .. math:: 1 - \frac{2 \sum t p + s}{\sum t + \sum p + s}

    Large classes dominate it; `dice_soft_loss` counts each class alike.

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


@losses.register("dice_soft_loss")
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


@losses.register("dice_crossentropy")
@keras.saving.register_keras_serializable(package="miscnn_tf")
def dice_crossentropy(y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
    """The sum of `dice_soft_loss` and the mean categorical cross-entropy, per sample: ``(batch,)``, float32.

    The loss that nnU-Net trains with; a good first choice.

    Args:
        y_true: One-hot labels ``(batch, x, y[, z], classes)``.
        y_pred: Probabilities of the same shape.
        class_weights: One number per class; weights the Dice terms and the voxels.

    Reference: Isensee et al., nnU-Net, Nature Methods 2021.
    """
    return dice_soft_loss(y_true, y_pred, class_weights=class_weights) + mean_crossentropy(
        y_true, y_pred, class_weights
    )


@losses.register("tversky_loss")
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


@losses.register("tversky_crossentropy")
@keras.saving.register_keras_serializable(package="miscnn_tf")
def tversky_crossentropy(y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
    """The sum of `tversky_loss` and the mean categorical cross-entropy, per sample: ``(batch,)``, float32.

    Args:
        y_true: One-hot labels ``(batch, x, y[, z], classes)``.
        y_pred: Probabilities of the same shape.
        class_weights: One number per class; weights the Tversky terms and the voxels.
    """
    return tversky_loss(y_true, y_pred, class_weights=class_weights) + mean_crossentropy(y_true, y_pred, class_weights)


def _numbers(argument: str, value: Any) -> list[float]:
    try:
        # Not Keras' functions: they would start TensorFlow when this module is imported, and threads, memory growth of
        # GPUs and logical devices could not be set any more.
        shape = np.shape(value)
        numbers = [float(number) for number in (value if shape else [value])]
    except (TypeError, ValueError):
        shape, numbers = None, []
    if shape is None or len(shape) > 1 or not numbers or not all(0.0 <= number < float("inf") for number in numbers):
        raise ConfigurationError(f"{argument}={value!r} must be one number per class, none negative")
    return numbers


@keras.saving.register_keras_serializable(package="miscnn_tf")
class DiceWeighted(ConfiguredLoss):
    r"""Minus the weighted soft Dice of the classes.

    .. math:: -\frac{1}{C} \sum_c w_c \frac{2 \sum_v t p + s}{\sum_v t + \sum_v p + s}

    Args:
        weights: One number per class, as they stand (they are not normalised).
        smooth: Keeps the quotient finite.
        name: Of the loss.
        reduction: Over the samples of a batch, as in Keras.
    """

    def __init__(
        self,
        weights: Sequence[float],
        smooth: float = 1e-5,
        name: str = "dice_weighted",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name, reduction)
        self.weights = _numbers("weights", weights)
        self.smooth = float(smooth)

    def call(self, y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
        """The loss of each sample, ``(batch,)``."""
        dice = soft_dice_per_class(y_true, y_pred, self.smooth)
        return -class_mean(dice * per_class("dice_weighted: weights", self.weights, dice.shape[-1]), class_weights)


def dice_weighted(weights: Sequence[float], smooth: float = 1e-5) -> DiceWeighted:
    """Minus the soft Dice of the classes, weighted: see `DiceWeighted`.

    Args:
        weights: One number per class, as they stand (they are not normalised).
        smooth: Keeps the quotient finite.

    Raises:
        ConfigurationError: If a weight is negative or no number.

    Example:
        >>> keras_model.compile(loss=dice_weighted([0.2, 1.0, 3.0]))  # doctest: +SKIP
    """
    return DiceWeighted(weights, smooth)


@keras.saving.register_keras_serializable(package="miscnn_tf")
class CategoricalFocalLoss(ConfiguredLoss):
    r"""Cross-entropy that dwells on the voxels that are not yet right, averaged over the voxels of each sample.

    .. math:: -\sum_c \alpha_c \, t_{vc} (1 - p_{vc})^\gamma \log p_{vc}

    Args:
        alpha: Weight of every class: one number, or one per class.
        gamma: How much easy voxels are played down; 0 gives the weighted cross-entropy.
        name: Of the loss.
        reduction: Over the samples of a batch, as in Keras.

    Example:
        >>> keras_model.compile(loss=categorical_focal_loss(alpha=[0.1, 0.3, 0.6], gamma=2.0))  # doctest: +SKIP

    Reference: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002, equation 5; the
    defaults are the paper's.
    """

    def __init__(
        self,
        alpha: float | Sequence[float] = 0.25,
        gamma: float = 2.0,
        name: str = "categorical_focal_loss",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name, reduction)
        numbers = _numbers("alpha", alpha)
        self.alpha = numbers[0] if np.ndim(alpha) == 0 else numbers
        self.gamma = float(gamma)
        if self.gamma < 0:
            raise ConfigurationError(f"categorical_focal_loss: gamma={gamma} must not be negative")

    def call(self, y_true: Tensor, y_pred: Tensor, class_weights: Any = None) -> Tensor:
        """The loss of each sample, ``(batch,)``."""
        y_true, y_pred = in_float32(y_true, y_pred)
        y_true = weighted_truth(y_true, class_weights)
        alpha = per_class("categorical_focal_loss: alpha", self.alpha, y_pred.shape[-1])
        # The floor keeps the gradient finite at p = 1 where gamma is below 1.
        focus = ops.power(ops.maximum(1.0 - y_pred, LOG_FLOOR), self.gamma)
        return voxel_mean(-ops.sum(y_true * alpha * focus * safe_log(y_pred), -1))


categorical_focal_loss = CategoricalFocalLoss()
losses.register("categorical_focal_loss", categorical_focal_loss)
