"""Neural_Network: building, training, prediction and files of a segmentation network."""

from __future__ import annotations

import copy
import hashlib
import logging
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from miscnn_tf._base.arguments import whole_number
from miscnn_tf._base.deprecation import deprecated, renamed_argument
from miscnn_tf._base.files import make_folder
from miscnn_tf._base.messages import plural, unknown_name
from miscnn_tf._base.representation import Represented, changed_arguments
from miscnn_tf.data_loading.interfaces.description import interface_for, read_for_model
from miscnn_tf.data_loading.label_scheme import REGION_THRESHOLD, scheme_of
from miscnn_tf.data_loading.sample import Sample, as_index_list, memory_for
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture import architectures
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture, require_architecture
from miscnn_tf.neural_network.architecture.unet.standard import Architecture as UNet_standard
from miscnn_tf.neural_network.checkpoint import BestModel, TrainingState
from miscnn_tf.neural_network.class_weights import ClassWeight
from miscnn_tf.neural_network.compiled_model import CompiledModel, TrainableSet
from miscnn_tf.neural_network.hardware import PRECISIONS, Hardware, choose_hardware
from miscnn_tf.neural_network.keras_file import read_weights, write_model
from miscnn_tf.neural_network.losses import tversky_loss
from miscnn_tf.neural_network.memory_budget import MemoryBudget, prepare_image, prepared_sample
from miscnn_tf.neural_network.metrics import default_metrics, get_all
from miscnn_tf.neural_network.network_snapshot import NetworkSnapshot
from miscnn_tf.neural_network.onnx_file import write_onnx
from miscnn_tf.neural_network.optimizer import DEFAULT_RATE, OptimizerSettings, unwrapped, valid_rate
from miscnn_tf.neural_network.pooled_dice import PooledDice
from miscnn_tf.neural_network.prediction import (
    PatchPredictor,
    flip_axes,
    predict_prepared,
    predicted_patches,
    prediction_batch_size,
    prediction_views,
)
from miscnn_tf.neural_network.prediction_output import PredictionOutput
from miscnn_tf.neural_network.previous_input import add_previous, require_previous
from miscnn_tf.neural_network.segmentation_model import SegmentationModel, build_model
from miscnn_tf.neural_network.training import Progress, Training, TrainingSettings, valid_batches
from miscnn_tf.neural_network.training_log import EpochBar, TrainingLog
from miscnn_tf.processing.components import ComponentStep
from miscnn_tf.processing.patching.patch_plan import PatchPlan
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.segmenter import Prepare
from miscnn_tf.runs.best_model import BEST_BY, MOMENTUM
from miscnn_tf.runs.epoch_log import EpochLog, Renewal
from miscnn_tf.runs.previous_stage import PreviousStage
from miscnn_tf.runs.writer import Together, Writer

logger = logging.getLogger(__name__)

Loss = str | Callable[[Any, Any], Any]

# Attributes that belong to this machine or this instance; `of_attributes` makes others.
_MADE = ("_compiled", "_predictors", "id", "trained_on", "epochs_trained", "initialization_weights")


