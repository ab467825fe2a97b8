"""Class weights in training."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import keras
from keras import ops

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network import losses

__all__ = ["apply_class_weight", "class_weight_vector"]

ClassWeight = Mapping[int, float] | Sequence[float]


def class_weight_vector(class_weight: Mapping[int, float] | Sequence[float], classes: int) -> tuple[float, ...]:
    """Return the weight of every class, scaled to a mean of one.

    Args:
        class_weight: A number per class, or ``{class: weight}``; missing classes have weight 1.
        classes: Number of classes, background included.

    Raises:
        ConfigurationError: If a class does not exist, the number of weights is wrong, or a weight is negative or not a
            number.

    Example:
        >>> class_weight_vector({1: 4.0}, classes=2)
        (0.4, 1.6)
    """
    if isinstance(class_weight, Mapping):
        unknown = [
            label
            for label in class_weight
            if not isinstance(label, Integral) or isinstance(label, bool) or not 0 <= label < classes
        ]
        if unknown:
            raise ConfigurationError(
                f"class_weight names the class {unknown[0]!r}, but the classes are 0 to {classes - 1} (integers)"
            )
        weights = [class_weight.get(label, 1.0) for label in range(classes)]
    else:
        weights = list(class_weight)
        if len(weights) != classes:
            raise ConfigurationError(f"class_weight has {len(weights)} weights, but there are {classes} classes")
    for label, weight in enumerate(weights):
        if not isinstance(weight, Real) or not math.isfinite(weight) or weight < 0:
            raise ConfigurationError(f"class_weight of class {label} is {weight!r}; it must be a number of at least 0")
    total = math.fsum(weights)
    if total == 0:
        raise ConfigurationError("class_weight is 0 for every class; give at least one class a positive weight")
    return tuple(float(weight) * classes / total for weight in weights)


def apply_class_weight(
    loss: str | type | Callable[[Any, Any], Any],
    class_weight: Mapping[int, float] | Sequence[float],
    classes: int,
) -> Callable[[Any, Any], Any]:
    """Return a loss with class weights, for ``model.compile``.

    Only the ratios of the weights matter: equal weights change nothing. Their effect depends on the loss:

    - A loss with a keyword ``class_weights``, such as all losses of this package, gets the weights. Region losses such
      as Dice weight the terms of the classes, voxel losses each voxel by its true class.
    - The values of any other loss that returns one per voxel, ``(batch, x, y[, z])``, such as Keras' cross-entropies,
      are multiplied by the weight of the voxel's true class.

    Args:
        loss: Name, class, object or function, as in `losses.get`.
        class_weight: A number per class, or ``{class: weight}``; missing classes have weight 1.
        classes: Number of classes, background included.

    Returns:
        A function of ``(y_true, y_pred)``.

    Raises:
        ConfigurationError: If the weights are invalid. The returned loss raises it, before the first step, if the loss
            neither takes weights nor returns a value per voxel.

    Example:
        >>> weighted = apply_class_weight("tversky_loss", {0: 1.0, 1: 5.0}, classes=2)
        >>> keras_model.compile(loss=weighted)  # doctest: +SKIP
    """
    weights = class_weight_vector(class_weight, classes)
    resolved = losses.get(loss)
    name = getattr(resolved, "__name__", None) or getattr(resolved, "name", type(resolved).__name__)
    # A Keras loss object averages over the voxels when it is called; its `call` does not.
    function: Any = resolved.call if isinstance(resolved, keras.losses.Loss) else resolved

    if "class_weights" in inspect.signature(function).parameters:

        def weighted(y_true: Any, y_pred: Any) -> Any:
            return function(y_true, y_pred, class_weights=weights)
    else:

        def weighted(y_true: Any, y_pred: Any) -> Any:
            values = function(y_true, y_pred)
            if len(values.shape) != len(y_pred.shape) - 1:
                raise ConfigurationError(
                    f"class_weight cannot be used with the loss {name}: it returns shape {tuple(values.shape)}, not a "
                    "value per voxel. Return (batch, x, y[, z]), add a keyword class_weights, or omit class_weight"
                )
            truth = ops.cast(y_true, "float32")
            return values * ops.cast(ops.sum(truth * ops.convert_to_tensor(weights, "float32"), -1), values.dtype)

    weighted.__name__ = weighted.__qualname__ = f"weighted_{name}"
    return weighted
