"""Tab-separated tables in a run folder: the history of a training and the Dice of an evaluation."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from miscnn_tf._base.files import atomic_path, make_folder
from miscnn_tf._base.plain_files import read_table, real_cell
from miscnn_tf._base.plain_limits import shown
from miscnn_tf.errors import DataError, MissingDataError
from miscnn_tf.runs.names import EVALUATION_FILE, HISTORY_FILE

History = dict[str, list[float]]


def backup_history(history: Mapping[str, Sequence[float]] | Any, evaluation_path: str | Path) -> None:
    """Write the history of a training to ``history.tsv``: a row per epoch, from epoch 1.

    Args:
        history: The values per epoch of each metric by its name, or a Keras History object with them.
        evaluation_path: The folder; created if missing.

    Raises:
        StorageError: If it cannot be written.

    Example:
        >>> backup_history({"loss": [1.5, 1.25], "val_loss": [1.75, 1.5]}, "evaluation/fold_0")  # doctest: +SKIP
    """
    columns: Mapping[str, Sequence[float]] = getattr(history, "history", history)
    rows = [["epoch", *columns]]
    # A metric that is not computed in every epoch leaves its last cells empty.
    for epoch, values in enumerate(zip_longest(*columns.values()), start=1):
        rows.append([str(epoch), *map(_cell, values)])
    _write(Path(evaluation_path) / HISTORY_FILE, _table(rows))


def read_history(path: str | Path) -> History:
    """Read the table of `backup_history`: a list with a number per epoch for each metric; NaN for empty cells.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is not such a table, is truncated, or an epoch is missing.
    """
    try:
        rows = read_table(path, "\t")
        for epoch, row in enumerate(rows, start=1):
            if row["epoch"] != str(epoch):
                raise ValueError(f"the epoch is {shown(row['epoch'])}, not {epoch}")
        names = [name for name in (rows[0] if rows else {}) if name != "epoch"]
        return {name: [real_cell(row[name]) if row[name] else math.nan for row in rows] for name in names}
    except MissingDataError:
        raise MissingDataError(f"the file {path} does not exist; a training writes it at its end") from None
    except (ValueError, KeyError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not the history of a training ({error!r}); delete it and train again") from error


def backup_evaluation(data: Sequence[Any], evaluation_path: str | Path, start: bool = False) -> None:
    """Append a row to ``detailed_validation.tsv``.

    Args:
        data: The cells of the row; numbers, text, or None for an empty cell.
        evaluation_path: The folder; created if missing.
        start: Replace the file by this row, the header.

    Raises:
        StorageError: If it cannot be written; earlier rows are kept.

    Example:
        >>> backup_evaluation(["sample_id", "dice_class-0"], "evaluation", start=True)  # doctest: +SKIP
        >>> backup_evaluation(["case_00000", 0.93], "evaluation")  # doctest: +SKIP
    """
    path = Path(evaluation_path) / EVALUATION_FILE
    # Existing rows are kept, even in a damaged file.
    before = path.read_bytes().decode("utf-8", "surrogateescape") if not start and path.is_file() else ""
    _write(path, before + _table([[_cell(value) for value in data]]))


def create_directories(eval_path: str | Path, subeval_path: str | Path | None = None) -> str:
    """Create the folder of an evaluation and, optionally, one in it (for a fold).

    Returns:
        The path of the innermost folder.

    Raises:
        StorageError: If they cannot be created.

    Example:
        >>> create_directories("evaluation", "fold_0")  # doctest: +SKIP
        'evaluation/fold_0'
    """
    return str(make_folder(Path(eval_path) if subeval_path is None else Path(eval_path) / subeval_path))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str | bool | int):
        return str(value)
    try:
        return repr(float(value))
    except (TypeError, ValueError):
        return str(value)


def _table(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    # Tabs and line breaks in a sample's name are quoted.
    csv.writer(text, delimiter="\t", lineterminator="\n").writerows(rows)
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
