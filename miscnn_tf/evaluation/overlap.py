"""Scores that are counted voxel by voxel: Dice, IoU, sensitivity, specificity and precision."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Overlap:
    """Counts of the voxels of one class, and the scores computed from them.

    The definitions are those of Taha & Hanbury, BMC Med. Imaging 15:29, 2015 (doi:10.1186/s12880-015-0068-x). A score
    whose denominator is 0 is NaN, and means ignore it. Dice and IoU are NaN for a class that is in neither label map,
    and 0 for one that is in only one of them.

    Args:
        true_positive: Voxels that have the class in both label maps.
        false_positive: Voxels that have it in the prediction only.
        false_negative: Voxels that have it in the truth only.
        true_negative: Voxels that have it in neither.

    Example:
        >>> Overlap(true_positive=6, false_positive=2, false_negative=2, true_negative=90).dice
        0.75
    """

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def truth(self) -> int:
        """Voxels of the class in the truth."""
        return self.true_positive + self.false_negative

    @property
    def pred(self) -> int:
        """Voxels of the class in the prediction."""
        return self.true_positive + self.false_positive

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN), the F1 score."""
        return _ratio(2 * self.true_positive, self.truth + self.pred)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN), intersection over union, the Jaccard index."""
        return _ratio(self.true_positive, self.truth + self.false_positive)

    @property
    def sensitivity(self) -> float:
        """Share of the class that was predicted, TP / (TP + FN), also called recall."""
        return _ratio(self.true_positive, self.truth)

    @property
    def specificity(self) -> float:
        """Share of the other voxels that are correct, TN / (TN + FP); near 1 in images of mostly background."""
        return _ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def precision(self) -> float:
        """Share of the predicted voxels that are correct, TP / (TP + FP)."""
        return _ratio(self.true_positive, self.pred)


def overlaps(counts: np.ndarray) -> list[Overlap]:
    """Compute the overlap of each class against all others.

    Args:
        counts: The result of `dice.class_counts`, shape ``(classes, classes)``; rows are the truth.

    Returns:
        The overlap of each class, from class 0.
    """
    total = int(counts.sum())
    result = []
    for number in range(len(counts)):
        both = int(counts[number, number])
        truth, pred = int(counts[number].sum()), int(counts[:, number].sum())
        result.append(Overlap(both, pred - both, truth - both, total - truth - pred + both))
    return result


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
