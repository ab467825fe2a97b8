"""Writing of the scores of an evaluation and their summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from miscnn_tf._base.plain_files import write_json
from miscnn_tf.errors import DataError
from miscnn_tf.runs.names import SCORES_FILE, SUMMARY_FILE, fold_folders
from miscnn_tf.runs.score_summary import read_summary, summarise
from miscnn_tf.runs.score_table import read_scores, write_scores
from miscnn_tf.runs.writer import Writer

Row = Mapping[str, Any]


def write_summary(evaluation_path: str | Path, *, draw_figures: bool = False) -> Path | None:
    """Combine the scores of all folds of a cross-validation.

    Reads each ``<evaluation_path>/fold_<i>/scores.csv`` and writes ``<evaluation_path>/scores.csv``, with a column for
    the fold, and ``summary.json`` (`summarise`). It can be called again after each finished fold. Of several
    cluster nodes, only the first one writes.

    Args:
        evaluation_path: Folder of the cross-validation.
        draw_figures: Also draw ``scores.png``.

    Returns:
        The path of ``summary.json``; None if no fold has scores, or on a cluster node other than the first; nothing is
        written then.

    Raises:
        DataError: If a table is damaged.
        StorageError: If a file cannot be written.

    Example:
        >>> write_summary("evaluation")  # doctest: +SKIP
        PosixPath('evaluation/summary.json')
    """
    return Writer().write(lambda: _combine(Path(evaluation_path), draw_figures))


def _combine(root: Path, draw_figures: bool) -> Path | None:
    rows = [{"fold": fold, **row} for fold, path in _score_files(root) for row in read_scores(path)]
    if not rows:
        return None
    write_results(root, rows, draw_figures=draw_figures, facts=_facts_of_folds(root))
    return root / SUMMARY_FILE


def write_results(
    folder: str | Path, rows: Sequence[Row], *, draw_figures: bool = False, facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write ``scores.csv`` and ``summary.json``, and optionally ``scores.png``, into a folder.

    Args:
        folder: The folder; created if missing.
        rows: Rows of `scores.score_label_maps` with ``"sample_id"``.
        draw_figures: Also draw box plots.
        facts: Further entries of ``summary.json``, plain data: ``"label_values"``, the value of each class in the label
            maps if it is not the class's number.

    Returns:
        The content of ``summary.json``, which is written last (`summarise`).

    Raises:
        StorageError: If a file cannot be written.
    """
    folder = Path(folder)
    write_scores(folder / SCORES_FILE, rows)
    if draw_figures:
        # Imported here, since importing matplotlib is slow.
        from miscnn_tf.evaluation.score_figures import plot_scores

        plot_scores(rows, folder)
    summary = summarise(rows) | dict(facts or {})
    write_json(folder / SUMMARY_FILE, summary)
    return summary


def _facts_of_folds(root: Path) -> dict[str, Any]:
    """Return the facts about label maps from the folds' summaries, which share a data set."""
    for _, path in _score_files(root):
        with suppress(DataError):  # missing in an unfinished fold
            summary = read_summary(path.parent / SUMMARY_FILE)
            if "label_values" in summary:
                return {"label_values": summary["label_values"]}
    return {}


def _score_files(root: Path) -> list[tuple[int, Path]]:
    paths = [(number, folder / SCORES_FILE) for number, folder in fold_folders(root).items()]
    return [(number, path) for number, path in paths if path.exists()]
