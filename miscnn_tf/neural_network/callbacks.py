"""Keras callbacks: time limit, learning-rate schedule, and checks and measurements of every training."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Hashable, Sequence
from importlib.util import find_spec
from typing import Any

import keras

from miscnn_tf._base.arguments import positive
from miscnn_tf.errors import ConfigurationError, MissingExtraError, TrainingError
from miscnn_tf.neural_network.data_generator import BatchLoader
from miscnn_tf.neural_network.optimizer import learning_rate_of, require_no_schedule, unwrapped

logger = logging.getLogger(__name__)

_SET_THE_RATE = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)

# Steps below which a network has hardly learned anything.
_FEW_STEPS = 200


class CheckedCallback(keras.callbacks.Callback):
    """Base class for callbacks that check a training before its first step."""

    def check(self, model: keras.Model, validates: bool) -> None:
        """Raise an error if this callback cannot work.

        Args:
            model: The compiled model.
            validates: True if the training has validation samples.

        Raises:
            ConfigurationError: If it does not fit the model or the training.
        """


def require_working(callbacks: Sequence[keras.callbacks.Callback], model: keras.Model, validates: bool) -> None:
    """Raise an error for callbacks that cannot work, before a training is lost after its first epoch.

    Args:
        callbacks: The callbacks.
        model: The compiled model.
        validates: True if the training has validation samples.

    Raises:
        MissingExtraError: If a package that a callback needs is not installed.
        ConfigurationError: If a callback does not fit the optimizer or the training.
    """
    for callback in callbacks:
        name = type(callback).__name__
        if isinstance(callback, CheckedCallback):
            callback.check(model, validates)
        if isinstance(callback, keras.callbacks.TensorBoard):
            try:
                import tensorboard  # noqa: F401 - TensorFlow writes its summaries with it
            except ImportError as error:
                raise MissingExtraError(
                    f"the callback {name} needs the package tensorboard: pip install 'miscnn_tf[tensorboard]'"
                ) from error
        if isinstance(callback, keras.callbacks.RemoteMonitor) and find_spec("requests") is None:
            raise MissingExtraError(f"the callback {name} needs the package requests: pip install requests")
        if isinstance(callback, _SET_THE_RATE):
            require_no_schedule(model, name)
        if isinstance(callback, keras.callbacks.SwapEMAWeights) and not unwrapped(model.optimizer).use_ema:
            raise ConfigurationError(
                f"the callback {name} needs an optimizer that averages the weights: make the "
                "Neural_Network with optimizer=keras.optimizers.Adam(use_ema=True)"
            )


class TimeLimit(keras.callbacks.Callback):
    """Callback that ends a training after a time, at the end of the current step.

    Args:
        minutes: The time limit.

    Example:
        >>> model.train(samples, epochs=10_000, callbacks=[TimeLimit(minutes=20)])  # doctest: +SKIP
    """

    def __init__(self, minutes: float) -> None:
        super().__init__()
        self.minutes = positive(minutes, "minutes")
        self._begin = 0.0
        self._steps: list[float] = []
        self._warned = False

    @property
    def seconds_left(self) -> float:
        """Remaining time of the current training; 0 or less if it is over."""
        return self._begin + 60 * self.minutes - time.monotonic()

    def on_train_begin(self, logs: Any = None) -> None:
        """Start the clock."""
        self._begin, self._steps = time.monotonic(), []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Warn after the first epoch of this program if the time is too short for a useful result."""
        steps, self._steps = self._steps, []
        if not steps or self._warned:
            return
        self._warned = True
        # Without the first step, in which TensorFlow compiles; the validation is part of an epoch.
        seconds = time.monotonic() - (steps[0] if len(steps) > 1 else self._begin)
        per_step = seconds / max(1, len(steps) - 1)
        expected = round((epoch + 1) * len(steps) + max(self.seconds_left, 0) / per_step)
        if expected < _FEW_STEPS:
            logger.warning(
                "the time limit of %g min leaves about %d training steps, and the result will be poor; give more "
                "minutes, at least about %.0f",
                *(self.minutes, expected, math.ceil(self.minutes * _FEW_STEPS / expected)),
            )

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stop the training if the time is over."""
        if not self._warned:
            self._steps.append(time.monotonic())
        if self.seconds_left <= 0:
            self.model.stop_training = True

    def get_state(self) -> dict[str, Any]:
        """Return the elapsed time, for `TrainingState`."""
        return {"seconds": time.monotonic() - self._begin}

    def set_state(self, state: dict[str, Any]) -> None:
        """Set the return value of `get_state`."""
        self._begin = time.monotonic() - state["seconds"]


class PolynomialDecay(CheckedCallback):
    """Callback that lowers the learning rate from its current value to 0: ``rate × (1 - progress) ** power``.

    Progress is that of the epochs, or that of `minutes` if it is further, so that the schedule ends with the training.
    This is nnU-Net's schedule (Isensee et al., Nature Methods 2021), per step.

    Args:
        power: The exponent.
        minutes: The training's time limit, if it has one (see `TimeLimit`).
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

    def check(self, model: keras.Model, validates: bool) -> None:
        """Raise an error if the optimizer has a schedule of its own.

        Raises:
            ConfigurationError: If it has.
        """
        require_no_schedule(model, type(self).__name__)

    def on_train_begin(self, logs: Any = None) -> None:
        """Note the initial rate of the training."""
        require_no_schedule(self.model, "PolynomialDecay")
        self._begin = time.monotonic()
        self._initial = learning_rate_of(self.model)
        self._step = 0

    def on_train_end(self, logs: Any = None) -> None:
        """Restore the initial rate for the next training."""
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
        """Return the state of the schedule, for `TrainingState`."""
        return {"initial": self._initial, "step": self._step, "seconds": time.monotonic() - self._begin}

    def set_state(self, state: dict[str, Any]) -> None:
        """Set the return value of `get_state`."""
        self._initial, self._step = state["initial"], state["step"]
        self._begin = time.monotonic() - state["seconds"]


class NonFiniteGuard(keras.callbacks.Callback):
    """Callback that raises an error with the names of the samples when the loss is not finite.

    Args:
        names: Function from epoch and step to the names of the samples in the batch.
    """

    def __init__(self, names: Callable[[int, int], list[Hashable]]) -> None:
        super().__init__()
        self.names = names
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Store the number of the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Check the loss. Keras reports its mean over the epoch, which is not finite after one bad batch."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            samples = ", ".join(map(repr, dict.fromkeys(self.names(self._epoch, batch))))
            raise TrainingError(
                f"the loss became {float(loss)} in epoch {self._epoch + 1}, step {batch + 1}, with the samples "
                f"{samples}: check them for NaN or extreme values, normalise the images, or lower the learning rate"
            )


class DataWait(keras.callbacks.Callback):
    """Callback that adds ``data_wait`` to each epoch's logs: the share of its time spent waiting for data.

    Args:
        loader: The loader of the training batches.
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
        """Note the time of the step; validation, which follows the last step, does not count."""
        self._seconds = time.perf_counter() - self._begin

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add the share to the logs."""
        if logs is not None:
            logs["data_wait"] = (self.loader.waited - self._waited) / max(self._seconds, 1e-9)
