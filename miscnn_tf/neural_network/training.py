"""One training of a network, from the names of the samples to Keras' History."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from miscnn_tf._base.arguments import callback_list, whole_number
from miscnn_tf._base.configuration import is_lambda
from miscnn_tf._base.messages import plural, some_of
from miscnn_tf._machine.system_memory import system_memory
from miscnn_tf._machine.tensorflow_messages import without_logged
from miscnn_tf._machine.tf_config import TF_CONFIG
from miscnn_tf.errors import ConfigurationError, MemoryBudgetError
from miscnn_tf.neural_network.callbacks import DataWait, NonFiniteGuard, require_working
from miscnn_tf.neural_network.class_weights import ClassWeight, class_weight_vector
from miscnn_tf.neural_network.compiled_model import CompiledModel
from miscnn_tf.neural_network.data_generator import DataGenerator, Feed
from miscnn_tf.neural_network.hardware import is_lack_of_device_memory
from miscnn_tf.neural_network.network_snapshot import NetworkSnapshot
from miscnn_tf.neural_network.training_log import with_epoch_bar
from miscnn_tf.neural_network.training_state import Position, TrainingState
from miscnn_tf.processing.assembling import assembling_bytes, most_sections
from miscnn_tf.processing.patching.patch_plan import PatchPlan
from miscnn_tf.processing.preparation import Surveyed
from miscnn_tf.processing.preprocessor import Preprocessor

logger = logging.getLogger(__name__)

# A function from patches to their class probabilities.
Predictor = Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]]


class TrainingSettings:
    """Arguments of a training.

    Args:
        training: Names of the samples to train on.
        validation: Names of the samples to validate on after each epoch; None without validation.
        epochs: Number of epochs.
        iterations: Steps per epoch; None for all samples once.
        callbacks: Keras callbacks; the list is not changed.
        class_weight: ``{class: weight}`` or a weight per class.
        shuffle: True to draw the order of samples anew in each epoch.
        workers: Number of loader threads.
        queue_size: Number of batches made ahead of the step.
        verbose: Keras' progress bar.
        validation_batches: Batches of random patches per validation; None for one patch of each sample.

    Raises:
        ConfigurationError: If a value is invalid.
    """

    def __init__(
        self,
        training: list[Hashable],
        validation: list[Hashable] | None,
        epochs: int,
        iterations: int | None,
        callbacks: Sequence[keras.callbacks.Callback],
        class_weight: ClassWeight | None,
        *,
        shuffle: bool = True,
        workers: int = 1,
        queue_size: int = 2,
        verbose: str | int = "auto",
        validation_batches: int | None = None,
    ) -> None:
        self.training = training
        self.validation = validation
        self.epochs = whole_number(epochs, "epochs", least=1)
        self.iterations = None if iterations is None else whole_number(iterations, "iterations", least=1)
        self.callbacks = callback_list(callbacks)
        self.class_weight = class_weight
        self.shuffle = shuffle
        self.workers = workers
        self.queue_size = queue_size
        self.verbose = verbose
        self.validation_batches = valid_batches(validation_batches)

    @property
    def trained_on(self) -> dict[str, list[Hashable]]:
        """Names of the samples, as in model files."""
        return {"training": self.training, "validation": self.validation or []}


def valid_batches(validation_batches: int | None) -> int | None:
    """Return the number of batches of a validation, or None.

    Raises:
        ConfigurationError: If it is not a positive whole number.
    """
    return None if validation_batches is None else whole_number(validation_batches, "validation_batches", least=1)


@dataclass(frozen=True)
class Progress:
    """Result of a training so far, which its network adopts.

    Args:
        trained_on: Names of the samples.
        epochs_trained: Number of epochs since the initial weights.
    """

    trained_on: dict[str, list[Hashable]]
    epochs_trained: int


class Training:
    """One training of a network; of several machines that train together, the part of this one.

    Args:
        settings: The arguments of the training.
        compiled: The model; it is compiled and trained.
        network: Settings of the network.
        plan: Settings of the patches for this network.
        predictor: Returns the function that predicts patches; called if whole images differ in size.
        report: Called with the progress before the first batch is made and after each epoch, ahead of the user's
            callbacks, which may write a model file.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        compiled: CompiledModel,
        network: NetworkSnapshot,
        plan: PatchPlan,
        predictor: Callable[[], Predictor],
        report: Callable[[Progress], None],
    ) -> None:
        self.settings = settings
        self.compiled = compiled
        self.network = network
        self.preprocessor = network.preprocessor
        self.plan = plan
        self.predictor = predictor
        self.report = report
        self.callbacks = list(settings.callbacks)
        self.history = keras.callbacks.History()
        self._position = Position(network.epochs_trained, 0, 0, network.preprocessor.seed)

    def run(self) -> keras.callbacks.History:
        """Train, and return the history.

        Raises:
            ConfigurationError: If an argument does not fit the network or its devices.
            DataError: If a sample cannot be used; the message lists them.
            TrainingError: If the loss is not finite, or another worker failed.
            MemoryBudgetError: If a step does not fit into the device's memory.
        """
        together = self.compiled.hardware.workers.together
        surveyed, seeds = together(self._prepare, lambda: [self.preprocessor.seed])
        # All workers must draw the batches of the first one.
        seed = int(seeds[0, 0]) if len(seeds) > 1 else self.preprocessor.seed
        self.compiled.follow()
        self.compiled.compile(self.network.loss, self.network.metrics, self.settings.class_weight)
        self.compiled.make_variables()
        with self.compiled.training():
            self._run(surveyed, seed)
        return self.history

    def _run(self, surveyed: list[Surveyed], seed: int) -> None:
        together = self.compiled.hardware.workers.together
        self._report(self.network.epochs_trained)
        state, done = together(lambda: self._resumed(seed), lambda: [self._position.first + self._position.done])
        _require_the_same_position(done)
        position = self._position
        feeds: list[Feed] = []
        try:
            together(lambda: feeds.extend(self._feeds(position)))
            self._try_largest_images(surveyed, feeds[0].dataset)
            self._fit(feeds, position.begin, self._listeners(feeds[0], position, state))
        except tf.errors.OpError as error:
            # TensorFlow wraps errors of a Python generator; the original is clearer.
            for each in feeds:
                if each.loader.error is not None:
                    raise each.loader.error from None
            if not is_lack_of_device_memory(error):
                raise
            size, window = self.preprocessor.batch_size, self.compiled.window_shape
            raise MemoryBudgetError(
                f"a training step with batches of {size} times {window} voxels does not fit into the device's memory. "
                "Choose a smaller batch_size or patch_shape, a network of fewer filters (n_filters) or levels, or "
                "precision='mixed_float16' on a GPU that computes it, and close other programs that use the device"
            ) from error
        finally:
            for each in feeds:
                each.close()
            # Keras' iterator is in a reference cycle; TensorFlow logs errors if it exists at the program's end.
            gc.collect()

    def _report(self, epochs_trained: int) -> None:
        self.report(Progress(self.settings.trained_on, epochs_trained))

    # ---------------------------------------------------------------- before the first step

    def _prepare(self) -> list[Surveyed]:
        """Check callbacks and samples, and run the subfunctions over the samples."""
        training, validation = self.settings.training, self.settings.validation or []
        if validation and self.settings.validation_batches is not None and self.plan.analysis != "patchwise-crop":
            raise ConfigurationError(
                f"validation_batches={self.settings.validation_batches} is a number of batches of random patches, but "
                f"analysis={self.plan.analysis!r} validates each image as a whole; set validation_batches=None (in a "
                "configuration: remove the key), or use analysis='patchwise-crop'"
            )
        require_working(self.callbacks, self.compiled.model, self.settings.validation is not None)
        _warn_of_lambdas(self.network.loss, self.network.metrics)
        everything = list(dict.fromkeys([*training, *validation]))
        both = set(training) & set(validation)
        if both:
            logger.warning(
                "%s in both training and validation: %s. The validation scores are not those of unseen samples",
                f"{plural(len(both), 'sample')} {'is' if len(both) == 1 else 'are'}",
                some_of(sorted(map(str, both))),
            )
        self.preprocessor.data_io.check(everything)
        _require_a_share_for_each_device(self.compiled.hardware.replicas, self.preprocessor.batch_size)
        surveyed = self.preprocessor.run_subfunctions(everything, training=True, plan=self.plan)
        _warn_of_large_predictions(self.preprocessor, self.plan, surveyed)
        return surveyed

    def _resumed(self, seed: int) -> list[TrainingState]:
        """Take the `TrainingState` out of the callbacks, if there is one, and go to its position."""
        states = [callback for callback in self.callbacks if isinstance(callback, TrainingState)]
        if len(states) > 1:
            raise ConfigurationError("callbacks holds more than one TrainingState; pass one")
        first = self.network.epochs_trained
        self._position = Position(first, 0, 0, seed)
        if not states:
            return states
        self.callbacks.remove(states[0])
        given = self.settings.class_weight
        settings = {
            **replace(self.network, trained_on=self.settings.trained_on).training_settings(),
            "epochs": self.settings.epochs,
            "iterations": self.settings.iterations,
            "class_weight": None if given is None else class_weight_vector(given, self.network.classes),
        }
        self._position = states[0].begin(
            settings, self.callbacks, self.history, self.settings.epochs, first=first, seed=seed
        )
        self._report(self._position.first + self._position.done)
        return states

    def _feeds(self, position: Position) -> Iterator[Feed]:
        """Yield the batches to train on and, with validation samples, those to validate on.

        One by one: each may be on disk, and is removed from there if the next one fails.
        """
        settings, share = self.settings, self.compiled.hardware.share
        plan = replace(self.plan, seed=position.seed)
        batches = DataGenerator(
            settings.training,
            self.preprocessor,
            training=True,
            shuffle=settings.shuffle,
            iterations=settings.iterations,
            labels=True,
            share=share,
            plan=plan,
        )
        # A second training draws new crops, not those of the first one.
        first = position.first
        # Keras reads a batch even if no epoch is left.
        begin = min(position.begin, settings.epochs - 1)
        yield Feed(batches, range(first + begin, first + settings.epochs), settings.workers, settings.queue_size)
        if settings.validation is not None:
            number = settings.validation_batches
            checks = DataGenerator(
                settings.validation,
                self.preprocessor,
                validation=True,
                # Samples in a random order: the first ones by name may be from one hospital.
                shuffle=number is not None,
                iterations=number,
                labels=True,
                share=share,
                plan=plan,
            )
            # Each epoch reads all of it, from its beginning.
            yield Feed(checks, range(1), settings.workers, settings.queue_size)

    # ---------------------------------------------------------------- training

    def _listeners(
        self, feed: Feed, position: Position, state: Sequence[TrainingState]
    ) -> list[keras.callbacks.Callback]:
        """Return all callbacks: ours before the user's, which may read our logs or write a model file."""

        def names(epoch: int, step: int) -> list[Hashable]:
            return feed.batches.names(position.first + epoch, step)

        def count(epoch: int, logs: Any = None) -> None:
            self._report(position.first + epoch + 1)

        return [
            NonFiniteGuard(names),
            DataWait(feed.loader),
            keras.callbacks.LambdaCallback(on_epoch_end=count),
            *with_epoch_bar(self.callbacks, self.preprocessor.data_io.interface.names_of_classes()),
            self.history,
            *state,  # last, because it saves the states of the others
        ]

    def _fit(self, feeds: Sequence[Feed], initial_epoch: int, callbacks: list[keras.callbacks.Callback]) -> None:
        settings = self.settings
        feed, validation = feeds[0], feeds[1] if len(feeds) > 1 else None
        if self.compiled.hardware.replicas > 1:
            fit = self.compiled.distributed_fit().fit
            fit(feed, validation, settings.epochs, initial_epoch, callbacks, settings.verbose)
            return
        # Each fold has a model of its own, whose step is traced once.
        with without_logged("tensorflow", "triggered tf.function retracing"):
            self.compiled.model.fit(
                feed.dataset,
                epochs=settings.epochs,
                initial_epoch=initial_epoch,
                steps_per_epoch=len(feed.batches),
                validation_data=None if validation is None else validation.dataset,
                validation_steps=None if validation is None else len(validation.batches),
                callbacks=callbacks,
                shuffle=False,  # the batches are shuffled by sample
                verbose=settings.verbose,
            )

    # ---------------------------------------------------------------- largest images

    def _try_largest_images(self, samples: Sequence[Surveyed], dataset: tf.data.Dataset) -> None:
        """Make a training step with the largest image and predict the largest one, if whole images differ in size.

        All variables keep their values. Patches have one size, so that the first step of their training is a trial.

        Args:
            samples: All samples of the training and its validation.
            dataset: The training batches; none is taken, but the trial has their types.

        Raises:
            MemoryBudgetError: If one of them does not fit into the device's memory.
        """
        shapes = {sample.name: self.plan.patch_shape_for(sample.shape) for sample in samples}
        if None not in self.compiled.window_shape or len(set(shapes.values())) == 1:
            return

        def size(name: Hashable) -> int:
            return math.prod(shapes[name])

        trained, predicted = max(self.settings.training, key=size), max(shapes, key=size)
        logger.info("trying a step with the largest image, %r of %s voxels", trained, shapes[trained])
        try:
            _try_step(self.compiled.model, shapes[trained], dataset)
        except tf.errors.OpError as error:
            if not is_lack_of_device_memory(error):
                raise
            raise MemoryBudgetError(
                f"a training step with the largest image, {trained!r} of {shapes[trained]} voxels, does not fit into "
                "the device's memory. Train on patches (analysis='patchwise-crop' with a patch_shape), or choose a "
                "coarser Resampling or a network of fewer filters (n_filters) or levels"
            ) from error
        image = np.zeros((*shapes[predicted], self.network.preprocessor.input_channels), np.float32)
        try:
            for _ in self.predictor()([image]):
                pass
        except MemoryBudgetError as error:
            raise MemoryBudgetError(f"the largest image, {predicted!r}, cannot be predicted: {error}") from error


