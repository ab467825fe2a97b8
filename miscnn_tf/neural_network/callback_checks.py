"""Checks of callbacks before the first step, so that none fails after an epoch of training."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import keras

from miscnn_tf.errors import ConfigurationError, MissingExtraError
from miscnn_tf.neural_network.callbacks import PolynomialDecay, require_no_schedule
from miscnn_tf.neural_network.checkpoint import BestModel
from miscnn_tf.neural_network.model_file import ENDINGS
from miscnn_tf.neural_network.optimizer import unwrapped

_SET_THE_RATE = (PolynomialDecay, keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)


def require_working(callbacks: Sequence[keras.callbacks.Callback], model: keras.Model, validates: bool) -> None:
    """Raise an error for callbacks that cannot work.

    Args:
        callbacks: The callbacks.
        model: The compiled model.
        validates: Whether the training has validation samples.

    Raises:
        MissingExtraError: If a package that a callback needs is not installed.
        ConfigurationError: If a callback does not fit the optimizer or the training.
    """
    for callback in callbacks:
        name = type(callback).__name__
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
        if isinstance(callback, BestModel):
            _require_monitor(callback, validates)


def _require_monitor(callback: BestModel, validates: bool) -> None:
    if callback.monitor.startswith("val_") and not validates:
        raise ConfigurationError(
            f"BestModel monitors {callback.monitor!r}, but the training has no validation samples: call "
            f"Neural_Network.evaluate, or pass monitor={callback.monitor.removeprefix('val_')!r}"
        )
    if callback.path.suffix not in ENDINGS:
        raise ConfigurationError(f"BestModel: the model file {callback.path} must end in {' or '.join(ENDINGS)}")
