"""Keras callbacks for time limits, learning rates and the supervision of trainings."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import keras

from miscnn_tf.arguments import positive
from miscnn_tf.errors import ConfigurationError, TrainingError
from miscnn_tf.neural_network.loader import BatchLoader


def learning_rate_of(model: keras.Model) -> float:
    """Return the current learning rate of the optimizer."""
    # float(variable) does not work under a distribution strategy.
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def has_schedule(model: keras.Model) -> bool:
    """Return True if the optimizer has a ``LearningRateSchedule``; its rate cannot be set then."""
    return not isinstance(model.optimizer.learning_rate, keras.Variable)


def require_no_schedule(model: keras.Model, setter: str) -> None:
    """Raise an error if the learning rate of the optimizer cannot be set.

    Raises:
        ConfigurationError: If the optimizer has a schedule; the message names the `setter` of the rate.
    """
    if has_schedule(model):
        raise ConfigurationError(
            f"{setter} sets the learning rate, but the optimizer of the model computes it by a LearningRateSchedule: "
            "use one of the two, or give the optimizer a number as learning_rate"
        )


def callback_list(callbacks: Any) -> list[keras.callbacks.Callback]:
    """Return a copy of the callbacks that a user passes.

    Raises:
        ConfigurationError: If they are not a list of Keras callbacks.
    """
    listed = list(callbacks) if isinstance(callbacks, Iterable) and not isinstance(callbacks, str) else None
    wrong = [one for one in listed or () if not isinstance(one, keras.callbacks.Callback)]
    if listed is None or wrong:
        found = callbacks if listed is None else wrong[0]
        hint = "; add parentheses to the class" if isinstance(found, type) else ""
        raise ConfigurationError(f"callbacks must be a list of Keras callbacks, got {found!r}{hint}")
    return listed


class TimeLimit(keras.callbacks.Callback):
    """End the training after the step in which the time limit is reached.

    Args:
        minutes: The time limit.

    Example:
        >>> model.train(samples, epochs=10_000, callbacks=[TimeLimit(minutes=20)])  # doctest: +SKIP
    """

    def __init__(self, minutes: float) -> None:
        super().__init__()
        self.minutes = positive(minutes, "minutes")
        self._begin = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        """Start the clock."""
        self._begin = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stop if the time limit is reached."""
        if time.monotonic() - self._begin >= 60 * self.minutes:
            self.model.stop_training = True

    def get_state(self) -> dict[str, Any]:
        """Return the elapsed time, to resume an interrupted training (see `TrainingState`)."""
        return {"seconds": time.monotonic() - self._begin}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
        self._begin = time.monotonic() - state["seconds"]


class PolynomialDecay(keras.callbacks.Callback):
    """Decrease the learning rate to 0: ``rate × (1 - progress) ** power``.

    Progress is the fraction of the steps, or of `minutes` if that is greater, so that the rate reaches 0 at the end of
    the training. This is nnU-Net's schedule (Isensee et al., Nature Methods 2021), applied per step.

    Args:
        power: The exponent.
        minutes: The time limit of the training, if any (see `TimeLimit`).
        warmup_steps: Number of initial steps over which the rate increases linearly.

    Example:
        >>> model.train(samples, epochs=100, callbacks=[PolynomialDecay()])  # doctest: +SKIP
    """

    def __init__(self, power: float = 0.9, minutes: float | None = None, warmup_steps: int = 0) -> None:
        super().__init__()
        self.power = positive(power, "power")
        self.minutes = None if minutes is None else positive(minutes, "minutes")
        self.warmup_steps = warmup_steps
        self._begin = 0.0
        self._initial = 0.0
        self._epoch = 0
        self._step = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Store the initial rate."""
        require_no_schedule(self.model, "PolynomialDecay")
        self._begin = time.monotonic()
        self._initial = learning_rate_of(self.model)
        self._step = 0

    def on_train_end(self, logs: Any = None) -> None:
        """Restore the initial rate, so that the next training starts with it too."""
        self.model.optimizer.learning_rate = self._initial

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Store the number of the epoch."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Set the rate of this step."""
        progress = (self._epoch + batch / self.params["steps"]) / self.params["epochs"]
        if self.minutes is not None:
            progress = max(progress, (time.monotonic() - self._begin) / (60 * self.minutes))
        rate = self._initial * (1 - min(progress, 1.0)) ** self.power
        self._step += 1
        if self._step <= self.warmup_steps:
            rate *= self._step / self.warmup_steps
        self.model.optimizer.learning_rate = rate

    def get_state(self) -> dict[str, Any]:
        """Return the progress, to resume an interrupted training (see `TrainingState`)."""
        return {"initial": self._initial, "step": self._step, "seconds": time.monotonic() - self._begin}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
        self._initial, self._step = state["initial"], state["step"]
        self._begin = time.monotonic() - state["seconds"]


class NonFiniteGuard(keras.callbacks.Callback):
    """Raise an error that names the samples when the loss becomes NaN or infinite.

    Args:
        names: Function of epoch and step that returns the samples of the batch.
    """

    def __init__(self, names: Callable[[int, int], list[Hashable]]) -> None:
        super().__init__()
        self.names = names
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Store the number of the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Check the loss: Keras' mean over the epoch, which stays NaN after one bad batch."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            samples = ", ".join(map(repr, dict.fromkeys(self.names(self._epoch, batch))))
            raise TrainingError(
                f"the loss became {float(loss)} in epoch {self._epoch + 1}, step {batch + 1}, with the samples "
                f"{samples}: check them for NaN or extreme values, normalise the images, or lower the learning rate"
            )


class DataWait(keras.callbacks.Callback):
    """Log the fraction of each epoch that was spent waiting for data, as ``data_wait``.

    Args:
        loader: The loader of the batches.
    """

    def __init__(self, loader: BatchLoader[Any]) -> None:
        super().__init__()
        self.loader = loader
        self._begin = 0.0
        self._waited = 0.0
        self._seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the epoch's clock."""
        self._begin, self._waited, self._seconds = time.perf_counter(), self.loader.waited, 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Measure the time up to this step, because validation after the last step does not count."""
        self._seconds = time.perf_counter() - self._begin

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Log the fraction."""
        if logs is not None:
            logs["data_wait"] = (self.loader.waited - self._waited) / max(self._seconds, 1e-9)
