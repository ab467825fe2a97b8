"""Dice similarity coefficient of label maps, counted exactly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from miscnn_tf._base.arguments import whole_number
from miscnn_tf.data_loading.labels import is_odd, label_text
from miscnn_tf.errors import DataError

# Voxels per slab, whose class pairs (8 bytes each) fit into the cache of the processor.
_SLAB_VOXELS = 2**18


def compute_dice(truth: np.ndarray, pred: np.ndarray, classes: int) -> list[float]:
    r"""Compute the Dice of each class from two label maps.

    ``2 |T ∩ P| / (|T| + |P|)`` with T and P the voxels of a class in `truth` and `pred` (Dice, Ecology 26, 1945,
    doi:10.2307/1932409), counted in integers: no smoothing, no rounding before the division.

    Args:
        truth: Label map of integers (or floats within 0.001 of one) from 0 to ``classes - 1``, of any number of axes. A
            last axis of length 1, as samples have, is ignored if only one of the two has it.
        pred: Label map of the same grid.
        classes: Number of classes, background included.

    Returns:
        One number per class, from class 0. NaN if a class is in neither label map; `mean_dice` ignores it. 0 if it is
        in only one of them.

    Raises:
        DataError: If the grids differ, or a label is negative, fractional, not a number, or not below `classes`.
        ConfigurationError: If `classes` is not a positive integer.

    Example:
        >>> import numpy as np
        >>> compute_dice(np.array([[0, 1], [1, 1]]), np.array([[0, 0], [1, 1]]), classes=3)
        [0.6666666666666666, 0.8, nan]
    """
    counts = class_counts(truth, pred, classes)
    both = np.diag(counts)
    total = counts.sum(axis=0) + counts.sum(axis=1)
    return [2.0 * int(b) / int(t) if t else math.nan for b, t in zip(both, total, strict=True)]


def mean_dice(scores: Sequence[Sequence[float]]) -> list[float]:
    """Compute the mean Dice of each class over the samples that have the class (not NaN).

    Args:
        scores: The result of `compute_dice` for each sample.

    Returns:
        One number per class; NaN for a class that no sample has.

    Example:
        >>> mean_dice([[1.0, 0.5, float("nan")], [0.5, float("nan"), float("nan")]])
        [0.75, 0.5, nan]
    """
    per_class = ([score for score in column if not math.isnan(score)] for column in zip(*scores, strict=True))
    return [math.fsum(present) / len(present) if present else math.nan for present in per_class]


def class_counts(truth: np.ndarray, pred: np.ndarray, classes: int) -> np.ndarray:
    """Count the voxels that have class t in `truth` and class p in `pred`.

    Both arrays are read once, slab by slab: two label maps of 512x512x600 voxels need a few additional megabytes.

    Args:
        truth: Label map, as for `compute_dice`.
        pred: Label map, as for `compute_dice`.
        classes: Number of classes, background included.

    Returns:
        The confusion matrix, shape ``(classes, classes)``, int64; rows are the truth.

    Raises:
        DataError: If the grids differ or a label is not valid.
        ConfigurationError: If `classes` is not a positive integer.
    """
    classes = whole_number(classes, "classes", 1)
    truth, pred = same_grid(np.asanyarray(truth), np.asanyarray(pred))
    counts = np.zeros(classes**2, np.int64)
    for truth_slab, pred_slab in _slabs(truth, pred):
        pairs = _checked(truth_slab, classes, "truth") * np.intp(classes)
        pairs += _checked(pred_slab, classes, "pred")
        counts += np.bincount(pairs, minlength=counts.size)
    return counts.reshape(classes, classes)


def same_grid(truth: np.ndarray, pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both label maps, without a last axis of length 1 that only one of them has.

    Raises:
        DataError: If the remaining grids differ.
    """
    if truth.ndim == pred.ndim + 1 and truth.shape[-1] == 1:
        truth = truth[..., 0]
    elif pred.ndim == truth.ndim + 1 and pred.shape[-1] == 1:
        pred = pred[..., 0]
    if truth.shape != pred.shape:
        raise DataError(
            f"truth has the shape {truth.shape}, pred {pred.shape}: scores compare label maps on one grid. Resample "
            "one of them; class probabilities become labels by an argmax over their last axis"
        )
    return truth, pred


def _slabs(truth: np.ndarray, pred: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield flat slabs of both along the outermost axis in memory (NIfTI volumes are in Fortran order)."""
    if truth.size == 0:
        return
    order = sorted(range(truth.ndim), key=lambda axis: -abs(truth.strides[axis]))
    truth, pred = np.atleast_1d(truth.transpose(order)), np.atleast_1d(pred.transpose(order))
    rows = max(1, _SLAB_VOXELS // max(1, truth[0].size))
    for start in range(0, len(truth), rows):
        yield truth[start : start + rows].reshape(-1), pred[start : start + rows].reshape(-1)


def _checked(labels: np.ndarray, classes: int, name: str) -> np.ndarray:
    if labels.dtype.kind == "f":
        whole = np.rint(labels)
        wrong = labels[is_odd(labels) | (whole < 0) | (whole >= classes)]
        labels = labels if wrong.size else whole
    elif labels.dtype.kind in "iub":
        if labels.min() >= 0 and labels.max() < classes:
            return labels.astype(np.intp)
        wrong = labels[(labels < 0) | (labels >= classes)]
    else:
        raise DataError(f"{name} has the type {labels.dtype}; label maps are integers")
    if wrong.size:
        raise DataError(
            f"{name} holds the label {label_text(wrong[0])}, but classes={classes} allows whole numbers from 0 to "
            f"{classes - 1}. Check the label map, or the number of classes"
        )
    return labels.astype(np.intp)
