"""Model file of the best epoch of a training; without TensorFlow."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from miscnn_tf._base.files import atomic_path
from miscnn_tf.errors import ConfigurationError, ModelFileError
from miscnn_tf.runs.writer import Writer

logger = logging.getLogger(__name__)


#: Values of a history that may choose the best epoch.
BEST_BY: Final = ("val_loss", "val_pooled_dice")
#: Share of the previous average in the moving average of nnU-Net.
MOMENTUM: Final = 0.9
#: Ending of the name of a moving average in a history.
AVERAGE: Final = "_average"


class Saved(Protocol):
    """Network with a model file, such as `Neural_Network`."""

    @property
    def model(self) -> Any:
        """Keras model."""

    def dump(self, file_path: str | Path) -> None:
        """Write the model file."""


class BestEpoch:
    """Hooks of a Keras callback that write the model file whenever a monitored value is better than before.

    Args:
        network: The network that is trained.
        path: The file; an earlier one is replaced at the end of the first epoch.
        monitor: Name of the value, as in the history.
        mode: ``"min"`` or ``"max"``: the better direction.
        momentum: Share of the previous average in the moving average that is compared instead of the value, and logged
            as ``<monitor>_average``; 0 to compare the value.

    Attributes:
        best: The best value of this training; None before the first epoch with a finite one.
        best_epoch: Its epoch, from 0, or None.

    Raises:
        ConfigurationError: If `mode` is neither, or `momentum` is not between 0 and 1.
    """

    def __init__(
        self,
        network: Saved,
        path: str | Path,
        monitor: str = "val_loss",
        mode: str = "min",
        momentum: float = 0.0,
    ) -> None:
        if mode not in ("min", "max"):
            raise ConfigurationError(f"mode={mode!r} must be 'min' or 'max': whether low or high {monitor} is better")
        if not 0 <= momentum < 1:
            raise ConfigurationError(f"momentum={momentum!r} must be at least 0 and less than 1, such as 0.9")
        self.network = network
        self.path = Path(path)
        self.monitor = monitor
        self.mode = mode
        self.momentum = momentum
        self._average: float | None = None
        self.best: float | None = None
        self.best_epoch: int | None = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Forget the previous training."""
        self.best = self.best_epoch = self._average = None

    def on_epoch_end(self, epoch: int, logs: MutableMapping[str, Any] | None = None) -> None:
        """Write the model if this epoch is the best so far.

        Raises:
            ConfigurationError: If the logs do not hold the value.
            StorageError: If the file cannot be written.
        """
        logs = {} if logs is None else logs
        if self.monitor not in logs:
            raise ConfigurationError(
                f"BestModel monitors {self.monitor!r}, but the training has {', '.join(sorted(logs)) or 'no values'}. "
                "Values that begin with val_ need validation samples (Neural_Network.evaluate)"
            )
        value = float(logs[self.monitor])
        if not math.isfinite(value):
            logger.warning("epoch %d: %s is %s; this epoch's model is not kept", epoch + 1, self.monitor, value)
            if self.momentum:
                logs[self.monitor + AVERAGE] = math.nan  # a history has a value of each epoch
            return
        if self.momentum:
            if self._average is not None:
                value = self.momentum * self._average + (1 - self.momentum) * value
            self._average = logs[self.monitor + AVERAGE] = value
        if self.best is not None and not (value < self.best if self.mode == "min" else value > self.best):
            return
        Writer().write(self._dump, wait=False)
        self.best, self.best_epoch = value, epoch

    def _dump(self) -> None:
        with atomic_path(self.path) as temporary:
            self.network.dump(str(temporary))

    def get_state(self) -> dict[str, Any]:
        """Return the best value so far, for `TrainingState`."""
        return {"best": self.best, "best_epoch": self.best_epoch, "average": self._average}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Set the return value of `get_state`; without the model file, the next epoch is the best."""
        self._average = state.get("average")  # files of earlier versions lack it
        if self.path.is_file():
            self.best, self.best_epoch = state["best"], state["best_epoch"]
        elif state["best"] is not None:
            logger.warning(
                "%s, the best model so far, does not exist any more; the best of the next epochs replaces it", self.path
            )


class KeptEpoch(NamedTuple):
    """The best epoch of a history, whose weights were kept.

    Attributes:
        epoch: Its number, from 1.
        value: The value by which it was chosen.
        quantity: Name of that value, without ``val_``.
        rule: The best value in words.
    """

    epoch: int
    value: float
    quantity: str
    rule: str

    @property
    def described(self) -> str:
        """The value in words."""
        words = self.rule.removeprefix("lowest ").removeprefix("highest ")
        return f"the {words} {self.value:.4g}"


def find_best_epoch(history: Mapping[str, Sequence[float]]) -> KeptEpoch | None:
    """Return the best epoch of a validation, or None without a finite value.

    It is that of the highest moving average of the pooled Dice if the history has one, and otherwise that of the lowest
    loss; of equal ones the first.

    Example:
        >>> find_best_epoch({"val_loss": [0.5, 0.3, 0.4]}).epoch
        2
    """
    name, rule = BEST_BY[1] + AVERAGE, "highest moving average of the pooled Dice"
    by_average = name in history
    if not by_average:
        name, rule = BEST_BY[0], "lowest validation loss"
    known = [(value, epoch) for epoch, value in enumerate(history.get(name, ()), start=1) if math.isfinite(value)]
    if not known:
        return None
    value, epoch = min(known, key=lambda one: -one[0] if by_average else one[0])
    return KeptEpoch(epoch, value, name.removeprefix("val_"), rule)


def restore_weights(network: Saved, path: str | Path) -> None:
    """Set the weights of a network from a model file of the same architecture.

    Unlike ``Neural_Network.load`` it builds no new Keras model, so that custom layers need not be registered, and
    compiles nothing.

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
            # An optimizer without steps cannot take the file's state, which is not needed.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer", UserWarning)
            network.model.load_weights(path)
    except MemoryError:
        raise
    except Exception as error:  # damaged files cause errors from KeyError to NotImplementedError
        raise ModelFileError(
            f"the weights in {path} could not be read into this network: {error}. The file is damaged or of another "
            "architecture; train again"
        ) from error
