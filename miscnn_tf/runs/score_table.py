"""Scores as a CSV table: a row per sample and class, with units in the column names."""

from __future__ import annotations

import csv
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from miscnn_tf._base.atomic_files import atomic_path
from miscnn_tf._base.plain_files import read_table, real_cell, whole_cell
from miscnn_tf.errors import DataError, MissingDataError

#: Columns that identify a row; all others hold scores.
KEYS = ("fold", "sample_id", "class")


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
