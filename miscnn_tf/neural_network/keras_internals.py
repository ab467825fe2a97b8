"""The names of Keras that are not public and that nothing public does the work of, all in one place.

``tests/neural_network/test_keras_internals.py`` fails when a version of Keras changes one.
"""

from __future__ import annotations

from typing import Any

import keras

#: The modules that configurations name for classes of models, and the classes.
MODULES_OF_MODELS = {
    "keras.src.models.functional": frozenset(("Functional",)),
    "keras.src.models.sequential": frozenset(("Sequential",)),
    "keras.src.models.model": frozenset(("Model",)),
}
#: Those of arithmetic on tensors (`x + y` in a functional model). `ops.core` is not among them: it calls functions.
MODULES_OF_OPERATIONS = ("keras.src.ops.numpy", "keras.src.ops.nn", "keras.src.ops.image", "keras.src.ops.math")


def maker_of(output: Any) -> keras.Operation:
    """The layer or operation that makes a symbolic tensor.

    Args:
        output: A ``keras.KerasTensor``.

    Example:
        >>> layer = keras.layers.Dense(2)
        >>> maker_of(layer(keras.Input((3,)))) is layer
        True
    """
    maker: keras.Operation = output._keras_history.operation
    return maker


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """All layers of a model, those within other layers and models too, each once.

    Args:
        model: The model, of whatever kind.

    Example:
        >>> dense = keras.layers.Dense(2)
        >>> inner = keras.Sequential([keras.Input((3,)), dense])
        >>> dense in all_layers(keras.Sequential([inner, keras.layers.ReLU()]))
        True
    """
    layers: list[keras.layers.Layer] = list(model._flatten_layers(include_self=False))
    return layers
