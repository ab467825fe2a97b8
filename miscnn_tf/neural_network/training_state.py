"""Callback that saves the whole state of a training, so that an interrupted training can be resumed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from miscnn_tf._base.arguments import whole_number
from miscnn_tf._base.files import make_folder
from miscnn_tf.errors import ConfigurationError, DataError, MiscnnError, MissingDataError
from miscnn_tf.neural_network.callbacks import PolynomialDecay
from miscnn_tf.runs.names import STATE_FILE
from miscnn_tf.runs.training_state_file import (
    read_description,
    read_state,
    with_arrays,
    without_arrays,
    write_state,
)
from miscnn_tf.runs.writer import Writer

logger = logging.getLogger(__name__)

_NAMES = {"trained_on": "samples"}

# Attributes with the state of Keras' callbacks.
_ATTRIBUTES: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("best", "wait", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: ("best",),
}

# Keras' callbacks whose state is the optimizer, a file, or none.
_WITHOUT_STATE = (
    keras.callbacks.CSVLogger,
    keras.callbacks.History,
    keras.callbacks.LambdaCallback,
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ProgbarLogger,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.TensorBoard,
    keras.callbacks.TerminateOnNaN,
)


@dataclass(frozen=True)
class Position:
    """Position of a training in its epochs.

    Args:
        first: Epochs that the weights were trained before this training.
        done: Finished epochs of this training.
        begin: The first epoch to train: `done`, or the number of all epochs if the training was stopped early.
        seed: Seed of the preprocessor, for crops, augmentation and order.
    """

    first: int
    done: int
    begin: int
    seed: int


class TrainingState(keras.callbacks.Callback):
    """Callback that saves the whole state of a training after its epochs, and resumes an interrupted training.

    To resume a training that was killed, make the same call with the same arguments in a new process. It continues with
    the interrupted epoch, and with ``deterministic=True`` in float32 on the same machine it ends with the same weights,
    bit for bit, as an uninterrupted one. The state holds the weights (with moving averages and the state of dropout),
    the optimizer with step count and learning rate, the epoch and the seed of crops, augmentation and order, the
    history, and the state of callbacks: `BestModel`, `PolynomialDecay`, `TimeLimit`, Keras' ``EarlyStopping``,
    ``ReduceLROnPlateau`` and ``ModelCheckpoint``, and every callback with the methods ``get_state() -> dict`` (of plain
    data and numpy arrays) and ``set_state(dict)``. Other callbacks start anew, and a warning names them; Keras'
    ``CSVLogger`` needs ``append=True``.

    The file is ``training_state.npz`` in `folder`, replaced atomically, without pickle. It takes 12 bytes per weight
    with Adam (67 MB for 5.6 million weights), and 4 more if ``EarlyStopping`` restores the best weights. It is removed
    at the end of the training. Of several machines the first one writes it, and all read it, so they must share the
    folder.

    Args:
        folder: Folder of the file; created if missing. Each training needs its own.
        every: Number of epochs after which the file is written. It is always written after the last one.
        keep: Keep the file at the end of the training. The same call then repeats no epoch, and a call with more epochs
            trains only the additional ones, unless `PolynomialDecay` set learning rates for the number of epochs.

    Raises:
        ConfigurationError: At the beginning of the training, if the folder holds the state of one with other samples
            or settings; nothing is overwritten.
        DataError: At the beginning, if the file is damaged.
        StorageError: If it cannot be written.

    Example:
        >>> model.train(samples, epochs=500, callbacks=[TrainingState("run_1")])  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, every: int = 1, keep: bool = False) -> None:
        super().__init__()
        self.folder = folder
        self.every = whole_number(every, "every", 1)
        self.keep = keep
        self.path = Path(folder) / STATE_FILE
        self._begun = False
        self._settings: dict[str, Any] = {}
        self._others: Sequence[keras.callbacks.Callback] = ()
        self._history = keras.callbacks.History()
        self._position = Position(0, 0, 0, 0)
        self._epochs = 0

    def begin(
        self,
        settings: Mapping[str, Any],
        others: Sequence[keras.callbacks.Callback],
        history: keras.callbacks.History,
        epochs: int,
        *,
        first: int,
        seed: int,
    ) -> Position:
        """Return the position from which a training starts; called by `Neural_Network`.

        Args:
            settings: The settings that determine the training's result, as JSON types.
            others: The callbacks whose states are saved.
            history: The history of the training.
            epochs: Number of epochs.
            first: Epochs that the weights were trained before.
            seed: Seed of the preprocessor; that of the file takes precedence.
        """
        self._begun, self._others, self._history, self._epochs = True, others, history, epochs
        # JSON types, as in the file.
        self._settings = json.loads(json.dumps(settings, default=_number))
        self._position = Position(first, 0, 0, seed)
        # An error is raised before the first epoch, not after it.
        Writer().write(lambda: make_folder(self.folder), wait=False)
        if not self.path.is_file():
            return self._position
        description = read_description(self.path)
        done, before = description["done"], description["settings"]
        begin = epochs if description["stopped"] else done
        keys = sorted({*before, *self._settings})
        differing = [_NAMES.get(key, key) for key in keys if before.get(key) != self._settings.get(key)]
        if differing == ["epochs"] and before["epochs"] < epochs:
            _require_no_decay(self.path, others, before["epochs"], epochs)
            begin = done  # also after early stopping, since more epochs are requested
        elif differing:
            raise ConfigurationError(
                f"{self.path} is the state of another training; it had other {', '.join(differing)}. Train with the "
                "same arguments to go on with it, or choose another folder. To throw it away, delete the file; in a "
                "cross-validation, pass resume=False"
            )
        self._position = Position(description["first"], done, begin, description["seed"])
        logger.info("%s: training goes on after epoch %d of %d", self.path, done, epochs)
        return self._position

    def precision(self) -> str | None:
        """Return the precision of the training in the file; None without one, or if it is damaged or older."""
        try:
            found = read_description(self.path).get("precision")
        except (MissingDataError, DataError):  # reported when the training begins
            return None
        return found if isinstance(found, str) else None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Restore the state of the file.

        Raises:
            ConfigurationError: If the training is not one of a `Neural_Network`.
            DataError: If the file does not fit the network.
        """
        if not self._begun:
            raise ConfigurationError(
                "TrainingState works in Neural_Network.train() and evaluate(), not in fit() of a Keras model"
            )
        if self._position.done:
            self._read()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Write the state."""
        done = epoch + 1
        if done % self.every == 0 or done == self._epochs or self.model.stop_training:
            Writer().write(lambda: self._write(done), wait=False)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Remove the file."""
        self._begun = False
        if not self.keep:
            Writer().write(lambda: self.path.unlink(missing_ok=True), wait=False)

    def _write(self, done: int) -> None:
        variables = _variables(self.model)
        arrays = {f"variable.{number}": keras.ops.convert_to_numpy(one.value) for number, one in enumerate(variables)}
        description = {
            "first": self._position.first,
            "done": done,
            "stopped": bool(self.model.stop_training),
            "seed": self._position.seed,
            "precision": self.model.dtype_policy.name,
            "settings": self._settings,
            "history": self._history.history,
            "callbacks": without_arrays(get_states(self._others), "callback", arrays),
        }
        write_state(self.path, description, arrays, _number)

    def _read(self) -> None:
        description, arrays = read_state(self.path)
        with _reading(self.path):
            variables = _variables(self.model)
            values = [arrays.pop(f"variable.{number}") for number in range(len(variables))]
            if any(value.shape != tuple(one.shape) for value, one in zip(values, variables, strict=True)):
                raise ValueError("its weights are of other shapes than the network's")
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
            self._history.history = description["history"]
            self._history.epoch = list(range(description["done"]))
            set_states(self._others, with_arrays(description["callbacks"], arrays))


def _require_no_decay(path: Path, callbacks: Sequence[keras.callbacks.Callback], before: int, now: int) -> None:
    """Require that the learning rates do not depend on the number of epochs."""
    decay = next((one for one in callbacks if isinstance(one, PolynomialDecay)), None)
    if decay is not None:
        raise ConfigurationError(
            f"{path} is the state of a training of {before} epochs with {type(decay).__name__}, whose learning rates "
            f"depend on the number of epochs; it cannot go on to {now}. Finish it with epochs={before}, then start "
            "from its model in another folder (miscnn_tf.load_model; on the command line: miscnn-tf train "
            "--continue-from)"
        )


def _variables(model: keras.Model) -> list[Any]:
    """Return all variables of a compiled model that a training changes, except metrics, which each epoch resets."""
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    metrics = {id(variable) for variable in model.metrics_variables}
    return [variable for variable in model.variables if id(variable) not in metrics] + list(optimizer.variables)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Convert errors for a damaged or unsuitable file to one that names the file."""
    try:
        yield
    except (MiscnnError, MemoryError):
        raise
    except Exception as error:  # a custom callback may raise any error for an unsuitable state
        raise DataError(
            f"{path} is damaged, or does not fit this network ({error}); delete it to train from the beginning"
        ) from error


