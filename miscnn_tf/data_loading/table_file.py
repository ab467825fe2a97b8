"""Reader of tables of text with a header, separated by commas or tabs."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Final

from miscnn_tf.data_loading.opening import read_bounded
from miscnn_tf.plain_limits import real, shown

_LARGEST: Final = 256 * 2**20
# Stricter than Python's int() and float(), which accept "1_0" and " 1".
_WHOLE: Final = re.compile(r"[0-9]{1,6}")
_REAL: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|nan|-?inf")


def read_table(path: str | Path, delimiter: str = ",") -> list[dict[str, str]]:
    r"""Read a table as a dict of cells by column for each row.

    Args:
        path: The file, UTF-8; other bytes, as in the names of some samples, become surrogates.
        delimiter: Separator of the cells.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is not a regular file, or larger than 256 MiB.
        ValueError: If a column occurs twice, the number of cells in a row is not that of the columns, or the last line
            does not end in a line break, as in a truncated file.

    Example:
        >>> read_table("evaluation/fold_0/history.tsv", "\t")[0]["epoch"]  # doctest: +SKIP
        '1'
    """
    text = read_bounded(path, _LARGEST).decode("utf-8-sig", "surrogateescape")
    if text and not text.endswith(("\n", "\r")):
        raise ValueError("the last line does not end in a line break: the file is truncated")
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if not rows:
        return []
    header, *cells = rows
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"the column {twice!r} occurs twice")
    for number, row in enumerate(cells, start=1):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} cells, but there are {len(header)} columns")
    return [dict(zip(header, row, strict=True)) for row in cells]


def whole_cell(text: str) -> int:
    """Parse a number from 0 to 999999 in a cell, in plain digits.

    Raises:
        ValueError: If it is not such a number.
    """
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a whole number from 0 to 999999")
    return int(text)


def real_cell(text: str) -> float:
    """Parse a number in a cell, including ``nan`` and ``inf``.

    Raises:
        ValueError: If it is not a number.
    """
    if not _REAL.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a number")
    return real(text)
