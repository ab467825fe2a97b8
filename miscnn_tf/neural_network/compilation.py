"""How a network's Keras model is compiled: with its loss, metrics and class weights, anew where those changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from miscnn_tf.neural_network import losses, metrics
from miscnn_tf.neural_network.class_weights import ClassWeight, apply_class_weight, class_weight_vector
from miscnn_tf.neural_network.distributed_fit import DistributedFit, loss_per_sample, metric_of_all_devices

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network


class Compilation:
    """What a network's Keras model was compiled with last, and the steps on several devices that were made of it."""

    def __init__(self) -> None:
        self._compiled_with: tuple[Any, ...] | None = None
        self._distributed: DistributedFit | None = None

    def renew(
        self, network: Neural_Network, class_weight: ClassWeight | None = None, new_optimizer: bool = False
    ) -> None:
        """Compile the model anew where its loss, metrics or class weights changed; the optimizer's state is kept.

        Args:
            network: Whose model it is; always the same one.
            class_weight: ``{class: weight}`` or a weight per class.
            new_optimizer: Compile in any case, with a fresh optimizer.
        """
        weights = None if class_weight is None else class_weight_vector(class_weight, network.classes)
        measured = metrics.get_all(network.metrics)
        wanted = (network.loss, tuple(network.metrics), weights)
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
            optimizer = getattr(network.model, "optimizer", None)
            if optimizer is None or new_optimizer:
                optimizer = keras.optimizers.Adam(learning_rate=network.learning_rate)
            elif isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
                optimizer = optimizer.inner_optimizer  # compile() wraps it again
            network.model.compile(
                optimizer=optimizer,
                loss=loss,
                metrics=measured,
                jit_compile=network.hardware.jit_compile,
            )
        self._compiled_with = wanted
        self._distributed = None

    def distributed_fit(self, network: Neural_Network) -> DistributedFit:
        """What trains the model, as it is compiled now, on several devices."""
        if self._distributed is None:
            self._distributed = DistributedFit(network.model, network.hardware)
        return self._distributed


def make_training_variables(network: Neural_Network) -> None:
    """Make the variables of optimizer and metrics: made in the first step, TensorFlow would trace it twice."""
    with network.hardware.scope():
        if not network.model.optimizer.built:
            network.model.optimizer.build(network.model.trainable_variables)
    if network.metrics and network.hardware.strategy.num_replicas_in_sync == 1:
        shape = (1, *(size or 8 for size in network.window_shape))
        background = tf.one_hot(tf.zeros(shape, tf.int32), network.classes)
        network.model.compute_metrics(None, background, background)
        network.model.reset_metrics()
