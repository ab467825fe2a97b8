"""Segmentation metrics in 2D and 3D, and the losses, which MIScnn has in this module.

All take ``(y_true, y_pred)``: one-hot labels and class probabilities, both ``(batch, x, y[, z], classes)``; they
compute in float32. Keras averages values per sample over all samples, independently of batch sizes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from miscnn_tf._base.arguments import whole_number
from miscnn_tf._base.messages import unknown_name
from miscnn_tf.data_loading.label_scheme import REGION_THRESHOLD, LabelScheme
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.loss_terms import counted, identify_axis, pooled_dice, soft_dice_per_class
from miscnn_tf.neural_network.losses import (
    asym_unified_focal_loss,
    asymmetric_focal_loss,
    asymmetric_focal_tversky_loss,
    categorical_focal_loss,
    combo_loss,
    dice_coefficient_loss,
    dice_crossentropy,
    dice_soft_loss,
    dice_weighted,
    focal_tversky_loss,
    nnunet_loss,
    sym_unified_focal_loss,
    symmetric_focal_loss,
    symmetric_focal_tversky_loss,
    tversky_crossentropy,
    tversky_loss,
)
from miscnn_tf.neural_network.pooled_dice import PooledDice

__all__ = [
    "ClassDice",
    "PooledDice",
    "RegionDice",
    "asym_unified_focal_loss",
    "asymmetric_focal_loss",
    "asymmetric_focal_tversky_loss",
    "categorical_focal_loss",
    "combo_loss",
    "dice_coefficient",
    "dice_coefficient_loss",
    "dice_crossentropy",
    "dice_soft",
    "dice_soft_loss",
    "dice_weighted",
    "focal_tversky_loss",
    "identify_axis",
    "nnunet_loss",
    "sym_unified_focal_loss",
    "symmetric_focal_loss",
    "symmetric_focal_tversky_loss",
    "tversky_crossentropy",
    "tversky_loss",
]

# Names that compile() of Keras accepts in addition to those of `keras.metrics.get`.
_OF_COMPILE = {"accuracy", "acc", "crossentropy", "ce"}


def get_all(metrics: Any) -> list[Any]:
    """Return metrics for ``model.compile``.

    Args:
        metrics: A list of names (of functions in this module, or of Keras), metric classes (called with their
            defaults), Keras metrics or functions ``(y_true, y_pred)``.

    Raises:
        ConfigurationError: If it is not a list, an entry is not a metric, or a class needs arguments.

    Example:
        >>> get_all(["dice_soft"]) == [dice_soft]
        True
    """
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        raise ConfigurationError(f"metrics must be a list of metrics, got {metrics!r}")
    return [
        one for metric in metrics for one in (metric.counters() if isinstance(metric, PooledDice) else [_get(metric)])
    ]


def default_metrics(scheme: LabelScheme) -> list[Any]:
    """Return the metrics of networks that name none: the soft Dice, and that of each region."""
    return [dice_soft, *(RegionDice(number, region.name) for number, region in enumerate(scheme.regions, 1))]


def _get(metric: Any) -> Any:
    if isinstance(metric, str):
        own = {name: globals()[name] for name in __all__ if not inspect.isclass(globals()[name])}
        for one in ("identify_axis", "dice_weighted"):  # not a metric; needs weights
            del own[one]
        if metric in own or metric in _OF_COMPILE:
            return own.get(metric, metric)
        try:
            keras.metrics.get(metric)
        except (TypeError, ValueError):
            raise ConfigurationError(
                f"{unknown_name('metric', metric, own)}, and those of Keras; or pass a function (y_true, y_pred)"
            ) from None
        return metric
    if inspect.isclass(metric):
        try:
            return metric()
        except TypeError as missing:
            raise ConfigurationError(f"the metric {metric.__name__} needs arguments: {missing}") from missing
    if not callable(metric):
        raise ConfigurationError(
            f"metrics holds {metric!r}, which is not a metric: pass names, Keras metrics or functions (y_true, y_pred)"
        )
    return metric


@keras.saving.register_keras_serializable(package="miscnn_tf")
def dice_coefficient(y_true: Any, y_pred: Any, smooth: float = 1e-5) -> Any:
    r"""The Dice coefficient over all voxels, samples and classes of the batch together.

    .. math:: \frac{2 \sum t p + s}{\sum t + \sum p + s}

    Large classes dominate it; `dice_soft` gives each class the same weight.

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


@keras.saving.register_keras_serializable(package="miscnn_tf")
class RegionDice:
    """Dice of one region after the decision, per sample, for networks that predict overlapping regions.

    Each voxel whose probability is above 0.5 is in the region. Such networks have a metric per region by default.

    Args:
        region: The region's number in the order of the regions, from 1.
        title: The region's name.
        smooth: Keeps the quotient finite; a region absent from truth and prediction counts as found.

    Attributes:
        name: ``dice_<title>``, its name in histories, or ``dice_region-<region>``.

    Example:
        >>> metrics = [dice_soft, RegionDice(1, "whole tumour"), RegionDice(2, "core")]
    """

    def __init__(self, region: int, title: str | None = None, smooth: float = 1e-5) -> None:
        self.region = whole_number(region, "RegionDice: region", 1)
        self.title = title
        self.smooth = float(smooth)
        self.name = f"dice_region-{self.region}" if title is None else "dice_" + re.sub(r"\W+", "_", title)

    def __call__(self, y_true: Any, y_pred: Any) -> Any:
        """``(batch,)``, float32, from the target and probabilities ``(batch, x, y[, z], regions)``."""
        decided = ops.cast(y_pred > REGION_THRESHOLD, "float32")
        return soft_dice_per_class(y_true, decided, self.smooth)[..., self.region - 1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RegionDice) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((self.region, self.title, self.smooth))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"region": self.region, "title": self.title, "smooth": self.smooth}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RegionDice:
        """Create the metric from its arguments."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="miscnn_tf")
class ClassDice:
    """Dice of one class after the decision, per sample. It is 0 for a class that is never found.

    Each voxel gets the class of the highest probability, as in `Neural_Network.predict`; for whole images it equals
    `evaluation.dice.compute_dice`. `dice_soft` uses the probabilities, and is lower while the network is uncertain.

    Args:
        label: The class.
        smooth: Keeps the quotient finite; a class absent from truth and prediction counts as found.

    Attributes:
        name: ``dice_class-<label>``, its name in histories.

    Example:
        >>> metrics = [dice_soft, ClassDice(1), ClassDice(2)]
    """

    def __init__(self, label: int, smooth: float = 1e-5) -> None:
        self.label = int(label)
        self.smooth = float(smooth)
        self.name = f"dice_class-{self.label}"

    def __call__(self, y_true: Any, y_pred: Any) -> Any:
        """``(batch,)``, float32, from one-hot labels and probabilities ``(batch, x, y[, z], classes)``."""
        decided = ops.one_hot(ops.argmax(y_pred, axis=-1), y_pred.shape[-1], dtype="float32")
        # The probabilities of a voxel without annotation are equal, which is not a decision for class 0.
        decided = decided * counted(y_pred)
        return soft_dice_per_class(y_true, decided, self.smooth)[..., self.label]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClassDice) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((self.label, self.smooth))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"label": self.label, "smooth": self.smooth}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ClassDice:
        """Create the metric from its arguments."""
        return cls(**config)