def _try_step(model: keras.Model, window: Sequence[int], dataset: tf.data.Dataset) -> None:
    """Make a step with an image of zeros, and restore all variables."""
    variables = [*model.variables, *model.optimizer.variables]
    before = [keras.ops.convert_to_numpy(variable) for variable in variables]
    images, labels = dataset.element_spec
    batch = (
        np.zeros((1, *window, model.input_shape[-1]), images.dtype.as_numpy_dtype),
        np.zeros((1, *window), labels.dtype.as_numpy_dtype),
    )

    def one() -> Any:
        yield batch

    trial = tf.data.Dataset.from_generator(one, output_signature=dataset.element_spec)
    try:
        # The same graph as that of the training, traced once.
        model.fit(trial, steps_per_epoch=1, shuffle=False, verbose=0)
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        model.reset_metrics()


def _warn_of_large_predictions(preprocessor: Preprocessor, plan: PatchPlan, samples: Sequence[Surveyed]) -> None:
    """Log a warning for a sample whose prediction does not fit into the free memory, even slab by slab.

    Args:
        preprocessor: Prepares the samples.
        plan: Settings of the patches.
        samples: All samples of a training.
    """
    free = system_memory().available
    if free is None or not samples:
        return
    largest = {
        max(samples, key=lambda sample: math.prod(sample.shape)).name,
        max(samples, key=lambda sample: math.prod(sample.original)).name,
    }
    for name in largest:
        sample = preprocessor.prepare_sample_subfunctions(name, training=True)
        sections = most_sections(plan, sample)
        needed = sum(assembling_bytes(plan, preprocessor.subfunctions, sample, False, 1, sections))
        if needed > free:
            logger.warning(
                "sample %r of %s voxels and %d classes takes %.1f GB to be predicted, but only %.1f GB of this "
                "machine's memory are free; predict it on another machine, with a smaller patch_shape or a coarser "
                "Resampling",
                *(name, sample.shape[:-1], sample.classes, needed / 1e9, free / 1e9),
            )


