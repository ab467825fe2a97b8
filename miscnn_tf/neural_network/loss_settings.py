"""Base class and argument checks of losses with settings."""

from __future__ import annotations

import inspect
import re
from typing import Any

import keras
import numpy as np
from keras import ops

from miscnn_tf.errors import ConfigurationError

__all__ = ["ConfiguredLoss", "non_negative", "within"]


class ConfiguredLoss(keras.losses.Loss):
    """Base class of losses with settings.

    An instance is a Keras loss. Called with settings instead of arrays, it returns a new loss with these settings, so
    that the instance with the defaults serves as the public name of the loss.

    A subclass stores each constructor argument in an attribute of the same name, implements
    ``call(y_true, y_pred, class_weights=None)``, and is registered with Keras.

    Args:
        name: Name of the loss in histories and figures; None means the class name in snake case, ``dice_weighted``.
        reduction: Reduction over the samples of a batch, as in Keras.
    """

    def __init__(self, name: str | None = None, reduction: str = "sum_over_batch_size") -> None:
        name = name or re.sub("(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()
        super().__init__(name=name, reduction=reduction)
        # Functions have it, and code that plots curves uses it.
        self.__name__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the reduced loss of ``(y_true, y_pred[, sample_weight])``, or a loss with other settings."""
        if "y_pred" in kwargs or (len(args) > 1 and len(ops.shape(args[1])) > 1):
            return super().__call__(*args, **kwargs)
        return type(self)(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments as plain data."""
        return {argument: getattr(self, argument) for argument in inspect.signature(type(self)).parameters}


def non_negative(argument: str, value: Any) -> list[float]:
    """Return one number, or one per class, as a list.

    Args:
        argument: Name of the argument, for the message.
        value: The received value.

    Raises:
        ConfigurationError: If a value is negative, infinite or not a number, or if the list is empty.

    Example:
        >>> non_negative("weights", (1, 2))
        [1.0, 2.0]
    """
    try:
        # numpy, because Keras' functions would initialise TensorFlow on import, after which threads, memory growth of
        # GPUs and logical devices cannot be set.
        shape = np.shape(value)
        numbers = [float(number) for number in (value if shape else [value])]
    except (TypeError, ValueError):
        shape, numbers = None, []
    if shape is None or len(shape) > 1 or not numbers or not all(0.0 <= number < float("inf") for number in numbers):
        raise ConfigurationError(f"{argument}={value!r} must be one number per class, none negative")
    return numbers


def within(argument: str, value: Any, lowest: float, highest: float, but: float | None = None) -> float:
    """Return a setting as a float in a range.

    Args:
        argument: Name of the loss and the argument, for the message.
        value: The received value.
        lowest: The smallest valid number.
        highest: The largest valid number, or ``inf``.
        but: A number in the range that is not valid.

    Raises:
        ConfigurationError: If it is not a number in the range.

    Example:
        >>> within("combo_loss: alpha", 1, 0, 1)
        1.0
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not lowest <= number <= highest or number in (but, float("inf")):
        limits = f"at least {lowest:g}" if highest == float("inf") else f"between {lowest:g} and {highest:g}"
        raise ConfigurationError(
            f"{argument}={value!r} must be a number, {limits}{'' if but is None else f', but not {but:g}'}"
        )
    return number
