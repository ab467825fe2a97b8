"""Scores: their names and definitions, and the CSV table with a row per sample and class."""

from __future__ import annotations

import csv
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from miscnn_tf._base.files import atomic_path
from miscnn_tf._base.plain_files import read_table, real_cell, whole_cell
from miscnn_tf.errors import DataError, MissingDataError

#: Columns that identify a row; all others hold scores.
KEYS = ("fold", "sample_id", "class")
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


def undefined_note(names: Sequence[str]) -> str:
    """Return sentences on the reasons of undefined and infinite scores, for a table with these columns.

    Args:
        names: The columns.

    Example:
        >>> undefined_note(["dice", "precision"])
        'A dash: the score is not defined, because neither truth nor prediction has the class; precision also if the \
prediction does not have it.'
    """
    also = [
        f"{score} also if the {place} does not have it"
        for score, place in (("precision", "prediction"), ("sensitivity", "truth"))
        if score in names
    ]
    if "specificity" in names:
        also.append("specificity if the truth has nothing else")
    text = "A dash: the score is not defined, because neither truth nor prediction has the class"
    infinite = any(name.startswith(("hd95", "assd")) for name in names)
    return "; ".join([text, *also]) + "." + (" ∞: only one of them has it." if infinite else "")


def with_sample(rows: Sequence[Mapping[str, float]], index: Hashable) -> list[dict[str, Any]]:
    """Return the rows of a sample with its name in front."""
    return [{"sample_id": str(index), **row} for row in rows]


def write_scores(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table, atomically.

    Args:
        path: The file, usually ``<evaluation_path>/scores.csv``.
        rows: Rows with ``"sample_id"``, ``"class"`` and scores. The columns are those of all rows; a cell without a
            value is empty, and an undefined or infinite score is ``nan`` or ``inf``.

    Raises:
        StorageError: If it cannot be written.

    Example:
        >>> write_scores("evaluation/scores.csv", [{"sample_id": "a", "class": 1, "dice": 0.9}])  # doctest: +SKIP
    """
    # A file name need not be valid UTF-8; its bytes are kept.
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.DictWriter(file, columns(rows), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_scores(path: str | Path) -> list[dict[str, Any]]:
    """Read a table that `write_scores` wrote.

    Returns:
        The rows; ``"class"`` and ``"fold"`` are ints, ``"sample_id"`` is text, and scores are floats. Empty cells are
        omitted.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is not a table of scores, is truncated, or has two rows for a sample and class.
    """
    try:
        rows = [_row(cells) for cells in read_table(path)]
        places = {(row.get("fold"), row["sample_id"], row["class"]) for row in rows}
        if len(places) < len(rows):
            raise ValueError("a case and class is there twice")
        return rows
    except MissingDataError:
        raise MissingDataError(f"the file {path} does not exist; detailed_validation() writes it") from None
    except (ValueError, KeyError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not a table of scores ({error!r}); delete it and evaluate again") from error


def columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of all columns: first the keys, then the others in the order of the rows."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in KEYS if name in names] + [name for name in names if name not in KEYS]


def _row(cells: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {"sample_id": cells["sample_id"], "class": whole_cell(cells["class"])}
    if cells.get("fold"):
        row["fold"] = whole_cell(cells["fold"])
    row.update({name: real_cell(text) for name, text in cells.items() if name not in KEYS and text != ""})
    return row


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
        length = unit.removeprefix(tolerance)
        return f"{_NAMES[stem]} at {tolerance} {length.removesuffix('s') if tolerance == '1' else length}"
    return f"{_NAMES.get(stem, stem)} ({_UNITS.get(unit, unit)})"


def definitions(names: Iterable[str]) -> dict[str, str]:
    """Return the definitions of scores, in pixels and areas for those of 2D images.

    Args:
        names: The columns of the scores.

    Example:
        >>> list(definitions(["dice", "area_truth_mm2"]))[5], definitions(["dice", "area_truth_mm2"])["dice"][:49]
        ('area', '2 TP / (2 TP + FP + FN), counted in pixels; NaN i')
    """
    if not any(name.startswith("area_") for name in names):
        return DEFINITIONS
    return {
        "area" if name == "volume" else name: text.replace("voxels", "pixels") for name, text in DEFINITIONS.items()
    }


def is_share(name: str) -> bool:
    """Return True if a score is from 0 to 1 and 1 is best."""
    return name.startswith(_SHARES)


def is_difference(name: str) -> bool:
    """Return True if a score has a sign and 0 is best."""
    return "difference" in name


def measured(names: Iterable[str]) -> list[str]:
    """Return the columns that measure the model; volumes and areas describe the patients."""
    return [name for name in names if name not in KEYS and not name.startswith(_VOLUMES)]
