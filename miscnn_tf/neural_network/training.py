"""One training of a network: from the samples' names to Keras' History."""

from __future__ import annotations

import gc
import logging
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from miscnn_tf.arguments import whole_number
from miscnn_tf.errors import ConfigurationError, MemoryBudgetError
from miscnn_tf.messages import plural, some_of
from miscnn_tf.neural_network import model_file
from miscnn_tf.neural_network.callback_checks import require_working
from miscnn_tf.neural_network.callbacks import DataWait, NonFiniteGuard, callback_list, has_schedule
from miscnn_tf.neural_network.class_weights import ClassWeight, class_weight_vector
from miscnn_tf.neural_network.compilation import Compilation, make_training_variables
from miscnn_tf.neural_network.data_generator import DataGenerator, Feed
from miscnn_tf.neural_network.device_memory import is_lack_of_device_memory
from miscnn_tf.neural_network.training_state import Position, TrainingState
from miscnn_tf.neural_network.trial import try_largest_images, warn_of_large_predictions
from miscnn_tf.processing.survey import Surveyed

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network

logger = logging.getLogger(__name__)


class Training:
    """One training of a network; of several machines that train together, this one's part in it.

    Args:
        network: What is trained. Afterwards it says on which samples, and how many epochs it has been trained.
        compilation: How its model is compiled; renewed where loss, metrics or class weights changed.
        training: Names of the samples to train on.
        validation: Names of the samples to validate on after each epoch; None: no validation.
        epochs: How many epochs.
        iterations: Steps per epoch; None for once through all samples.
        callbacks: Keras callbacks; the list is not changed.
        class_weight: ``{class: weight}`` or a weight per class.

    Raises:
        ConfigurationError: If a number is none.
    """

    def __init__(
        self,
        network: Neural_Network,
        compilation: Compilation,
        training: list[Hashable],
        validation: list[Hashable] | None,
        epochs: int,
        iterations: int | None,
        callbacks: Sequence[keras.callbacks.Callback],
        class_weight: ClassWeight | None,
    ) -> None:
        self.network = network
        self.compilation = compilation
        self.training = training
        self.validation = validation
        self.epochs = whole_number(epochs, "epochs", least=1)
        self.iterations = None if iterations is None else whole_number(iterations, "iterations", least=1)
        self.callbacks = callback_list(callbacks)
        self.class_weight = class_weight
        self.history = keras.callbacks.History()

    def run(self) -> keras.callbacks.History:
        """Train, and return the history.

        Raises:
            ConfigurationError: If an argument does not fit the network or its devices.
            DataError: If a sample cannot be used; the message lists them.
            TrainingError: If the loss is no longer a number, or another worker failed.
            MemoryBudgetError: If a step does not fit into the device's memory.
        """
        network = self.network
        workers = network.hardware.workers
        surveyed, seeds = workers.together(self._prepare, lambda: [network.preprocessor.seed])
        # All machines draw the same batches.
        seed = int(seeds[0, 0]) if len(seeds) > 1 else network.preprocessor.seed
        rate = network.learning_rate  # includes changes by compile() or on the optimizer
        self.compilation.renew(network, self.class_weight)
        make_training_variables(network)
        with self.compilation.training(network.model):
            if not has_schedule(network.model):
                # A callback of an earlier training may have changed it.
                network.model.optimizer.learning_rate = rate
            self._run(surveyed, seed)
        return self.history

    def _run(self, surveyed: list[Surveyed], seed: int) -> None:
        network, workers = self.network, self.network.hardware.workers
        network.trained_on = {"training": self.training, "validation": self.validation or []}
        (state, position), positions = workers.together(lambda: self._resumed(seed), lambda: [network.epochs_trained])
        _require_the_same_position(positions)

        feeds: list[Feed] = []
        try:
            workers.together(lambda: feeds.extend(self._feeds(position)))
            try_largest_images(network, surveyed, self.training, feeds[0].dataset)
            self._fit(feeds, position.begin, self._listeners(feeds[0], position.first, state))
        except tf.errors.OpError as error:
            # TensorFlow wraps what a Python generator raised; the original says more.
            for each in feeds:
                if each.loader.error is not None:
                    raise each.loader.error from None
            if not is_lack_of_device_memory(error):
                raise
            size, window = network.preprocessor.batch_size, network.window_shape
            raise MemoryBudgetError(
                f"a training step with batches of {size} times {window} voxels does not fit into the device's memory. "
                "Choose a smaller batch_size or patch_shape, a network of fewer filters (n_filters) or levels, or "
                "precision='mixed_float16' on a GPU that computes it, and close other programs that use the device"
            ) from error
        finally:
            for each in feeds:
                each.close()
            # Keras' iterator sits in a reference cycle; alive at the program's end, TensorFlow would complain of it.
            gc.collect()

    def _prepare(self) -> list[Surveyed]:
        """Check callbacks and samples, and run the subfunctions over the samples."""
        preprocessor = self.network.preprocessor
        require_working(self.callbacks, self.network.model, self.validation is not None)
        model_file.warn_of_unnamed(self.network)
        everything = list(dict.fromkeys([*self.training, *(self.validation or [])]))
        both = set(self.training) & set(self.validation or [])
        if both:
            logger.warning(
                "%s in both training and validation: %s. The validation scores are not those of unseen samples",
                f"{plural(len(both), 'sample')} {'is' if len(both) == 1 else 'are'}",
                some_of(sorted(map(str, both))),
            )
        preprocessor.data_io.check(everything)
        _require_a_share_for_each_device(self.network.hardware.replicas, preprocessor.batch_size)
        plan = self.network.plan
        surveyed = preprocessor.run_subfunctions(everything, training=True, plan=plan)
        warn_of_large_predictions(preprocessor, plan, surveyed)
        return surveyed

    def _resumed(self, seed: int) -> tuple[list[TrainingState], Position]:
        """Take the `TrainingState` out of the callbacks, if there is one, and find the position of the training."""
        network = self.network
        states = [callback for callback in self.callbacks if isinstance(callback, TrainingState)]
        if len(states) > 1:
            raise ConfigurationError("callbacks holds more than one TrainingState; one keeps everything")
        if not states:
            return states, Position(network.epochs_trained, 0, 0, seed)
        self.callbacks.remove(states[0])
        weights = None if self.class_weight is None else class_weight_vector(self.class_weight, network.classes)
        settings = {
            **model_file.training_settings(network),
            "epochs": self.epochs,
            "iterations": self.iterations,
            "class_weight": weights,
        }
        position = states[0].begin(network, settings, self.callbacks, self.history, self.epochs, seed)
        network.epochs_trained = position.first + position.done
        return states, position

    def _feeds(self, position: Position) -> Iterator[Feed]:
        """The batches to train on and, where samples validate, those to validate on.

        One by one: each may lie on disk, and is removed from there if the next one fails.
        """
        network, share = self.network, self.network.hardware.share
        plan = replace(network.plan, seed=position.seed)
        batches = DataGenerator(
            self.training,
            network.preprocessor,
            training=True,
            shuffle=network.shuffle_batches,
            iterations=self.iterations,
            labels=True,
            share=share,
            plan=plan,
        )
        # A second training goes on with fresh crops, not with the first one's.
        first = position.first
        # Keras looks at a batch even where no epoch is left.
        begin = min(position.begin, self.epochs - 1)
        epochs = range(first + begin, first + self.epochs)
        yield Feed(batches, epochs, network.workers, network.batch_queue_size)
        if self.validation is not None:
            checks = DataGenerator(
                self.validation, network.preprocessor, validation=True, labels=True, share=share, plan=plan
            )
            # Each epoch goes through it once, from its start.
            yield Feed(checks, range(1), network.workers, network.batch_queue_size)

    def _listeners(self, feed: Feed, first: int, state: Sequence[TrainingState]) -> list[keras.callbacks.Callback]:
        """All callbacks: ours before the user's, who may look at what they add to the logs, or write a model file."""

        def names(epoch: int, step: int) -> list[Hashable]:
            return feed.batches.names(first + epoch, step)

        def count(epoch: int, logs: Any = None) -> None:
            self.network.epochs_trained = first + epoch + 1

        return [
            NonFiniteGuard(names),
            DataWait(feed.loader),
            keras.callbacks.LambdaCallback(on_epoch_end=count),
            *self.callbacks,
            self.history,
            *state,  # last: it keeps what the others have made of the epoch
        ]

    def _fit(self, feeds: Sequence[Feed], initial_epoch: int, callbacks: list[keras.callbacks.Callback]) -> None:
        network = self.network
        feed, validation = feeds[0], feeds[1] if len(feeds) > 1 else None
        if network.hardware.replicas > 1:
            fit = self.compilation.distributed_fit(network).fit
            fit(feed, validation, self.epochs, initial_epoch, callbacks, network.verbose)
            return
        network.model.fit(
            feed.dataset,
            epochs=self.epochs,
            initial_epoch=initial_epoch,
            steps_per_epoch=len(feed.batches),
            validation_data=None if validation is None else validation.dataset,
            validation_steps=None if validation is None else len(validation.batches),
            callbacks=callbacks,
            shuffle=False,  # done already, sample by sample
            verbose=network.verbose,
        )


def _require_a_share_for_each_device(replicas: int, batch_size: int) -> None:
    if batch_size < replicas:
        raise ConfigurationError(
            f"batch_size={batch_size} is less than the {replicas} devices: each needs a share of the batch. Use a "
            f"batch_size of {replicas} or a multiple of it, or fewer devices (multi_gpu=False; without TF_CONFIG)"
        )
    if batch_size % replicas:
        logger.warning(
            "batch_size=%d cannot be shared evenly by %d devices: some wait for the others in every step. A "
            "multiple of their number is faster",
            batch_size,
            replicas,
        )


def _require_the_same_position(positions: np.ndarray) -> None:
    """Find out where workers would go on with different epochs."""
    epochs = [int(position) for position in positions[:, 0]]
    if len(set(epochs)) > 1:
        raise ConfigurationError(
            f"the workers would go on after different numbers of epochs ({', '.join(map(str, epochs))}): they do "
            "not see the same training_state.npz. Give TrainingState a folder that all machines share"
        )
