"""The Neural_Network: a network, how it is trained, and how it predicts whole images."""

from __future__ import annotations

import copy
import hashlib
import logging
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from miscnn_tf.arguments import positive, whole_number
from miscnn_tf.cluster import is_chief
from miscnn_tf.data_loading.memory_errors import memory_for
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.data_loading.sample_names import as_index_list
from miscnn_tf.data_loading.storage import make_folder
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network import model_file, onnx_file
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture, require_architecture
from miscnn_tf.neural_network.architecture.unet.standard import Architecture as UNet_standard
from miscnn_tf.neural_network.callbacks import require_no_schedule
from miscnn_tf.neural_network.class_weights import ClassWeight
from miscnn_tf.neural_network.compilation import Compilation
from miscnn_tf.neural_network.hardware import Hardware, choose_hardware
from miscnn_tf.neural_network.losses import tversky_loss
from miscnn_tf.neural_network.memory_budget import MemoryBudget, prepare_image, prepared_sample
from miscnn_tf.neural_network.metrics import dice_soft, get_all
from miscnn_tf.neural_network.optimizer import OptimizerRecipe, rate_of, unwrapped
from miscnn_tf.neural_network.prediction import (
    PatchPredictor,
    flip_axes,
    predict_prepared,
    predicted_patches,
    prediction_batch_size,
    view_axes,
)
from miscnn_tf.neural_network.random_state import random_state, set_random_state
from miscnn_tf.neural_network.segmentation_model import SegmentationModel, build_model
from miscnn_tf.neural_network.trainable import TrainableSet
from miscnn_tf.neural_network.training import Training
from miscnn_tf.processing.assembling import assemble
from miscnn_tf.processing.patching.patch_plan import PatchPlan
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.segmenter import Prepare

logger = logging.getLogger(__name__)

Loss = str | Callable[[Any, Any], Any]

# A distinct object, so that `is` distinguishes an omitted learning rate from one of the same value.
_DEFAULT_RATE = float("0.0001")
# Key of the frozen layers in `attributes_to_send`.
_TRAINABLE = "trainable set"


