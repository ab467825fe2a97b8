"""What losses with settings share: a Keras loss that can be compiled as it stands, and called with other settings."""

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
    """Base of the losses that have settings.

    An object of it is a Keras loss with the settings it was made with; called with settings instead of arrays it
    returns another one that has those. So the object made with the defaults serves as the loss's public name.

    A subclass keeps each constructor argument in an attribute of the same name, implements
    ``call(y_true, y_pred, class_weights=None)``, and is registered with Keras.

    Args:
        name: Of the loss, in histories and figures; the class's name in small letters, ``dice_weighted``, where it is
            None.
        reduction: Over the samples of a batch, as in Keras.
    """

    def __init__(self, name: str | None = None, reduction: str = "sum_over_batch_size") -> None:
        name = name or re.sub("(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()
        super().__init__(name=name, reduction=reduction)
        # A function would have one, and whoever draws a curve asks for it.
        self.__name__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The loss of ``(y_true, y_pred[, sample_weight])``, reduced over the batch; or one with other settings."""
        if "y_pred" in kwargs or (len(args) > 1 and len(ops.shape(args[1])) > 1):
            return super().__call__(*args, **kwargs)
        return type(self)(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as plain data."""
        return {argument: getattr(self, argument) for argument in inspect.signature(type(self)).parameters}


def non_negative(argument: str, value: Any) -> list[float]:
    """One number, or one per class, as a list.

    Args:
        argument: Its name, for the message.
        value: What was passed for it.

    Raises:
        ConfigurationError: If a number is negative, infinite or none, or there is none at all.

    Example:
        >>> non_negative("weights", (1, 2))
        [1.0, 2.0]
    """
    try:
        # Not Keras' functions: they would start TensorFlow when this module is imported, and threads, memory growth of
        # GPUs and logical devices could not be set any more.
        shape = np.shape(value)
        numbers = [float(number) for number in (value if shape else [value])]
    except (TypeError, ValueError):
        shape, numbers = None, []
    if shape is None or len(shape) > 1 or not numbers or not all(0.0 <= number < float("inf") for number in numbers):
        raise ConfigurationError(f"{argument}={value!r} must be one number per class, none negative")
    return numbers


def within(argument: str, value: Any, lowest: float, highest: float, but: float | None = None) -> float:
    """A setting as a float that lies between two numbers.

    Args:
        argument: Its name, with that of the loss, for the message.
        value: What was passed for it.
        lowest: The smallest number that is taken.
        highest: The largest one; ``inf`` where there is no limit.
        but: A number of the range that is not taken.

    Raises:
        ConfigurationError: If it is no number, or lies outside.

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
