"""Curves of a training run."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from miscnn_tf._base.files import atomic_path
from miscnn_tf.runs.class_titles import quantity_title
from miscnn_tf.runs.names import curve_file

logger = logging.getLogger(__name__)

# Okabe and Ito's blue and vermillion, which are distinct with colour blindness and in grey.
TRAINING_COLOUR = "#0072B2"
VALIDATION_COLOUR = "#D55E00"


def plot_validation(
    history: Any,
    metrics: Iterable[str | Callable[..., Any]] | None,
    evaluation_directory: str | Path,
    *,
    class_names: Sequence[str] | None = None,
) -> list[Path]:
    """Draw loss and metrics of training and validation by epoch, a PNG each.

    Args:
        history: Keras' History, or its dict: a list of numbers per epoch for ``"loss"``, ``"val_loss"``, and each
            metric. Without validation, the training curve is drawn alone.
        metrics: The model's metrics, as names, functions or Keras metrics. A warning is logged for those that are not
            in the history.
        evaluation_directory: Folder for ``validation.loss.png`` and ``validation.<metric>.png``; created if missing.
        class_names: Names of the classes, background first, for the metrics of one class.

    Returns:
        The written files.

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
        figure = draw_curves(name, curves[name], curves.get(f"val_{name}"), class_names=class_names)
        path = Path(evaluation_directory) / curve_file(name)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=120)
        written.append(path)
    return written


def draw_curves(
    name: str,
    training: Sequence[float],
    validation: Sequence[float] | None = None,
    *,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Draw one quantity by epoch, counted from 1, and mark the lowest validation loss.

    Args:
        name: Name of the quantity, for the axis ("loss").
        training: A value per epoch; NaN leaves a gap.
        validation: The values of the validation samples.
        class_names: Names of the classes, background first, for the metrics of one class.

    Returns:
        A matplotlib Figure that is not registered with pyplot and need not be closed.
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    # A single epoch does not give a line.
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
    axes.set_ylabel(quantity_title(name, class_names))
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, len(training) + 0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure


def metric_name(metric: str | Callable[..., Any]) -> str:
    """Return the name of a metric in the Keras history."""
    if isinstance(metric, str):
        return metric
    name = getattr(metric, "name", None) or getattr(metric, "__name__", None)
    return str(name or type(metric).__name__)
