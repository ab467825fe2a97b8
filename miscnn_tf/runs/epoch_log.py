"""History, progress and report of a training after each of its epochs; without TensorFlow."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from miscnn_tf._base.messages import plural
from miscnn_tf.errors import MiscnnError
from miscnn_tf.runs.tables import History, write_history
from miscnn_tf.runs.training_progress import TrainingProgress
from miscnn_tf.runs.writer import Writer

logger = logging.getLogger(__name__)

#: Writes the report; it gets the number of seconds until the next renewal, or None after an interruption.
Renewal = Callable[[float | None], object]

# The report is written at most every this many seconds, and takes at most this share of the time of the training.
_PAUSE = 5.0
_LARGEST_SHARE = 0.02
# Epochs whose mean time is that of the next ones.
_RECENT = 5


class EpochLog:
    """Hooks of a Keras callback that write ``history.tsv`` after each epoch, and progress and report from time to time.

    Of several machines that train together, the first one writes.

    Args:
        folder: The folder of the training.
        epochs: Number of epochs.
        renew: Writes the report; without it, no report is written.

    Attributes:
        history: The values per epoch of each metric.
        done: Number of finished epochs.
    """

    def __init__(self, folder: Path, epochs: int, renew: Renewal | None = None) -> None:
        self.folder = folder
        self.epochs = epochs
        self.renew = renew
        self.history: History = {}
        self.done = 0
        self._ends: list[float] = []
        self._next_renewal = 0.0

    def seconds_until_limit(self) -> float | None:
        """Return the remaining time of a training with a time limit; None without one."""
        return None

    def reason_of_stop(self) -> str | None:
        """Return a sentence why the training was ended early; None if that is unknown or it was not."""
        return None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Forget the previous training."""
        self.history, self.done, self._ends, self._next_renewal = {}, 0, [], 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Write the report before the first epoch, which may be long."""
        if not self._ends:
            self.done = epoch
            self._renew_if_due()
            self._ends = [time.monotonic()]

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Write the history with this epoch."""
        self.done = epoch + 1
        self._ends.append(time.monotonic())
        for name, value in (logs or {}).items():
            values = self.history.setdefault(name, [])
            values += [math.nan] * (epoch - len(values))  # of epochs in which it was not computed
            values.append(float(value))
        Writer().write(lambda: write_history(self.history, self.folder, durable=False), wait=False)
        self._renew_if_due()

    def finish(self) -> None:
        """Record that the training has ended by itself."""
        reason = self.reason_of_stop()
        if reason is None and self.done >= self.epochs:
            reason = f"All {plural(self.epochs, 'epoch')} are trained."
        self._renew(reason or f"A callback ended the training after epoch {self.done}.")

    def interrupt(self, error: BaseException) -> None:
        """Record that the training was ended by an error or a signal."""
        if not self._ends:
            return
        epoch = self.done + 1
        if isinstance(error, Exception):
            reason = f"Ended by an error in epoch {epoch}: {error}"
        else:
            reason = f"Interrupted in epoch {epoch}; the same call continues it."
        with suppress(MiscnnError, OSError):  # the cause, which is raised, may be a full disk
            self._renew(reason, goes_on=False)

    def get_state(self) -> dict[str, Any]:
        """Return the history so far, for `TrainingState`."""
        return {"history": self.history}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Set the return value of `get_state`."""
        self.history = {name: list(values) for name, values in state["history"].items()}

    @property
    def seconds_per_epoch(self) -> float | None:
        """Mean time of the last epochs; None before the first one."""
        # Without the first epoch, in which TensorFlow compiles the step.
        ends = self._ends[1:] if len(self._ends) > 2 else self._ends
        recent = ends[-_RECENT - 1 :]
        return (recent[-1] - recent[0]) / (len(recent) - 1) if len(recent) > 1 else None

    def _renew_if_due(self) -> None:
        begin = time.monotonic()
        if begin < self._next_renewal:
            return
        self._renew(None)
        now = time.monotonic()
        # The first renewal imports libraries, so its time does not predict that of the next ones.
        took = now - begin if self._ends else 0.0
        self._next_renewal = now + max(_PAUSE, took / _LARGEST_SHARE)

    def _renew(self, stopped: str | None, *, goes_on: bool = True) -> None:
        Writer().write(lambda: self._write(stopped, goes_on), wait=False)

    def _write(self, stopped: str | None, goes_on: bool) -> None:
        per_epoch = self.seconds_per_epoch
        left = None if stopped is not None else self._seconds_left(per_epoch)
        written = datetime.now(UTC).isoformat(timespec="milliseconds")
        TrainingProgress(self.done, self.epochs, per_epoch, left, stopped, written).write(self.folder)
        if self.renew is None:
            return
        try:
            self.renew(max(_PAUSE, per_epoch or 0.0) if goes_on else None)
        except Exception as error:  # the training must not end because its page cannot be drawn
            self.renew = None
            logger.warning(
                "%s: the report is not renewed during the training (%s: %s)",
                self.folder, type(error).__name__, error, exc_info=logger.isEnabledFor(logging.DEBUG),
            )  # fmt: skip

    def _seconds_left(self, per_epoch: float | None) -> float | None:
        limit = self.seconds_until_limit() if self.done else None
        times = [] if limit is None else [limit]
        if per_epoch is not None:
            times.append(per_epoch * (self.epochs - self.done))
        return max(0.0, min(times)) if times else None
