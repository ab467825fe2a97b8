"""Callbacks that save the best model (`BestModel`) or the whole state (`TrainingState`) of a training."""

from __future__ import annotations

from pathlib import Path

import keras

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.callbacks import CheckedCallback
from miscnn_tf.neural_network.model_description import ENDINGS
from miscnn_tf.neural_network.training_state import TrainingState
from miscnn_tf.runs.best_model import BestEpoch, Saved, restore_weights

__all__ = ["BestModel", "TrainingState", "restore_weights"]


class BestModel(BestEpoch, CheckedCallback):
    """Callback that writes the model file whenever a monitored value is better than before.

    Unlike Keras' ``ModelCheckpoint`` it writes this package's model file (``Neural_Network.dump``), which predicts on
    a new scan without rebuilding the pipeline by hand. The file is always complete, even if the process is killed while
    it is written. An epoch in which the value is NaN is never the best, and each training starts anew. Of several
    machines that train together, the first one writes the file.

    Args:
        network: The `Neural_Network` that is trained.
        path: The file, ``….keras``; an earlier one is replaced at the end of the first epoch.
        monitor: Name of the value, as in the history.
        mode: ``"min"`` or ``"max"``: the better direction.
        momentum: Share of the previous average in the moving average that is compared instead of the value, which a few
            patches make noisy; it is logged as ``<monitor>_average``. nnU-Net uses 0.9. With 0, the value is compared.

    Attributes:
        best: The best value of this training; None before the first epoch with a finite one.
        best_epoch: Its epoch, from 0, or None.

    Raises:
        ConfigurationError: If an argument is invalid.

    Example:
        >>> model.evaluate(training, validation, callbacks=[BestModel(model, "best.keras")])  # doctest: +SKIP
    """

    def __init__(
        self,
        network: Saved,
        path: str | Path,
        monitor: str = "val_loss",
        mode: str = "min",
        momentum: float = 0.0,
    ) -> None:
        CheckedCallback.__init__(self)
        BestEpoch.__init__(self, network, path, monitor, mode, momentum)

    def check(self, model: keras.Model, validates: bool) -> None:
        """Raise an error if the value will not exist, or the file has a wrong ending.

        Raises:
            ConfigurationError: If either is the case.
        """
        if self.monitor.startswith("val_") and not validates:
            raise ConfigurationError(
                f"BestModel monitors {self.monitor!r}, but the training has no validation samples: call "
                f"Neural_Network.evaluate, or pass monitor={self.monitor.removeprefix('val_')!r}"
            )
        if self.path.suffix not in ENDINGS:
            raise ConfigurationError(f"BestModel: the model file {self.path} must end in {' or '.join(ENDINGS)}")
