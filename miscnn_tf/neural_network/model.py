"""The Neural_Network: a network, how it is trained, and how it predicts whole images."""

from __future__ import annotations

import copy
import gc
import logging
import random
import time
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from miscnn_tf.arguments import positive, whole_number
from miscnn_tf.cluster import is_chief
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.data_loading.sample_names import as_index_list
from miscnn_tf.data_loading.storage import make_folder
from miscnn_tf.errors import ConfigurationError, MemoryBudgetError
from miscnn_tf.neural_network import losses as losses_module
from miscnn_tf.neural_network import model_file, onnx_file
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.neural_network.architecture.unet.standard import Architecture as UNet_standard
from miscnn_tf.neural_network.callbacks import DataWait, NonFiniteGuard
from miscnn_tf.neural_network.class_weights import apply_class_weight, class_weight_vector
from miscnn_tf.neural_network.data_generator import DataGenerator
from miscnn_tf.neural_network.distributed_fit import DistributedFit, loss_per_sample
from miscnn_tf.neural_network.feed import Feed
from miscnn_tf.neural_network.hardware import Hardware, choose_hardware
from miscnn_tf.neural_network.inference import WindowPredictor, prediction_batch_size
from miscnn_tf.neural_network.losses import tversky_loss
from miscnn_tf.neural_network.memory_budget import MemoryBudget, sections_within
from miscnn_tf.neural_network.metrics import dice_soft
from miscnn_tf.neural_network.segmentation_model import SegmentationModel, float32_output
from miscnn_tf.neural_network.training_state import Position, TrainingState
from miscnn_tf.neural_network.trial import try_largest_images, warn_of_large_predictions
from miscnn_tf.processing.cutting import cut
from miscnn_tf.processing.preparation import complete, run_subfunctions
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.survey import Surveyed

logger = logging.getLogger(__name__)

Loss = str | Callable[[Any, Any], Any]
ClassWeight = Mapping[int, float] | Sequence[float]


