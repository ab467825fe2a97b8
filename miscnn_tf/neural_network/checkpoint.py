"""Keeping the best model of a training, and (`TrainingState`) all of a training that may be interrupted."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from miscnn_tf.cluster import is_chief
from miscnn_tf.data_loading.storage import atomic_path
from miscnn_tf.errors import ConfigurationError, ModelFileError
from miscnn_tf.neural_network.training_state import TrainingState

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network

__all__ = ["BestModel", "TrainingState", "restore_weights"]

logger = logging.getLogger(__name__)


class BestModel(keras.callbacks.Callback):
    """Writes the model file, preprocessing and all, whenever a monitored number is better than ever before.

    Unlike Keras' ``ModelCheckpoint`` it writes this package's model file (``Neural_Network.dump``), which predicts on
    a new scan without the pipeline being rebuilt by hand; the file is always a whole one, also when the process is
    killed while it is written; an epoch in which the number is NaN is never the best; and each training starts from
    nothing. Of several machines that train together, the first one writes it.

    Args:
        network: The `Neural_Network` that is trained.
        path: The file, ``….keras``; an earlier one is replaced when the first epoch has ended.
        monitor: Name of the number, as in the history.
        mode: ``"min"`` or ``"max"``: which is better.

    Attributes:
        best: The best number of this training; None before the first epoch with a finite one.
        best_epoch: Its epoch, from 0, or None.

    Raises:
        ConfigurationError: If `mode` is neither.

    Example:
        >>> model.evaluate(training, validation, callbacks=[BestModel(model, "best.keras")])  # doctest: +SKIP
    """

    def __init__(self, network: Neural_Network, path: str | Path, monitor: str = "val_loss", mode: str = "min") -> None:
        super().__init__()
        if mode not in ("min", "max"):
            raise ConfigurationError(f"mode={mode!r} must be 'min' or 'max': whether low or high {monitor} is better")
        self.network = network
        self.path = Path(path)
        self.monitor = monitor
        self.mode = mode
        self.best: float | None = None
        self.best_epoch: int | None = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Forget the last training."""
        self.best = self.best_epoch = None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Write the model if this epoch is the best so far.

        Raises:
            ConfigurationError: If there is no such number.
            StorageError: If the file cannot be written.
        """
        logs = logs or {}
        if self.monitor not in logs:
            raise ConfigurationError(
                f"BestModel watches {self.monitor!r}, but the training has {', '.join(sorted(logs)) or 'nothing'}. "
                "Numbers that begin with val_ need validation samples (Neural_Network.evaluate)"
            )
        value = float(logs[self.monitor])
        if not math.isfinite(value):
            logger.warning("epoch %d: %s is %s; this epoch's model is not kept", epoch + 1, self.monitor, value)
            return
        if self.best is not None and not (value < self.best if self.mode == "min" else value > self.best):
            return
        if is_chief():
            with atomic_path(self.path) as temporary:
                self.network.dump(str(temporary))
        self.best, self.best_epoch = value, epoch

    def get_state(self) -> dict[str, Any]:
        """What is best so far, for a training that is interrupted (see `TrainingState`)."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `get_state` returned; without the file, nothing is best."""
        if self.path.is_file():
            self.best, self.best_epoch = state["best"], state["best_epoch"]
        elif state["best"] is not None:
            logger.warning(
                "%s, the best model so far, is gone; the best of the coming epochs takes its place", self.path
            )


def restore_weights(network: Neural_Network, path: str | Path) -> None:
    """Give a network the weights of a model file that the same architecture wrote.

    Unlike ``Neural_Network.load`` it makes no new Keras model: layers of the caller's own need not be registered, and
    nothing is compiled again.

    Args:
        network: The network.
        path: The file, ``….keras``.

    Raises:
        ModelFileError: If the file cannot be read, or its weights do not fit the network.

    Example:
        >>> restore_weights(model, "evaluation/fold_0/model.keras")  # doctest: +SKIP
    """
    try:
        with warnings.catch_warnings():
            # The weights are all that is asked for: an optimizer that made no step yet cannot take the file's state.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer", UserWarning)
            network.model.load_weights(path)
    except MemoryError:
        raise
    except Exception as error:  # one flipped bit provokes anything from KeyError to NotImplementedError
        raise ModelFileError(
            f"the weights in {path} could not be read into this network: {error}. The file is damaged or of another "
            "architecture; train again"
        ) from error
