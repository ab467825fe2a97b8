"""Curves and box plots as plain geometry, which a template draws as SVG in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from miscnn_tf.runs.best_model import find_best_epoch
from miscnn_tf.runs.score_summary import finite
from miscnn_tf.runs.score_table import is_difference, is_share, score_title

# In units of the SVG, which is as wide as its place on the page.
_WIDTH, _HEIGHT = 340, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 16, 10, 36
# Width of a letter below a chart.
_LETTER = 6.5
# Points that can be pointed at; more of them would only be a thick line.
_MOST_POINTS = 80
_MOST_CASES = 400


class Tick(NamedTuple):
    """Tick of an axis with its text."""

    place: float
    text: str


class Point(NamedTuple):
    """Point of a chart with its description."""

    x: float
    y: float
    text: str


class Curve(NamedTuple):
    """Line of a chart.

    Attributes:
        kind: ``"training"`` or ``"validation"``.
        path: SVG path; it is interrupted at values that are not finite.
        points: Points with a description of their value.
    """

    kind: str
    path: str
    points: list[Point]


class LineChart(NamedTuple):
    """One quantity of one training by epoch.

    Attributes:
        title: Title of the chart.
        summary: Description in words, for screen readers.
        width: Width of the drawing.
        height: Height of the drawing.
        frame: Left, top, right and bottom of the plotted area.
        x_ticks: Epochs.
        y_ticks: Values.
        curves: One or two lines.
        best: The best epoch, in the chart of the quantity by which it was chosen.
    """

    title: str
    summary: str
    width: int
    height: int
    frame: tuple[float, float, float, float]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    curves: list[Curve]
    best: Point | None


class Box(NamedTuple):
    """Scores of one class.

    Attributes:
        label: The class.
        name: Name of the class.
        x: Middle of the box.
        half: Half of its width.
        quartiles: Places of the lower quartile, the median and the upper quartile; None without a value.
        whiskers: Places of the lower and the upper end.
        points: The cases.
        infinite: Number of infinite scores.
        letters: Number of letters of the name that have room.
    """

    label: int
    name: str
    x: float
    half: float
    quartiles: tuple[float, float, float] | None
    whiskers: tuple[float, float]
    points: list[Point]
    infinite: int
    letters: int


class BoxChart(NamedTuple):
    """One score, a box per class. Attributes as `LineChart`'s; `zero` is the place of 0 where it means something."""

    title: str
    summary: str
    width: int
    height: int
    frame: tuple[float, float, float, float]
    y_ticks: list[Tick]
    boxes: list[Box]
    zero: float | None


def shared_range(histories: Iterable[Mapping[str, Sequence[float]]], name: str) -> tuple[float, float]:
    """Least and largest value of a quantity in all trainings, so that their charts can be compared; (0, 1) if none."""
    values = finite(value for history in histories for key in (name, f"val_{name}") for value in history.get(key, ()))
    return (min(values), max(values)) if values else (0.0, 1.0)


def line_chart(title: str, name: str, history: Mapping[str, Sequence[float]], limits: tuple[float, float]) -> LineChart:
    """Draw the chart of a quantity.

    Args:
        title: Title of the chart.
        name: Name of the quantity in the history; ``val_<name>`` is that of the validation.
        history: The values per epoch of each metric.
        limits: Smallest and largest value on the axis.
    """
    lines = {"training": list(history.get(name, ())), "validation": list(history.get(f"val_{name}", ()))}
    epochs = max(map(len, lines.values()), default=0)
    frame = (_LEFT, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM)
    low, high, ticks = _scale(*limits, frame)

    def across(epoch: float) -> float:
        return _round(frame[0] + (frame[2] - frame[0]) * ((epoch - 1) / (epochs - 1) if epochs > 1 else 0.5))

    def up(value: float) -> float:
        return _round(frame[3] - (frame[3] - frame[1]) * (value - low) / (high - low))

    curves = []
    for kind, values in lines.items():
        places = [(across(epoch), value) for epoch, value in enumerate(values, start=1)]
        path, pen = [], "M"
        for x, value in places:
            if not math.isfinite(value):
                pen = "M"
                continue
            path.append(f"{pen}{x:g} {up(value):g}")
            pen = "L"
        points = [
            Point(x, up(value), f"{kind}, epoch {epoch}: {value:.4g}")
            for epoch, (x, value) in enumerate(places, start=1)
            if math.isfinite(value)
        ]
        if path:
            curves.append(Curve(kind, "".join(path), points if len(points) <= _MOST_POINTS else []))
    best, kept = None, find_best_epoch(history)
    if kept is not None and kept.quantity == name:
        best = Point(across(kept.epoch), up(kept.value), f"{kept.rule}: {kept.value:.4g}, epoch {kept.epoch}")
    x_ticks = [Tick(across(epoch), str(epoch)) for epoch in _epochs(epochs)]
    ends = [f"{kind} ends at {finite(values)[-1]:.4g}" for kind, values in lines.items() if finite(values)]
    summary = f"{title} by epoch: " + ("; ".join(ends) or "no finite value")
    return LineChart(title, summary, _WIDTH, _HEIGHT, frame, x_ticks, ticks, curves, best)


