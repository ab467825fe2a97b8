"""Curves of a training run."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from miscnn_tf.data_loading.storage import atomic_path

logger = logging.getLogger(__name__)

# Okabe and Ito's blue and vermillion: told apart by everyone, and by their lightness in print.
TRAINING_COLOUR = "#0072B2"
VALIDATION_COLOUR = "#D55E00"


def plot_validation(
    history: Any, metrics: Iterable[str | Callable[..., Any]] | None, evaluation_directory: str | Path
) -> list[Path]:
    """Draw loss and metrics of training and validation by epoch, a PNG each.

    Args:
        history: Keras' History, or its dict: a list of numbers per epoch for ``"loss"``, ``"val_loss"``, and each
            metric. Without validation, the training curve is drawn alone.
        metrics: The model's metrics, as names, functions or Keras metrics. One that is not in the history is left out
            with a warning.
        evaluation_directory: Folder for ``validation.loss.png`` and ``validation.<metric>.png``; created where missing.

    Returns:
        The files that were written.

    Raises:
        StorageError: If they cannot be written.

    Example:
        >>> history = {"loss": [0.9, 0.5], "val_loss": [0.8, 0.6]}
        >>> plot_validation(history, [], "evaluation/fold_0")  # doctest: +SKIP
        [PosixPath('evaluation/fold_0/validation.loss.png')]
    """
    curves: Mapping[str, Sequence[float]] = getattr(history, "history", history)
    written = []
    for name in dict.fromkeys(["loss", *(metric_name(metric) for metric in metrics or ())]):
        if name not in curves:
            logger.warning("no curve of %r is drawn: the history has only %s", name, ", ".join(map(repr, curves)))
            continue
        figure = draw_curves(name, curves[name], curves.get(f"val_{name}"))
        path = Path(evaluation_directory) / f"validation.{re.sub(r'[^0-9A-Za-z_.+-]', '_', name)}.png"
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=120)
        written.append(path)
    return written


def draw_curves(name: str, training: Sequence[float], validation: Sequence[float] | None = None) -> Figure:
    """A figure of one quantity by epoch, counted from 1; the epoch of the lowest validation loss is marked.

    Args:
        name: What is drawn, for the axis ("loss").
        training: A value per epoch; NaN leaves a gap.
        validation: The same for the validation samples.

    Returns:
        A matplotlib Figure, which belongs to no global state and needs no closing.
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    # A single epoch is no line: show points while they are few.
    marker = "o" if len(training) <= 25 else None
    style: dict[str, Any] = {"marker": marker, "markersize": 4, "linewidth": 1.8}
    axes.plot(range(1, len(training) + 1), training, color=TRAINING_COLOUR, label="training", **style)
    if validation is not None:
        axes.plot(range(1, len(validation) + 1), validation, color=VALIDATION_COLOUR, label="validation", **style)
        numbers = [(value, epoch) for epoch, value in enumerate(validation, start=1) if math.isfinite(value)]
        if name == "loss" and numbers:
            least, epoch = min(numbers)
            axes.plot(
                [epoch],
                [least],
                linestyle="none",
                marker="o",
                markersize=9,
                markerfacecolor="none",
                markeredgecolor=VALIDATION_COLOUR,
                label=f"lowest: {least:.3g} (epoch {epoch})",
            )
    axes.set_xlabel("epoch")
    axes.set_ylabel(name.replace("_", " "))
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, len(training) + 0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure


def metric_name(metric: str | Callable[..., Any]) -> str:
    """The name under which Keras keeps a metric in its history."""
    if isinstance(metric, str):
        return metric
    name = getattr(metric, "name", None) or getattr(metric, "__name__", None)
    return str(name or type(metric).__name__)
