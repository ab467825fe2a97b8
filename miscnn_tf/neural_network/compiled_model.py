"""Keras model of a network on the devices of this machine, compiled again when its loss, metrics or weights change."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from miscnn_tf.data_loading.label_scheme import LabelScheme
from miscnn_tf.errors import ConfigurationError, ModelFileError
from miscnn_tf.neural_network import losses, metrics
from miscnn_tf.neural_network.class_weights import ClassWeight, apply_class_weight, class_weight_vector
from miscnn_tf.neural_network.distributed_fit import DistributedFit, loss_per_sample, metric_of_all_devices
from miscnn_tf.neural_network.hardware import Hardware
from miscnn_tf.neural_network.keras_internals import all_layers
from miscnn_tf.neural_network.label_target import require_parts_for
from miscnn_tf.neural_network.optimizer import (
    OptimizerRecipe,
    OptimizerSettings,
    copy_state,
    has_schedule,
    rate_of,
    require_no_schedule,
    unwrapped,
)
from miscnn_tf.neural_network.segmentation_model import SegmentationModel

logger = logging.getLogger(__name__)


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


class CompiledModel:
    """Keras model with its optimizer, on the devices of this machine.

    Users may compile the model themselves, or set its optimizer's learning rate; `follow` adopts such changes.

    Args:
        model: The Keras model, with initial weights.
        hardware: Its devices and precision.
        optimizer: Settings of its optimizer.
        window_shape: Spatial shape of its input; None in each axis for whole images.

    Attributes:
        optimizer: The current settings of the optimizer.
        as_built: The ``trainable`` flags of the model as the architecture built it.
        in_training: True during a training, in which callbacks may set the learning rate.
    """

    def __init__(
        self,
        model: SegmentationModel,
        hardware: Hardware,
        optimizer: OptimizerSettings,
        window_shape: tuple[int | None, ...],
    ) -> None:
        self.model = model
        self.hardware = hardware
        self.optimizer = optimizer
        self.window_shape = window_shape
        self.as_built = TrainableSet.of(model)
        self.in_training = False
        self._initial_random_state = random_state(model)
        self._compiled_with: tuple[Any, ...] | None = None
        self._distributed: DistributedFit | None = None
        # Optimizer and learning rate as this class set them; other values are the user's.
        self._own_optimizer: keras.optimizers.Optimizer | None = None
        self._own_rate: float | None = None

    # ---------------------------------------------------------------- compiling

    def compile(
        self,
        loss: Any,
        measured: Sequence[Any],
        class_weight: ClassWeight | None = None,
        *,
        new_optimizer: bool = False,
    ) -> None:
        """Compile the model again if loss, metrics, class weights or frozen layers have changed.

        The optimizer keeps its state; the state of newly unfrozen weights starts at zero.

        Args:
            loss: The loss.
            measured: The metrics.
            class_weight: ``{class: weight}`` or a weight per class.
            new_optimizer: Compile in any case, with a new optimizer.
        """
        classes = self.model.outputs[0].shape[-1]
        scheme = self.model.label_scheme or LabelScheme(classes)
        if class_weight is not None:
            scheme.require_classes("class_weight")
        weights = None if class_weight is None else class_weight_vector(class_weight, classes)
        metric_list = metrics.get_all(measured)
        trained = TrainableSet.of(self.model)
        wanted = (loss, tuple(measured), weights, trained)
        if self._compiled_with == wanted and not new_optimizer:
            return
        function = losses.get(loss)
        require_parts_for(scheme, function, metric_list)
        if class_weight is not None:
            function = apply_class_weight(function, class_weight, classes)
        if self.hardware.replicas > 1:
            function = loss_per_sample(function)
        with self.hardware.scope():
            if self.hardware.replicas > 1:
                metric_list = [metric_of_all_devices(metric) for metric in metric_list]
            optimizer = unwrapped(getattr(self.model, "optimizer", None))  # compile() wraps it again
            if optimizer is None or new_optimizer:
                optimizer = self.optimizer.make()
            elif optimizer.built and self._compiled_with is not None and self._compiled_with[-1] != trained:
                # A Keras optimizer can only train the weights that it was built for.
                before, optimizer = optimizer, self.optimizer.make()
                optimizer.build(self.model.trainable_variables)
                copy_state(before, optimizer)
            self.model.compile(
                optimizer=optimizer, loss=function, metrics=metric_list, jit_compile=self.hardware.jit_compile
            )
        self._compiled_with = wanted
        self._distributed = None
        self._note_optimizer()

    def make_variables(self) -> None:
        """Create the variables of optimizer and metrics, without which TensorFlow traces the first step twice.

        Raises:
            ConfigurationError: If all layers are frozen.
        """
        model = self.model
        if not model.trainable_variables:
            raise ConfigurationError(
                "all layers of the network are frozen; set trainable = True for some of "
                "network.model.layers (and for network.model itself)"
            )
        with self.hardware.scope():
            if not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
        if self._compiled_with is not None and self._compiled_with[1] and self.hardware.replicas == 1:
            shape = (1, *(size or 8 for size in self.window_shape))
            labels = tf.zeros(shape, tf.int32)
            model.compute_metrics(None, labels, tf.one_hot(labels, model.outputs[0].shape[-1]))
            model.reset_metrics()

    def distributed_fit(self) -> DistributedFit:
        """Return the training on several devices for the current compilation."""
        if self._distributed is None:
            self._distributed = DistributedFit(self.model, self.hardware)
        return self._distributed

    def transfer(self, other: CompiledModel, loss: Any, measured: Sequence[Any]) -> None:
        """Give weights, frozen layers and optimizer to a model of the same architecture for another input shape.

        Args:
            other: The other model; it is compiled.
            loss: The loss of both.
            measured: The metrics of both.
        """
        self.follow()
        self.compile(loss, measured)  # layers may have been frozen since the last one
        other.model.set_weights(self.model.get_weights())
        TrainableSet.of(self.model).set(other.model)
        other.optimizer = self.optimizer
        other._initial_random_state = self._initial_random_state
        other.compile(loss, measured)
        before, after = unwrapped(self.model.optimizer), unwrapped(other.model.optimizer)
        if before.built:
            with other.hardware.scope():
                after.build(other.model.trainable_variables)
            for new, old in zip(after.variables, before.variables, strict=True):
                new.assign(old)

    # ---------------------------------------------------------------- optimizer and learning rate

    def follow(self) -> None:
        """Adopt an optimizer or learning rate that the user set on the Keras model."""
        if self.in_training or self._own_optimizer is None:
            return
        optimizer = unwrapped(self.model.optimizer)
        rate = rate_of(optimizer)
        if optimizer is not self._own_optimizer:
            try:
                self.optimizer = replace(self.optimizer, recipe=OptimizerRecipe.of(optimizer))
            except ConfigurationError as reason:
                logger.warning("%s. This training uses it; folds and copies use the previous optimizer", reason)
            if rate is not None:
                self.optimizer = replace(self.optimizer, initial_rate=rate)
        elif rate == self._own_rate:
            return
        if rate is not None:
            self.optimizer = replace(self.optimizer, rate=rate)
        self._note_optimizer()

    def set_rate(self, rate: float) -> None:
        """Set the learning rate, also during a training.

        Raises:
            ConfigurationError: If the optimizer has a schedule.
        """
        require_no_schedule(self.model, "network.learning_rate = ...")
        self.follow()
        self.optimizer = replace(self.optimizer, rate=rate)
        self.model.optimizer.learning_rate = rate
        if not self.in_training:
            self._note_optimizer()

    @contextmanager
    def training(self) -> Iterator[None]:
        """Mark the model as being trained, so that learning rates of callbacks do not count as the user's changes."""
        self.in_training = True
        try:
            if not has_schedule(self.model):
                # A callback of an earlier training may have changed it.
                self.model.optimizer.learning_rate = self.optimizer.rate
            yield
        finally:
            self.in_training = False
            self._note_optimizer()

    # ---------------------------------------------------------------- state

    def changed_settings(self) -> dict[str, Any]:
        """Return the optimizer and frozen layers as JSON types, if they differ from the defaults."""
        self.follow()
        trainable = TrainableSet.of(self.model)
        settings = {
            "optimizer": self.optimizer.recipe.describe(),
            "trainable": None if trainable == self.as_built else trainable.describe(),
        }
        return {name: value for name, value in settings.items() if value is not None}

    def restore_random_state(self) -> None:
        """Restore the initial state of random layers, such as dropout."""
        set_random_state(self.model, self._initial_random_state)

    def _note_optimizer(self) -> None:
        self._own_optimizer = unwrapped(self.model.optimizer)
        self._own_rate = rate_of(self._own_optimizer)
