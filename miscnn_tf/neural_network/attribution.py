"""Parts of a network for Grad-CAM: its layers, its scores before the activation, and gradients between the two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import keras
import numpy as np
import tensorflow as tf

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.keras_internals import maker_of

_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
#: Activations that keep the order of the classes, and whose gradient vanishes where the network is certain.
_SQUASHING = ("softmax", "sigmoid")


class LayerMap(NamedTuple):
    """A layer whose output is a feature map.

    Attributes:
        name: The layer's name.
        shape: Spatial shape of its output.
        kernel: Voxels of its kernel; 0 if it is not a convolution.
        shrinks: Whether it is a convolution with strides.
    """

    name: str
    shape: tuple[int, ...]
    kernel: int = 0
    shrinks: bool = False


def feature_layers(model: keras.Model, patch_shape: Sequence[int]) -> list[LayerMap]:
    """Return the layers whose output is a feature map, in the order of computation; an output is not one.

    Args:
        model: A functional Keras model of one input.
        patch_shape: Spatial shape of the input, for networks that take any.

    Example:
        >>> image = keras.Input((None, None, 1))
        >>> x = keras.layers.MaxPooling2D(2, name="pool")(keras.layers.Conv2D(4, 3, padding="same", name="conv")(image))
        >>> feature_layers(keras.Model(image, keras.layers.UpSampling2D(2)(x)), (8, 8))
        [LayerMap(name='conv', shape=(8, 8), kernel=9, shrinks=False), LayerMap(name='pool', shape=(4, 4), kernel=0,
        shrinks=False)]
    """
    axes = len(patch_shape)
    layers = [layer for layer in model.layers if _gives_a_map(layer, axes, model.outputs)]
    if not layers:
        return []
    inner = keras.Model(model.inputs[0], [layer.output for layer in layers])
    image = keras.KerasTensor((1, *patch_shape, model.inputs[0].shape[-1]))
    outputs = inner.compute_output_spec(image)
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [
        LayerMap(layer.name, tuple(map(int, tensor.shape[1:-1])), *_kernel(layer))
        for layer, tensor in zip(layers, outputs, strict=True)
    ]


def bottleneck_layer(layers: Sequence[LayerMap]) -> str | None:
    """Return the last convolution where the feature maps are smallest: the end of a U-Net's bridge.

    Convolutions of kernel 1 (shortcuts) or with strides (attention gates bring a skip to the bridge's size so) count
    only if there are no others.

    Args:
        layers: Result of `feature_layers`.

    Returns:
        Its name; None if there is no convolution.

    Example:
        >>> bottleneck_layer([LayerMap("down", (8, 8), 9), LayerMap("bridge", (4, 4), 9), LayerMap("up", (8, 8), 9)])
        'bridge'
    """
    convolutions = [layer for layer in layers if layer.kernel]
    if not convolutions:
        return None
    full = [layer for layer in convolutions if layer.kernel > 1]
    for choice in ([layer for layer in full if not layer.shrinks], full, convolutions):
        if choice:
            break
    least = min(math.prod(layer.shape) for layer in choice)
    return [layer.name for layer in choice if math.prod(layer.shape) == least][-1]


def check_layer(name: str | None, layers: Sequence[LayerMap]) -> str:
    """Return the name of a usable layer: `name`, or the bottleneck's if it is None.

    Raises:
        ConfigurationError: If there is no such layer; the message lists all.
    """
    if name is None:
        name = bottleneck_layer(layers)
    if name is None:
        raise ConfigurationError(
            "the network has no convolution with a known feature map; build it with Keras' functional API, its "
            "convolutions as layers of the model itself"
        )
    if name not in {layer.name for layer in layers}:
        usable = ", ".join(f"{layer.name} {layer.shape}" for layer in layers)
        raise ConfigurationError(f"layer={name!r} is not a layer with a feature map; use one of: {usable}")
    return name


class ClassGradients:
    """Feature maps of a layer, and gradients of the classes' scores by them.

    The score of a class at a voxel is the input of a final softmax or sigmoid (Selvaraju et al. 2017, section 3: the
    gradient of probabilities vanishes where the network is certain); of networks with another end, their output.

    Args:
        model: A functional Keras model in float32, from ``(batch, x, y[, z], channels)`` to classes.
        layer: Name of the layer, one of `feature_layers` (see `check_layer`).
        patch_shape: Spatial shape of the input; None in an axis that varies.

    Attributes:
        features: Number of feature maps of the layer.
    """

    def __init__(self, model: keras.Model, layer: str, patch_shape: Sequence[int | None]) -> None:
        output = model.get_layer(layer).output
        self.features = int(output.shape[-1])
        scores_before, self._twins = _scores(model)
        self._network = keras.Model(model.inputs[0], [output, scores_before])
        images = tf.TensorSpec((None, *patch_shape, model.inputs[0].shape[-1]), tf.float32)
        weights = tf.TensorSpec((None, *patch_shape), tf.float32)
        single = tf.TensorSpec((), tf.int32)

        @tf.function(input_signature=[images])
        def scores(batch: tf.Tensor) -> tf.Tensor:
            return self._network(batch, training=False)[1]

        @tf.function(input_signature=[images])
        def feature_maps(batch: tf.Tensor) -> tf.Tensor:
            return self._network(batch, training=False)[0]

        @tf.function(input_signature=[images, weights, single])
        def gradient(batch: tf.Tensor, weight: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                maps, values = self._network(batch, training=False)
                # The network's own tape would let go of a tensor that is only passed on.
                tape.watch(maps)
                score = tf.reduce_sum(tf.gather(values, number, axis=-1) * weight)
            found = tape.gradient(score, maps, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            places = list(range(1, len(maps.shape) - 1))
            return tf.reduce_sum(tf.reduce_mean(found, axis=places), axis=0)

        self._scores, self._feature_maps, self._gradient = scores, feature_maps, gradient

    @classmethod
    def of(cls, model: keras.Model, layer: str, patch_shape: Sequence[int | None]) -> ClassGradients:
        """Return the gradients of a model, which TensorFlow traces once for all calls; its weights may change."""
        known = _traced.setdefault(model, {})
        key = (layer, *patch_shape)
        if key not in known:
            known[key] = cls(model, layer, patch_shape)
        known[key].take_over_weights()
        return known[key]

    def take_over_weights(self) -> None:
        """Give the scores the model's present weights; the feature maps share the model's."""
        for layer, twin in self._twins:
            twin.set_weights(layer.get_weights())

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Return the scores ``(batch, x, y[, z], classes)`` of a batch of patches."""
        return _numpy(self._scores(images))

    def feature_maps(self, images: np.ndarray) -> np.ndarray:
        """Return the layer's output ``(batch, x', y'[, z'], features)``."""
        return _numpy(self._feature_maps(images))

    def gradient(self, images: np.ndarray, weights: np.ndarray, number: int) -> np.ndarray:
        """Return the gradient of a class's weighted score by the feature maps: mean over places, sum over patches.

        Args:
            images: Batch of patches.
            weights: Weight of each voxel's score, ``(batch, x, y[, z])``.
            number: The class.

        Returns:
            Array ``(features,)``.
        """
        return _numpy(self._gradient(images, weights, tf.constant(number, tf.int32)))


#: By model, which they do not keep alive.
_traced: WeakKeyDictionary[keras.Model, dict[tuple[Any, ...], ClassGradients]] = WeakKeyDictionary()


def _numpy(tensor: Any) -> np.ndarray:
    array: np.ndarray = tensor.numpy()
    return array


def _gives_a_map(layer: keras.layers.Layer, axes: int, model_outputs: Sequence[Any]) -> bool:
    if isinstance(layer, keras.layers.InputLayer):
        return False
    try:
        tensor = layer.output
    except (AttributeError, ValueError):  # called several times, or not as a part of the model
        return False
    shape = getattr(tensor, "shape", None)
    is_output = any(tensor is one for one in model_outputs)
    return shape is not None and len(shape) == axes + 2 and not is_output


def _kernel(layer: keras.layers.Layer) -> tuple[int, bool]:
    """Return the voxels of the kernel of a convolution, and whether it has strides."""
    size = getattr(layer, "kernel_size", None)
    if size is None or isinstance(layer, _TRANSPOSED):
        return 0, False
    return int(np.prod(size)), int(np.prod(getattr(layer, "strides", 1))) > 1


def _scores(
    model: keras.Model,
) -> tuple[Any, list[tuple[keras.layers.Layer, keras.layers.Layer]]]:
    """Return the output before its softmax or sigmoid; and the layer made for it, if any, with the layer it copies."""
    output = model.outputs[0]
    layer = maker_of(output)
    if isinstance(layer, keras.layers.Softmax):
        return layer.input, []
    activation = getattr(layer, "activation", None)
    if getattr(activation, "__name__", None) not in _SQUASHING:
        return output, []
    if isinstance(layer, keras.layers.Activation):
        return layer.input, []
    twin = type(layer).from_config(
        {**layer.get_config(), "activation": "linear", "name": f"{layer.name}_before_activation"}
    )
    scores = twin(layer.input)
    twin.set_weights(layer.get_weights())
    return scores, [(layer, twin)]
