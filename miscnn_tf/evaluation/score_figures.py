"""Figures of scores: a box per class, and a point per sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from miscnn_tf._base.files import atomic_path
from miscnn_tf.evaluation.curves import TRAINING_COLOUR, VALIDATION_COLOUR
from miscnn_tf.runs.names import FIGURE_FILE
from miscnn_tf.runs.score_summary import finite
from miscnn_tf.runs.score_table import columns, is_difference, is_share, measured, score_title


def plot_scores(rows: Sequence[Mapping[str, Any]], evaluation_path: str | Path) -> Path:
    """Draw box plots of the scores of cases, a panel per score and a box per class, as ``scores.png``.

    Args:
        rows: Rows of `scores.score_label_maps`, or of ``scores.csv`` (`runs.score_table.read_scores`).
        evaluation_path: Folder of the figure; created if missing.

    Returns:
        The file.

    Raises:
        StorageError: If it cannot be written.

    Example:
        >>> plot_scores(read_scores("evaluation/scores.csv"), "evaluation")  # doctest: +SKIP
        PosixPath('evaluation/scores.png')
    """
    path = Path(evaluation_path) / FIGURE_FILE
    figure = draw_scores(rows)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return path


def draw_scores(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw a panel per score: boxes between the quartiles, median, whiskers of 1.5 box lengths, and all samples.

    The background is omitted if there are other classes. Infinite and undefined scores have no point; the number of
    infinite ones (only one of truth and prediction has the class) is below the class, as ``"2×∞"``.

    Args:
        rows: Rows of `scores.score_label_maps`.

    Returns:
        A matplotlib Figure that is not registered with pyplot and need not be closed.
    """
    labels = sorted({row["class"] for row in rows})
    labels = [label for label in labels if label != 0] or labels
    shown = [row for row in rows if row["class"] in labels]
    names = measured(columns(shown))
    # With many classes, each panel needs the whole width.
    across = 1 if len(labels) > 12 else min(3, max(1, len(names)))
    down = max(1, -(-len(names) // across))
    width = max(3.4, min(0.7 * len(labels) + 1.2, 0.25 * len(labels) + 6))
    figure = Figure(figsize=(across * width, 2.9 * down), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        values = [[row[name] for row in shown if row["class"] == label and name in row] for label in labels]
        _draw_panel(axes, name, labels, values)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    return figure


def _draw_panel(axes: Axes, name: str, labels: Sequence[int], values: Sequence[Sequence[float]]) -> None:
    # The horizontal scatter of the points has no meaning; it is the same in each figure.
    scatter = np.random.default_rng(0)
    ticks = []
    for place, (label, all_values) in enumerate(zip(labels, values, strict=True)):
        present = finite(all_values)
        if present:
            axes.boxplot(
                [present],
                positions=[place],
                widths=0.5,
                showfliers=False,
                medianprops={"color": VALIDATION_COLOUR, "linewidth": 1.8},
                boxprops={"color": TRAINING_COLOUR},
                whiskerprops={"color": TRAINING_COLOUR},
                capprops={"color": TRAINING_COLOUR},
            )
            aside = scatter.uniform(-0.16, 0.16, len(present))
            axes.plot(
                place + aside, present, linestyle="none", marker="o", markersize=3, alpha=0.5, color=TRAINING_COLOUR,
                markeredgewidth=0,
            )  # fmt: skip
        infinite = sum(map(np.isinf, all_values))
        ticks.append(f"{label}\n{infinite}×∞" if infinite else str(label))
    axes.set_xticks(range(len(labels)), ticks)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set_xlabel("class")
    axes.set_ylabel(score_title(name))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    if is_share(name):
        least, _ = axes.get_ylim()
        axes.set_ylim(top=1 + 0.03 * (1 - least))
    elif is_difference(name):
        axes.axhline(0, color="0.5", linewidth=0.8)
    else:
        axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
