"""Scores that are counted voxel by voxel: Dice, IoU, sensitivity, specificity and precision."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Overlap:
    """How the voxels of one class fall: the four counts, and what is made of them.

    The definitions are those of Taha & Hanbury, BMC Med. Imaging 15:29, 2015 (doi:10.1186/s12880-015-0068-x). A score
    whose denominator is 0 is NaN: there is nothing to measure, and means leave it out. In particular, where a class is
    in neither label map Dice and IoU are NaN; where it is in one of them only they are 0.

    Args:
        true_positive: Voxels that have the class in both label maps.
        false_positive: In the prediction only.
        false_negative: In the truth only.
        true_negative: In neither.

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
        """TP / (TP + FN), recall: the share of the class that was found."""
        return _ratio(self.true_positive, self.truth)

    @property
    def specificity(self) -> float:
        """TN / (TN + FP): the share of the rest that was left alone; near 1 where the image is mostly background."""
        return _ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def precision(self) -> float:
        """TP / (TP + FP): the share of what was found that is right."""
        return _ratio(self.true_positive, self.pred)


def overlaps(counts: np.ndarray) -> list[Overlap]:
    """The overlap of each class against all others.

    Args:
        counts: `dice.class_counts`, shape ``(classes, classes)``; rows are the truth.

    Returns:
        One per class, from class 0.
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
