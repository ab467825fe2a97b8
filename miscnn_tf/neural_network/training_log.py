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
                return f"The time limit of {one.minutes:g} min was reached in epoch {self.done}."
            if isinstance(one, keras.callbacks.EarlyStopping) and one.stopped_epoch:
                return f"{one.monitor} did not improve for {plural(one.patience, 'epoch')} (early stopping)."
        return None


class FoldProgress(keras.callbacks.ProgbarLogger):
    """Keras' progress bar with the number of the fold.

    Args:
        fold: Number of the fold, from 0.
        folds: Number of folds.
    """

    def __init__(self, fold: int, folds: int) -> None:
        super().__init__()
        self.title = f"Fold {fold + 1}/{folds}"

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Print fold and epoch."""
        if self.verbose and keras.config.is_interactive_logging_enabled():
            # Keras prints the epoch if there are several.
            sys.stdout.write(self.title + (" - " if self.epochs > 1 else "\n"))
        super().on_epoch_begin(epoch, logs)