class Neural_Network(Represented):
    """Segmentation network that trains on the patches of a preprocessor and predicts whole images.

    Args:
        preprocessor: Makes the batches, and the patches of images.
        architecture: The architecture; by default the standard U-Net.
        loss: A loss function of ``(y_true, y_pred)``, one-hot and probabilities, or the name of a registered loss.
        metrics: Metric functions, Keras metrics, or names of either; by default ``[dice_soft]``,
            and a `RegionDice` for each region.
        learning_rate: Learning rate, a number; callbacks can change it during training. Default: that of `optimizer`,
            if it is an object, otherwise 0.0001.
        batch_queue_size: Number of batches that are made ahead of the training step.
        workers: Number of threads that make batches. The batches do not depend on it.
        multi_gpu: Train on all GPUs (``tf.distribute.MirroredStrategy``). If the environment's ``TF_CONFIG`` names
            several machines, they train one network together, with all their GPUs.
        seed: Seed of the initial weights; by default that of the preprocessor.
        precision: ``"auto"`` chooses by the hardware; ``"float32"``, ``"mixed_bfloat16"`` or ``"mixed_float16"``.
        deterministic: Make the same seed give bit-identical weights on the same machine, somewhat slower. It holds for
            the whole program, and must be set before anything else uses TensorFlow.
        jit_compile: True to compile training and prediction with XLA; ``"auto"``: on a GPU. Networks for whole images,
            which have many sizes, are never compiled.
        optimizer: A Keras optimizer, which is cloned from its configuration, or a name (``"sgd"``). Default: Adam.
        validation_batches: Batches of random patches in the validation after each epoch, the same in all epochs, with
            `Preprocessor.patchwise_foreground` as in training. None: one patch of each sample.
        best_by: Value that chooses the best epoch of validations: the lowest ``"val_loss"``, or the highest moving
            average of ``"val_pooled_dice"`` (nine tenths of the previous average and a tenth of the new value, as in
            nnU-Net), which needs the metric `PooledDice`.

    Attributes:
        model: The Keras model, compiled. Its layers can be frozen between two trainings (``trainable = False``).
        three_dim: True for volumes.
        channels: Channels of the images.
        classes: Classes of the label maps, background included.
        scheme: Meaning of the labels: classes, voxels without annotation, and regions.
        initialization_weights: The initial weights: those of the seed, or those given to `start_from`.
        start_digest: Digest of the weights given to `start_from`; None for the weights of the seed.
        shuffle_batches: True (the default) to draw the order of samples anew in each epoch.
        verbose: Progress bars of training and prediction: ``"auto"``, 0, 1 or 2.
        hardware: The chosen devices, precision and XLA.
        trained_on: Names of the samples of the last training and its validation.
        epochs_trained: Number of epochs that the weights have been trained since they were initial.
        divisors: Divisors of the input size, one per spatial axis.
        postprocessing: Steps that predicted label maps go through, chosen for these weights by
            `miscnn_tf.evaluation.postprocessing_choice`. Training and `load` remove them.
        model_card: Facts about a model from elsewhere, by their names; `dump` writes them to the file.
        id: A name that is unique to the instance.

    Raises:
        ConfigurationError: If the patch shape does not fit the architecture, or an argument is invalid.

    Example:
        >>> model = Neural_Network(preprocessor=pre_processor, loss=tversky_crossentropy)  # doctest: +SKIP
        >>> model.train(samples[:80], epochs=50)  # doctest: +SKIP
        >>> labels = model.predict(samples[80:], return_output=True)  # doctest: +SKIP
    """

    #: Name of the class in the files of a group of models.
    kind = "Neural_Network"

    @renamed_argument("learninig_rate", "learning_rate", since="0.2", removed_in="1.0")
    def __init__(
        self,
        preprocessor: Preprocessor,
        architecture: Abstract_Architecture | None = None,
        loss: Loss = tversky_loss,
        metrics: Sequence[Any] | None = None,
        learning_rate: float = DEFAULT_RATE,
        batch_queue_size: int = 2,
        workers: int = 1,
        multi_gpu: bool = False,
        *,
        seed: int | None = None,
        precision: str = "auto",
        deterministic: bool = False,
        jit_compile: bool | Literal["auto"] = "auto",
        optimizer: keras.optimizers.Optimizer | str | None = None,
        validation_batches: int | None = None,
        best_by: str = "val_loss",
    ) -> None:
        if not isinstance(preprocessor, Preprocessor):
            raise ConfigurationError(f"preprocessor must be a Preprocessor, got {preprocessor!r}")
        self.preprocessor = preprocessor
        self.architecture = UNet_standard() if architecture is None else require_architecture(architecture)
        self.loss = loss
        self.batch_queue_size = whole_number(batch_queue_size, "batch_queue_size", least=1)
        self.workers = whole_number(workers, "workers", least=1)
        self.multi_gpu = multi_gpu
        self.seed = preprocessor.seed if seed is None else whole_number(seed, "seed")
        self.precision = precision
        self.deterministic = deterministic
        self.jit_compile = jit_compile
        self.validation_batches = valid_batches(validation_batches)
        if best_by not in BEST_BY:
            raise ConfigurationError(unknown_name("best_by", best_by, BEST_BY))
        self.best_by = best_by
        self.shuffle_batches = True
        self.verbose: str | int = "auto"
        self.postprocessing: tuple[ComponentStep, ...] = ()
        self.model_card: dict[str, str] = {}
        interface = preprocessor.data_io.interface
        self.three_dim = bool(interface.three_dim)
        self.channels = int(interface.channels)
        self.classes = int(interface.classes)
        self.scheme = scheme_of(interface)
        measured = default_metrics(self.scheme) if metrics is None else metrics
        axes = 3 if self.three_dim else 2
        divisors = getattr(self.architecture, "divisors", None)
        self.divisors: tuple[int, ...] = (1,) * axes if divisors is None else divisors(axes)
        settings = OptimizerSettings.of(optimizer, learning_rate)
        hardware = self._choose_hardware()
        # Raises an error before the network is built. Some metrics have variables, which TensorFlow puts on a device.
        get_all(measured)
        self.metrics = list(measured)
        self._make(hardware, settings)
        self._compile()

    def _description(self) -> dict[str, Any]:
        name = architectures.name_of(type(self.architecture)) or type(self.architecture).__name__
        window = " x ".join("any" if size is None else str(size) for size in self.window_shape)
        return {
            "architecture": f"{name} {changed_arguments(self.architecture) or ''}",
            "input": f"{window} {'voxels' if self.three_dim else 'pixels'}, {plural(self.input_channels, 'channel')}",
            "output": f"{self.scheme.outputs} {'regions' if self.scheme.regions else 'classes'}",
            "weights": f"{self.model.count_params():,}",
            "loss": _name_of(self.loss),
            "metrics": ", ".join(map(_name_of, self.metrics)) or "none",
            "optimizer": f"{type(self.optimizer).__name__}, learning rate {self.learning_rate:g}",
            "hardware": self.hardware.description,
            "trained": plural(self.epochs_trained, "epoch") if self.epochs_trained else "not yet",
        }

    # ---------------------------------------------------------------- building

    def _choose_hardware(self) -> Hardware:
        many_sizes = None in self.window_shape
        return choose_hardware(self.multi_gpu, self.precision, self.deterministic, self.jit_compile, many_sizes)

    def _make(self, hardware: Hardware, optimizer: OptimizerSettings) -> None:
        """Make what two networks with the same settings do not share, with initial weights; not yet compiled."""
        self.id = uuid.uuid4().hex
        self.trained_on: dict[str, list[Hashable]] = {"training": [], "validation": []}
        self.epochs_trained = 0
        self.start_digest: str | None = None
        self._compiled = CompiledModel(self._build(hardware), hardware, optimizer, self.window_shape)
        self._predictors: dict[bool, PatchPredictor] = {}
        self.initialization_weights = self.model.get_weights()

    def _build(self, hardware: Hardware) -> SegmentationModel:
        return build_model(
            self.architecture, self.window_shape, self.input_channels, self.classes, hardware, self.seed, self.scheme
        )

    def _compile(self, *, new_optimizer: bool = False) -> None:
        self._compiled.compile(self.loss, self.metrics, new_optimizer=new_optimizer)

    def _fit_window(self) -> None:
        """Rebuild the Keras model with its weights if the preprocessor's patch_shape has changed.

        Raises:
            ConfigurationError: If the patch does not fit the architecture, or the network is being trained.
        """
        window, before = self.window_shape, self._compiled
        channels = before.model.input_shape[-1]
        if channels is not None and channels != self.input_channels:
            raise ConfigurationError(
                f"the network was made for {plural(channels, 'channel')}, but its preprocessor makes "
                f"{self.input_channels}: preprocessor.previous_stage was set or removed; make a new network"
            )
        if window == before.window_shape:
            return
        if before.in_training:
            raise ConfigurationError(
                f"preprocessor.patch_shape was changed from {before.window_shape} to {window} while the network is "
                "trained; change it before or after the training"
            )
        changes_kind = (None in window) != (None in before.window_shape)
        hardware = self._choose_hardware() if changes_kind else self.hardware
        after = CompiledModel(self._build(hardware), hardware, before.optimizer, window)
        before.transfer(after, self.loss, self.metrics)
        self._compiled, self._predictors = after, {}

    def _keep_precision(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Rebuild the Keras model in the precision in which an interrupted training began.

        With "auto" it is measured on some processors, so that this program may have chosen another one.
        """
        found = next((one.precision() for one in callbacks if isinstance(one, TrainingState)), None)
        if self.precision != "auto" or found in (None, self.hardware.precision) or found not in PRECISIONS:
            return
        logger.info("the training goes on in %s, in which it began, instead of %s", found, self.hardware.precision)
        description = f"{self.hardware.description}; continued in {found}, in which the training began"
        hardware, before = replace(self.hardware, precision=found, description=description), self._compiled
        after = CompiledModel(self._build(hardware), hardware, before.optimizer, before.window_shape)
        before.transfer(after, self.loss, self.metrics)
        self._compiled, self._predictors = after, {}

    def attributes_to_send(self) -> dict[str, Any]:
        """Return all attributes except those of the Keras model and the machine, for `of_attributes`."""
        self._compiled.follow()
        own = {name: value for name, value in vars(self).items() if name not in _MADE}
        return {**own, "optimizer settings": self._compiled.optimizer, "trainable set": TrainableSet.of(self.model)}

    @classmethod
    def of_attributes(cls, attributes: Mapping[str, Any]) -> Self:
        """Return a network with initial weights, on the devices of this machine.

        The constructor is not called, since that of a subclass may take other arguments.

        Args:
            attributes: The return value of `attributes_to_send`.
        """
        attributes = dict(attributes)
        optimizer, trainable = attributes.pop("optimizer settings"), attributes.pop("trainable set")
        network = cls.__new__(cls)
        vars(network).update(attributes)
        network._make(network._choose_hardware(), optimizer)
        network._compile()
        network.start_digest = attributes.get("start_digest")
        trainable.set(network.model)
        return network

    @property
    def model(self) -> SegmentationModel:
        """Keras model, compiled."""
        return self._compiled.model

    @model.setter
    def model(self, value: Any) -> None:
        raise ConfigurationError(
            f"network.model cannot be replaced (got {value!r:.100}): folds, copies and model files are made by the "
            "architecture. For other weights of this architecture call network.load(path), or "
            "network.model.set_weights(other.get_weights()); for another model make a Neural_Network with an "
            "architecture whose create_model() returns it"
        )

    @property
    def hardware(self) -> Hardware:
        """Devices, precision and XLA of the Keras model."""
        return self._compiled.hardware

    @property
    def window_shape(self) -> tuple[int | None, ...]:
        """Spatial shape of the network's input, that of a patch or, for whole images, None in each axis."""
        return self.preprocessor.checked_patch_shape() or (None,) * (3 if self.three_dim else 2)

    @property
    def input_channels(self) -> int:
        """Channels of the input: those of the images, and in a cascade one per foreground class."""
        return self.preprocessor.input_channels

    @property
    def learning_rate(self) -> float:
        """Learning rate; a new value is used from the next training on."""
        self._compiled.follow()
        return self._compiled.optimizer.rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._compiled.set_rate(valid_rate(value))

    @property
    @deprecated("learning_rate", since="0.2", removed_in="1.0")
    def learninig_rate(self) -> float:
        """Learning rate, in the spelling of MIScnn 1.1."""
        return self.learning_rate

    @learninig_rate.setter
    @deprecated("learning_rate", since="0.2", removed_in="1.0")
    def learninig_rate(self, value: float) -> None:
        self.learning_rate = value

    @property
    def optimizer(self) -> keras.optimizers.Optimizer:
        """Current optimizer; a new one, given as object or name, is cloned and used from the next training on."""
        found: keras.optimizers.Optimizer = unwrapped(self.model.optimizer)
        return found

    @optimizer.setter
    def optimizer(self, value: keras.optimizers.Optimizer | str | None) -> None:
        self._compiled.optimizer = self._compiled.optimizer.with_optimizer(value)
        self._compile(new_optimizer=True)

    def settings_beyond_defaults(self) -> dict[str, Any]:
        """Return optimizer, frozen layers and validation as JSON types, if they differ from the defaults."""
        settings = self._compiled.changed_settings()
        if self.validation_batches is not None:
            settings["validation_batches"] = self.validation_batches
        if self.best_by != BEST_BY[0]:
            settings["best_by"] = self.best_by
        return settings

    def snapshot(self) -> NetworkSnapshot:
        """Return the current settings of the network, which its model file holds."""
        return NetworkSnapshot(
            self.preprocessor,
            self.architecture,
            self.channels,
            self.classes,
            self.scheme,
            self.three_dim,
            self.divisors,
            self.learning_rate,
            self.settings_beyond_defaults(),
            self.loss,
            tuple(self.metrics),
            self.trained_on,
            self.precision,
            self.jit_compile,
            self.epochs_trained,
            self.start_digest,
            self.postprocessing,
            self.model_card,
        )

    def in_float32(self) -> keras.Model:
        """Return the Keras model in float32: the model itself, or a copy if it is trained in another precision."""
        self._fit_window()
        if self.hardware.precision == "float32":
            return self.model
        # On one device, since other machines do not take part.
        here = replace(self.hardware, precision="float32", strategy=tf.distribute.get_strategy())
        model = self._build(here)
        model.set_weights(self.model.get_weights())
        return model

    def take_over(self, weights: list[np.ndarray], epochs_trained: int) -> None:
        """Set weights and number of trained epochs, and reset the optimizer."""
        self._compiled.follow()
        self.model.set_weights(weights)
        self.epochs_trained = epochs_trained
        self.postprocessing = ()  # it was chosen for other weights
        self._compile(new_optimizer=True)

    def start_from(self, weights: Sequence[np.ndarray]) -> None:
        """Set the initial weights, from which `reset` and each fold of a cross-validation start.

        Args:
            weights: The arrays, as ``network.model.get_weights()`` returns them.

        Example:
            >>> network.load("trained.keras")  # doctest: +SKIP
            >>> network.start_from(network.model.get_weights())  # doctest: +SKIP
        """
        digest = hashlib.blake2b(digest_size=16)
        for weight in weights:
            digest.update(np.ascontiguousarray(weight).tobytes())
        self.initialization_weights = list(weights)
        self.start_digest = digest.hexdigest()

    @contextmanager
    def starting_from_current_weights(self) -> Iterator[None]:
        """Make `reset` return to the current weights, inside the ``with`` statement."""
        initial, digest = self.initialization_weights, self.start_digest
        self.start_from(self.model.get_weights())
        try:
            yield
        finally:
            self.initialization_weights, self.start_digest = initial, digest

    # ---------------------------------------------------------------- training

    def train(
        self,
        sample_list: Sequence[Hashable],
        epochs: int = 20,
        iterations: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        class_weight: ClassWeight | None = None,
    ) -> keras.callbacks.History:
        """Train on samples.

        Args:
            sample_list: Names of the samples.
            epochs: Number of epochs.
            iterations: Steps per epoch; None for all samples once.
            callbacks: Keras callbacks; the list is not changed. With a `checkpoint.TrainingState` among them, an
                interrupted training continues with the interrupted epoch.
            class_weight: ``{class: weight}`` or a weight per class.

        Returns:
            Keras' History: lists over the epochs of ``"loss"``, the metrics, and ``"data_wait"``, the share of the
            epoch's time that was spent waiting for data.

        Raises:
            DataError: If a sample cannot be used; the message lists them.
            TrainingError: If the loss is not finite; the message names the samples.
            MemoryBudgetError: If a step does not fit into the device's memory. If whole images differ in size, the
                largest is tried first.
        """
        return self._train(as_index_list(sample_list), None, epochs, iterations, callbacks, class_weight)

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
            epochs: As in `train`, like the arguments that follow.
            iterations: Steps per epoch.
            callbacks: Keras callbacks.
            class_weight: ``{class: weight}`` or a weight per class.

        Returns:
            Keras' History, with ``"val_loss"`` and the other validation values in addition to those of `train`.
        """
        training, validation = as_index_list(training_samples), as_index_list(validation_samples)
        return self._train(training, validation, epochs, iterations, callbacks, class_weight)

    def _train(
        self, training: list[Hashable], validation: list[Hashable] | None, *arguments: Any
    ) -> keras.callbacks.History:
        self._fit_window()
        self.postprocessing = ()  # it was chosen for the weights before this training
        settings = TrainingSettings(
            training,
            validation,
            *arguments,
            shuffle=self.shuffle_batches,
            workers=self.workers,
            queue_size=self.batch_queue_size,
            verbose=self.verbose,
            validation_batches=self.validation_batches,
        )
        self._keep_precision(settings.callbacks)
        return Training(settings, self._compiled, self.snapshot(), self.plan, self.patch_predictor, self._adopt).run()

    def best_model(self, path: Path) -> keras.callbacks.Callback:
        """Return a callback that writes the model of the best epoch by `best_by`.

        Raises:
            ConfigurationError: If the metric of `best_by` is missing.
        """
        if self.best_by == BEST_BY[0]:
            return BestModel(self, path)
        if PooledDice.__name__ not in map(_name_of, self.metrics):
            raise ConfigurationError(
                f"best_by={self.best_by!r} needs the metric PooledDice, but the metrics are "
                f"{', '.join(map(_name_of, self.metrics)) or 'none'}; add PooledDice(classes), or use "
                f"best_by={BEST_BY[0]!r}"
            )
        return BestModel(self, path, self.best_by, "max", MOMENTUM)

    def training_state(self, folder: Path, every: int) -> keras.callbacks.Callback:
        """Return a callback that saves the state of a training, so that the training can be continued.

        Args:
            folder: Folder of the state.
            every: Number of epochs between two backups.
        """
        return TrainingState(folder, every, keep=True)

    def training_log(
        self,
        folder: Path,
        epochs: int,
        others: Sequence[keras.callbacks.Callback],
        renew: Renewal | None,
    ) -> tuple[EpochLog, keras.callbacks.Callback]:
        """Return a log that writes the history, the progress and the report of a training, and its callback.

        Args:
            folder: Folder of the training.
            epochs: Number of epochs.
            others: The other callbacks.
            renew: Writes the report.
        """
        log = TrainingLog(folder, epochs, others, renew)
        return log, log

    def fold_progress(self, fold: int, folds: int) -> keras.callbacks.Callback:
        """Return a progress bar that shows the number of the fold."""
        return EpochBar(fold, folds)

    def state_settings(self) -> dict[str, Any]:
        """Return the settings of the network in the state of a training."""
        return self.snapshot().training_settings()

    @property
    def together(self) -> Together:
        """Connection to the other machines that train this network."""
        return self.hardware.workers.together

    def _adopt(self, progress: Progress) -> None:
        self.trained_on, self.epochs_trained = progress.trained_on, progress.epochs_trained

    # ---------------------------------------------------------------- prediction

    def predict(
        self,
        sample_list: Sequence[Hashable] | Hashable,
        return_output: bool = False,
        activation_output: bool = False,
        *,
        memory_budget: int | str | None = None,
        file_format: str | None = None,
        values: str = "mask",
        threshold: float | None = None,
        overlay: bool = False,
        postprocessing: bool = True,
    ) -> list[np.ndarray] | None:
        """Segment samples.

        If the augmentation's ``infaug`` is set, each prediction is the mean over the image as it is and flipped
        along each axis of ``infaug_flip_list`` (with ``infaug_all`` along all combinations of them, 8 views in 3D, as
        in nnU-Net): more exact where the network was trained with ``mirror=True``, and that many times slower.

        Args:
            sample_list: Names of the samples, or one name.
            return_output: Return the predictions; otherwise each is saved by the interface as soon as it is made.
            activation_output: Class probabilities instead of labels.
            memory_budget: Maximum resident memory of this process, in bytes or as text such as ``"4GB"``; by default
                the free memory. If the estimate is higher, the image is predicted in sections, which gives the same
                result but takes longer.
            file_format: Format of the files: "nifti", "nrrd", "png" (images of two dimensions), "seg" or "rtstruct"
                (DICOM); None: that of the interface.
            values: Values in the files: "mask" for those of the training's label maps, "index" for class numbers.
            threshold: Of two classes, choose the foreground where its probability is above this number, instead of
                0.5. Of more classes, the background's probability is multiplied by the threshold T and that of all
                others by 1 - T before the most probable class is chosen, so that lower ones give more foreground.
            overlay: Also draw the outlines of the labels over the image, to ``overlays/<index>.png`` in the folder of
                the predictions.
            postprocessing: Apply the steps in `postprocessing` of the network to label maps. Class probabilities are
                not changed.

        Returns:
            With `return_output` a list of label arrays ``(x, y[, z])``, or of float32 probabilities
            ``(x, y[, z], classes)``, each in the shape of its original image.

        Raises:
            MemoryBudgetError: If the budget is too small even so; the message contains the required size. Without a
                budget it is a warning.
        """
        output = PredictionOutput(activation_output, file_format, values, threshold, overlay, postprocessing)
        budget = None if memory_budget is None else MemoryBudget(memory_budget)
        indices = as_index_list(sample_list)
        data_io = self.preprocessor.data_io
        data_io.check(indices, load_seg=False)
        if not return_output:
            make_folder(data_io.output_path)  # report an unwritable folder before the first prediction
        outputs = []
        for index in tqdm(indices, desc="Predicting", unit="sample", disable=self.verbose == 0 or len(indices) < 2):
            sample = self.prepared(index, budget)
            write = None if return_output else output.saver(data_io, sample)
            prediction = self.predict_sample(sample, activation_output, memory_budget=budget, **_given(threshold))
            prediction = output.postprocessed(prediction, self.postprocessing, index)
            if return_output:
                outputs.append(prediction)
                continue
            sample.add_prediction(prediction, activation_output=activation_output)
            data_io.save_prediction(sample, write)
            del sample
            output.draw_sample(data_io, index, prediction)
            del prediction  # before the next one is made: it is large
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
        predictor, plan, steps = self._averaged_predictor(), self.plan, self.preprocessor.subfunctions
        return [
            predict_prepared(predictor, plan, steps, prepared, [(axis,)], activation_output=True)
            for axis in flip_axes(self.preprocessor.data_augmentation, prepared.ndim)
        ]

    def predict_array(
        self,
        image: np.ndarray,
        spacing: Sequence[float] | None = None,
        activation_output: bool = False,
        *,
        memory_budget: int | str | None = None,
        threshold: float | None = None,
        postprocessing: bool = True,
        previous_segmentation: np.ndarray | None = None,
    ) -> np.ndarray:
        """Segment an array.

        Args:
            image: ``(x, y[, z][, channels])``.
            spacing: Voxel size in mm per axis; required if a subfunction resamples.
            activation_output: Class probabilities instead of labels.
            memory_budget: As in `predict`; `image` is part of it.
            threshold: As in `predict`.
            postprocessing: As in `predict`.
            previous_segmentation: Of a cascade, the labels ``(x, y[, z])`` that its previous stage made of this image.

        Returns:
            Labels ``(x, y[, z])``, which are class numbers, or float32 probabilities ``(x, y[, z], classes)``.
        """
        output = PredictionOutput(activation_output, threshold=threshold, postprocessing=postprocessing)
        extended = {} if spacing is None else {"spacing": tuple(spacing)}
        budget = None if memory_budget is None else MemoryBudget(memory_budget)
        sample = Sample("array", np.asarray(image), self.channels, self.classes, extended, self.three_dim, self.scheme)
        add_previous(sample, self.preprocessor, previous_segmentation)
        prepare_image(sample, self.preprocessor.subfunctions, budget, kept=True)
        prediction = self.predict_sample(sample, activation_output, memory_budget=budget, **_given(threshold))
        return output.postprocessed(prediction, self.postprocessing, sample.index)

    def predict_file(
        self,
        image_path: str | Path | Sequence[str | Path],
        output_path: str | Path | None = None,
        activation_output: bool = False,
        *,
        memory_budget: int | str | None = None,
        file_format: str | None = None,
        values: str = "mask",
        threshold: float | None = None,
        overlay: bool = False,
        postprocessing: bool = True,
        previous_segmentation: str | Path | np.ndarray | None = None,
    ) -> np.ndarray:
        """Segment an image file, and write the result in the image's own geometry.

        Args:
            image_path: The image, in a format that the model's interface reads or that has a known ending; a list of
                files if each channel is in a file of its own.
            output_path: The file to write. Its ending chooses the format: ``.nii.gz``, ``.nrrd``, ``.png``, ``.npy``,
                or ``.dcm`` for a DICOM series. None only returns the result.
            activation_output: Class probabilities instead of labels.
            memory_budget: As in `predict`, like all that follow.
            file_format: Format of the file; None: by its ending. "seg" and "rtstruct" share the ending ``.dcm``.
            values: Values in the file, "mask" or "index".
            threshold: Probability above which the foreground is chosen.
            overlay: Also draw the outlines of the labels, to ``overlays/`` beside the result.
            postprocessing: Apply the steps in `postprocessing` of the network to label maps.
            previous_segmentation: Of a cascade, the segmentation of this image by its previous stage: a file that
                `predict_file` wrote, or labels ``(x, y[, z])``.

        Returns:
            The prediction; labels as class numbers.

        Example:
            >>> miscnn_tf.load_model("model.keras").predict_file("scan.nii.gz", "seg.nii.gz")  # doctest: +SKIP
        """
        output = PredictionOutput(activation_output, file_format, values, threshold, overlay, postprocessing)
        budget = None if memory_budget is None else MemoryBudget(memory_budget)
        interface = interface_for(self.preprocessor.data_io.interface, image_path)
        with memory_for(str(image_path), "reading it"):
            image, extended = read_for_model(interface, image_path, self.channels, self.three_dim)
        sample = Sample(str(image_path), image, self.channels, self.classes, extended, self.three_dim, self.scheme)
        del image  # the subfunctions put others in its place
        # Report before the computation what prevents the result from being written.
        write = output.file_writer(interface, sample, output_path)
        add_previous(sample, self.preprocessor, previous_segmentation, interface)
        prepare_image(sample, self.preprocessor.subfunctions, budget)
        prediction = self.predict_sample(sample, activation_output, memory_budget=budget, **_given(threshold))
        prediction = output.postprocessed(prediction, self.postprocessing, sample.index)
        if write is not None and output_path is not None:
            sample.add_prediction(prediction, activation_output=activation_output)
            with memory_for(sample.index, "writing its prediction", lambda: prediction.shape):
                write(sample)
            del sample
            output.draw_file(interface, image_path, output_path, prediction)
        return prediction

    def use_previous_stage(self, path: str | Path) -> None:
        """Take the segmentations of the previous stage from another folder, if the network is a cascade.

        Args:
            path: As in `PreviousStage`.
        """
        if self.preprocessor.previous_stage is not None:
            self.preprocessor.previous_stage = PreviousStage(path)

    @property
    def plan(self) -> PatchPlan:
        """The preprocessor's present settings of patches, for this network."""
        return self.preprocessor.plan(self.divisors)

    def prepared(self, index: Hashable, memory_budget: MemoryBudget | None = None) -> Sample:
        """Return a sample after all subfunctions, without a label map.

        Args:
            index: The sample's name.
            memory_budget: Memory limit.
        """
        return prepared_sample(self.preprocessor, index, memory_budget)

    def predict_sample(
        self,
        sample: Sample,
        activation_output: bool = False,
        flips: bool | None = None,
        *,
        memory_budget: MemoryBudget | None = None,
        threshold: float | None = None,
    ) -> np.ndarray:
        """Segment a sample that is already prepared.

        Args:
            sample: Result of `prepared`.
            activation_output: Return class probabilities instead of labels.
            flips: Return the mean over the image as it is and flipped along each axis of ``infaug_flip_list``. None:
                as the augmentation's ``infaug``.
            memory_budget: Limit of the process' memory.
            threshold: As in `predict`.

        Returns:
            Labels ``(x, y[, z])``, or float32 probabilities ``(x, y[, z], classes)``, of the original image.
        """
        views = prediction_views(self.preprocessor.data_augmentation, sample.ndim, flips)
        steps = self.preprocessor.subfunctions
        predictor = self._averaged_predictor()
        require_previous(sample, self.preprocessor)
        sample.scheme = self.scheme  # channels mean what the network learned, whichever interface reads the image
        return predict_prepared(predictor, self.plan, steps, sample, views, activation_output, memory_budget, threshold)

    def segment(self, prepare: Prepare, activation_output: bool = False, index: Hashable | None = None) -> np.ndarray:
        """Segment one image, given a function that prepares it: see `miscnn_tf.processing.segmenter.Segmenter`."""
        return self.predict_sample(prepare(self.preprocessor), activation_output)

    def predict_patches(self, sample: Sample, numbers: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """Predict the patches of a prepared sample one by one.

        Groups of networks average them patch by patch, so that no member's prediction is held as a whole.

        Args:
            sample: The sample after all subfunctions.
            numbers: Numbers of the patches in the grid; None for all.

        Returns:
            float32 arrays ``(x, y[, z], classes)`` in grid order; if ``infaug`` is set, the mean over the flips. They
            have logits instead of probabilities if the plan averages these.
        """
        views = prediction_views(self.preprocessor.data_augmentation, sample.ndim)
        return predicted_patches(self._averaged_predictor(), self.plan, sample, views, numbers)

    def views(self, ndim: int) -> int:
        """Return the number of predictions averaged for each patch.

        It is 1, or with ``infaug`` one more for each axis of its list; all combinations with ``infaug_all``.

        Args:
            ndim: Spatial axes of the image.
        """
        return len(prediction_views(self.preprocessor.data_augmentation, ndim))

    def patch_predictor(self) -> PatchPredictor:
        """Return the network as a function from patches to class probabilities, in batches that suit the device."""
        return self._made_predictor(logits=False)

    def _averaged_predictor(self) -> PatchPredictor:
        """Return the function from patches to what is averaged over patches and flips: see `PatchPlan`."""
        return self._made_predictor(self.plan.averages_logits)

    def _made_predictor(self, logits: bool) -> PatchPredictor:
        self._fit_window()
        if logits not in self._predictors:
            on_gpu = bool(tf.config.list_logical_devices("GPU"))
            plan = self.plan
            self._predictors[logits] = PatchPredictor(
                self.model,
                self.window_shape,
                self.input_channels,
                prediction_batch_size(plan, on_gpu),
                jit_compile=(on_gpu if self.jit_compile == "auto" else self.jit_compile)
                and plan.patch_shape is not None,
                logits=logits,
                shift=REGION_THRESHOLD if logits and self.scheme.regions else 0.0,
            )
        return self._predictors[logits]

    # ---------------------------------------------------------------- state

    def reset_weights(self) -> None:
        """Restore the initial weights and state of random layers, and reset the optimizer."""
        self.take_over(self.initialization_weights, epochs_trained=0)
        # A fold must not depend on the folds before it, which a resumed run does not train again.
        self._compiled.restore_random_state()

    def reset(self) -> None:
        """Restore the initial weights, optimizer and learning rate; frozen layers stay frozen.

        Optimizer and learning rate of a later ``model.compile()`` replace the initial ones.
        """
        self._compiled.follow()
        self._compiled.optimizer = self._compiled.optimizer.reset()
        self.reset_weights()

    def copy(self) -> Self:
        """Return a new network with the same class, settings, weights and frozen layers, and a new optimizer.

        Attributes that you added are shared with this network, as with ``copy.copy``.
        """
        self._compiled.follow()
        twin = copy.copy(self)
        twin.architecture, twin.metrics = copy.deepcopy(self.architecture), list(self.metrics)
        twin._make(self.hardware, self._compiled.optimizer)
        TrainableSet.of(self.model).set(twin.model)
        twin.initialization_weights = [weight.copy() for weight in self.initialization_weights]
        twin.start_digest = self.start_digest
        twin.take_over(self.model.get_weights(), self.epochs_trained)
        twin.postprocessing, twin.model_card = self.postprocessing, dict(self.model_card)
        return twin

    def dump(self, file_path: str | Path) -> None:
        """Write everything that is needed to predict new scans or to continue training: see `miscnn_tf.load_model`.

        Of several machines that train together, the first one writes it.

        Args:
            file_path: Ends in ``.keras``, ``.h5`` or ``.hdf5``.

        Raises:
            ConfigurationError: If it has another ending.
            StorageError: If the file cannot be written.
        """
        Writer().write_file(file_path, lambda: write_model(self.model, self.snapshot().to_json(), file_path))

    def export_onnx(self, file_path: str | Path) -> None:
        """Write the network for ONNX runtimes, which need neither Python nor TensorFlow (extra ``onnx``).

        The network maps float32 ``(batch, x, y[, z], channels)`` to probabilities ``(batch, x, y[, z], classes)``. Its
        preprocessing is in the file's metadata under ``"miscnn_tf"``, as JSON. Of several machines that train together,
        the first one writes it.

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
        Writer().write_file(file_path, lambda: write_onnx(self.in_float32(), self.snapshot().to_json(), file_path))

    def load(
        self, file_path: str | Path, custom_objects: Mapping[str, Any] | None = None, *, head: bool = True
    ) -> None:
        """Read the weights that `dump` wrote, and from ``.keras`` files the optimizer's state.

        Loss, metrics, optimizer, learning rate, frozen layers and preprocessing are not changed;
        `miscnn_tf.load_model` restores those, too.

        Args:
            file_path: The file; of the same architecture.
            custom_objects: Custom layers by name, unless they are registered with Keras.
            head: False for a file with another number of classes or channels. The output layer then keeps this
                network's weights, kernels that are applied to the image are fitted to its channels, other weights are
                read if they fit, and a warning names those that do not. The optimizer's state is not read.

        Example:
            >>> model.load("trained_on_ten_organs.keras", head=False)  # doctest: +SKIP
        """
        loaded = read_weights(file_path, self.model, self.snapshot(), custom_objects, head=head)
        self.take_over(loaded.values, loaded.epochs_trained)
        loaded.restore_optimizer(self.model, self.learning_rate)


def _given(threshold: float | None) -> dict[str, Any]:
    """Return the argument if it is given: a subclass may override `predict_sample` without it."""
    return {} if threshold is None else {"threshold": threshold}


def _name_of(function: Any) -> str:
    return function if isinstance(function, str) else str(getattr(function, "__name__", type(function).__name__))
