"""The whole state of a training on disk, so that a killed one goes on as if nothing had happened."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from miscnn_tf.arguments import whole_number
from miscnn_tf.cluster import is_chief
from miscnn_tf.data_loading.storage import make_folder
from miscnn_tf.errors import ConfigurationError, DataError, MiscnnError
from miscnn_tf.neural_network.callback_state import get_states, set_states
from miscnn_tf.neural_network.callbacks import PolynomialDecay
from miscnn_tf.runs.names import STATE_FILE
from miscnn_tf.runs.training_state_file import read_description, read_state, write_state

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network

logger = logging.getLogger(__name__)

_NAMES = {"trained_on": "samples"}


@dataclass(frozen=True)
class Position:
    """Where a training stands.

    Args:
        first: Epochs that the weights had been trained before it began.
        done: Its epochs that are finished.
        begin: The epoch to begin with: that number, or that of all epochs where it was stopped early.
    """

    first: int
    done: int
    begin: int


class TrainingState(keras.callbacks.Callback):
    """Writes the whole state of a training after its epochs, and goes on from there when it is started again.

    A training that was killed is started again by the same call with the same arguments, in a new process: it continues
    with the epoch that was interrupted, and ends, with ``deterministic=True`` in float32 on the same machine, with the
    same weights to the last bit as if it had never been interrupted. Kept are the weights (moving averages and the
    state of dropout, too), the optimizer with its step count and learning rate, the epoch and the seed by which crops,
    augmentation and order are drawn, the history, and what the callbacks remember: `BestModel`, `PolynomialDecay`,
    `TimeLimit`, Keras' ``EarlyStopping``, ``ReduceLROnPlateau`` and ``ModelCheckpoint``, and every callback with the
    methods ``get_state() -> dict`` (of plain data and numpy arrays) and ``set_state(dict)``. Others begin anew, and a
    warning names them; Keras' ``CSVLogger`` needs ``append=True``.

    The file is ``training_state.npz`` in `folder`, replaced atomically, without pickle. It takes 12 bytes per weight
    with Adam (67 MB for 5.6 million weights), and 4 more where ``EarlyStopping`` restores the best weights. It is
    removed when the training has come to its end. Of several machines the first one writes it, and all read it: they
    have to share the folder.

    Args:
        folder: Where the file is; created where missing. A folder for each training.
        every: After how many epochs it is written. It always is after the last one.
        keep: Keep the file at the end of the training. The same call then repeats no epoch, and a call with more epochs
            trains only the additional ones, unless `PolynomialDecay` set learning rates for the number of epochs.

    Raises:
        ConfigurationError: When the training begins, if the folder holds the state of one with other samples or
            settings; nothing is overwritten.
        DataError: Then, too, if the file is damaged.
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
        self._network: Neural_Network | None = None
        self._settings: dict[str, Any] = {}
        self._others: Sequence[keras.callbacks.Callback] = ()
        self._history = keras.callbacks.History()
        self._position = Position(0, 0, 0)
        self._epochs = 0

    def begin(
        self,
        network: Neural_Network,
        settings: Mapping[str, Any],
        others: Sequence[keras.callbacks.Callback],
        history: keras.callbacks.History,
        epochs: int,
    ) -> Position:
        """Find out where the training stands; `Neural_Network` asks before it begins.

        Args:
            network: What is trained.
            settings: What the training's result depends on, as JSON types.
            others: The callbacks whose states are kept.
            history: Collects the history.
            epochs: Number of epochs.
        """
        self._network, self._others, self._history, self._epochs = network, others, history, epochs
        # As they will be read.
        self._settings = json.loads(json.dumps(settings, default=_number))
        self._position = Position(network.epochs_trained, 0, 0)
        if is_chief():
            make_folder(self.folder)  # an unwritable one is told now, not after the first epoch
        if not self.path.is_file():
            return self._position
        description = read_description(self.path)
        first, done, before = description["first"], description["done"], description["settings"]
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
        self._position = Position(first, done, begin)
        network.preprocessor.seed = description["seed"]
        logger.info("%s: training goes on after epoch %d of %d", self.path, done, epochs)
        return self._position

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Go back to the state that was written.

        Raises:
            ConfigurationError: If it is not a `Neural_Network` that trains.
            DataError: If the file does not fit the network.
        """
        if self._network is None:
            raise ConfigurationError(
                "TrainingState works in Neural_Network.train() and evaluate(), not in fit() of a Keras model"
            )
        if self._position.done:
            self._read()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Write the state."""
        done = epoch + 1
        if is_chief() and (done % self.every == 0 or done == self._epochs or self.model.stop_training):
            self._write(done)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Remove the file."""
        self._network = None
        if not self.keep and is_chief():
            self.path.unlink(missing_ok=True)

    def _write(self, done: int) -> None:
        assert self._network is not None
        variables = _variables(self._network.model)
        arrays = {f"variable.{number}": keras.ops.convert_to_numpy(one.value) for number, one in enumerate(variables)}
        description = {
            "first": self._position.first,
            "done": done,
            "stopped": bool(self.model.stop_training),
            "seed": self._network.preprocessor.seed,
            "settings": self._settings,
            "history": self._history.history,
            "callbacks": _without_arrays(get_states(self._others), "callback", arrays),
        }
        write_state(self.path, description, arrays, _number)

    def _read(self) -> None:
        assert self._network is not None
        description, arrays = read_state(self.path)
        with _reading(self.path):
            variables = _variables(self._network.model)
            values = [arrays.pop(f"variable.{number}") for number in range(len(variables))]
            if any(value.shape != tuple(one.shape) for value, one in zip(values, variables, strict=True)):
                raise ValueError("its weights are of other shapes than the network's")
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
            self._history.history = description["history"]
            self._history.epoch = list(range(description["done"]))
            set_states(self._others, _with_arrays(description["callbacks"], arrays))


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
    """Everything of a compiled model that a training changes, but the metrics, which begin anew in each epoch."""
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    metrics = {id(variable) for variable in model.metrics_variables}
    return [variable for variable in model.variables if id(variable) not in metrics] + list(optimizer.variables)


class _reading:
    """Says which file it is that could not be read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        # A callback of a user's own may raise anything when it gets a state that is not its own.
        if isinstance(error, Exception) and not isinstance(error, MiscnnError | MemoryError):
            raise DataError(
                f"{self.path} is damaged, or does not fit this network ({error}); delete it to train from the beginning"
            ) from error


def _without_arrays(state: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """The state as JSON types; arrays go to `arrays`, under names that stand in their places."""
    if isinstance(state, np.ndarray):
        arrays[name] = state
        return {"array": name}
    if isinstance(state, Mapping):
        return {"dict": {key: _without_arrays(value, f"{name}.{key}", arrays) for key, value in state.items()}}
    if isinstance(state, list | tuple):
        return [_without_arrays(value, f"{name}.{number}", arrays) for number, value in enumerate(state)]
    return state


def _with_arrays(state: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(state, list):
        return [_with_arrays(value, arrays) for value in state]
    if not isinstance(state, dict):
        return state
    if "array" in state:
        return arrays[state["array"]]
    return {key: _with_arrays(value, arrays) for key, value in state["dict"].items()}


def _number(value: Any) -> Any:
    """Numpy's and TensorFlow's numbers, of which logs are full, as Python's."""
    if np.ndim(value) == 0:
        return np.asarray(value).item()
    raise TypeError(f"{type(value).__name__} cannot be kept; get_state() returns plain data and numpy arrays")
