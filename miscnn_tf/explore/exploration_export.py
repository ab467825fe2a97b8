"""Export of the statistics of `explore` as tables and figures."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from miscnn_tf._base.atomic_files import atomic_path, make_folder
from miscnn_tf.explore.data_exploration import Exploration, case_rows, class_rows
from miscnn_tf.explore.exploration_text import common_edges, shares_within
from miscnn_tf.pictures.overlay import OKABE_ITO

_BINS = 100
# Maximum number of curves, which is the number of distinct colours.
_MOST_CURVES = len(OKABE_ITO) + 1


def export_exploration(exploration: Exploration, folder: str | Path) -> list[Path]:
    """Write ``cases.csv``, ``classes.csv``, ``histogram.csv``, ``histogram.png`` and ``classes.png``.

    Files about classes are omitted if no sample has a label map. Files of an earlier export are replaced.

    Args:
        exploration: The statistics.
        folder: Folder to write to; created if it does not exist.

    Returns:
        The files.

    Raises:
        StorageError: If they cannot be written.

    Example:
        >>> export_exploration(explore(data_io), "exploration")  # doctest: +SKIP
        [PosixPath('exploration/cases.csv'), …]
    """
    folder = make_folder(folder)
    written = [_write_table(folder / "cases.csv", list(case_rows(exploration)))]
    if exploration.labelled:
        written.append(_write_table(folder / "classes.csv", list(class_rows(exploration))))
    if any(statistics.count for statistics in exploration.intensities):
        written.append(_write_table(folder / "histogram.csv", _histogram_rows(exploration)))
        written.append(_write_picture(folder / "histogram.png", _draw_histograms(exploration)))
    if exploration.labelled:
        written.append(_write_picture(folder / "classes.png", _draw_classes(exploration)))
    return written


def _histogram_rows(exploration: Exploration) -> list[dict[str, Any]]:
    rows = []
    for channel, overall in enumerate(exploration.intensities):
        if not overall.count:
            continue
        edges = common_edges(overall, _BINS)
        columns = {"share": shares_within(overall, edges)}
        if exploration.labelled:
            for label in range(len(exploration.class_names)):
                columns[f"share_class-{label}"] = shares_within(exploration.class_intensities[label][channel], edges)
        for position in range(_BINS):
            row: dict[str, Any] = {"channel": channel, "from": edges[position], "to": edges[position + 1]}
            rows.append(row | {name: float(shares[position]) for name, shares in columns.items()})
    return rows


def _draw_histograms(exploration: Exploration) -> Figure:
    channels = [number for number, statistics in enumerate(exploration.intensities) if statistics.count]
    figure = Figure(figsize=(8, 3.2 * len(channels)), layout="constrained")
    for axes, channel in zip(figure.subplots(len(channels), squeeze=False)[:, 0], channels, strict=True):
        overall = exploration.intensities[channel]
        edges = common_edges(overall, _BINS)
        axes.stairs(shares_within(overall, edges), edges, fill=True, color="0.85", label="all")
        if exploration.labelled:
            for label, name in list(enumerate(exploration.class_names))[:_MOST_CURVES]:
                statistics = exploration.class_intensities[label][channel]
                if statistics.count:
                    # Each class is scaled separately, because small classes would be invisible beside the background.
                    axes.stairs(shares_within(statistics, edges), edges, color=_colour(label), label=_literal(name))
        axes.set_xlabel("intensity" if exploration.channels == 1 else f"intensity, channel {channel}")
        axes.set_ylabel("share of its voxels")
        axes.set_yscale("log")
        axes.legend(fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_classes(exploration: Exploration) -> Figure:
    """Draw box plots of the share of each class in the samples."""
    names, shares = [], []
    for label, name in enumerate(exploration.class_names):
        facts = [case.classes[label] for case in exploration.labelled if case.classes is not None]
        present = [one.share for one in facts if one.voxels]
        if present:
            names.append(f"{_literal(name)}\n{len(present)} of {len(facts)} cases")
            shares.append(present)
    figure = Figure(figsize=(max(4.0, 1 + 1.5 * len(names)), 4), layout="constrained")
    axes = figure.subplots()
    axes.boxplot(shares, tick_labels=names)
    axes.set_yscale("log")
    axes.set_ylabel("share of a case's voxels, where present")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _colour(label: int) -> str:
    return "black" if label == 0 else OKABE_ITO[(label - 1) % len(OKABE_ITO)]


def _literal(name: str) -> str:
    # matplotlib interprets text between dollar signs as a formula.
    return name.replace("$", r"\$")


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    # File names may not be valid UTF-8; their bytes are written unchanged.
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _write_picture(path: Path, figure: Figure) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return path