def _warn_of_lambdas(loss: Any, metrics: Sequence[Any]) -> None:
    """Log a warning for a loss or metrics that a model file cannot hold."""
    parts = {"the loss": loss, **{f"metric {number}": metric for number, metric in enumerate(metrics, 1)}}
    lambdas = [name for name, part in parts.items() if is_lambda(part)]
    if lambdas:
        logger.warning(
            "%s: a lambda cannot be stored in a model file; model files are written without it. Define it with def, so "
            "that load_model() can restore it",
            ", ".join(lambdas),
        )


def _require_a_share_for_each_device(replicas: int, batch_size: int) -> None:
    if batch_size < replicas:
        raise ConfigurationError(
            f"batch_size={batch_size} is less than the {replicas} devices: each needs a share of the batch. Use a "
            f"batch_size of {replicas} or a multiple of it, or fewer devices (multi_gpu=False; without {TF_CONFIG})"
        )
    if batch_size % replicas:
        logger.warning(
            "batch_size=%d cannot be shared evenly by %d devices: some wait for the others in every step. A "
            "multiple of their number is faster",
            batch_size,
            replicas,
        )


def _require_the_same_position(done: np.ndarray) -> None:
    """Require that all workers continue with the same epoch."""
    epochs = [int(count) for count in done[:, 0]]
    if len(set(epochs)) > 1:
        raise ConfigurationError(
            f"the workers would go on after different numbers of epochs ({', '.join(map(str, epochs))}): they do "
            "not read the same training_state.npz. Give TrainingState a folder that all machines share"
        )
