"""How a network's Keras model is compiled: with its loss, metrics and class weights, anew where those changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network import losses, metrics
from miscnn_tf.neural_network.class_weights import ClassWeight, apply_class_weight, class_weight_vector
from miscnn_tf.neural_network.distributed_fit import DistributedFit, loss_per_sample, metric_of_all_devices
from miscnn_tf.neural_network.optimizer import copy_state, rate_of, unwrapped
from miscnn_tf.neural_network.trainable import TrainableSet

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network


class Compilation:
    """State of the compilation of a network's Keras model: settings, optimizer, and training steps on several devices.

    Attributes:
        in_training: Whether the model is being trained; callbacks then set its learning rate.
    """

    def __init__(self) -> None:
        self.in_training = False
        self._compiled_with: tuple[Any, ...] | None = None
        self._distributed: DistributedFit | None = None
        self._optimizer: keras.optimizers.Optimizer | None = None
        self._rate: float | None = None

    def renew(
        self, network: Neural_Network, class_weight: ClassWeight | None = None, new_optimizer: bool = False
    ) -> None:
        """Compile the model again if loss, metrics, class weights or frozen layers have changed.

        The optimizer keeps its state; the state of newly unfrozen weights starts at zero.

        Args:
            network: The network of the model; the same one in each call.
            class_weight: ``{class: weight}`` or a weight per class.
            new_optimizer: Compile in any case, with a fresh optimizer.
        """
        weights = None if class_weight is None else class_weight_vector(class_weight, network.classes)
        measured = metrics.get_all(network.metrics)
        trained = TrainableSet.of(network.model)
        wanted = (network.loss, tuple(network.metrics), weights, trained)
        if self._compiled_with == wanted and not new_optimizer:
            return
        loss = losses.get(network.loss)
        if class_weight is not None:
            loss = apply_class_weight(loss, class_weight, network.classes)
        if network.hardware.replicas > 1:
            loss = loss_per_sample(loss)
        with network.hardware.scope():
            if network.hardware.replicas > 1:
                measured = [metric_of_all_devices(metric) for metric in measured]
            optimizer = unwrapped(getattr(network.model, "optimizer", None))  # compile() wraps it again
            if optimizer is None or new_optimizer:
                optimizer = network.make_optimizer()
            elif optimizer.built and self._compiled_with is not None and self._compiled_with[-1] != trained:
                # A Keras optimizer can only train the weights that it was built for.
                before, optimizer = optimizer, network.make_optimizer()
                optimizer.build(network.model.trainable_variables)
                copy_state(before, optimizer)
            network.model.compile(
                optimizer=optimizer,
                loss=loss,
                metrics=measured,
                jit_compile=network.hardware.jit_compile,
            )
        self._compiled_with = wanted
        self._distributed = None
        self.note_optimizer(network.model)

    def note_optimizer(self, model: keras.Model) -> None:
        """Record the current optimizer and learning rate; later differences are the user's changes."""
        self._optimizer = unwrapped(model.optimizer)
        self._rate = rate_of(self._optimizer)

    def user_optimizer(self, model: keras.Model) -> keras.optimizers.Optimizer | None:
        """Return the optimizer of the user's own ``compile()``; None if the recorded one is still in use."""
        if self.in_training or self._optimizer is None:
            return None
        optimizer = unwrapped(model.optimizer)
        return None if optimizer is self._optimizer else optimizer

    def user_rate(self, model: keras.Model) -> float | None:
        """Return the learning rate that the user set on the optimizer; None if it is unchanged."""
        if self.in_training or self._optimizer is None:
            return None
        rate = rate_of(unwrapped(model.optimizer))
        return None if rate == self._rate else rate

    @contextmanager
    def training(self, model: keras.Model) -> Iterator[None]:
        """Mark the model as being trained, so that learning rates of callbacks do not count as the user's changes."""
        self.in_training = True
        try:
            yield
        finally:
            self.in_training = False
            self.note_optimizer(model)

    def distributed_fit(self, network: Neural_Network) -> DistributedFit:
        """Return the training on several devices for the current compilation."""
        if self._distributed is None:
            self._distributed = DistributedFit(network.model, network.hardware)
        return self._distributed


def make_training_variables(network: Neural_Network) -> None:
    """Create the variables of optimizer and metrics, without which TensorFlow traces the first step twice.

    Raises:
        ConfigurationError: If all layers are frozen.
    """
    if not network.model.trainable_variables:
        raise ConfigurationError(
            "all layers of the network are frozen; set trainable = True for some of "
            "network.model.layers (and for network.model itself)"
        )
    with network.hardware.scope():
        if not network.model.optimizer.built:
            network.model.optimizer.build(network.model.trainable_variables)
    if network.metrics and network.hardware.strategy.num_replicas_in_sync == 1:
        shape = (1, *(size or 8 for size in network.window_shape))
        background = tf.one_hot(tf.zeros(shape, tf.int32), network.classes)
        network.model.compute_metrics(None, background, background)
        network.model.reset_metrics()