def _number(value: Any) -> Any:
    """Convert numbers of numpy and TensorFlow, which logs hold, to Python's."""
    if np.ndim(value) == 0:
        return np.asarray(value).item()
    raise TypeError(f"{type(value).__name__} cannot be kept; get_state() returns plain data and numpy arrays")


def get_states(callbacks: Sequence[keras.callbacks.Callback]) -> list[dict[str, Any]]:
    """Return the state of each callback that has one, with the name of its class.

    Example:
        >>> get_states([keras.callbacks.ReduceLROnPlateau()])[0]["class_name"]
        'ReduceLROnPlateau'
    """
    states = [(type(callback).__name__, _state_of(callback)) for callback in callbacks]
    return [{"class_name": name, "state": state} for name, state in states if state is not None]


def set_states(callbacks: Sequence[keras.callbacks.Callback], states: Sequence[dict[str, Any]]) -> None:
    """Set the states that `get_states` returned; those of the same class in their order.

    A warning names callbacks without a state, unless they are known to need none.
    """
    left = list(states)
    for callback in callbacks:
        name = type(callback).__name__
        found = next((one for one in left if one["class_name"] == name), None)
        if found is not None:
            left.remove(found)
            _restore(callback, found["state"])
        elif not isinstance(callback, _WITHOUT_STATE):
            logger.warning(
                "the callback %s begins anew in the resumed training, because its state was not saved. If it has a "
                "state, give it the methods get_state() and set_state()",
                name,
            )


def _state_of(callback: keras.callbacks.Callback) -> dict[str, Any] | None:
    own = getattr(callback, "get_state", None)
    if callable(own):
        return dict(own())
    names = _attributes(callback)
    return None if names is None else {name: getattr(callback, name, None) for name in names}


def _restore(callback: keras.callbacks.Callback, state: dict[str, Any]) -> None:
    own = getattr(callback, "set_state", None)
    if callable(own):
        own(state)
        return
    for name in _attributes(callback) or ():
        if state.get(name) is not None:
            setattr(callback, name, state[name])


def _attributes(callback: keras.callbacks.Callback) -> tuple[str, ...] | None:
    return next((names for cls, names in _ATTRIBUTES.items() if isinstance(callback, cls)), None)
