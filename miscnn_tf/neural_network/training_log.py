"""Callbacks that show a training while it runs: its files and report, and its fold in the progress bar."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from miscnn_tf._base.messages import plural
from miscnn_tf.neural_network.callbacks import TimeLimit
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


class EpochBar(keras.callbacks.ProgbarLogger):
    """Keras' progress bar, headed by fold, epoch, and the remaining time of a training that a time limit ends.

    Args:
        fold: Number of the fold, from 0; None without folds.
        folds: Number of folds.

    Attributes:
        limit: The time limit, which `Training` sets; None if the number of epochs ends the training.
    """

    epochs: Any  # set by Keras before a training

    def __init__(self, fold: int | None = None, folds: int = 1) -> None:
        super().__init__()
        self.fold = None if fold is None else f"Fold {fold + 1}/{folds}"
        self.limit: TimeLimit | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Print fold, epoch and remaining time."""
        heading = self._heading(epoch)
        if heading and self.verbose and keras.config.is_interactive_logging_enabled():
            sys.stdout.write(f"{heading}\n")
        epochs, self.epochs = self.epochs, 1  # Keras prints the epoch if there are several
        super().on_epoch_begin(epoch, logs)
        self.epochs = epochs

    def _heading(self, epoch: int) -> str:
        parts = [] if self.fold is None else [self.fold]
        if self.limit is not None:
            left = max(self.limit.seconds_left, 0) / 60
            parts.append(f"Epoch {epoch + 1}, {left:.1f} of {self.limit.minutes:g} minutes left")
        elif self.epochs > 1:
            parts.append(f"Epoch {epoch + 1}/{self.epochs}")
        return " - ".join(parts)


def with_epoch_bar(callbacks: Sequence[keras.callbacks.Callback]) -> list[keras.callbacks.Callback]:
    """Return callbacks with a bar that knows the time limit, if one of them is a `TimeLimit`.

    Args:
        callbacks: All callbacks of a training.
    """
    limit = next((one for one in callbacks if isinstance(one, TimeLimit)), None)
    bars = [one for one in callbacks if isinstance(one, keras.callbacks.ProgbarLogger)]
    added = [] if limit is None or bars else [EpochBar()]
    for bar in [*bars, *added]:
        if isinstance(bar, EpochBar):
            bar.limit = limit
    return [*callbacks, *added]
