"""Checks that the network of an architecture returns class probabilities for each voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.layers import BackgroundChannel
from miscnn_tf.neural_network.keras_internals import maker_of

# Activations whose values are probabilities.
_PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid", "sparsemax", "sparse_sigmoid")
_BINARY = ("sigmoid", "hard_sigmoid", "sparse_sigmoid")

# Layers that keep the range of their input values.
_PASSING = (
    keras.layers.Identity,
    keras.layers.Reshape,
    keras.layers.Permute,
    keras.layers.Dropout,
    keras.layers.Cropping2D,
    keras.layers.Cropping3D,
    keras.layers.UpSampling2D,
    keras.layers.UpSampling3D,
)
# Layers with an unbounded range of values, unless they have an activation.
_UNBOUNDED = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.SeparableConv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Dense,
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
)
_FROM_HERE = ("keras.", "miscnn_tf.")


def require_one_input(name: str, inputs: Sequence[Any]) -> None:
    """Require one input.

    Args:
        name: The architecture's class, for the message.
        inputs: The network's inputs.

    Raises:
        ConfigurationError: If the network has another number of inputs.
    """
    if len(inputs) != 1:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise ConfigurationError(
            f"the network of {name} has {len(inputs)} inputs ({shapes}), not one: take the image as the only input; "
            "channels may hold further images"
        )


def require_input(name: str, found: Sequence[int | None], expected: Sequence[int | None]) -> None:
    """Require the input shape of the images.

    Args:
        name: The architecture's class, for the message.
        found: Shape of its input, without the batch.
        expected: Shape of the images; None for an axis of any size.

    Raises:
        ConfigurationError: If the shapes do not fit.
    """
    fits = len(found) == len(expected) and all(one in (None, other) for one, other in zip(found, expected, strict=True))
    if not fits:
        raise ConfigurationError(
            f"the network of {name} has the input shape {tuple(found)}, expected {tuple(expected)}: build it with the "
            "input_shape that create_model() is given"
        )


def class_probabilities(
    name: str,
    output: Any,
    image_shape: Sequence[int | None],
    n_labels: int,
    sized: Sequence[int | None] | None = None,
    *,
    regions: bool = False,
) -> Any:
    """Return the output of a network as probabilities of all classes for each voxel of the image.

    Args:
        name: The architecture's class, for the message.
        output: Its symbolic output.
        image_shape: Spatial shape of the input.
        n_labels: Number of classes or regions.
        sized: Shape of the output for an image of `image_shape`, if the symbolic shape contains None.
        regions: The channels are overlapping regions.

    Returns:
        `output` itself; for a single sigmoid channel, which is the probability of class 1, both classes.

    Raises:
        ConfigurationError: If it has another shape, or its values are not probabilities.
    """
    found = tuple(output.shape)[1:]
    measured = found if sized is None else tuple(sized)[1:]
    activation = _activation(output)
    kind = "regions" if regions else "classes, background included"
    binary = n_labels == 2 and not regions and found[-1:] == (1,) and activation in _BINARY
    expected = (*image_shape, n_labels)
    channels = 2 if binary else found[-1] if found else None
    same_size = len(measured) == len(expected) and all(
        None in (one, other) or one == other for one, other in zip(measured[:-1], image_shape, strict=True)
    )
    if not same_size or channels != n_labels:
        raise ConfigurationError(
            f"the network of {name} has the output shape {measured}, expected {expected}: it needs "
            + ("the size of the image and " if not same_size else "")
            + f"a channel for each of the {n_labels} {kind} (the argument n_labels)"
            + ("; or one channel with activation='sigmoid'" if n_labels == 2 and not regions else "")
        )
    if activation is not None and activation not in _PROBABILITIES:
        raise ConfigurationError(
            f"the network of {name} ends in {activation!r}, so its output of shape {measured} is not class "
            "probabilities. Give its last layer activation='softmax' (or 'sigmoid')"
        )
    return BackgroundChannel(dtype="float32", name="with_background")(output) if binary else output


def region_probabilities(name: str, output: Any) -> Any:
    """Return the output of a network with a sigmoid for each region instead of the softmax over classes.

    Args:
        name: The architecture's class, for the message.
        output: Its symbolic output.

    Raises:
        ConfigurationError: If the softmax cannot be replaced, because it is not the activation of the last layer.
    """
    if _activation(output) not in ("softmax", "sparsemax"):
        return output
    last = maker_of(output)
    while isinstance(last, keras.layers.Activation) and keras.activations.serialize(last.activation) == "linear":
        last = maker_of(last.input)
    if getattr(last, "activation", None) not in (keras.activations.softmax, keras.activations.sparsemax):
        raise ConfigurationError(
            f"the network of {name} ends in a softmax, which cannot give overlapping regions; build it with "
            "activation='sigmoid'"
        )
    # Functions are called when the model is run, so that the layer computes the new activation from now on.
    last.activation = keras.activations.sigmoid
    return output


def _activation(output: Any) -> str | None:
    """Return the name of the activation of an output; None if unknown."""
    while True:
        maker: Any = maker_of(output)
        if not type(maker).__module__.startswith(_FROM_HERE):
            return None
        if isinstance(maker, keras.Model):
            outputs = getattr(maker, "outputs", None)
            if not outputs or len(outputs) != 1:
                return None
            output = outputs[0]
            continue
        if type(maker).__name__ in ("Softmax", "Sigmoid"):  # the layer, or the function of keras.ops
            return type(maker).__name__.lower()
        activation = getattr(maker, "activation", None)
        name = getattr(activation, "__name__", None)
        if activation is not None and getattr(keras.activations, str(name), None) is not activation:
            return None  # a custom function
        if name not in (None, "linear"):
            return name
        if isinstance(maker, (*_PASSING, keras.layers.Activation)):
            try:
                output = maker.input
            except (AttributeError, ValueError):  # called several times
                return None
            continue
        return type(maker).__name__ if isinstance(maker, _UNBOUNDED) else None
