"""Training on several devices or machines, like Keras' ``fit``, with each batch shared between them.

Keras' own ``fit`` fails on several machines (Keras 3.15 under ``tf.distribute.MultiWorkerMirroredStrategy``: it adds up
the workers' images, and cannot reduce their metrics). If a batch cannot be shared evenly, it gives the samples of a
small share more weight than the others. In this module the loss is the mean over the samples of the whole batch.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.data_generator import Feed
from miscnn_tf.neural_network.hardware import Hardware
from miscnn_tf.neural_network.optimizer import has_schedule, learning_rate_of
from miscnn_tf.neural_network.shared_gradients import as_of_one_device, shares_batch, sum_over_devices

logger = logging.getLogger(__name__)

# Keras' callbacks that write files; of several machines, only the first one calls them.
_WRITERS = (keras.callbacks.CSVLogger, keras.callbacks.ModelCheckpoint, keras.callbacks.TensorBoard)

# Size of the whole batch, while a device computes the loss of its part.
_batch_size: ContextVar[tf.Tensor | None] = ContextVar("_batch_size", default=None)


class DistributedFit:
    """Training loop for a compiled model on several devices, like ``model.fit``.

    Callbacks, history and progress bar are Keras'. Each machine loads its own share of a batch. All use the learning
    rate of the first one, and a callback that ends the training on one machine ends it on all, so that callbacks may
    depend on time. Batch normalisation normalises each device's share by the share's own statistics, so that training
    with it depends on the number of devices; its moving averages are averaged over the devices after each epoch, for
    validation and model files. Instance normalisation does not depend on it.

    Args:
        model: The model, built and compiled in the hardware's scope.
        hardware: The devices.

    Example:
        >>> DistributedFit(network.model, network.hardware).fit(feed, epochs=10)  # doctest: +SKIP
    """

    def __init__(self, model: keras.Model, hardware: Hardware) -> None:
        self.model = model
        self.hardware = hardware
        self.strategy = hardware.strategy
        self.workers = hardware.workers
        self._average_statistics = tf.function(lambda: self.strategy.run(self._average))
        self._trace_anew()

    def fit(
        self,
        feed: Feed,
        validation: Feed | None = None,
        epochs: int = 1,
        initial_epoch: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: str | int = "auto",
    ) -> None:
        """Train on feeds of this process' share of each batch.

        Args:
            feed: The training batches from `initial_epoch` on.
            validation: The validation batches of an epoch.
            epochs: Number of all epochs.
            initial_epoch: The first epoch to train, from 0.
            callbacks: Keras callbacks.
            verbose: Keras' progress bar, on the first machine only.

        Raises:
            ConfigurationError: If a callback does not work on several devices, or the workers have different settings.
            TrainingError: If another worker fails or ends.
        """
        if any(isinstance(one, keras.callbacks.BackupAndRestore) for one in callbacks):
            raise ConfigurationError(
                "keras.callbacks.BackupAndRestore cannot resume a training on several devices or machines; use "
                "miscnn_tf.neural_network.checkpoint.TrainingState"
            )
        model, together, cluster = self.model, self.workers.together, self.hardware.cluster
        if cluster is not None and not cluster.is_chief:
            callbacks, verbose = [one for one in callbacks if not isinstance(one, _WRITERS)], 0
        listeners = keras.callbacks.CallbackList(
            list(callbacks),
            add_history=True,
            add_progbar=verbose != 0,
            verbose=verbose,
            epochs=epochs,
            steps=len(feed.batches),
            model=model,
        )
        if not any(metric is self._loss for metric in model.metrics):
            self._trace_anew()  # the user compiled the model
        with self.workers.watched():
            self._require_the_same(feed, validation, epochs)
            self._build(feed)
            model.stop_training = False
            together(listeners.on_train_begin)
            batches = iter(feed.dataset)
            logs: dict[str, Any] = {}
            for epoch in range(initial_epoch, epochs):
                logs = self._epoch(epoch, feed, batches, listeners)
                if validation is not None:
                    logs |= self._validate(validation, listeners)
                self._listen(listeners.on_epoch_end, epoch, logs)
                if model.stop_training:
                    break
            model.optimizer.finalize_variable_values(model.trainable_weights)
            together(lambda: listeners.on_train_end(logs))

    def _epoch(
        self, epoch: int, feed: Feed, batches: Iterator[Any], listeners: keras.callbacks.CallbackList
    ) -> dict[str, Any]:
        """Make the steps of an epoch and return its loss and metrics."""
        model = self.model
        model.reset_metrics()
        self._listen(listeners.on_epoch_begin, epoch)

        def prepare(step: int) -> Any:
            batch = next(batches)
            listeners.on_train_batch_begin(step)
            return batch

        for step in range(len(feed.batches)):
            batch, rates = self.workers.together(lambda: prepare(step), lambda: [learning_rate_of(model)])  # noqa: B023
            if not has_schedule(model) and rates[0, 0] != learning_rate_of(model):
                model.optimizer.learning_rate = rates[0, 0]
            logs = self._train_step(*self._shared(batch, feed, step))
            self._listen(listeners.on_train_batch_end, step, logs)
            if model.stop_training:
                break
        self._average_statistics()
        return dict(model.get_metrics_result())

    def _validate(self, feed: Feed, listeners: keras.callbacks.CallbackList) -> dict[str, Any]:
        """Validate after an epoch and return loss and metrics by Keras' names."""
        model = self.model
        self.workers.together(listeners.on_test_begin)
        model.reset_metrics()
        batches = iter(feed.dataset)

        def prepare(step: int) -> Any:
            batch = next(batches)
            listeners.on_test_batch_begin(step)
            return batch

        for step in range(len(feed.batches)):
            batch, _ = self.workers.together(lambda: prepare(step))  # noqa: B023
            logs = self._test_step(*self._shared(batch, feed, step))
            self.workers.together(lambda: listeners.on_test_batch_end(step, logs))  # noqa: B023
        result = dict(model.get_metrics_result())
        self.workers.together(lambda: listeners.on_test_end(result))
        return {f"val_{name}": value for name, value in result.items()}

    def _listen(self, hook: Callable[..., None], *arguments: Any) -> None:
        """Call the callbacks; if one ends the training on one worker, it ends on all."""
        _, stops = self.workers.together(lambda: hook(*arguments), lambda: [float(self.model.stop_training)])
        self.model.stop_training = bool(stops.any())

    def _require_the_same(self, feed: Feed, validation: Feed | None, epochs: int) -> None:
        """Require that all workers share the same batches."""
        feeds = [feed] if validation is None else [feed, validation]
        sizes = [[len(one.batches), one.batches.preprocessor.batch_size] for one in feeds]
        samples = [list(map(str, one.batches.sample_list)) for one in feeds]
        training = zlib.crc32(repr((epochs, sizes, samples)).encode())
        _, trainings = self.workers.together(lambda: None, lambda: [training])
        if len(set(trainings[:, 0])) > 1:
            raise ConfigurationError(
                "the workers would not train alike: their samples, epochs, steps or batch sizes differ. Start the same "
                "command on all machines, with the same data, and with a folder for the results that all of them see"
            )

    # ---------------------------------------------------------------- steps

    def _trace_anew(self) -> None:
        """Make new compiled steps for the current compilation of the model."""
        self._loss = next(metric for metric in self.model.metrics if metric.name == "loss")
        self._train_step = tf.function(self._on_all_devices(self._train), reduce_retracing=True)
        self._test_step = tf.function(self._on_all_devices(self._test), reduce_retracing=True)

    def _build(self, feed: Feed) -> None:
        """Create the variables of optimizer and metrics, which cannot be created in a step.

        Raises:
            ConfigurationError: If a metric would count on this machine only.
        """
        model = self.model
        with self.strategy.scope():
            if not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
            output = keras.KerasTensor((feed.batches.preprocessor.batch_size, *model.outputs[0].shape[1:]), "float32")
            for metric in model.metrics:
                if not getattr(metric, "built", True):
                    metric.build(output, output)
        in_scope = self.strategy.extended.variable_created_in_scope
        alone = [one.path for one in model.metrics_variables if not in_scope(one.value)]
        if alone and self.hardware.cluster is not None:
            raise ConfigurationError(
                f"a metric ({alone[0]}) would count this worker's share of the batches alone: it was made outside of "
                "the scope of the network's devices, and its class has no get_config() of its own that tells how to "
                "make another. Write one, or make the metric in network.hardware.scope()"
            )

    def _shared(self, batch: tuple[tf.Tensor, tf.Tensor], feed: Feed, step: int) -> tuple[Any, Any, tf.Tensor]:
        """Return this process' part of a batch, divided between its devices, and the size of the whole batch."""
        size, share = len(feed.batches.names(0, step)), self.hardware.share
        sizes = [len(part) for part in share.split(size)]

        def distribute(array: tf.Tensor) -> Any:
            parts = tf.split(array, sizes)
            return self.strategy.experimental_distribute_values_from_function(
                lambda context: parts[context.replica_id_in_sync_group - share.first]
            )

        images, labels = map(distribute, batch)
        return images, labels, tf.constant(size, tf.float32)

    def _on_all_devices(self, step: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
        def on_all(images: Any, labels: Any, size: tf.Tensor) -> dict[str, Any]:
            logs = self.strategy.run(step, args=(images, labels, size))
            # All devices return the same.
            return {name: self.strategy.experimental_local_results(value)[0] for name, value in logs.items()}

        return on_all

    def _train(self, images: tf.Tensor, labels: tf.Tensor, size: tf.Tensor) -> dict[str, tf.Tensor]:
        """Make a step on one device, with its part of a batch of `size` samples."""
        model, optimizer = self.model, self.model.optimizer
        with tf.GradientTape() as tape:
            output = model(images, training=True)
            loss = self._mean_loss(images, labels, output, size, training=True)
            scaled = optimizer.scale_loss(loss * _part(images, size))
        gradients = as_of_one_device(tape.gradient(scaled, model.trainable_variables), optimizer)
        optimizer.apply(gradients, model.trainable_variables)  # sums those of all devices
        self._count(images, labels, output, loss)
        return self._result(images, size)

    def _test(self, images: tf.Tensor, labels: tf.Tensor, size: tf.Tensor) -> dict[str, tf.Tensor]:
        """Make a validation step on one device; its part of a small last batch may be empty."""

        def count() -> tf.Tensor:
            output = self.model(images, training=False)
            self._count(images, labels, output, self._mean_loss(images, labels, output, size, training=False))
            return tf.constant(True)

        tf.cond(tf.shape(images)[0] > 0, count, lambda: tf.constant(False))
        return self._result(images, size)

    def _average(self) -> None:
        """Average the moving averages of batch normalisation, which each device computes for its own shares."""
        variables = [one for one in self.model.non_trainable_variables if one.dtype.startswith(("float", "bfloat"))]
        if variables:
            sums = sum_over_devices([tf.convert_to_tensor(one) for one in variables])
            for variable, total in zip(variables, sums, strict=True):
                variable.assign(total / self.hardware.replicas)

    def _mean_loss(
        self, images: tf.Tensor, labels: tf.Tensor, output: tf.Tensor, size: tf.Tensor, training: bool
    ) -> tf.Tensor:
        before, shared = _batch_size.set(size), shares_batch.set(training)
        try:
            loss = self.model.compute_loss(x=images, y=labels, y_pred=output, training=training)
        finally:
            _batch_size.reset(before)
            shares_batch.reset(shared)
        return loss * self.hardware.replicas  # Keras divides by it, as if all parts had one size

    def _count(self, images: tf.Tensor, labels: tf.Tensor, output: tf.Tensor, loss: tf.Tensor) -> None:
        self._loss.update_state(loss, sample_weight=tf.shape(images)[0])
        self.model.compute_metrics(images, labels, output)

    def _result(self, images: tf.Tensor, size: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return loss and metrics of the epoch so far, over all devices."""
        part = _part(images, size)
        logs = {name: tf.cast(value, tf.float32) * part for name, value in self.model.get_metrics_result().items()}
        sums: dict[str, tf.Tensor] = sum_over_devices(logs)
        return sums


def loss_per_sample(loss: Any) -> Any:
    """Return a loss that Keras reduces to a mean, even if the given one returns one number for a batch.

    On several devices Keras divides the values that it reduces by the number of devices, but not a single number, whose
    gradient would then be too large by that factor.

    Args:
        loss: A function ``(y_true, y_pred)``, or a Keras loss.

    Returns:
        A function of the same name that returns at least a value per sample. For a loss that is summed over the batch
        (``reduction="sum"``, or none, for which TensorFlow's gradient is that of the sum), the mean is that sum.
    """
    is_object = isinstance(loss, keras.losses.Loss)
    summed = is_object and loss.reduction not in ("sum_over_batch_size", "mean", "mean_with_sample_weight")
    function = loss.call if is_object else loss

    def per_sample(y_true: Any, y_pred: Any) -> Any:
        value = keras.ops.convert_to_tensor(function(y_true, y_pred))
        if len(value.shape) == 0:
            return keras.ops.broadcast_to(value, keras.ops.shape(y_pred)[:1])
        if not summed:
            return value
        own, whole = keras.ops.shape(y_pred)[0], _batch_size.get()
        of_each = keras.ops.sum(keras.ops.reshape(value, (own, -1)), -1)
        return of_each * keras.ops.cast(own if whole is None else whole, of_each.dtype)

    name = getattr(loss, "__name__", None) or getattr(loss, "name", type(loss).__name__)
    per_sample.__name__ = per_sample.__qualname__ = str(name)
    return per_sample


def metric_of_all_devices(metric: Any) -> Any:
    """Return a metric that counts separately on each device; call it in the scope of the devices.

    Args:
        metric: A metric for ``model.compile``.

    Returns:
        For an object with variables that were created outside of the scope, which the devices would share, a new one
        from its configuration, if that is certain to be complete; otherwise `metric`.
    """
    in_scope = tf.distribute.get_strategy().extended.variable_created_in_scope
    if not isinstance(metric, keras.metrics.Metric) or all(in_scope(one.value) for one in metric.variables):
        return metric
    classes = type(metric).__mro__
    configured, made = (
        next(place for place, each in enumerate(classes) if name in vars(each)) for name in ("get_config", "__init__")
    )
    if configured > made:  # get_config() is inherited and lacks the arguments of this class' constructor
        return metric
    try:
        return type(metric).from_config(metric.get_config())
    except Exception as error:  # a custom class may raise any error
        logger.warning(
            "the metric %r cannot be made anew for each device from its configuration: %s", metric.name, error
        )
        return metric


def _part(images: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.shape(images)[0], tf.float32) / size
