"""Protocols of models that validations train, and the defaults for models that lack a part of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, runtime_checkable

import numpy as np

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.runs.best_model import BestEpoch
from miscnn_tf.runs.epoch_log import EpochLog, Renewal
from miscnn_tf.runs.writer import Together

if TYPE_CHECKING:
    from keras.callbacks import Callback


class Predicting(Protocol):
    """A model that segments samples of its data set.

    Attributes:
        preprocessor: Prepares the samples.
    """

    preprocessor: Preprocessor

    @property
    def classes(self) -> int:
        """Classes of the predictions, background included."""

    def predict(self, sample_list: Sequence[Hashable], *, return_output: bool = False) -> list[np.ndarray] | None:
        """Segment samples; return the label maps with `return_output`, otherwise save them."""


class Trainable(Predicting, Protocol):
    """A model that a validation can train: a `Neural_Network`, or a model of a user with the same methods.

    Attributes:
        metrics: Metric functions, Keras metrics, or their names.
        learning_rate: Learning rate of the next training.
    """

    metrics: list[Any]
    learning_rate: float

    @property
    def model(self) -> Any:
        """Keras model."""

    def train(
        self,
        sample_list: Sequence[Hashable],
        epochs: int = 20,
        iterations: int | None = None,
        callbacks: Sequence[Callback] = (),
        class_weight: Any = None,
    ) -> Any:
        """Train on samples, and return an object with the ``history`` of each metric."""

    def evaluate(
        self,
        training_samples: Sequence[Hashable],
        validation_samples: Sequence[Hashable],
        epochs: int = 20,
        iterations: int | None = None,
        callbacks: Sequence[Callback] = (),
        class_weight: Any = None,
    ) -> Any:
        """Train on some samples, validate on others after each epoch, and return the history as `train` does."""

    def reset(self) -> None:
        """Restore the initial weights, optimizer and learning rate."""

    def dump(self, file_path: str | Path) -> None:
        """Write the model file."""


@runtime_checkable
class Connected(Protocol):
    """A model that several machines can train together: a `Neural_Network`."""

    @property
    def together(self) -> Together:
        """Connection to the other machines."""


@runtime_checkable
class Resumable(Protocol):
    """A model whose interrupted training can be continued: a `Neural_Network`.

    Attributes:
        epochs_trained: Number of epochs that the weights have been trained since they were initial.
    """

    epochs_trained: int

    def best_model(self, path: Path) -> Callback:
        """Return a callback that writes the model of the epoch with the lowest ``val_loss``."""

    def training_state(self, folder: Path, every: int) -> Callback | None:
        """Return a callback that saves the state of a training; None if a training cannot be continued."""

    def state_settings(self) -> Mapping[str, Any]:
        """Return the settings of the model in the state of a training."""

    def starting_from_current_weights(self) -> AbstractContextManager[None]:
        """Make `reset` return to the current weights, inside the ``with`` statement."""


@runtime_checkable
class Logged(Protocol):
    """A model whose training reports its time limit and the reason of its end: a `Neural_Network`."""

    def training_log(
        self, folder: Path, epochs: int, others: Sequence[Callback], renew: Renewal | None
    ) -> tuple[EpochLog, Callback]:
        """Return a log that writes history, progress and report of a training, and its callback."""

    def fold_progress(self, fold: int, folds: int) -> Callback | None:
        """Return a progress bar that shows the number of the fold; None if the model shows none of Keras'."""


@runtime_checkable
class Sendable(Protocol):
    """A model that another process can build from its attributes: a `Neural_Network`.

    Attributes:
        initialization_weights: The initial weights.
    """

    initialization_weights: list[np.ndarray]

    def attributes_to_send(self) -> dict[str, Any]:
        """Return all attributes except those of the Keras model and the machine."""

    @classmethod
    def of_attributes(cls, attributes: Mapping[str, Any]) -> Self:
        """Return a model with initial weights."""


class _NotResumable:
    """Defaults for a model that is not `Resumable`: each training starts from the beginning."""

    epochs_trained = 0

    def __init__(self, model: Trainable) -> None:
        self._model = model

    def best_model(self, path: Path) -> Callback:
        # Imported here, since it imports TensorFlow.
        from keras.callbacks import LambdaCallback

        best = BestEpoch(self._model, path)
        return LambdaCallback(on_train_begin=best.on_train_begin, on_epoch_end=best.on_epoch_end)

    def training_state(self, folder: Path, every: int) -> None:
        return None

    def state_settings(self) -> Mapping[str, Any]:
        return {}

    def starting_from_current_weights(self) -> AbstractContextManager[None]:
        raise ConfigurationError(
            f"start='weights' needs a miscnn_tf.Neural_Network, got a {type(self._model).__name__}"
        )


class _NotLogged:
    """Defaults for a model that is not `Logged`."""

    def training_log(
        self, folder: Path, epochs: int, others: Sequence[Callback], renew: Renewal | None
    ) -> tuple[EpochLog, Callback]:
        # Imported here, since it imports TensorFlow.
        from keras.callbacks import LambdaCallback

        log = EpochLog(folder, epochs, renew)
        hooks = {"on_train_begin": log.on_train_begin, "on_epoch_begin": log.on_epoch_begin}
        return log, LambdaCallback(**hooks, on_epoch_end=log.on_epoch_end)

    def fold_progress(self, fold: int, folds: int) -> None:
        return None


#: Methods and attributes without which a model cannot be trained; it may lack the others.
METHODS: Final = ("evaluate", "predict", "reset")
ATTRIBUTES: Final = ("learning_rate", "metrics")


def resumable(model: Trainable) -> Resumable:
    """Return the model, or the defaults if it is not `Resumable`."""
    return model if isinstance(model, Resumable) else _NotResumable(model)


def logged(model: Trainable) -> Logged:
    """Return the model, or the defaults if it is not `Logged`."""
    return model if isinstance(model, Logged) else _NotLogged()


def require_trainable(model: Any) -> None:
    """Require the members without which a model cannot be trained.

    Raises:
        ConfigurationError: If the model lacks one.
    """
    missing = [f"{name}()" for name in METHODS if not callable(getattr(model, name, None))]
    missing += [name for name in ATTRIBUTES if not hasattr(model, name)]
    if missing:
        raise ConfigurationError(
            f"model is a {type(model).__name__} without {', '.join(missing)}; pass a miscnn_tf.Neural_Network as "
            "second argument. The members of a group are trained by its own evaluate()"
        )
