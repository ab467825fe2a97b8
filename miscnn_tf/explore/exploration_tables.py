"""The statistics of `explore` as text for a terminal of 80 columns, and as tables and figures in files."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from miscnn_tf._base.class_colours import OKABE_ITO
from miscnn_tf._base.files import atomic_path, make_folder
from miscnn_tf._base.messages import plural, size_text, some_of, text_table
from miscnn_tf.explore.data_exploration import CaseFacts, Exploration, RunningStatistics, case_rows, class_rows

#: Number of bars per histogram, and the width of the longest.
BARS = 16
_BAR_WIDTH = 44
_SPARKS = "▁▂▃▄▅▆▇█"
_SPARK_BINS = 40
_LONGEST_NAME = 14
_SHOWN = 3
_BINS = 100
# Maximum number of curves, which is the number of distinct colours.
_MOST_CURVES = len(OKABE_ITO) + 1


def exploration_text(exploration: Exploration, cases: bool = False) -> str:
    """Format all tables.

    Args:
        exploration: The statistics.
        cases: List the samples.
    """
    if not exploration.cases:
        return "No sample could be read."
    parts = [_structure(exploration), _grids(exploration.cases)]
    if cases:
        parts.append(_cases(exploration.cases))
    if exploration.labelled:
        parts.append(_classes(exploration))
    parts.append(_intensities(exploration))
    for channel, statistics in enumerate(exploration.intensities):
        if statistics.count:
            parts.append(_histogram(exploration, channel))
    return "\n\n".join(parts)


def common_edges(statistics: RunningStatistics, bins: int) -> np.ndarray:
    """Return borders of bins from the 0.1 % to the 99.9 % quantile.

    The full range could put almost all voxels into one bin because of a single outlier. Values outside are in the
    outermost bins.
    """
    low, high = statistics.histogram.quantile(0.001), statistics.histogram.quantile(0.999)
    if not low < high:
        low, high = statistics.lowest, max(statistics.highest, statistics.lowest + 1)
    return np.linspace(low, high, bins + 1)


def shares_within(statistics: RunningStatistics, edges: np.ndarray) -> np.ndarray:
    """Return the share of values per bin; the outermost bins include values beyond them."""
    return statistics.histogram.shares(np.concatenate([[-math.inf], edges[1:-1], [math.inf]]))


def _structure(exploration: Exploration) -> str:
    cases = exploration.cases
    lines = [f"{plural(len(cases), 'case')}, {len(exploration.labelled)} with a label map"]
    if exploration.endings:
        endings = ", ".join(f"{number:,} {ending}" for ending, number in exploration.endings.most_common(5))
        lines.append(f"{plural(exploration.folders, 'folder')}, files: {endings}")
    kinds = Counter(len(case.files) for case in cases if case.files is not None)
    if kinds:
        files = ", ".join(f"{number} in {plural(times, 'case')}" for number, times in sorted(kinds.items()))
        example = next(case.files for case in cases if case.files is not None)
        lines.append(f"files per case: {files} (such as {some_of(example, _SHOWN)})")
    disk = [case.disk_bytes for case in cases if case.disk_bytes is not None]
    memory = [case.memory_bytes for case in cases]
    if disk:
        lines.append(f"on disk: {size_text(sum(disk))}, the largest case {size_text(max(disk))}")
    lines.append(
        f"decoded: {size_text(sum(memory))}, the largest case {size_text(max(memory))} "
        f"({some_of(sorted({case.dtype for case in cases}), _SHOWN)})"
    )
    return "\n".join(lines)


def _grids(cases: Sequence[CaseFacts]) -> str:
    """Format minimum, median and maximum size per axis."""
    axes = len(cases[0].shape)
    rows = [("", *(f"axis {axis}" for axis in range(axes)))]
    table = np.array([case.shape for case in cases])
    rows += _ranges("voxels" if axes == 3 else "pixels", table)
    known = np.array([case.spacing for case in cases if case.spacing is not None and len(case.spacing) == axes])
    if len(known):
        rows += _ranges("mm each", known)
    return text_table(rows, "l" + "r" * axes)


def _ranges(what: str, table: np.ndarray) -> list[tuple[str, ...]]:
    if np.allclose(table, table[0], rtol=1e-4):
        return [(f"{what}, all", *map(_short, table[0]))]
    kinds = (("least", np.min), ("median", np.median), ("most", np.max))
    return [(f"{what}, {name}", *map(_short, function(table, axis=0))) for name, function in kinds]


def _cases(cases: Sequence[CaseFacts]) -> str:
    rows = [("case", "shape", "mm", "min", "max", "on disk")]
    for case in cases:
        intensities = [statistics for statistics in case.intensities if statistics.count]
        rows.append(
            (
                _clipped(str(case.index), 24),
                " × ".join(map(str, case.shape)),
                "–" if case.spacing is None else " × ".join(map(_short, case.spacing)),
                _short(min((statistics.lowest for statistics in intensities), default=math.nan)),
                _short(max((statistics.highest for statistics in intensities), default=math.nan)),
                "–" if case.disk_bytes is None else size_text(case.disk_bytes),
            )
        )
    return text_table(rows, "lllrrr")


def _classes(exploration: Exploration) -> str:
    cases = exploration.labelled
    total = sum(facts.voxels for case in cases for facts in case.classes or ())
    unit = exploration.size_unit
    rows = [("class", "cases", "voxels", "share", f"median {unit}", f"{unit}, where present")]
    for label, name in enumerate(exploration.class_names):
        facts = [case.classes[label] for case in cases if case.classes is not None]
        present = [one for one in facts if one.voxels]
        sizes = [one.size for one in present if one.size is not None]
        voxels = sum(one.voxels for one in facts)
        rows.append(
            (
                _class_name(label, name),
                f"{len(present)}",
                f"{voxels:,}",
                _percent(voxels / total),
                _short(float(np.median(sizes))) if sizes else "–",
                f"{_short(min(sizes))} … {_short(max(sizes))}" if sizes else "–",
            )
        )
    return text_table(rows, "lrrrrr")


def _intensities(exploration: Exploration) -> str:
    rows: list[tuple[str, ...]] = [("intensity of", "min", "0.5 %", "mean", "SD", "99.5 %", "max")]
    missing = 0
    for channel, overall in enumerate(exploration.intensities):
        place = f", channel {channel}" if exploration.channels > 1 else ""
        missing += overall.not_finite
        rows.append((f"all{place}", *_figures(overall)))
        if exploration.labelled:
            for label, name in enumerate(exploration.class_names):
                statistics = exploration.class_intensities[label][channel]
                rows.append((_class_name(label, name) + place, *_figures(statistics)))
    text = text_table(rows, "lrrrrrr")
    if missing:
        text += f"\n{plural(missing, 'voxel')} NaN or infinite, left out"
    return text + _unlike(exploration.cases)


def _unlike(cases: Sequence[CaseFacts]) -> str:
    """Describe the samples with the lowest and the highest maximum, which may have another scale."""
    tops = [
        (max(statistics.highest for statistics in case.intensities if statistics.count), str(case.index))
        for case in cases
        if any(statistics.count for statistics in case.intensities)
    ]
    if len(tops) < 2:
        return ""
    (least, first), (most, last) = min(tops), max(tops)
    middle = float(np.median([top for top, _ in tops]))
    return (
        f"\nmaximum per case: median {_short(middle)}, least {_short(least)} ({_clipped(first, 24)}),"
        f"\n  most {_short(most)} ({_clipped(last, 24)})"
    )


def _figures(statistics: RunningStatistics) -> tuple[str, ...]:
    if not statistics.count:
        return ("–",) * 6
    quantile = statistics.histogram.quantile
    values = (
        statistics.lowest,
        # Quantiles of a histogram have a limited precision.
        max(statistics.lowest, quantile(0.005)),
        statistics.mean,
        statistics.deviation,
        min(statistics.highest, quantile(0.995)),
        statistics.highest,
    )
    return tuple(_short(value) for value in values)


def _histogram(exploration: Exploration, channel: int) -> str:
    overall = exploration.intensities[channel]
    edges = common_edges(overall, BARS)
    shares = shares_within(overall, edges)
    starts = [_short(edge) for edge in edges[:-1]]
    width = max(map(len, starts))
    place = f" of channel {channel}" if exploration.channels > 1 else ""
    lines = [f"Histogram{place}: share of all voxels from each value on"]
    for start, share in zip(starts, shares, strict=True):
        bar = "█" * round(_BAR_WIDTH * share / max(shares.max(), 1e-12))
        lines.append(f"  {start.rjust(width)} {bar or '·'} {_percent(share)}")
    if exploration.labelled:
        fine = common_edges(overall, _SPARK_BINS)
        lines.append(f"  per class, from {_short(fine[0])} to {_short(fine[-1])}, each scaled to its highest bin:")
        for label, name in enumerate(exploration.class_names):
            statistics = exploration.class_intensities[label][channel]
            if statistics.count:
                lines.append(f"  {_class_name(label, name).ljust(_LONGEST_NAME + 4)} {_spark(statistics, fine)}")
    return "\n".join(lines)


def _spark(statistics: RunningStatistics, edges: np.ndarray) -> str:
    shares = shares_within(statistics, edges)
    levels = np.ceil(shares / max(shares.max(), 1e-12) * len(_SPARKS)).astype(int)
    return "".join(" " if level == 0 else _SPARKS[level - 1] for level in levels)


def _class_name(label: int, name: str) -> str:
    return str(label) if name == str(label) else f"{label} {_clipped(name, _LONGEST_NAME)}"


def _clipped(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _short(value: float) -> str:
    """Format with four digits, or as a whole number."""
    if not math.isfinite(value):
        return "–"
    if (float(value).is_integer() or abs(value) >= 1000) and abs(value) < 1e8:
        return f"{value:.0f}"
    return f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{share:.2%}" if share >= 1e-4 or share == 0 else f"{share:.1g}".replace("e-0", "e-")


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
        written.append(_write_picture(folder / "histogram.png", draw_histograms(exploration)))
    if exploration.labelled:
        written.append(_write_picture(folder / "classes.png", draw_classes(exploration)))
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


def draw_histograms(exploration: Exploration) -> Figure:
    """Draw the histogram of the intensities of each channel, overall and per class."""
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


def draw_classes(exploration: Exploration) -> Figure:
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
