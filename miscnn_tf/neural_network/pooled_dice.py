"""Dice of the decisions on all patches of an epoch together, nnU-Net's "pseudo Dice"."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from miscnn_tf._base.arguments import whole_number
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

    A network makes the Keras metric when it is compiled: its variables must not exist before the devices are chosen.

    Args:
        classes: Number of classes, background included; with `regions` the number of regions.
        regions: True for a network that predicts overlapping regions, all of which are counted.

    Raises:
        ConfigurationError: If the network has another number of outputs.

    Example:
        >>> counter = PooledDice(2).counter()
        >>> truth, probabilities = [[[[0, 1], [1, 0]]]], [[[[0.1, 0.9], [0.4, 0.6]]]]  # two voxels, two classes
        >>> counter.update_state(keras.ops.array(truth), keras.ops.array(probabilities))
        >>> round(float(counter.result()), 3)
        0.667

    Reference: Isensee et al., Nature Methods 2021.
    """

    name = "pooled_dice"

    def __init__(self, classes: int, regions: bool = False) -> None:
        self.regions = bool(regions)
        self.classes = whole_number(classes, "PooledDice: classes", least=1 if self.regions else 2)

    def counter(self) -> PooledDiceCounter:
        """Return a new Keras metric."""
        return PooledDiceCounter(**self.get_config())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PooledDice) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((self.classes, self.regions))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"classes": self.classes, "regions": self.regions}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PooledDice:
        """Create the metric from its arguments."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="miscnn_tf")
class PooledDiceCounter(keras.metrics.Metric):
    """Keras metric of a `PooledDice`, with the same arguments."""

    def __init__(self, classes: int, regions: bool = False) -> None:
        super().__init__(name=PooledDice.name, dtype="float32")
        self.classes, self.regions = classes, regions
        # The background is not counted.
        self._first = 0 if self.regions else 1
        shape = (self.classes - self._first,)
        self._found = self.add_variable(shape, "zeros", name="true_positives")
        self._sizes = self.add_variable(shape, "zeros", name="sizes_of_truth_and_prediction")

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
        sums = ops.stack([found, truth + prediction])[..., self._first :]
        if sample_weight is not None:  # one per patch
            sums = sums * ops.reshape(ops.cast(sample_weight, "float32"), (1, -1, 1))
        found, sizes = ops.unstack(ops.sum(sums, 1))
        self._found.assign_add(found)
        self._sizes.assign_add(sizes)

    def result(self) -> Any:
        """Return the mean Dice of the classes counted so far, a scalar."""
        occurs = ops.cast(self._sizes > 0, "float32")
        dice = 2.0 * self._found / ops.maximum(self._sizes, 1.0)
        number = ops.sum(occurs)
        return ops.where(number > 0, ops.sum(dice * occurs) / ops.maximum(number, 1.0), 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"classes": self.classes, "regions": self.regions}
