"""Dice of the decisions on all patches of an epoch together, nnU-Net's "pseudo Dice"."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from miscnn_tf._base.arguments import whole_number
from miscnn_tf._base.messages import plural
from miscnn_tf.data_loading.label_scheme import REGION_THRESHOLD
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.loss_terms import counted, overlaps


@keras.saving.register_keras_serializable(package="miscnn_tf")
class PooledDice:
    r"""Mean Dice of the foreground classes, whose voxels are counted over all patches of an epoch together.

    .. math:: \frac{1}{C} \sum_c \frac{2\,TP_c}{2\,TP_c + FP_c + FN_c}

    A mean over patches counts a class as found in each patch without it, and one voxel in a small patch as much as an
    organ in another one. These sums do not: with enough patches, the value is near the Dice of whole images. Voxels get
    the class of the highest probability, or the regions with a probability above 0.5. Classes that are neither in the
    truth nor in the prediction of any patch are left out; if none occurs, the value is 1.

    A network makes the Keras metrics when it is compiled: their variables must not exist before the devices are chosen.

    Args:
        classes: Number of classes, background included; with `regions` the number of regions.
        regions: True for a network that predicts overlapping regions, all of which are counted.
        per_class: True also measures the Dice of each single class, ``pooled_dice_class-<label>`` in histories, or of
            each region, ``pooled_dice_region-<number>``. Titles, one for each of them, give ``pooled_dice_<title>``. A
            class that is neither in the truth nor in the prediction of any patch has NaN.

    Raises:
        ConfigurationError: If the network has another number of outputs, or there are not as many titles as classes
            without the background, or regions.

    Example:
        >>> [one.name for one in PooledDice(3, per_class=True).counters()]
        ['pooled_dice', 'pooled_dice_class-1', 'pooled_dice_class-2']
        >>> (counter,) = PooledDice(2).counters()
        >>> truth, probabilities = [[[[0, 1], [1, 0]]]], [[[[0.1, 0.9], [0.4, 0.6]]]]  # two voxels, two classes
        >>> counter.update_state(keras.ops.array(truth), keras.ops.array(probabilities))
        >>> round(float(counter.result()), 3)
        0.667

    Reference: Isensee et al., Nature Methods 2021.
    """

    name = "pooled_dice"

    def __init__(self, classes: int, regions: bool = False, per_class: bool | Sequence[str] = False) -> None:
        self.regions = bool(regions)
        self.classes = whole_number(classes, "PooledDice: classes", least=1 if self.regions else 2)
        self.per_class = per_class if isinstance(per_class, bool) else list(per_class)
        if not isinstance(self.per_class, bool) and len(self.per_class) != len(self._counted()):
            raise ConfigurationError(
                f"PooledDice: per_class has {plural(len(self.per_class), 'title')}, but {len(self._counted())} "
                f"{'regions' if self.regions else 'classes without the background'} are counted; give as many titles"
            )

    def _counted(self) -> range:
        """Return the channels that are counted: without the background."""
        return range(0 if self.regions else 1, self.classes)

    def counters(self) -> list[PooledDiceCounter]:
        """Return new Keras metrics: the mean, and those of single classes."""
        channels = self._counted()
        metrics = [PooledDiceCounter(self.classes, channels.start, len(channels), self.regions, self.name)]
        if self.per_class:
            metrics += [
                PooledDiceCounter(self.classes, channel, 1, self.regions, f"{self.name}_{title}")
                for channel, title in zip(channels, self._titles(), strict=True)
            ]
        return metrics

    def _titles(self) -> list[str]:
        if not isinstance(self.per_class, bool):
            return [re.sub(r"\W+", "_", title) for title in self.per_class]
        return [f"region-{channel + 1}" if self.regions else f"class-{channel}" for channel in self._counted()]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PooledDice) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((self.classes, self.regions, str(self.per_class)))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"classes": self.classes, "regions": self.regions, "per_class": self.per_class}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PooledDice:
        """Create the metric from its arguments."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="miscnn_tf")
class PooledDiceCounter(keras.metrics.Metric):
    """Keras metric of a `PooledDice`.

    Args:
        classes: Number of outputs of the network.
        first: First channel that is counted.
        number: Number of channels that are counted.
        regions: True if the channels are overlapping regions.
        name: Its name in histories.
    """

    def __init__(self, classes: int, first: int, number: int, regions: bool, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self.classes, self.first, self.number, self.regions = classes, first, number, regions
        self._of_none = math.nan if name != PooledDice.name else 1.0
        self._found = self.add_variable((number,), "zeros", name="true_positives")
        self._sizes = self.add_variable((number,), "zeros", name="sizes_of_truth_and_prediction")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count the voxels of target and probabilities ``(batch, x, y[, z], classes)``, by a weight per patch."""
        outputs = y_pred.shape[-1]
        if outputs != self.classes:
            raise ConfigurationError(
                f"PooledDice has classes={self.classes}, but the network has {outputs} outputs; set classes={outputs}"
            )
        if self.regions:
            decided = ops.cast(y_pred > REGION_THRESHOLD, "float32")
        else:
            decided = ops.one_hot(ops.argmax(y_pred, axis=-1), outputs, dtype="float32")
            # The probabilities of a voxel without annotation are equal, which is not a decision for class 0.
            decided = decided * counted(y_pred)
        found, truth, prediction = overlaps(y_true, decided)
        sums = ops.stack([found, truth + prediction])[..., self.first : self.first + self.number]
        if sample_weight is not None:  # one per patch
            sums = sums * ops.reshape(ops.cast(sample_weight, "float32"), (1, -1, 1))
        found, sizes = ops.unstack(ops.sum(sums, 1))
        self._found.assign_add(found)
        self._sizes.assign_add(sizes)

    def result(self) -> Any:
        """Return the mean Dice of the classes counted so far, a scalar; NaN of a single class that did not occur."""
        occurs = ops.cast(self._sizes > 0, "float32")
        dice = 2.0 * self._found / ops.maximum(self._sizes, 1.0)
        number = ops.sum(occurs)
        return ops.where(number > 0, ops.sum(dice * occurs) / ops.maximum(number, 1.0), self._of_none)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            "classes": self.classes,
            "first": self.first,
            "number": self.number,
            "regions": self.regions,
            "name": self.name,
        }
