"""Keras model that trains on integer label maps, and its construction from an architecture."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from miscnn_tf.data_loading.label_scheme import LabelScheme
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.neural_network.architecture.layers import mend_layers
from miscnn_tf.neural_network.deep_supervision import (
    first_output,
    on_grid_of,
    output_weights,
    outputs_of,
    require_coarser_outputs,
)
from miscnn_tf.neural_network.hardware import Hardware
from miscnn_tf.neural_network.keras_internals import all_layers, maker_of
from miscnn_tf.neural_network.label_target import compared
from miscnn_tf.neural_network.output_check import (
    class_probabilities,
    region_probabilities,
    require_input,
    require_one_input,
)

logger = logging.getLogger(__name__)


@keras.saving.register_keras_serializable(package="miscnn_tf")
class SegmentationModel(keras.Model):
    """Functional Keras model whose targets may be integer label maps.

    Labels travel to the device as uint8 ``(batch, x, y[, z])``, one byte per voxel instead of four per voxel and class,
    and become one-hot ``(batch, x, y[, z], classes)`` inside the compiled step. One-hot targets work unchanged, so that
    the model can also be trained by hand.

    Example:
        >>> image = keras.Input((None, None, 1))
        >>> model = SegmentationModel(image, keras.layers.Conv2D(3, 1, activation="softmax")(image))
        >>> model.compile(loss="categorical_crossentropy")
    """

    #: Meaning of the labels; None: a class per channel.
    label_scheme: LabelScheme | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; ``model.trainable = True`` also unfreezes layers if the model itself is not frozen.

        TensorFlow skips an assignment of the same value and does not call Keras' setter, which would leave frozen
        layers frozen.
        """
        super().__setattr__(name, value)
        if name == "trainable" and getattr(self, "compiled", False):
            for layer in all_layers(self):
                type(layer).trainable.fset(layer, value)

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return Keras' compile configuration; None if Keras cannot serialise the loss or a metric.

        A finished training must not be lost because of it, and the model file describes loss and metrics anyway.
        """
        try:
            config: dict[str, Any] | None = super().get_compile_config()
        except Exception as reason:  # OSError for a lambda without source; a custom object may raise any error
            logger.info("the model is saved without its compile configuration: %s", reason)
            return None
        return config

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Compute Keras' loss for one-hot targets; of several outputs, their weighted sum (see `output_weights`)."""
        outputs, total = outputs_of(y_pred), None
        for place, (weight, output) in enumerate(zip(output_weights(len(outputs)), outputs, strict=True)):
            if weight == 0:
                # Its layer gets the gradient 0; without one, Keras would warn of it.
                total = total + 0.0 * keras.ops.mean(output)
                continue
            labels = y if place == 0 or y is None else on_grid_of(y, output, outputs[0])
            target, prediction = compared(labels, output, self.label_scheme)
            loss = super().compute_loss(
                x=x, y=target, y_pred=prediction, sample_weight=sample_weight, training=training
            )
            loss = loss if weight == 1 else weight * loss
            total = loss if total is None else total + loss
        return total

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Compute Keras' metrics of the first output for one-hot targets."""
        target, output = compared(y, first_output(y_pred), self.label_scheme)
        metrics: dict[str, Any] = super().compute_metrics(x, target, output, sample_weight=sample_weight)
        return metrics


def build_model(
    architecture: Abstract_Architecture,
    window_shape: tuple[int | None, ...],
    channels: int,
    classes: int,
    hardware: Hardware,
    seed: int,
    scheme: LabelScheme | None = None,
) -> SegmentationModel:
    """Build the model of an architecture, with initial weights.

    Args:
        architecture: The architecture.
        window_shape: Spatial shape of the input; None in each axis for whole images.
        channels: Channels of the input.
        classes: Classes of the output.
        hardware: The devices and the precision.
        seed: Seed of the initial weights.
        scheme: Meaning of the labels; with regions, the network gets a sigmoid for each of them instead of the classes.

    Raises:
        ConfigurationError: If the shape does not fit the architecture, or its network does not return the probabilities
            of all classes for each voxel.
    """
    scheme = LabelScheme(classes) if scheme is None else scheme
    check_shape = getattr(architecture, "check_shape", None)
    if check_shape is not None:
        check_shape(window_shape)
    input_shape = (*window_shape, channels)
    create = architecture.create_model_3D if len(window_shape) == 3 else architecture.create_model_2D
    with hardware.scope(), _seeded(seed):
        model = create(input_shape, n_labels=scheme.outputs)
        kind = f"{type(architecture).__module__}.{type(architecture).__qualname__}"
        if not callable(model):
            raise ConfigurationError(
                f"{kind} returns {model!r:.100}, not a Keras model; return the model from its method"
            )
        named = {"name": model.name} if getattr(model, "inputs", None) else {}
        inputs = list(model.inputs) if named else [keras.Input(input_shape)]
        outputs = list(model.outputs) if named else keras.tree.flatten(model(inputs[0]))
        require_one_input(kind, inputs)
        require_input(kind, inputs[0].shape[1:], input_shape)
        window, sized = _output_of_a_size(model, architecture, window_shape, channels)
        output = float32_output(outputs[0])
        if scheme.regions:
            output = region_probabilities(kind, output)
        output = class_probabilities(kind, output, window, scheme.outputs, sized, regions=bool(scheme.regions))
        further = [float32_output(one) for one in outputs[1:]]
        if scheme.regions:
            further = [region_probabilities(kind, one) for one in further]
        require_coarser_outputs(kind, [output, *further])
        built = SegmentationModel(inputs[0], [output, *further] if further else output, **named)
        built.label_scheme = scheme
    mend_layers(built, hardware.precision)
    return built


def _output_of_a_size(
    model: Any, architecture: Abstract_Architecture, window_shape: tuple[int | None, ...], channels: int
) -> tuple[tuple[int | None, ...], tuple[int | None, ...] | None]:
    """Return a spatial shape and the shape of the output for it; symbolic shapes of whole images have no sizes."""
    if None not in window_shape:
        return window_shape, None
    divisors = getattr(architecture, "divisors", None)
    size = tuple(math.lcm(64, divisor) for divisor in divisors(len(window_shape))) if divisors else (64, 64, 64)
    size = size[: len(window_shape)]
    try:
        shapes = model.compute_output_shape((1, *size, channels))
        return size, tuple(shapes[0] if isinstance(shapes, list) else shapes)
    except Exception as reason:  # a custom layer may not implement it
        logger.debug("the size of the output is not known before the first image: %s", reason)
        return window_shape, None


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed Python's global generator, from which Keras draws initial weights, for the block."""
    state = random.getstate()
    try:
        random.seed(seed)
        yield
    finally:
        random.setstate(state)


def float32_output(output: Any) -> Any:
    """Return the output of a network in float32 for any precision of its layers.

    Custom networks rarely set a precision. Under a mixed policy their probabilities would have 8 bits, which is too few
    for the logarithms and sums of a loss. The last layer, often with the softmax, computes in float32 instead.

    Args:
        output: The network's symbolic output.

    Returns:
        A symbolic float32 output; `output` itself if it is one.
    """
    if output.dtype == "float32":
        return output
    last = maker_of(output)
    if last.__class__.__module__.startswith("keras."):
        last.dtype_policy = "float32"
    # Graphs traced from now on follow that policy; the activation sets the symbolic type, for layers of any kind.
    return keras.layers.Activation("linear", dtype="float32", name="in_float32")(output)
