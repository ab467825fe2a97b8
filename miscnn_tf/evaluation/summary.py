"""Summary of the scores of many cases: mean, deviation, median and confidence interval per class."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

import miscnn_tf
from miscnn_tf.cluster import is_chief
from miscnn_tf.data_loading.plain_files import read_json, write_json
from miscnn_tf.errors import DataError
from miscnn_tf.evaluation.bootstrap import mean_interval
from miscnn_tf.evaluation.score_table import KEYS, SCORES_FILE, SUMMARY_FILE, columns, read_scores, write_scores
from miscnn_tf.evaluation.scores import DEFINITIONS
from miscnn_tf.typed_data import Document, require

_CONFIDENCE = 0.95
_RESAMPLES = 2000
_SEED = 0

Row = Mapping[str, Any]


class _Figures(Document):
    mean: float | None
    standard_deviation: float | None
    median: float | None
    confidence_interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    cases: Annotated[int, Field(ge=0)]
    undefined: Annotated[int, Field(ge=0)]
    infinite: Annotated[int, Field(ge=0)]


class _Settings(Document):
    definitions: dict[str, str] | None = None


class _Missing(Document):
    number: Annotated[int, Field(ge=0)]
    names: list[str]


class _Summary(Document):
    cases: Annotated[int, Field(ge=0)]
    folds: Annotated[int, Field(ge=0)] | None = None
    classes: dict[Annotated[str, Field(pattern="^[0-9]{1,6}$")], dict[str, _Figures]]
    settings: _Settings
    cases_without_prediction: _Missing | None = None


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Compute mean, standard deviation, median and 95 % bootstrap confidence interval of each score and class.

    Args:
        rows: Rows of `score_label_maps`, with ``"sample_id"`` and, after a cross-validation, ``"fold"``.

    Returns:
        Plain data::

            {"cases": 20, "folds": 5,
             "classes": {"1": {"dice": {"mean": …, "standard_deviation": …, "median": …,
                                        "confidence_interval": [low, high],
                                        "cases": 19, "undefined": 1, "infinite": 0}, …}, …},
             "settings": {…}}

        All figures are computed from the ``cases`` whose score is a finite number. ``undefined`` counts those left out
        because the class is in neither label map, ``infinite`` those whose distance is infinite because the class is in
        only one of them. A mean distance with ``infinite`` above 0 is therefore too good; Dice and surface Dice count
        such cases as 0. None marks values that cannot be computed: any without cases, and a deviation (n - 1 in the
        denominator) or interval of one case. The interval is that of `mean_interval`; the cases of all folds are drawn
        with the same probability.

    Example:
        >>> rows = [{"sample_id": name, "class": 1, "dice": dice} for name, dice in (("a", 0.8), ("b", 0.9))]
        >>> round(summarise(rows)["classes"]["1"]["dice"]["mean"], 3)
        0.85
    """
    names = columns(rows)
    scores = [name for name in names if name not in KEYS]
    cases = {(row.get("fold"), row["sample_id"]) for row in rows}
    folds = {row["fold"] for row in rows if "fold" in row}
    classes = {
        str(label): {
            name: _figures([row[name] for row in rows if row["class"] == label and name in row])
            for name in scores
            if any(name in row for row in rows if row["class"] == label)
        }
        for label in sorted({row["class"] for row in rows})
    }
    return {
        "cases": len(cases),
        **({"folds": len(folds)} if folds else {}),
        "classes": classes,
        "settings": _settings(scores),
    }


