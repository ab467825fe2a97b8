"""The page of a comparison of cross-validations."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miscnn_tf._base.files import atomic_path
from miscnn_tf.report.page import render_page


def write_comparison_page(
    path: str | Path, candidates: Mapping[str, Mapping[str, Any]], best: str, cases: int, folder: str
) -> None:
    """Write the page.

    Args:
        path: The HTML file; replaced atomically.
        candidates: Entry ``dice`` of each candidate: the mean Dice by the name of the class, None if undefined.
        best: Name of the best candidate.
        cases: Number of cases.
        folder: Folder of the comparison, for the command.

    Raises:
        StorageError: If the page cannot be written.
    """
    rows = []
    for name, candidate in candidates.items():
        known = [value for value in candidate["dice"].values() if value is not None]
        rows.append((name, list(candidate["dice"].values()), sum(known) / len(known) if known else None))
    html = render_page(
        "comparison.html",
        classes=list(next(iter(candidates.values()))["dice"]),
        rows=rows,
        best=best,
        cases=cases,
        command=f"miscnn-tf predict {shlex.quote(folder)} IMAGES PREDICTIONS",
    )
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="backslashreplace")
