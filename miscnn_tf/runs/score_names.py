"""Names and definitions of the scores."""

from __future__ import annotations

from collections.abc import Iterable

from miscnn_tf.runs.score_table import KEYS

#: Definitions of the scores, which are written into each summary.
DEFINITIONS = {
    "dice": "2 TP / (2 TP + FP + FN), counted in voxels; NaN if truth and prediction are both empty",
    "iou": "TP / (TP + FP + FN); NaN if both are empty",
    "sensitivity": "TP / (TP + FN); NaN if the truth is empty",
    "specificity": "TN / (TN + FP); NaN if nothing else is in the truth",
    "precision": "TP / (TP + FP); NaN if the prediction is empty",
    "volume": "number of voxels times the size of one; the difference is prediction minus truth",
    "hd95": (
        "the larger of the two directed 95th percentiles of the distances between surface elements, weighted by their "
        "area (as DeepMind's surface-distance); infinite if one of truth and prediction is empty, NaN if both are"
    ),
    "assd": (
        "average symmetric surface distance: mean over the surface elements of both, weighted by their area; infinite "
        "if one is empty, NaN if both are"
    ),
    "nsd": (
        "normalised surface Dice (Nikolov et al. 2021): share of the area of both surfaces within the tolerance, which "
        "the column names, of the other one; 0 if one is empty, NaN if both are"
    ),
    "classes": "each class against all others; surfaces are not measured for the background, class 0",
}

_SHARES = ("dice", "iou", "sensitivity", "specificity", "precision", "nsd")
_VOLUMES = ("volume_truth", "volume_prediction", "area_truth", "area_prediction")
_NAMES = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95": "HD95",
    "assd": "average surface distance",
    "nsd": "surface Dice",
    "volume_truth": "volume, truth",
    "volume_prediction": "volume, prediction",
    "volume_difference": "volume difference",
    "area_truth": "area, truth",
    "area_prediction": "area, prediction",
    "area_difference": "area difference",
}
_UNITS = {"mm2": "mm²"}


def score_title(name: str) -> str:
    """Return the name of a column for a figure or table.

    Example:
        >>> score_title("hd95_mm"), score_title("nsd_1mm"), score_title("dice")
        ('HD95 (mm)', 'surface Dice at 1 mm', 'Dice')
    """
    stem, _, unit = name.rpartition("_")
    if not stem:
        return _NAMES.get(name, name)
    if stem == "nsd":
        tolerance = unit.rstrip("abcdefghijklmnopqrstuvwxyz")
        return f"{_NAMES[stem]} at {tolerance} {unit.removeprefix(tolerance)}"
    return f"{_NAMES.get(stem, stem)} ({_UNITS.get(unit, unit)})"


def is_share(name: str) -> bool:
    """Return True if a score is from 0 to 1 and 1 is best."""
    return name.startswith(_SHARES)


def is_difference(name: str) -> bool:
    """Return True if a score has a sign and 0 is best."""
    return "difference" in name


def measured(names: Iterable[str]) -> list[str]:
    """Return the columns that measure the model; volumes and areas describe the patients."""
    return [name for name in names if name not in KEYS and not name.startswith(_VOLUMES)]
