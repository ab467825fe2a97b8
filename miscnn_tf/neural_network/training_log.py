"""Callbacks that show a training while it runs: its files and report, and its fold in the progress bar."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import keras

from miscnn_tf._base.messages import plural
from miscnn_tf.neural_network.callbacks import TimeLimit
from miscnn_tf.runs.best_model import AVERAGE
from miscnn_tf.runs.class_titles import name_of_class
from miscnn_tf.runs.epoch_log import EpochLog, Renewal
from miscnn_tf.runs.training_progress import TIME_LIMIT


class TrainingLog(EpochLog, keras.callbacks.Callback):
    """Callback that writes history, progress and report (see `EpochLog`), with the reason of an early end.

    Args:
        folder: The folder of the training.
        epochs: Number of epochs.
        others: The other callbacks, some of which end a training early.
        renew: Writes the report, as for `EpochLog`.
    """

    def __init__(
        self,
        folder: Path,
        epochs: int,
        others: Sequence[keras.callbacks.Callback] = (),
        renew: Renewal | None = None,
    ) -> None:
        keras.callbacks.Callback.__init__(self)
        EpochLog.__init__(self, folder, epochs, renew)
        self.others = others

    def seconds_until_limit(self) -> float | None:
        """Return the remaining time of the `TimeLimit`; None without one."""
        return min((one.seconds_left for one in self.others if isinstance(one, TimeLimit)), default=None)

    def reason_of_stop(self) -> str | None:
        """Return which of the other callbacks ended the training."""
        if not self.model.stop_training and self.done >= self.epochs:
            return None
        for one in self.others:
            if isinstance(one, TimeLimit) and one.seconds_left <= 0:
                return f"{TIME_LIMIT} of {one.minutes:g} min was reached in epoch {self.done}."
            if isinstance(one, keras.callbacks.EarlyStopping) and one.stopped_epoch:
                return f"{one.monitor} did not improve for {plural(one.patience, 'epoch')} (early stopping)."
        return None


#: Dice that are shown one by one; of more, the mean or pooled one and the lowest.
_SHOWN_CLASSES: Final = 3
#: Share of the time of an epoch from which waiting for data is shown.
_LONG_WAIT: Final = 0.1
_POOLED: Final = "pooled_dice"
#: Beginnings of the names of the Dice of a class; those of whole validations come before means over patches.
_DICE: Final = (f"{_POOLED}_class-", "dice_class-")


def shown_logs(logs: Mapping[str, Any], class_names: Sequence[str] | None = None) -> dict[str, Any]:
    """Return what a person reads of the logs of an epoch, with names of classes.

    The learning rate is left out, the share of the time spent waiting for data unless it is large, and the Dice of all
    classes with the background where there are those of single classes: of the validation if there is one. The pooled
    Dice, where there is one, takes the place of the mean of single classes.

    Example:
        >>> shown_logs({"loss": 0.4, "dice_soft": 0.3, "dice_class-1": 0.8, "data_wait": 0.01}, ["0", "kidney"])
        {'loss': 0.4, 'Dice kidney': 0.8}
    """
    starts = [f"{part}{start}" for part in ("val_", "") for start in _DICE]
    prefix = next((start for start in starts if any(name.startswith(start) for name in logs)), None)
    validated = prefix is not None and prefix.startswith("val_")
    dice = {
        int(name.removeprefix(prefix)): value
        for name, value in logs.items()
        if prefix is not None and name.startswith(prefix) and name.removeprefix(prefix).isdecimal()
    }
    pooled = logs.get(f"val_{_POOLED}" if validated else _POOLED) if dice else None
    hidden = ["learning_rate", "data_wait", f"val_{_POOLED}{AVERAGE}"]
    if dice:
        hidden += ["dice_soft", "val_dice_soft", f"val_{_POOLED}"]
    if dice or f"val_{_POOLED}" in logs:
        hidden.append(_POOLED)
    shown = {
        name: value
        for name, value in logs.items()
        if name not in hidden and not (dice and name.removeprefix("val_").startswith(_DICE))
    }
    named = [(name_of_class(class_names, label), label, value) for label, value in dice.items()]
    # The pooled Dice of one class is that of all.
    repeated = len(dice) == 1 and pooled in dice.values()
    first = [] if pooled is None or repeated else [("pooled", 0, pooled)]
    if len(named) + len(first) > _SHOWN_CLASSES:
        # A class that did not occur has NaN.
        name, label, worst = min(named, key=lambda one: math.inf if math.isnan(one[2]) else one[2])
        named = [*(first or [("mean", 0, sum(dice.values()) / len(dice))]), (f"lowest, {name}", label, worst)]
    else:
        named = [*first, *named]
    # One word for all of them, so that the line stays short.
    start = "val Dice " if validated else "Dice "
    used = set(shown)
    for name, label, value in named:
        # Two classes may have one name, or a class that of a loss.
        unique = f"{name} ({label})" if name in used else name
        shown[f"{start}{unique}"] = value
        used.add(name)
        start = ""
    if logs.get("data_wait", 0) > _LONG_WAIT:
        shown["share of time waiting for data"] = logs["data_wait"]
    return shown


class EpochBar(keras.callbacks.ProgbarLogger):
    """Keras' progress bar, headed by fold, epoch, and the remaining time of a training that a time limit ends.

    It shows the values of `shown_logs`; all are in the history.

    Args:
        fold: Number of the fold, from 0; None without folds.
        folds: Number of folds.

    Attributes:
        limit: The time limit, which `Training` sets; None if the number of epochs ends the training.
        class_names: Names of the classes, which `Training` sets.
    """

    epochs: Any  # set by Keras before a training

    def __init__(self, fold: int | None = None, folds: int = 1) -> None:
        super().__init__()
        self.fold = None if fold is None else f"Fold {fold + 1}/{folds}"
        self.limit: TimeLimit | None = None
        self.class_names: Sequence[str] | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Print fold, epoch and remaining time."""
        heading = self._heading(epoch)
        if heading and self.verbose and keras.config.is_interactive_logging_enabled():
            sys.stdout.write(f"{heading}\n")
        epochs, self.epochs = self.epochs, 1  # Keras prints the epoch if there are several
        super().on_epoch_begin(epoch, logs)
        self.epochs = epochs

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Show the values so far."""
        super().on_train_batch_end(batch, shown_logs(logs or {}, self.class_names))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Show the values of the epoch."""
        super().on_epoch_end(epoch, shown_logs(logs or {}, self.class_names))

    def _heading(self, epoch: int) -> str:
        parts = [] if self.fold is None else [self.fold]
        if self.limit is not None:
            left = max(self.limit.seconds_left, 0) / 60
            parts.append(f"Epoch {epoch + 1}, {left:.1f} of {self.limit.minutes:g} minutes left")
        elif self.epochs > 1:
            parts.append(f"Epoch {epoch + 1}/{self.epochs}")
        return " - ".join(parts)


def with_epoch_bar(
    callbacks: Sequence[keras.callbacks.Callback], class_names: Sequence[str] | None = None
) -> list[keras.callbacks.Callback]:
    """Return callbacks with a bar that knows the time limit and the classes, unless they have a bar of another class.

    Args:
        callbacks: All callbacks of a training.
        class_names: Names of the classes.
    """
    limit = next((one for one in callbacks if isinstance(one, TimeLimit)), None)
    bars = [one for one in callbacks if isinstance(one, keras.callbacks.ProgbarLogger)]
    added = [] if bars else [EpochBar()]
    for bar in [*bars, *added]:
        if isinstance(bar, EpochBar):
            bar.limit, bar.class_names = limit, class_names
    return [*callbacks, *added]
