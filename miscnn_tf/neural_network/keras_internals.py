"""All private names of Keras that this package needs, because Keras has no public replacement.

``tests/neural_network/test_keras_internals.py`` fails if a version of Keras changes one.
"""

from __future__ import annotations

from typing import Any

import keras

#: Classes of models by the modules in configurations.
MODULES_OF_MODELS = {
    "keras.src.models.functional": frozenset(("Functional",)),
    "keras.src.models.sequential": frozenset(("Sequential",)),
    "keras.src.models.model": frozenset(("Model",)),
}
#: Modules of arithmetic on tensors (`x + y` in a functional model), without `ops.core`, which calls functions.
MODULES_OF_OPERATIONS = ("keras.src.ops.numpy", "keras.src.ops.nn", "keras.src.ops.image", "keras.src.ops.math")


def maker_of(output: Any) -> keras.Operation:
    """Return the layer or operation that makes a symbolic tensor.

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
    """Return all layers of a model, including those within other layers and models, each once.

    Args:
        model: A model of any kind.

    Example:
        >>> dense = keras.layers.Dense(2)
        >>> inner = keras.Sequential([keras.Input((3,)), dense])
        >>> dense in all_layers(keras.Sequential([inner, keras.layers.ReLU()]))
        True
    """
    layers: list[keras.layers.Layer] = list(model._flatten_layers(include_self=False))
    return layers