class Neural_Network:
    """Trains a network on the preprocessor's patches, and predicts whole images with it.

    Args:
        preprocessor: Where batches come from, and how images become patches.
        architecture: What to build; left out: the standard U-Net.
        loss: A loss function of ``(y_true, y_pred)``, one-hot and probabilities, or a registered loss's name.
        metrics: Metric functions or Keras metrics; left out: ``[dice_soft]``.
        learning_rate: Learning rate of the Adam optimizer.
        batch_queue_size: How many batches are made ahead of the training step.
        workers: Threads that make them. The batches do not depend on their number.
        multi_gpu: Train on all GPUs (``tf.distribute.MirroredStrategy``). Where the environment's ``TF_CONFIG`` names
            several machines, they train one network together, with all their GPUs.
        seed: Seed of the initial weights; left out: the preprocessor's.
        precision: ``"auto"`` chooses by the hardware; ``"float32"``, ``"mixed_bfloat16"`` or ``"mixed_float16"``.
        deterministic: The same seed gives the same weights on the same machine, to the last bit; somewhat slower. It
            holds for the whole program, and has to be asked for before anything else uses TensorFlow.
        jit_compile: Whether XLA compiles training and prediction; ``"auto"``: on a GPU, for patches.

    Attributes:
        model: The Keras model, compiled.
        three_dim: Whether it works on volumes.
        channels: Channels of its input.
        classes: Classes of its output.
        initialization_weights: The weights it was made with.
        shuffle_batches: Whether each epoch has its own order of samples, default True.
        verbose: Keras' progress bar in training, and ours in prediction: ``"auto"``, 0, 1 or 2.
        hardware: Devices, precision and XLA as they were chosen.
        trained_on: Names of the samples of the last training and its validation.
        id: A name that tells instances apart.

    Raises:
        ConfigurationError: If the patch shape does not fit the architecture, or an argument is wrong.

    Example:
        >>> model = Neural_Network(preprocessor=pre_processor, loss=tversky_crossentropy)  # doctest: +SKIP
        >>> model.train(samples[:80], epochs=50)  # doctest: +SKIP
        >>> labels = model.predict(samples[80:], return_output=True)  # doctest: +SKIP
    """

    def __init__(
        self,
        preprocessor: Preprocessor,
        architecture: Abstract_Architecture | None = None,
        loss: Loss = tversky_loss,
        metrics: Sequence[Any] | None = None,
        learning_rate: float = 0.0001,
        batch_queue_size: int = 2,
        workers: int = 1,
        multi_gpu: bool = False,
        *,
        seed: int | None = None,
        precision: str = "auto",
        deterministic: bool = False,
        jit_compile: bool | Literal["auto"] = "auto",
    ) -> None:
        self.preprocessor = preprocessor
        self.architecture = UNet_standard() if architecture is None else architecture
        self.loss = loss
        self.metrics = [dice_soft] if metrics is None else list(metrics)
        self.batch_queue_size = batch_queue_size
        self.workers = workers
        self.multi_gpu = multi_gpu
        self.seed = preprocessor.seed if seed is None else int(seed)
        self.precision = precision
        self.deterministic = deterministic
        self.jit_compile = jit_compile
        self.shuffle_batches = True
        self.verbose: str | int = "auto"
        self.id = uuid.uuid4().hex

        interface = preprocessor.data_io.interface
        self.three_dim = bool(interface.three_dim)
        self.channels = int(interface.channels)
        self.classes = int(interface.classes)
        self.hardware = choose_hardware(multi_gpu, precision, deterministic, jit_compile)
        self._initial_learning_rate = self._learning_rate = positive(learning_rate, "learning_rate")
        self.trained_on: dict[str, list[Hashable]] = {"training": [], "validation": []}
        axes = 3 if self.three_dim else 2
        divisors = getattr(self.architecture, "divisors", None)
        self._divisors: tuple[int, ...] = (1,) * axes if divisors is None else divisors(axes)
        self._epochs_trained = 0
        self._compiled_with: tuple[Any, ...] | None = None
        self._predictor: WindowPredictor | None = None
        self._distributed: DistributedFit | None = None

        self.model = self._build(self.hardware)
        self.initialization_weights = self.model.get_weights()
        self._compile()

    # ---------------------------------------------------------------- building

    @property
    def window_shape(self) -> tuple[int | None, ...]:
        """Spatial shape of the network's input: the patch, or None in each axis for whole images."""
        return self.preprocessor.patch_shape or (None,) * (3 if self.three_dim else 2)

    @property
    def epochs_trained(self) -> int:
        """How many epochs the weights have been trained since they were initial."""
        return self._epochs_trained

    @property
    def learning_rate(self) -> float:
        """The learning rate; a new one is used from the next training on."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = positive(value, "learning_rate")
        self.model.optimizer.learning_rate = self._learning_rate

    def _build(self, hardware: Hardware) -> SegmentationModel:
        check_shape = getattr(self.architecture, "check_shape", None)
        if check_shape is not None:
            check_shape(self.window_shape)
        input_shape = (*self.window_shape, self.channels)
        create = self.architecture.create_model_3D if self.three_dim else self.architecture.create_model_2D
        with hardware.scope(), _seeded(self.seed):
            model = create(input_shape, n_labels=self.classes)
            if not getattr(model, "inputs", None):
                image = keras.Input(input_shape)
                return SegmentationModel(image, float32_output(model(image)))
            return SegmentationModel(model.inputs[0], float32_output(model.outputs[0]), name=model.name)

    def _compile(self, class_weight: ClassWeight | None = None, new_optimizer: bool = False) -> None:
        """Compile the model anew where its loss, metrics or class weights changed; the optimizer's state is kept."""
        weights = None if class_weight is None else class_weight_vector(class_weight, self.classes)
        wanted = (self.loss, tuple(self.metrics), weights)
        if self._compiled_with == wanted and not new_optimizer:
            return
        loss = losses_module.get(self.loss)
        if class_weight is not None:
            loss = apply_class_weight(loss, class_weight, self.classes)
        if self.hardware.replicas > 1:
            loss = loss_per_sample(loss)
        with self.hardware.scope():
            optimizer = getattr(self.model, "optimizer", None)
            if optimizer is None or new_optimizer:
                optimizer = keras.optimizers.Adam(learning_rate=self._learning_rate)
            elif isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
                optimizer = optimizer.inner_optimizer  # compile() wraps it again
            self.model.compile(
                optimizer=optimizer,
                loss=loss,
                metrics=list(self.metrics),
                # Whole images come in many sizes, and XLA would compile for each.
                jit_compile=False if None in self.window_shape else self.hardware.jit_compile,
            )
        self._compiled_with = wanted
        self._distributed = None

    def _make_training_variables(self) -> None:
        """Make the variables of optimizer and metrics: made in the first step, TensorFlow would trace it twice."""
        with self.hardware.scope():
            if not self.model.optimizer.built:
                self.model.optimizer.build(self.model.trainable_variables)
        if self.metrics and self.hardware.strategy.num_replicas_in_sync == 1:
            shape = (1, *(size or 8 for size in self.window_shape))
            background = tf.one_hot(tf.zeros(shape, tf.int32), self.classes)
            self.model.compute_metrics(None, background, background)
            self.model.reset_metrics()

    def in_float32(self) -> keras.Model:
        """The Keras model in float32, whatever precision it is trained in: itself, or a copy with its weights."""
        if self.hardware.precision == "float32":
            return self.model
        # On one device: several machines would wait for each other, and this one may be the only one that asks.
        here = replace(self.hardware, precision="float32", strategy=tf.distribute.get_strategy())
        model = self._build(here)
        model.set_weights(self.model.get_weights())
        return model

    def take_over(self, weights: list[np.ndarray], epochs_trained: int) -> None:
        """Go on from these weights, after so many epochs, with a fresh optimizer."""
        self.model.set_weights(weights)
        self._epochs_trained = epochs_trained
        self._compile(new_optimizer=True)

    # ---------------------------------------------------------------- training

    def train(
        self,
        sample_list: Sequence[Hashable],
        epochs: int = 20,
        iterations: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        class_weight: ClassWeight | None = None,
    ) -> keras.callbacks.History:
        """Train on the samples.

        Args:
            sample_list: Names of the samples.
            epochs: How many epochs.
            iterations: Steps per epoch; None for once through all samples.
            callbacks: Keras callbacks; the list is not changed. With a `checkpoint.TrainingState` among them, a
                training that was killed goes on with the epoch in which it stopped.
            class_weight: ``{class: weight}`` or a weight per class.

        Returns:
            Keras' History: a list per epoch of ``"loss"``, the metrics, and ``"data_wait"``, the share of the epoch's
            time that was spent waiting for data.

        Raises:
            DataError: If a sample cannot be used; the message lists them.
            TrainingError: If the loss is no longer a number; the message names the samples.
            MemoryBudgetError: If a step does not fit into the device's memory. Of whole images in many sizes the
                largest is tried first.
        """
        return self._fit(sample_list, None, epochs, iterations, callbacks, class_weight)

    def evaluate(
        self,
        training_samples: Sequence[Hashable],
        validation_samples: Sequence[Hashable],
        epochs: int = 20,
        iterations: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        class_weight: ClassWeight | None = None,
    ) -> keras.callbacks.History:
        """Train on some samples and validate on others after each epoch, without augmentation.

        Args:
            training_samples: Names of the samples to train on.
            validation_samples: Names of the samples to validate on.
            epochs: How many epochs.
            iterations: Steps per epoch; None for once through all samples.
            callbacks: Keras callbacks; the list is not changed.
            class_weight: ``{class: weight}`` or a weight per class.

        Returns:
            Keras' History, with ``"val_loss"`` and the other validation figures beside those of `train`.
        """
        validation = as_index_list(validation_samples)
        return self._fit(training_samples, validation, epochs, iterations, callbacks, class_weight)

    def _fit(
        self,
        training_samples: Sequence[Hashable],
        validation_samples: list[Hashable] | None,
        epochs: int,
        iterations: int | None,
        callbacks: Sequence[keras.callbacks.Callback],
        class_weight: ClassWeight | None,
    ) -> keras.callbacks.History:
        training = as_index_list(training_samples)
        whole_number(epochs, "epochs", least=1)
        if iterations is not None:
            whole_number(iterations, "iterations", least=1)
        everything = list(dict.fromkeys([*training, *(validation_samples or [])]))
        callbacks, history = list(callbacks), keras.callbacks.History()

        def prepare() -> list[Surveyed]:
            self.preprocessor.data_io.check(everything)
            self.preprocessor.fullimage_divisor = self._divisors
            self._require_a_share_for_each_device()
            surveyed = self.preprocessor.run_subfunctions(everything, training=True)
            warn_of_large_predictions(self.preprocessor, surveyed)
            return surveyed

        workers, share = self.hardware.workers, self.hardware.share
        surveyed, seeds = workers.together(prepare, lambda: [self.preprocessor.seed])
        if len(seeds) > 1:
            self.preprocessor.seed = int(seeds[0, 0])  # all have to draw the same batches
        self._compile(class_weight)
        self._make_training_variables()
        # A callback of an earlier training may have changed the rate.
        self.model.optimizer.learning_rate = self._learning_rate
        self.trained_on = {"training": training, "validation": validation_samples or []}
        (state, position), positions = workers.together(
            lambda: self._resumed(callbacks, history, epochs, iterations, class_weight),
            lambda: [self._epochs_trained],
        )
        self._require_the_same_position(positions)

        batches = DataGenerator(
            training,
            self.preprocessor,
            training=True,
            shuffle=self.shuffle_batches,
            iterations=iterations,
            labels=True,
            share=share,
        )
        # A second training goes on with fresh crops, not with the first one's.
        first = position.first
        # Keras looks at a batch even where no epoch is left.
        begin = min(position.begin, epochs - 1)
        feed = Feed(batches, range(first + begin, first + epochs), self.workers, self.batch_queue_size)
        feeds = [feed]
        if validation_samples is not None:
            checks = DataGenerator(validation_samples, self.preprocessor, validation=True, labels=True, share=share)
            # Each epoch goes through it once, from its start.
            feeds.append(Feed(checks, range(1), self.workers, self.batch_queue_size))

        def names(epoch: int, step: int) -> list[Hashable]:
            return batches.names(first + epoch, step)

        def count(epoch: int, logs: Any = None) -> None:
            self._epochs_trained = first + epoch + 1

        # Ours before the user's, who may look at what they add to the logs, or write a model file.
        listeners = [
            NonFiniteGuard(names),
            DataWait(feed.loader),
            keras.callbacks.LambdaCallback(on_epoch_end=count),
            *callbacks,
            history,
            *state,  # last: it keeps what the others have made of the epoch
        ]
        try:
            try_largest_images(self, surveyed, training, feed.dataset)
            self._run(feed, feeds[1] if len(feeds) > 1 else None, epochs, position.begin, listeners)
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryBudgetError(
                f"a training step with batches of {self.preprocessor.batch_size} times {self.window_shape} voxels does "
                "not fit into the device's memory. Choose a smaller batch_size or patch_shape, a network of fewer "
                "filters (n_filters) or levels, or precision='mixed_float16' on a GPU that computes it, and close "
                "other programs that use the device"
            ) from error
        except tf.errors.OpError:
            # TensorFlow wraps what a Python generator raised; the original says more.
            for each in feeds:
                if each.loader.error is not None:
                    raise each.loader.error from None
            raise
        finally:
            for each in feeds:
                each.close()
            # Keras' iterator sits in a reference cycle; alive at the program's end, TensorFlow would complain of it.
            gc.collect()
        return history

    def _run(
        self,
        feed: Feed,
        validation: Feed | None,
        epochs: int,
        initial_epoch: int,
        callbacks: list[keras.callbacks.Callback],
    ) -> None:
        if self.hardware.replicas > 1:
            if self._distributed is None:
                self._distributed = DistributedFit(self.model, self.hardware)
            self._distributed.fit(feed, validation, epochs, initial_epoch, callbacks, self.verbose)
            return
        self.model.fit(
            feed.dataset,
            epochs=epochs,
            initial_epoch=initial_epoch,
            steps_per_epoch=len(feed.batches),
            validation_data=None if validation is None else validation.dataset,
            validation_steps=None if validation is None else len(validation.batches),
            callbacks=callbacks,
            shuffle=False,  # done already, sample by sample
            verbose=self.verbose,
        )

    def _resumed(
        self,
        callbacks: list[keras.callbacks.Callback],
        history: keras.callbacks.History,
        epochs: int,
        iterations: int | None,
        class_weight: ClassWeight | None,
    ) -> tuple[list[TrainingState], Position]:
        """Take the `TrainingState` out of the callbacks, if there is one, and ask it where the training stands."""
        states = [callback for callback in callbacks if isinstance(callback, TrainingState)]
        if len(states) > 1:
            raise ConfigurationError("callbacks holds more than one TrainingState; one keeps everything")
        if not states:
            return states, Position(self._epochs_trained, 0, 0)
        callbacks.remove(states[0])
        settings = {
            **model_file.training_settings(self),
            "epochs": epochs,
            "iterations": iterations,
            "class_weight": None if class_weight is None else class_weight_vector(class_weight, self.classes),
        }
        position = states[0].begin(self, settings, callbacks, history, epochs)
        self._epochs_trained = position.first + position.done
        return states, position

    def _require_a_share_for_each_device(self) -> None:
        replicas, size = self.hardware.replicas, self.preprocessor.batch_size
        if size < replicas:
            raise ConfigurationError(
                f"batch_size={size} is less than the {replicas} devices: each needs a share of the batch. Use a "
                f"batch_size of {replicas} or a multiple of it, or fewer devices (multi_gpu=False; without TF_CONFIG)"
            )
        if size % replicas:
            logger.warning(
                "batch_size=%d cannot be shared evenly by %d devices: some wait for the others in every step. A "
                "multiple of their number is faster",
                size,
                replicas,
            )

    def _require_the_same_position(self, positions: np.ndarray) -> None:
        """Find out where workers would go on with different epochs."""
        epochs = [int(position) for position in positions[:, 0]]
        if len(set(epochs)) > 1:
            raise ConfigurationError(
                f"the workers would go on after different numbers of epochs ({', '.join(map(str, epochs))}): they do "
                "not see the same training_state.npz. Give TrainingState a folder that all machines share"
            )

    # ---------------------------------------------------------------- prediction

    def predict(
        self,
        sample_list: Sequence[Hashable] | Hashable,
        return_output: bool = False,
        activation_output: bool = False,
        *,
        memory_budget: int | str | None = None,
    ) -> list[np.ndarray] | None:
        """Segment samples.

        Where the augmentation's ``infaug`` is set, each prediction is the mean over the image as it is and flipped
        along each axis of ``infaug_flip_list``: more exact where the network was trained with ``mirror=True``, and that
        many times slower.

        Args:
            sample_list: Names of the samples, or one name.
            return_output: Return the predictions; otherwise each is saved by the interface as soon as it is made.
            activation_output: Class probabilities instead of labels.
            memory_budget: How much resident memory this process may have, in bytes or as text such as ``"4GB"``; None
                for what the machine has free. What will be needed is estimated before; where it is more, the image is
                predicted in sections, which gives the same result but takes longer.

        Returns:
            With `return_output` a list of label arrays ``(x, y[, z])``, or of float32 probabilities
            ``(x, y[, z], classes)``, each in the shape of its original image.

        Raises:
            MemoryBudgetError: If not even that is enough; the message says how much would be. Without a budget it is a
                warning.
        """
        budget = None if memory_budget is None else MemoryBudget(memory_budget)
        indices = as_index_list(sample_list)
        data_io = self.preprocessor.data_io
        data_io.check(indices, load_seg=False)
        if not return_output:
            make_folder(data_io.output_path)  # an unwritable one is told now, not after the first prediction
        outputs = []
        for index in tqdm(indices, desc="Predicting", unit="sample", disable=self.verbose == 0 or len(indices) < 2):
            sample = self.prepared(index, budget)
            prediction = self.predict_sample(sample, activation_output, memory_budget=budget)
            if return_output:
                outputs.append(prediction)
                continue
            sample.add_prediction(prediction, activation_output=activation_output)
            data_io.save_prediction(sample)
            del sample, prediction  # before the next ones are made: they are large
        return outputs if return_output else None

    def predict_augmentated(self, sample: Hashable) -> list[np.ndarray]:
        """Segment a sample once per spatial axis, each time flipped along it (and the result flipped back).

        The axes are those of the augmentation's ``infaug_flip_list``.

        Args:
            sample: The sample's name.

        Returns:
            Float32 probabilities ``(x, y[, z], classes)`` of the original image, one array per axis; their mean (with
            that of `predict`) is test-time augmentation.
        """
        prepared = self.prepared(sample)
        return [
            self.preprocessor.assemble(prepared, self._windows(prepared, [axis]), activation_output=True)
            for axis in self._flip_axes(prepared.ndim)
        ]

    def predict_array(
        self,
        image: np.ndarray,
        spacing: Sequence[float] | None = None,
        activation_output: bool = False,
        *,
        memory_budget: int | str | None = None,
    ) -> np.ndarray:
        """Segment an array.

        Args:
            image: ``(x, y[, z][, channels])``.
            spacing: Voxel size in mm per axis; needed where a subfunction resamples.
            activation_output: Class probabilities instead of labels.
            memory_budget: As in `predict`; `image` is part of it.

        Returns:
            Labels ``(x, y[, z])``, or float32 probabilities ``(x, y[, z], classes)``.
        """
        extended = {} if spacing is None else {"spacing": tuple(spacing)}
        budget = None if memory_budget is None else MemoryBudget(memory_budget)
        sample = Sample("array", np.asarray(image), self.channels, self.classes, extended, three_dim=self.three_dim)
        self._process(sample, budget, kept=True)
        return self.predict_sample(sample, activation_output, memory_budget=budget)

    def predict_file(
        self,
        image_path: str | Path | Sequence[str | Path],
        output_path: str | Path | None = None,
        activation_output: bool = False,
        *,
        memory_budget: int | str | None = None,
    ) -> np.ndarray:
        """Segment an image file, and write the result in the image's own geometry.

        Args:
            image_path: The image, in a format that the model's interface reads (or that its ending tells); a list of
                files for an image whose channels lie in one file each.
            output_path: Where to write the labels; None only returns them.
            activation_output: Class probabilities instead of labels.
            memory_budget: As in `predict`.

        Returns:
            What was written.

        Example:
            >>> miscnn_tf.load_model("model.keras").predict_file("scan.nii.gz", "seg.nii.gz")  # doctest: +SKIP
        """
        budget = None if memory_budget is None else MemoryBudget(memory_budget)
        interface = model_file.interface_for(self.preprocessor.data_io.interface, image_path)
        if output_path is not None:
            # What keeps the result from being written is told before it is computed.
            if not activation_output:
                model_file.require_ending(interface, output_path)
            make_folder(Path(output_path).parent)
        image, extended = interface.read_file(image_path)
        sample = Sample(str(image_path), image, self.channels, self.classes, extended, three_dim=self.three_dim)
        del image  # the subfunctions put others in its place
        self._process(sample, budget)
        prediction = self.predict_sample(sample, activation_output, memory_budget=budget)
        if output_path is not None:
            sample.add_prediction(prediction, activation_output=activation_output)
            interface.write_file(sample, output_path)
        return prediction

    def prepared(self, index: Hashable, memory_budget: MemoryBudget | None = None) -> Sample:
        """The sample as prediction sees it: after all subfunctions, without a label map.

        Args:
            index: The sample's name.
            memory_budget: What its preparation has to stay within.
        """

        def check(sample: Sample) -> None:
            if memory_budget is not None:
                memory_budget.require_preparation(sample, self.preprocessor.subfunctions)

        # Most samples are predicted once: keeping them in memory would only fill it.
        keep = self.preprocessor.prepare_subfunctions
        return self.preprocessor.prepare_sample_subfunctions(index, training=False, keep=keep, loaded=check)

    def _process(self, sample: Sample, budget: MemoryBudget | None, kept: bool = False) -> None:
        if budget is not None:
            budget.require_preparation(sample, self.preprocessor.subfunctions, kept)
        run_subfunctions(sample, self.preprocessor.subfunctions, training=False)
        complete(sample)

    def predict_sample(
        self,
        sample: Sample,
        activation_output: bool,
        flips: bool | None = None,
        *,
        memory_budget: MemoryBudget | None = None,
    ) -> np.ndarray:
        """Segment a sample that is prepared already.

        Args:
            sample: What `prepared` gave.
            activation_output: Class probabilities instead of labels.
            flips: Whether to take the mean over the image as it is and flipped along each axis of ``infaug_flip_list``;
                None: as the augmentation's ``infaug`` says.
            memory_budget: What the process has to stay within.

        Returns:
            Labels ``(x, y[, z])``, or float32 probabilities ``(x, y[, z], classes)``, of the original image.
        """
        begin = time.perf_counter()
        if flips is None:
            flips = self.views(sample.ndim) > 1
        axes: list[int | None] = [None, *self._flip_axes(sample.ndim)] if flips else [None]
        self.preprocessor.fullimage_divisor = self._divisors
        sections = sections_within(
            memory_budget, self.preprocessor, [self.window_predictor()], sample, activation_output, len(axes)
        )

        def windows(numbers: Sequence[int]) -> Iterator[np.ndarray]:
            return self._windows(sample, axes, numbers)

        prediction = self.preprocessor.assemble(sample, windows, activation_output, sections=sections)
        logger.debug("predicted %r in %.1f s", sample.index, time.perf_counter() - begin)
        return prediction

    def predict_windows(self, sample: Sample, numbers: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """Class probabilities of a prepared sample's windows, one by one, for ``preprocessor.assemble``.

        Groups of networks average them window by window, so that no member's prediction is ever held.

        Args:
            sample: The sample after all subfunctions.
            numbers: Which windows, by their numbers in the grid; None for all.

        Returns:
            float32 arrays ``(x, y[, z], classes)`` in grid order; where ``infaug`` is set, the mean over the flips.
        """
        flips = self.views(sample.ndim) > 1
        return self._windows(sample, [None, *self._flip_axes(sample.ndim)] if flips else [None], numbers)

    def views(self, ndim: int) -> int:
        """How many predictions each window is the mean of: 1, or with ``infaug`` one more for each axis of its list.

        Args:
            ndim: Spatial axes of the image.
        """
        augmentation = self.preprocessor.data_augmentation
        return 1 + (len(self._flip_axes(ndim)) if augmentation is not None and augmentation.infaug else 0)

    def _flip_axes(self, ndim: int) -> list[int]:
        """The spatial axes of the augmentation's ``infaug_flip_list``, which counts from the batch axis."""
        augmentation = self.preprocessor.data_augmentation
        flips = range(1, ndim + 1) if augmentation is None else augmentation.infaug_flip_list
        return [flip - 1 for flip in flips if flip <= ndim]

    def _windows(
        self, sample: Sample, flips: Sequence[int | None], numbers: Sequence[int] | None = None
    ) -> Iterator[np.ndarray]:
        """Class probabilities of the sample's windows in grid order.

        Each is the mean of the predictions of the window flipped along each of these axes (None: as it is), flipped
        back.
        """
        views = (_flip(image, axis) for image in self.windows(sample, numbers) for axis in flips)
        return _merged(self.window_predictor()(views), flips)

    def windows(self, sample: Sample, numbers: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """What the network sees of a prepared sample: its windows in grid order, one by one.

        A window is a patch, or the whole image where the analysis is "fullimage"; it reaches beyond the image where
        that is smaller, or not a multiple of what the network needs.

        Args:
            sample: What `prepared` gave.
            numbers: Which windows, by their numbers in the grid; None for all.

        Returns:
            float32 arrays ``(x, y[, z], channels)``, of the grid ``preprocessor.boxes().grid(image_shape)``.
        """
        self.preprocessor.fullimage_divisor = self._divisors
        boxes = self.preprocessor.boxes()
        window = boxes.window(sample.img_data.shape[:-1])
        starts = boxes.grid_starts(sample)
        chosen = starts if numbers is None else (starts[number] for number in numbers)
        return (cut(sample, start, window).image for start in chosen)

    def window_predictor(self) -> WindowPredictor:
        """The network as a function from windows to their class probabilities, in batches that suit the device."""
        if self._predictor is None:
            on_gpu = bool(tf.config.list_logical_devices("GPU"))
            patch_shape = self.preprocessor.patch_shape
            size = (
                1 if patch_shape is None else prediction_batch_size(patch_shape, self.preprocessor.batch_size, on_gpu)
            )
            self._predictor = WindowPredictor(
                # Again not for whole images.
                self.model,
                self.window_shape,
                self.channels,
                size,
                jit_compile=(on_gpu if self.jit_compile == "auto" else self.jit_compile) and patch_shape is not None,
            )
        return self._predictor

    # ---------------------------------------------------------------- state

    def reset_weights(self) -> None:
        """Go back to the initial weights, and forget what the optimizer remembers of the training so far."""
        self.take_over(self.initialization_weights, epochs_trained=0)

    def reset(self) -> None:
        """Go back to the initial weights, optimizer and learning rate."""
        self._learning_rate = self._initial_learning_rate
        self.reset_weights()

    def copy(self) -> Neural_Network:
        """A network of its own with the same settings and the same weights, and a fresh optimizer."""
        twin = Neural_Network(
            self.preprocessor,
            copy.deepcopy(self.architecture),
            self.loss,
            self.metrics,
            self._initial_learning_rate,
            self.batch_queue_size,
            self.workers,
            self.multi_gpu,
            seed=self.seed,
            precision=self.precision,
            deterministic=self.deterministic,
            jit_compile=self.jit_compile,
        )
        twin.learning_rate = self._learning_rate
        twin.shuffle_batches = self.shuffle_batches
        twin.verbose = self.verbose
        twin.initialization_weights = [weight.copy() for weight in self.initialization_weights]
        twin.take_over(self.model.get_weights(), self._epochs_trained)
        return twin

    def dump(self, file_path: str | Path) -> None:
        """Write everything that is needed to predict on a new scan, or to train on: see `miscnn_tf.load_model`.

        Of several machines that train together (``TF_CONFIG``), the first one writes it.

        Args:
            file_path: Ends in ``.keras``, ``.h5`` or ``.hdf5``.
        """
        if is_chief():
            model_file.write(self, file_path)
        else:
            logger.info("%s: %s is written by the first worker", self.hardware.cluster, file_path)

    def export_onnx(self, file_path: str | Path) -> None:
        """Write the network for ONNX runtimes, which need neither Python nor TensorFlow (extra ``onnx``).

        The network maps float32 ``(batch, x, y[, z], channels)`` to probabilities ``(batch, x, y[, z], classes)``; the
        preprocessing that has to come before it is in the file's metadata under ``"miscnn_tf"``, as JSON.

        Args:
            file_path: Ends in ``.onnx``.

        Raises:
            ConfigurationError: If it has another ending.
            MissingExtraError: If the extra is not installed.
            StorageError: If the file cannot be written.

        Example:
            >>> model.export_onnx("model.onnx")  # doctest: +SKIP
            >>> session = onnxruntime.InferenceSession("model.onnx")  # doctest: +SKIP
            >>> (probabilities,) = session.run(None, {"image": patches})  # doctest: +SKIP
        """
        onnx_file.write(self, file_path)

    def load(self, file_path: str | Path, custom_objects: Mapping[str, Any] | None = None) -> None:
        """Read the weights that `dump` wrote, with the optimizer's state (``.keras``; a fresh one for the others).

        Loss, metrics, learning rate and preprocessing stay this network's; `miscnn_tf.load_model` restores those too.

        Args:
            file_path: The file; of the same architecture.
            custom_objects: Layers of your own by name, where they are not registered with Keras.
        """
        model_file.read_into(self, file_path, custom_objects)


def _merged(outputs: Iterator[np.ndarray], flips: Sequence[int | None]) -> Iterator[np.ndarray]:
    """The mean of each group of predictions, one per flip, flipped back."""
    while group := list(islice(outputs, len(flips))):
        first, *others = map(_flip, group, flips)
        yield sum(others, first) / len(flips) if others else first


def _flip(array: np.ndarray, axis: int | None) -> np.ndarray:
    return array if axis is None else np.flip(array, axis)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Keras draws initial weights by Python's global generator: seed it for the block, and restore it."""
    state = random.getstate()
    try:
        random.seed(seed)
        yield
    finally:
        random.setstate(state)
