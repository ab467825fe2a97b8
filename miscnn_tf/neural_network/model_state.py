"""State of a Keras model besides its weights: frozen layers, and the seed generators of random layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from miscnn_tf.errors import ModelFileError
from miscnn_tf.neural_network.keras_internals import all_layers


@dataclass(frozen=True)
class TrainableSet:
    """Flags ``trainable`` of a model, its layers and its weights.

    The order is that of Keras. Names are not stored, since generated names of layers differ between copies.

    Args:
        layers: "1" for each trained layer, "0" for each frozen one.
        weights: The same for weights, which can also be frozen one by one.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1), keras.layers.Dense(1)])
        >>> model.layers[0].trainable = False
        >>> TrainableSet.of(model)
        TrainableSet(layers='1101', weights='0011')
    """

    layers: str
    weights: str

    @classmethod
    def of(cls, model: keras.Model) -> TrainableSet:
        """Return the flags of a model."""
        return cls(_text(_layers(model)), _text(model.weights))

    def set(self, model: keras.Model) -> None:
        """Set the flags of a model.

        Raises:
            ModelFileError: If it has another number of layers or weights.
        """
        layers, weights = _layers(model), model.weights
        if (len(layers), len(weights)) != (len(self.layers), len(self.weights)):
            raise ModelFileError(
                f"'trainable' has flags for {len(self.layers)} layers and {len(self.weights)} weights, but the "
                f"architecture has {len(layers)} and {len(weights)}; use the version of miscnn_tf that wrote the file"
            )
        # Setting a layer's flag also sets those of its sublayers, which come later in this order.
        for layer, flag in zip(layers, self.layers, strict=True):
            if layer.trainable != (flag == "1"):
                layer.trainable = flag == "1"
        for weight, flag in zip(weights, self.weights, strict=True):
            weight.trainable = flag == "1"

    def describe(self) -> dict[str, str]:
        """Return the flags as JSON types."""
        return {"layers": self.layers, "weights": self.weights}

    @classmethod
    def of_description(cls, description: Any) -> TrainableSet:
        """Return the flags for a description from `describe`.

        Raises:
            ModelFileError: If the description is invalid.
        """
        given = description if isinstance(description, Mapping) else {}
        layers, weights = given.get("layers"), given.get("weights")
        if not (isinstance(layers, str) and isinstance(weights, str) and set(layers + weights) <= {"0", "1"}):
            raise ModelFileError(
                f"'trainable' must be two texts of 0 and 1, 'layers' and 'weights', got {description!s:.100}; write "
                "the file again with dump()"
            )
        return cls(layers, weights)


def random_state(model: keras.Model) -> list[np.ndarray]:
    """Return the state of each seed generator (for example of dropout), in the order of Keras."""
    return [keras.ops.convert_to_numpy(one.value) for one in _seeds(model)]


def set_random_state(model: keras.Model, states: list[np.ndarray]) -> None:
    """Set the return value of `random_state` for a model with the same layers."""
    for seed, state in zip(_seeds(model), states, strict=True):
        seed.assign(state)


def _seeds(model: keras.Model) -> list[Any]:
    others = {id(variable) for variable in (*model.weights, *model.metrics_variables)}
    return [variable for variable in model.variables if id(variable) not in others]


def _layers(model: keras.Model) -> list[Any]:
    return [model, *all_layers(model)]


def _text(parts: list[Any]) -> str:
    return "".join("1" if part.trainable else "0" for part in parts)
