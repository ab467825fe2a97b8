"""The state of the random layers of a Keras model, such as dropout, which is not among its weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


def random_state(model: keras.Model) -> list[np.ndarray]:
    """Return the state of each seed generator, in the order of Keras."""
    return [keras.ops.convert_to_numpy(one.value) for one in _seeds(model)]


def set_random_state(model: keras.Model, states: list[np.ndarray]) -> None:
    """Set what `random_state` returned.

    Args:
        model: A model of the same layers.
        states: The states.
    """
    for seed, state in zip(_seeds(model), states, strict=True):
        seed.assign(state)


def _seeds(model: keras.Model) -> list[Any]:
    others = {id(variable) for variable in (*model.weights, *model.metrics_variables)}
    return [variable for variable in model.variables if id(variable) not in others]
