"""Scores of a prediction for each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from miscnn_tf._base.arguments import number, spacings
from miscnn_tf.data_loading.label_scheme import LabelScheme
from miscnn_tf.data_loading.labels import whole_labels
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.evaluation.dice import class_counts, same_grid
from miscnn_tf.evaluation.overlap import overlaps
from miscnn_tf.evaluation.surface import class_surface_distances

Row = dict[str, float]


def score_label_maps(
    truth: np.ndarray,
    pred: np.ndarray,
    classes: int,
    spacing: Sequence[float] | None = None,
    *,
    tolerance_mm: float = 1.0,
    ignored: np.ndarray | None = None,
) -> list[Row]:
    """Compute the scores of a label map against the truth.

    Args:
        truth: Label map ``(x, y[, z])`` of integers (or whole floats) from 0 to ``classes - 1``. A last axis of length
            1, as samples have, is ignored if only one of the two has it, or if `spacing` has a number less.
        pred: Label map of the same grid.
        classes: Number of classes, background included.
        spacing: Voxel size in mm, one number per axis. None if unknown (photographs, microscopy without scale): lengths
            and their column names are then in pixels or voxels.
        tolerance_mm: Tolerance of the normalised surface Dice, in mm; without `spacing` in pixels or voxels. Choose the
            distance between two experts.
        ignored: Mask of voxels to exclude, of the same shape; None for none. They are not counted, and both surfaces
            end at them.

    Returns:
        One row per class, from class 0, each a dict in the order of the columns:

        - ``class``: its number;
        - ``dice``, ``iou``, ``sensitivity``, ``specificity``, ``precision``;
        - ``volume_truth_ml``, ``volume_prediction_ml``, ``volume_difference_ml`` (prediction minus truth); in 2D
          ``area_truth_mm2`` and so on;
        - ``hd95_mm``, ``assd_mm`` (average symmetric surface distance) and ``nsd_1mm`` (normalised surface Dice at the
          tolerance), except for class 0.

        The unit ``mm`` becomes ``pixels`` (2D) or ``voxels`` (3D) if the spacing is unknown. The definitions are in
        `miscnn_tf.runs.score_table.DEFINITIONS`. For a class in neither label map, all scores except the specificity
        and the volumes are NaN, and means ignore them; for a class in only one of them, Dice, IoU and surface Dice are
        0 and distances are infinite.

    Raises:
        DataError: If the grids differ, have neither 2 nor 3 axes, or a label is not valid.
        ConfigurationError: If `classes`, `spacing` or `tolerance_mm` is invalid.

    Example:
        >>> import numpy as np
        >>> truth, pred = np.zeros((2, 20, 20, 20), np.uint8)
        >>> truth[4:14, 4:14, 4:14] = pred[5:15, 4:14, 4:14] = 1
        >>> row = score_label_maps(truth, pred, classes=2, spacing=(2.0, 1.0, 1.0))[1]
        >>> row["dice"], row["volume_truth_ml"], row["hd95_mm"]
        (0.9, 2.0, 2.0)
    """
    tolerance = check_tolerance(tolerance_mm)
    truth, pred = same_grid(np.asanyarray(truth), np.asanyarray(pred))
    lengths = None if spacing is None else spacings(spacing, "spacing")
    if lengths is not None and truth.ndim == len(lengths) + 1 and truth.shape[-1] == 1:
        truth, pred = truth[..., 0], pred[..., 0]
    if truth.ndim not in (2, 3):
        raise DataError(f"label maps of the shape {truth.shape} cannot be scored: give 2D or 3D ones, a case at a time")
    if lengths is not None and len(lengths) != truth.ndim:
        raise ConfigurationError(
            f"spacing={tuple(lengths)} has {len(lengths)} lengths, but the label maps have {truth.ndim} axes; give the "
            "voxel size of each axis in mm, or None if it is not known"
        )
    if ignored is not None and ignored.any():
        # Counted as an additional class, whose scores are not returned.
        if ignored.size != truth.size:
            raise DataError(
                f"ignored has the shape {ignored.shape}, the label maps {truth.shape}; they must be the same"
            )
        truth, pred = (_with_label(labels, ignored.reshape(truth.shape), classes) for labels in (truth, pred))
        counts = class_counts(truth, pred, classes + 1)
        if {int(counts[classes].sum()), int(counts[:, classes].sum())} != {int(np.count_nonzero(ignored))}:
            raise DataError(
                f"a label map holds the label {classes}, but classes={classes} allows whole numbers from 0 to "
                f"{classes - 1}. Check the label map, or the number of classes"
            )
        counts = counts[:classes, :classes]
    else:
        counts = class_counts(truth, pred, classes)
    surfaces = class_surface_distances(
        whole_labels(truth, "truth"), whole_labels(pred, "pred"), len(counts) - 1, lengths or (1.0,) * truth.ndim
    )
    names = _Columns(truth.ndim, lengths, tolerance)
    rows = []
    for label, overlap in enumerate(overlaps(counts)):
        row: Row = {
            "class": label,
            "dice": overlap.dice,
            "iou": overlap.iou,
            "sensitivity": overlap.sensitivity,
            "specificity": overlap.specificity,
            "precision": overlap.precision,
            names.size.format("truth"): overlap.truth * names.voxel,
            names.size.format("prediction"): overlap.pred * names.voxel,
            names.size.format("difference"): (overlap.pred - overlap.truth) * names.voxel,
        }
        if label:
            surface = surfaces[label - 1]
            row[f"hd95_{names.length}"] = surface.hausdorff(95)
            row[f"assd_{names.length}"] = surface.average()
            row[f"nsd_{tolerance:g}{names.length}"] = surface.surface_dice(tolerance)
        rows.append(row)
    return rows


def score_by_scheme(
    truth: np.ndarray,
    pred: np.ndarray,
    scheme: LabelScheme,
    spacing: Sequence[float] | None = None,
    *,
    tolerance_mm: float = 1.0,
    ignored: np.ndarray | None = None,
) -> list[Row]:
    """Compute the scores of a label map by the meaning of its labels.

    Voxels without annotation in the truth are left out. Regions are scored as the unions of their labels in both label
    maps, as nnU-Net does.

    Args:
        truth: Label map, as for `score_label_maps`, below ``scheme.labels``.
        pred: Label map of the same grid, below ``scheme.classes``.
        scheme: Meaning of the labels.
        spacing: Voxel size in mm, one number per axis; None if unknown.
        tolerance_mm: Tolerance of the normalised surface Dice.
        ignored: Mask of further voxels to exclude; None for none.

    Returns:
        Rows as `score_label_maps` returns them, ``scheme.scored`` of them. With regions, row 0 is the background, the
        voxels in no region, and the others are the regions in their order.

    Example:
        >>> scheme = LabelScheme.of(3, regions={"tumour": [1, 2], "core": [2]}, class_order=[1, 2])
        >>> rows = score_by_scheme(np.array([[0, 1, 2, 2]]), np.array([[0, 1, 1, 2]]), scheme)
        >>> [round(row["dice"], 3) for row in rows]
        [1.0, 1.0, 0.667]
    """
    truth, pred = same_grid(np.asanyarray(truth), np.asanyarray(pred))
    left_out = scheme.without_annotation(truth)
    if left_out is None or ignored is None:
        left_out = ignored if left_out is None else left_out
    else:
        left_out = left_out | ignored.reshape(truth.shape)
    options: dict[str, Any] = {"spacing": spacing, "tolerance_mm": tolerance_mm, "ignored": left_out}
    if not scheme.regions:
        return score_label_maps(truth, pred, scheme.classes, **options)
    class_counts(truth, pred, scheme.labels)  # raises an error for other labels

    def scored(labels: Sequence[int]) -> list[Row]:
        return score_label_maps(np.isin(truth, labels), np.isin(pred, labels), 2, **options)

    covered = sorted({label for region in scheme.regions for label in region.labels})
    rows = [scored(covered)[0]]
    for place, region in enumerate(scheme.regions, 1):
        rows.append({**scored(region.labels)[1], "class": place})
    return rows


class _Columns:
    """Names of the columns with a unit, and the volume of a voxel in that unit."""

    def __init__(self, ndim: int, spacing: tuple[float, ...] | None, tolerance: float) -> None:
        kind = "volume" if ndim == 3 else "area"
        if spacing is None:
            self.length = "voxels" if ndim == 3 else "pixels"
            self.size, self.voxel = f"{kind}_{{}}_{self.length}", 1.0
        else:
            self.length = "mm"
            self.size = f"{kind}_{{}}_{'ml' if ndim == 3 else 'mm2'}"
            # 1 ml is 1000 mm³.
            self.voxel = math.prod(spacing) / (1000.0 if ndim == 3 else 1.0)


def check_tolerance(value: float) -> float:
    """Return the tolerance of the surface Dice as a float.

    Raises:
        ConfigurationError: If it is negative, infinite or not a number.
    """
    result = float(number(value, "tolerance_mm"))
    if not 0 <= result < math.inf:
        raise ConfigurationError(f"tolerance_mm={value!r} must be a length, 0 or more")
    return result


def _with_label(labels: np.ndarray, mask: np.ndarray, label: int) -> np.ndarray:
    """Return a copy with one label in all voxels of a mask."""
    changed = labels.astype(np.result_type(labels.dtype, np.min_scalar_type(label)), copy=True)
    changed[mask] = label
    return changed