def write_summary(evaluation_path: str | Path, *, draw_figures: bool = False) -> Path | None:
    """Combine the scores of all folds of a cross-validation.

    Reads each ``<evaluation_path>/fold_<i>/scores.csv`` and writes ``<evaluation_path>/scores.csv``, with a column for
    the fold, and ``summary.json`` (`summarise`). Can be called again after each finished fold. Of several cluster nodes
    (``TF_CONFIG``), only the first one writes.

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
    if not is_chief():
        return None
    root = Path(evaluation_path)
    rows = [{"fold": fold, **row} for fold, path in _score_files(root) for row in read_scores(path)]
    if not rows:
        return None
    write_results(root, rows, draw_figures=draw_figures, facts=_facts_of_folds(root))
    return root / SUMMARY_FILE


def read_summary(path: str | Path) -> dict[str, Any]:
    """Read a ``summary.json``, which holds the result of `summarise`.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is damaged.

    Example:
        >>> read_summary("evaluation/summary.json")["cases"]  # doctest: +SKIP
        20
    """
    advice = "delete it and evaluate again"
    content: dict[str, Any] = read_json(path, "an evaluation writes it", advice)
    require(_Summary, content, path, advice)
    return content


def write_results(
    folder: str | Path, rows: Sequence[Row], *, draw_figures: bool = False, facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write ``scores.csv`` and ``summary.json``, and optionally ``scores.png``, into a folder.

    Args:
        folder: Created where missing.
        rows: Rows of `score_label_maps` with ``"sample_id"``.
        draw_figures: Whether to draw box plots.
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


def summary_table(summary: Mapping[str, Any]) -> str:
    """Format a summary as text: a line per class and score, mean ± standard deviation [confidence interval].

    Args:
        summary: The result of `summarise`, or the content of ``summary.json``.

    Example:
        >>> rows = [{"sample_id": name, "class": 1, "dice": dice} for name, dice in (("a", 0.8), ("b", 0.9))]
        >>> print(summary_table(summarise(rows)))
        class  score  mean ± SD [95 % CI]        median  cases  infinite  undefined
        1      dice   0.85 ± 0.07071 [0.8, 0.9]    0.85      2         0          0
    """
    header = ("class", "score", "mean ± SD [95 % CI]", "median", "cases", "infinite", "undefined")
    lines = [header]
    for label, scores in summary["classes"].items():
        for name, figures in scores.items():
            counts = (str(figures[key]) for key in ("cases", "infinite", "undefined"))
            lines.append((label, name, _mean_text(figures), _text(figures["median"]), *counts))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        cells = [
            cell.ljust(width) if position < 3 else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def finite(values: Iterable[float]) -> list[float]:
    """Return the finite values."""
    return [value for value in values if math.isfinite(value)]


def _figures(values: Sequence[float]) -> dict[str, Any]:
    present = finite(values)
    interval = mean_interval(present, _CONFIDENCE, _RESAMPLES, _SEED)
    return {
        "mean": math.fsum(present) / len(present) if present else None,
        "standard_deviation": statistics.stdev(present) if len(present) > 1 else None,
        "median": statistics.median(present) if present else None,
        "confidence_interval": None if interval is None else list(interval),
        "cases": len(present),
        "undefined": sum(map(math.isnan, values)),
        "infinite": sum(map(math.isinf, values)),
    }


def _settings(scores: Iterable[str]) -> dict[str, Any]:
    tolerances = [match for match in (re.fullmatch(r"nsd_(.+?)([a-z]+)", name) for name in scores) if match]
    return {
        "surface_dice_tolerance": [{"length": float(match[1]), "unit": match[2]} for match in tolerances],
        "confidence_interval": {"of": "mean", "method": "bootstrap over cases, BCa", "level": _CONFIDENCE,
                                "resamples": _RESAMPLES, "seed": _SEED},
        "definitions": DEFINITIONS,
        "versions": {"miscnn_tf": miscnn_tf.__version__, **{name: version(name) for name in ("numpy", "scipy")}},
    }  # fmt: skip


def _facts_of_folds(root: Path) -> dict[str, Any]:
    """Return the facts about label maps from the folds' summaries, which share a data set."""
    for _, path in _score_files(root):
        with suppress(DataError):  # missing in an unfinished fold
            summary = read_summary(path.parent / SUMMARY_FILE)
            if "label_values" in summary:
                return {"label_values": summary["label_values"]}
    return {}


def _score_files(root: Path) -> list[tuple[int, Path]]:
    found = []
    for path in root.glob(f"fold_*/{SCORES_FILE}"):
        number = path.parent.name.removeprefix("fold_")
        if number.isdecimal():
            found.append((int(number), path))
    return sorted(found)


def _mean_text(figures: Mapping[str, Any]) -> str:
    text = _text(figures["mean"])
    if figures["standard_deviation"] is not None:
        text += f" ± {_text(figures['standard_deviation'])}"
    if figures["confidence_interval"] is not None:
        low, high = figures["confidence_interval"]
        text += f" [{_text(low)}, {_text(high)}]"
    return text


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
