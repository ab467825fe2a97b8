"""What the columns of scores are called where people read them."""

from __future__ import annotations

from collections.abc import Iterable

from miscnn_tf.evaluation.score_table import KEYS

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
    """The name of a column as people write it.

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
    """Whether a score is from 0 to 1, and 1 is best."""
    return name.startswith(_SHARES)


def is_difference(name: str) -> bool:
    """Whether a score is best at 0 and has a sign."""
    return "difference" in name


def measured(names: Iterable[str]) -> list[str]:
    """The columns that measure the model; the volumes themselves tell of the patients."""
    return [name for name in names if name not in KEYS and not name.startswith(_VOLUMES)]