def box_chart(name: str, values: Mapping[int, Sequence[tuple[str, float]]], names: Mapping[int, str]) -> BoxChart:
    """Draw the box plot of a score: quartiles, median, whiskers of 1.5 box lengths, and the cases.

    Args:
        name: The column of the score.
        values: Names and scores of the cases for each class.
        names: Names of the classes.
    """
    longest = min(14, max((len(names[label]) for label in values), default=0))
    width = round(max(_WIDTH, _LEFT + _RIGHT + max(54, _LETTER * longest) * len(values)))
    frame = (_LEFT, _TOP, width - _RIGHT, _HEIGHT - _BOTTOM)
    numbers = finite(value for cases in values.values() for _, value in cases)
    least, most = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)
    if is_share(name):
        most = 1.0
    elif is_difference(name):
        least, most = min(least, 0.0), max(most, 0.0)
    else:
        least = 0.0
    low, high, ticks = _scale(least, most, frame)

    def up(value: float) -> float:
        return _round(frame[3] - (frame[3] - frame[1]) * (value - low) / (high - low))

    scatter = np.random.default_rng(0)  # the horizontal scatter has no meaning and is the same on each page
    step = (frame[2] - frame[0]) / max(1, len(values))
    half = min(26.0, 0.3 * step)
    boxes = []
    for place, (label, cases) in enumerate(values.items()):
        x = frame[0] + (place + 0.5) * step
        present = [(case, value) for case, value in cases if math.isfinite(value)]
        infinite = sum(math.isinf(value) for _, value in cases)
        quartiles, whiskers = None, (0.0, 0.0)
        if present:
            scores = np.array([value for _, value in present])
            first, median, third = (float(value) for value in np.percentile(scores, [25, 50, 75]))
            reach = 1.5 * (third - first)
            ends = float(scores[scores >= first - reach].min()), float(scores[scores <= third + reach].max())
            quartiles = (up(first), up(median), up(third))
            whiskers = (up(ends[0]), up(ends[1]))
            # All outliers, and as many of the other points as are distinct.
            outside = [case for case in present if not ends[0] <= case[1] <= ends[1]]
            inside = [case for case in present if ends[0] <= case[1] <= ends[1]]
            present = outside[:_MOST_CASES] + inside[:: max(1, -(-len(inside) // _MOST_CASES))]
        points = [
            Point(_round(x + half * 0.7 * scatter.uniform(-1, 1)), up(value), f"{case}: {value:.4g}")
            for case, value in present
        ]
        boxes.append(
            Box(
                label, names[label], _round(x), _round(half), quartiles, whiskers, points, infinite, int(step / _LETTER)
            )
        )
    medians = [
        f"{names[label]} median {np.median(finite(value for _, value in cases)):.4g}"
        for label, cases in values.items()
        if finite(value for _, value in cases)
    ]
    title = score_title(name)
    zero = up(0.0) if is_difference(name) else None
    return BoxChart(
        title, f"{title}: {'; '.join(medians) or 'no finite value'}", width, _HEIGHT, frame, ticks, boxes, zero
    )


def _scale(least: float, most: float, frame: Sequence[float]) -> tuple[float, float, list[Tick]]:
    """Ends of the axis around these values, and its ticks."""
    largest = max(abs(least), abs(most))
    if most - least <= 1e-9 * max(largest, 1e-30):
        room = 0.1 * largest if largest > 1e-30 else 0.5  # all values alike, or as good as 0
        least, most = least - room, most + room
    places = [float(value) for value in MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(least, most)]
    step = places[1] - places[0]
    # Whole steps, but no empty one at the ends.
    shown = [value for value in places if least - step < value < most + step]
    low, high = shown[0], shown[-1]
    if most - high > 1e-9 * step or low - least > 1e-9 * step:
        low, high = min(low, least), max(high, most)
    ticks = [
        Tick(_round(frame[3] - (frame[3] - frame[1]) * (value - low) / (high - low)), _tick_text(value, step))
        for value in shown
    ]
    return low, high, ticks


def _tick_text(value: float, step: float) -> str:
    if abs(value) < step / 1000:
        return "0"
    if abs(value) >= 1e5 or step < 1e-3:
        return f"{value:.3g}".replace("-", "−")
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6:
        decimals += 1  # steps of 0.25
    return f"{value:.{decimals}f}".replace("-", "−")


def _epochs(epochs: int) -> list[int]:
    if epochs <= 1:
        return [1] if epochs else []
    ticks: Any = MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]).tick_values(1, epochs)
    return sorted({1, *(int(value) for value in ticks if 1 < value <= epochs and value - 1 > 0.08 * epochs)})


def _round(value: float) -> float:
    return round(float(value), 1)
