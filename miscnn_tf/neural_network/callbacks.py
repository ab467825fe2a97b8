"""Keras callbacks: how long to train and at which rate, and what every training watches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import keras

from miscnn_tf.arguments import positive
from miscnn_tf.errors import ConfigurationError, TrainingError
from miscnn_tf.neural_network.data_generator import BatchLoader


def learning_rate_of(model: keras.Model) -> float:
    """The rate that the optimizer has at the moment; under a distribution strategy ``float()`` does not give it."""
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def has_schedule(model: keras.Model) -> bool:
    """Whether the optimizer computes its rate itself, by a ``LearningRateSchedule``: it cannot be set then."""
    return not isinstance(model.optimizer.learning_rate, keras.Variable)


def require_no_schedule(model: keras.Model, who: str) -> None:
    """Find out that the rate cannot be set before somebody sets it.

    Raises:
        ConfigurationError: If the optimizer has a schedule; `who` would set the rate.
    """
    if has_schedule(model):
        raise ConfigurationError(
            f"{who} sets the learning rate, but the model's optimizer has a LearningRateSchedule, which computes it: "
            "use one of the two, or give the optimizer a number as learning_rate"
        )


def callback_list(callbacks: Any) -> list[keras.callbacks.Callback]:
    """The callbacks that a user passes, as a list of its own.

    Raises:
        ConfigurationError: If they are no list, or one of them is no Keras callback.
    """
    listed = list(callbacks) if isinstance(callbacks, Iterable) and not isinstance(callbacks, str) else None
    wrong = [one for one in listed or () if not isinstance(one, keras.callbacks.Callback)]
    if listed is None or wrong:
        found = callbacks if listed is None else wrong[0]
        hint = "; add parentheses to the class" if isinstance(found, type) else ""
        raise ConfigurationError(f"callbacks must be a list of Keras callbacks, got {found!r}{hint}")
    return listed


class TimeLimit(keras.callbacks.Callback):
    """Ends the training when its time is up, after the current step.

    Args:
        minutes: Time to train.

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
        """Look at the clock."""
        if time.monotonic() - self._begin >= 60 * self.minutes:
            self.model.stop_training = True

    def get_state(self) -> dict[str, Any]:
        """The time that is used up, for a training that is interrupted (see `TrainingState`)."""
        return {"seconds": time.monotonic() - self._begin}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` returned."""
        self._begin = time.monotonic() - state["seconds"]


class PolynomialDecay(keras.callbacks.Callback):
    """Lowers the learning rate from where it stands to 0: ``rate × (1 - progress) ** power``.

    Progress is that of the epochs, or of the time where `minutes` is given and that is further, so that the schedule
    ends with the training however long it is. This is nnU-Net's schedule (Isensee et al., Nature Methods 2021), per
    step.

    Args:
        power: The exponent.
        minutes: The training's time limit, where it has one (see `TimeLimit`).
        warmup_steps: The rate rises linearly over this many first steps.

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
        """Take the rate that the training starts with."""
        require_no_schedule(self.model, "PolynomialDecay")
        self._begin = time.monotonic()
        self._initial = learning_rate_of(self.model)
        self._step = 0

    def on_train_end(self, logs: Any = None) -> None:
        """Give the rate back, so that the next training starts with it too."""
        self.model.optimizer.learning_rate = self._initial

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
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
        """Where the schedule stands, for a training that is interrupted (see `TrainingState`)."""
        return {"initial": self._initial, "step": self._step, "seconds": time.monotonic() - self._begin}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` returned."""
        self._initial, self._step = state["initial"], state["step"]
        self._begin = time.monotonic() - state["seconds"]


class NonFiniteGuard(keras.callbacks.Callback):
    """Stops with the names of the samples when the loss is no longer a number.

    Args:
        names: Gives the samples of a batch, from epoch and step.
    """

    def __init__(self, names: Callable[[int, int], list[Hashable]]) -> None:
        super().__init__()
        self.names = names
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Look at the loss; Keras reports its mean over the epoch, which one bad batch makes bad for good."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            samples = ", ".join(map(repr, dict.fromkeys(self.names(self._epoch, batch))))
            raise TrainingError(
                f"the loss became {float(loss)} in epoch {self._epoch + 1}, step {batch + 1}. The batch held "
                f"the samples {samples}: look for NaN or extreme values in them, normalise the images, or lower the "
                "learning rate"
            )


class DataWait(keras.callbacks.Callback):
    """Adds to each epoch's logs the share of its time that was spent waiting for data, as ``data_wait``.

    Args:
        loader: What the batches come from.
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
        """Validation, which comes after the last step, does not count."""
        self._seconds = time.perf_counter() - self._begin

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Report the share."""
        if logs is not None:
            logs["data_wait"] = (self.loader.waited - self._waited) / max(self._seconds, 1e-9)