class Neural_Network:
    """Trains a network on the preprocessor's patches, and predicts whole images with it.

    Args:
        preprocessor: Where batches come from, and how images become patches.
        architecture: What to build; left out: the standard U-Net.
        loss: A loss function of ``(y_true, y_pred)``, one-hot and probabilities, or a registered loss's name.
        metrics: Metric functions, Keras metrics, or names of either; left out: ``[dice_soft]``.
        learning_rate: Learning rate, a number; callbacks can change it during training. Default: that of `optimizer`,
            if it is an object, otherwise 0.0001.
        batch_queue_size: How many batches are made ahead of the training step.
        workers: Threads that make them. The batches do not depend on their number.
        multi_gpu: Train on all GPUs (``tf.distribute.MirroredStrategy``). Where the environment's ``TF_CONFIG`` names
            several machines, they train one network together, with all their GPUs.
        seed: Seed of the initial weights; left out: the preprocessor's.
        precision: ``"auto"`` chooses by the hardware; ``"float32"``, ``"mixed_bfloat16"`` or ``"mixed_float16"``.
        deterministic: The same seed gives the same weights on the same machine, to the last bit; somewhat slower. It
            holds for the whole program, and has to be asked for before anything else uses TensorFlow.
        jit_compile: Whether XLA compiles training and prediction; ``"auto"``: on a GPU. Whole images,
            which come in many sizes, are never compiled.
        optimizer: A Keras optimizer, which is cloned from its configuration, or a name (``"sgd"``). Default: Adam.

    Attributes:
        model: The Keras model, compiled. Its layers can be frozen between two trainings (``trainable = False``).
        three_dim: Whether it works on volumes.
        channels: Channels of its input.
        classes: Classes of its output.
        initialization_weights: The initial weights: those of the seed, or those given to `start_from`.
        start_digest: Digest of the weights given to `start_from`; None for the weights of the seed.
        trainable_as_built: The ``trainable`` flags of the model as the architecture built it.
        shuffle_batches: Whether each epoch has its own order of samples, default True.
        verbose: Keras' progress bar in training, and ours in prediction: ``"auto"``, 0, 1 or 2.
        hardware: Devices, precision and XLA as they were chosen.
        trained_on: Names of the samples of the last training and its validation.
        epochs_trained: How many epochs the weights have been trained since they were initial.
        divisors: What the sizes of its input must be multiples of, one number for each spatial axis.
        id: A name that tells instances apart.

    Raises:
        ConfigurationError: If the patch shape does not fit the architecture, or an argument is wrong.

    Example:
        >>> model = Neural_Network(preprocessor=pre_processor, loss=tversky_crossentropy)  # doctest: +SKIP
        >>> model.train(samples[:80], epochs=50)  # doctest: +SKIP
        >>> labels = model.predict(samples[80:], return_output=True)  # doctest: +SKIP
    """

    #: Name of the class in the files of a group of models.
    kind = "Neural_Network"

    def __init__(
        self,
        preprocessor: Preprocessor,
        architecture: Abstract_Architecture | None = None,
        loss: Loss = tversky_loss,
        metrics: Sequence[Any] | None = None,
        learning_rate: float = _DEFAULT_RATE,
        batch_queue_size: int = 2,
        workers: int = 1,
        multi_gpu: bool = False,
        *,
        seed: int | None = None,
        precision: str = "auto",
        deterministic: bool = False,
        jit_compile: bool | Literal["auto"] = "auto",
        optimizer: keras.optimizers.Optimizer | str | None = None,
    ) -> None:
        if not isinstance(preprocessor, Preprocessor):
            raise ConfigurationError(f"preprocessor must be a Preprocessor, got {preprocessor!r}")
        self.preprocessor = preprocessor
        self.architecture = UNet_standard() if architecture is None else require_architecture(architecture)
        self.loss = loss
        get_all(metrics or ())  # what is no metric is told now, not after the network was built
        self.metrics = [dice_soft] if metrics is None else list(metrics)
        self.batch_queue_size = whole_number(batch_queue_size, "batch_queue_size", least=1)
        self.workers = whole_number(workers, "workers", least=1)
        self.multi_gpu = multi_gpu
        self.seed = preprocessor.seed if seed is None else whole_number(seed, "seed")
        self.precision = precision
        self.deterministic = deterministic
        self.jit_compile = jit_compile
        self.shuffle_batches = True
        self.verbose: str | int = "auto"

        interface = preprocessor.data_io.interface
        self.three_dim = bool(interface.three_dim)
        self.channels = int(interface.channels)
        self.classes = int(interface.classes)
        self._optimizer_recipe, own_rate = _recipe(optimizer)
        if own_rate is not None and learning_rate is _DEFAULT_RATE:
            learning_rate = own_rate
        elif own_rate is not None and np.float32(_rate(learning_rate)) != np.float32(own_rate):
            raise ConfigurationError(
                f"learning_rate={learning_rate!r} differs from the learning rate {own_rate} of the optimizer; give one "
                "of them"
            )
        self._initial_learning_rate = self._learning_rate = _rate(learning_rate)
        axes = 3 if self.three_dim else 2
        divisors = getattr(self.architecture, "divisors", None)
        self.divisors: tuple[int, ...] = (1,) * axes if divisors is None else divisors(axes)
        self._set_up()

    # ---------------------------------------------------------------- building

    def _set_up(self) -> None:
        """Choose the devices of this machine, and make what runs on them."""
        self.hardware = self._choose_hardware()
        self._make_model()
        self._compilation.renew(self)

    def _choose_hardware(self) -> Hardware:
        return choose_hardware(
            self.multi_gpu,
            self.precision,
            self.deterministic,
            self.jit_compile,
            many_sizes=None in self.window_shape,
        )

    def attributes_to_send(self) -> dict[str, Any]:
        """Return all attributes except those of the Keras model and the machine, for `of_attributes`."""
        self._follow_model()
        made = ("hardware", "id", "trained_on", "epochs_trained", "initialization_weights")
        hidden = ("_model", "_window", "trainable_as_built", "_compilation", "_predictor", "_initial_random_state")
        attributes = {name: value for name, value in vars(self).items() if name not in (*made, *hidden)}
        return {**attributes, _TRAINABLE: TrainableSet.of(self.model)}

    @classmethod
    def of_attributes(cls, attributes: Mapping[str, Any]) -> Self:
        """A network with initial weights, on this machine's devices.

        The constructor is not called: that of a class of your own may take other arguments.

        Args:
            attributes: What `attributes_to_send` gave.
        """
        attributes = dict(attributes)
        trainable = attributes.pop(_TRAINABLE, None)
        network = cls.__new__(cls)
        vars(network).update(attributes)
        network._set_up()
        network.start_digest = attributes.get("start_digest")
        if trainable is not None:
            trainable.set(network.model)
        return network

    def _make_model(self) -> None:
        """Make what two networks of the same settings do not share: the Keras model, and all that belongs to it."""
        self.id = uuid.uuid4().hex
        self.trained_on: dict[str, list[Hashable]] = {"training": [], "validation": []}
        self.epochs_trained = 0
        self.start_digest: str | None = None
        self._model = self._build(self.hardware)
        self.trainable_as_built = TrainableSet.of(self._model)
        self._window = self.window_shape
        self.initialization_weights = self.model.get_weights()
        self._initial_random_state = random_state(self._model)
        self._compilation = Compilation()
        self._predictor: PatchPredictor | None = None

    @property
    def model(self) -> SegmentationModel:
        """The Keras model, compiled."""
        return self._model

    @model.setter
    def model(self, value: Any) -> None:
        raise ConfigurationError(
            f"network.model cannot be replaced (got {value!r:.100}): folds, copies and model files are made by the "
            "architecture. For other weights of this architecture call network.load(path), or "
            "network.model.set_weights(other.get_weights()); for another model make a Neural_Network with an "
            "architecture whose create_model() returns it"
        )

    @property
    def window_shape(self) -> tuple[int | None, ...]:
        """Spatial shape of the network's input: the patch, or None in each axis for whole images."""
        return self.preprocessor.checked_patch_shape() or (None,) * (3 if self.three_dim else 2)

    def _fit_window(self) -> None:
        """Rebuild the Keras model with its weights if the preprocessor's patch_shape has changed.

        Raises:
            ConfigurationError: If the patch does not fit the architecture, or the network is being trained.
        """
        window = self.window_shape
        if window == self._window:
            return
        if self._compilation.in_training:
            raise ConfigurationError(
                f"preprocessor.patch_shape was changed from {self._window} to {window} while the network is trained; "
                "change it before or after the training"
            )
        self._follow_model()
        self._compilation.renew(self)  # layers may have been frozen in between
        before, optimizer = self.model, self.optimizer
        changes_kind = (None in window) != (None in self._window)
        hardware = self._choose_hardware() if changes_kind else self.hardware
        model = self._build(hardware)
        model.set_weights(before.get_weights())
        TrainableSet.of(before).set(model)
        self.hardware, self._model, self._window, self._predictor = hardware, model, window, None
        self._compilation = Compilation()
        self._compilation.renew(self)
        if optimizer.built:
            with hardware.scope():
                self.optimizer.build(model.trainable_variables)
            for new, old in zip(self.optimizer.variables, optimizer.variables, strict=True):
                new.assign(old)

    @property
    def learning_rate(self) -> float:
        """Learning rate; a new value is used from the next training on."""
        self._follow_model()
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        rate = _rate(value)
        require_no_schedule(self.model, "network.learning_rate = ...")
        self._follow_model()
        self._learning_rate = rate
        self.model.optimizer.learning_rate = self._learning_rate
        if not self._compilation.in_training:
            self._compilation.note_optimizer(self.model)

    @property
    def optimizer(self) -> keras.optimizers.Optimizer:
        """Current optimizer; a new one, given as object or name, is cloned and used from the next training on."""
        found: keras.optimizers.Optimizer = unwrapped(self.model.optimizer)
        return found

    @optimizer.setter
    def optimizer(self, value: keras.optimizers.Optimizer | str | None) -> None:
        self._optimizer_recipe, own_rate = _recipe(value)
        if own_rate is not None:
            self._initial_learning_rate = self._learning_rate = own_rate
        self._compilation.renew(self, new_optimizer=True)

    def make_optimizer(self) -> keras.optimizers.Optimizer:
        """Return a new optimizer with the network's settings and learning rate."""
        return self._optimizer_recipe.make(self._learning_rate)

    def _follow_model(self) -> None:
        """Adopt an optimizer or learning rate that the user set on the Keras model."""
        compiled = self._compilation.user_optimizer(self.model)
        rate = self._compilation.user_rate(self.model)
        if compiled is not None:
            try:
                self._optimizer_recipe = OptimizerRecipe.of(compiled)
            except ConfigurationError as reason:
                logger.warning("%s. This training uses it; folds and copies use the previous optimizer", reason)
            rate = rate_of(compiled)
            self._initial_learning_rate = self._initial_learning_rate if rate is None else rate
        if compiled is not None or rate is not None:
            self._learning_rate = self._learning_rate if rate is None else rate
            self._compilation.note_optimizer(self.model)

    def settings_beyond_defaults(self) -> dict[str, Any]:
        """Return the optimizer and frozen layers as JSON types, without those that are the defaults."""
        self._follow_model()
        trainable = TrainableSet.of(self.model)
        settings = {
            "optimizer": self._optimizer_recipe.describe(),
            "trainable": None if trainable == self.trainable_as_built else trainable.describe(),
        }
        return {name: value for name, value in settings.items() if value is not None}

    def _build(self, hardware: Hardware) -> SegmentationModel:
        return build_model(self.architecture, self.window_shape, self.channels, self.classes, hardware, self.seed)

    def in_float32(self) -> keras.Model:
        """Return the Keras model in float32: the model itself, or a copy if it is trained in another precision."""
        self._fit_window()
        if self.hardware.precision == "float32":
            return self.model
        # On one device: several machines would wait for each other, and this one may be the only one that asks.
        here = replace(self.hardware, precision="float32", strategy=tf.distribute.get_strategy())
        model = self._build(here)
        model.set_weights(self.model.get_weights())
        return model

    def take_over(self, weights: list[np.ndarray], epochs_trained: int) -> None:
        """Set weights and number of trained epochs, and reset the optimizer."""
        self._follow_model()
        self.model.set_weights(weights)
        self.epochs_trained = epochs_trained
        self._compilation.renew(self, new_optimizer=True)

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
        samples = as_index_list(sample_list)
        self._fit_window()
        return Training(self, self._compilation, samples, None, epochs, iterations, callbacks, class_weight).run()

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
        training, validation = as_index_list(training_samples), as_index_list(validation_samples)
        self._fit_window()
        return Training(
            self, self._compilation, training, validation, epochs, iterations, callbacks, class_weight
        ).run()

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
        predictor, plan, steps = self.patch_predictor(), self.plan, self.preprocessor.subfunctions
        return [
            assemble(
                prepared, predicted_patches(predictor, plan, prepared, [axis]), plan, steps, activation_output=True
            )
            for axis in flip_axes(self.preprocessor.data_augmentation, prepared.ndim)
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
            Labels ``(x, y[, z])``, which are class numbers, or float32 probabilities ``(x, y[, z], classes)``.
        """
        extended = {} if spacing is None else {"spacing": tuple(spacing)}
        budget = None if memory_budget is None else MemoryBudget(memory_budget)
        sample = Sample("array", np.asarray(image), self.channels, self.classes, extended, three_dim=self.three_dim)
        prepare_image(sample, self.preprocessor.subfunctions, budget, kept=True)
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
            output_path: Where to write the labels, in the values of the training's label maps; None only returns them.
            activation_output: Class probabilities instead of labels.
            memory_budget: As in `predict`.

        Returns:
            What was written, labels as class numbers.

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
        with memory_for(str(image_path), "reading it"):
            image, extended = interface.read_file(image_path)
        sample = Sample(str(image_path), image, self.channels, self.classes, extended, three_dim=self.three_dim)
        del image  # the subfunctions put others in its place
        prepare_image(sample, self.preprocessor.subfunctions, budget)
        prediction = self.predict_sample(sample, activation_output, memory_budget=budget)
        if output_path is not None:
            sample.add_prediction(prediction, activation_output=activation_output)
            with memory_for(sample.index, "writing its prediction", lambda: prediction.shape):
                interface.write_file(sample, output_path)
        return prediction

    @property
    def plan(self) -> PatchPlan:
        """The preprocessor's present settings of patches, for this network."""
        return self.preprocessor.plan(self.divisors)

    def prepared(self, index: Hashable, memory_budget: MemoryBudget | None = None) -> Sample:
        """Return a sample after all subfunctions, without a label map.

        Args:
            index: The sample's name.
            memory_budget: Limit of the memory.
        """
        return prepared_sample(self.preprocessor, index, memory_budget)

    def predict_sample(
        self,
        sample: Sample,
        activation_output: bool = False,
        flips: bool | None = None,
        *,
        memory_budget: MemoryBudget | None = None,
    ) -> np.ndarray:
        """Segment a sample that is already prepared.

        Args:
            sample: Result of `prepared`.
            activation_output: Return class probabilities instead of labels.
            flips: Whether to take the mean over the image as it is and flipped along each axis of ``infaug_flip_list``;
                None: as the augmentation's ``infaug``.
            memory_budget: Limit of the process' memory.

        Returns:
            Labels ``(x, y[, z])``, or float32 probabilities ``(x, y[, z], classes)``, of the original image.
        """
        axes = view_axes(self.preprocessor.data_augmentation, sample.ndim, flips)
        steps = self.preprocessor.subfunctions
        predictor = self.patch_predictor()
        return predict_prepared(predictor, self.plan, steps, sample, axes, activation_output, memory_budget)

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
            float32 arrays ``(x, y[, z], classes)`` in grid order; if ``infaug`` is set, the mean over the flips.
        """
        axes = view_axes(self.preprocessor.data_augmentation, sample.ndim)
        return predicted_patches(self.patch_predictor(), self.plan, sample, axes, numbers)

    def views(self, ndim: int) -> int:
        """Return the number of predictions that each patch is the mean of.

        It is 1, or with ``infaug`` one more for each axis of its list.

        Args:
            ndim: Spatial axes of the image.
        """
        return len(view_axes(self.preprocessor.data_augmentation, ndim))

    def patch_predictor(self) -> PatchPredictor:
        """Return the network as a function from patches to class probabilities, in batches that suit the device."""
        self._fit_window()
        if self._predictor is None:
            on_gpu = bool(tf.config.list_logical_devices("GPU"))
            plan = self.plan
            self._predictor = PatchPredictor(
                self.model,
                self.window_shape,
                self.channels,
                prediction_batch_size(plan, on_gpu),
                jit_compile=(on_gpu if self.jit_compile == "auto" else self.jit_compile)
                and plan.patch_shape is not None,
            )
        return self._predictor

    # ---------------------------------------------------------------- state

    def reset_weights(self) -> None:
        """Go back to the initial weights and state of dropout, and forget what the optimizer remembers."""
        self.take_over(self.initialization_weights, epochs_trained=0)
        # What a fold learns must not depend on the folds before it, which an interrupted run does not train again.
        set_random_state(self.model, self._initial_random_state)

    def reset(self) -> None:
        """Restore the initial weights, optimizer and learning rate; frozen layers stay frozen.

        Optimizer and learning rate of a later ``model.compile()`` replace the initial ones.
        """
        self._follow_model()
        self._learning_rate = self._initial_learning_rate
        self.reset_weights()

    def copy(self) -> Self:
        """Return a new network with the same class, settings, weights and frozen layers, and a new optimizer.

        Attributes that you added are shared with this network, as with ``copy.copy``.
        """
        self._follow_model()
        twin = copy.copy(self)
        twin.architecture, twin.metrics = copy.deepcopy(self.architecture), list(self.metrics)
        twin._make_model()
        TrainableSet.of(self.model).set(twin.model)
        twin.initialization_weights = [weight.copy() for weight in self.initialization_weights]
        twin.start_digest = self.start_digest
        twin.take_over(self.model.get_weights(), self.epochs_trained)
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
        preprocessing that has to come before it is in the file's metadata under ``"miscnn_tf"``, as JSON. Of several
        machines that train together (``TF_CONFIG``), the first one writes it.

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
        if is_chief():
            onnx_file.write(self, file_path)
        else:
            logger.info("%s: %s is written by the first worker", self.hardware.cluster, file_path)

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
        model_file.read_into(self, file_path, custom_objects, head=head)


def _recipe(optimizer: Any) -> tuple[OptimizerRecipe, float | None]:
    """Return the recipe of an optimizer and its learning rate; None for one given by name."""
    if optimizer is None:
        return OptimizerRecipe(), None
    if isinstance(optimizer, str):
        return OptimizerRecipe.of_name(optimizer), None
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        hint = "; add parentheses to the class" if isinstance(optimizer, type) else ""
        raise ConfigurationError(f"optimizer must be a Keras optimizer or the name of one, got {optimizer!r}{hint}")
    recipe = OptimizerRecipe.of(optimizer)
    rate = rate_of(unwrapped(optimizer))
    if rate is None:
        raise _schedule_error(f"the {type(optimizer).__name__} with a LearningRateSchedule")
    return recipe, _rate(rate)


def _rate(value: Any) -> float:
    """Validate a learning rate, which must be a number because it is stored in files and set before each training."""
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        raise _schedule_error(f"the schedule {type(value).__name__}")
    return positive(value, "learning_rate")


def _schedule_error(found: str) -> ConfigurationError:
    return ConfigurationError(
        f"learning_rate must be a positive number, got {found}. Pass the rate of the first step, and to train() a "
        "callback that changes it: miscnn_tf.neural_network.callbacks.PolynomialDecay or "
        "keras.callbacks.LearningRateScheduler"
    )
