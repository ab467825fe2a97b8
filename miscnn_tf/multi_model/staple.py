"""STAPLE: an estimate of the truth from several label maps, and of the reliability of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from miscnn_tf.data_loading.labels import label_dtype
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, MissingExtraError
from miscnn_tf.multi_model.aggregation import Aggregation, Majority, aggregations


class Staple(Aggregation):
    """Labels weighted by the agreement of each member with the estimated truth, class by class (SimpleITK).

    Two classes or more, by the multi-label STAPLE. Voxels that it leaves undecided get the majority's label. The label
    maps of all members are in memory at once, a byte per voxel and member. It is slow beside the other functions: about
    two seconds per million voxels for five members and three classes.

    Args:
        iterations: Maximum number of iterations of expectation and maximisation.

    Reference:
        Warfield, Zou, Wells: Simultaneous Truth and Performance Level Estimation (STAPLE), IEEE TMI 2004; Rohlfing,
        Russakoff, Maurer: Performance-based classifier combination in atlas-based image segmentation, IEEE TMI 2004.

    Raises:
        MissingExtraError: When it is called, if SimpleITK is not installed (extra ``staple``).

    Example:
        >>> labels = model_group.predict(samples, "staple", return_output=True)  # doctest: +SKIP
    """

    def __init__(self, iterations: int = 100) -> None:
        self.iterations = iterations

    def __call__(
        self, sample: Sample, predictions: Sequence[np.ndarray], activation_output: bool = False
    ) -> np.ndarray:
        """Return the estimated labels ``(x, y[, z])``."""
        if activation_output:
            raise ConfigurationError(
                "STAPLE decides labels and gives no class probabilities: leave activation_output out, or use "
                "aggregation_func='mean'"
            )
        target = label_dtype(sample.classes)
        maps = [np.ascontiguousarray(labels, target) for labels in predictions]
        if all(np.array_equal(maps[0], other) for other in maps[1:]):
            return maps[0].copy()
        try:
            import SimpleITK
        except ImportError as error:
            raise MissingExtraError("STAPLE needs the package SimpleITK: pip install 'miscnn_tf[staple]'") from error
        undecided = sample.classes
        if undecided > np.iinfo(target).max:
            maps = [labels.astype(np.uint16) for labels in maps]
        staple = SimpleITK.MultiLabelSTAPLEImageFilter()
        staple.SetMaximumNumberOfIterations(self.iterations)
        staple.SetLabelForUndecidedPixels(undecided)
        found = SimpleITK.GetArrayFromImage(staple.Execute([SimpleITK.GetImageFromArray(labels) for labels in maps]))
        open_voxels = found == undecided
        if open_voxels.any():
            found[open_voxels] = Majority()(sample, maps)[open_voxels]
        return found.astype(target, copy=False)


aggregations.register("staple", Staple())
