"""Several models that predict as one."""

from __future__ import annotations

import copy
import logging
import uuid
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from tqdm import tqdm

from miscnn_tf.cluster import is_chief, read_cluster
from miscnn_tf.data_loading.interfaces.single_file import interface_for, require_ending
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.data_loading.sample_names import as_index_list
from miscnn_tf.data_loading.storage import make_folder
from miscnn_tf.errors import ConfigurationError, ModelGroupError
from miscnn_tf.multi_model import group_file
from miscnn_tf.multi_model import staple as _staple  # noqa: F401 - it registers itself
from miscnn_tf.multi_model.aggregation import (
    Aggregation,
    AggregationFunction,
    Mean,
    aggregate,
    find_aggregation,
    wants_probabilities,
)
from miscnn_tf.multi_model.member_predictions import MemberPredictions
from miscnn_tf.multi_model.model import METHODS, Model
from miscnn_tf.processing.preprocessor import Preprocessor

if TYPE_CHECKING:
    from keras.callbacks import Callback

    from miscnn_tf.neural_network.memory_budget import MemoryBudget

logger = logging.getLogger(__name__)


class Model_Group(Model):
    """Trains several models on the same samples, and predicts the aggregate of their predictions.

    Members are best networks of different seeds, architectures or losses: two networks of one architecture and one
    seed start from the same weights.

    Args:
        models: The members: networks (`Neural_Network`), groups, or models of your own (see `Model`).
        preprocessor: Prepares the samples, once for all members.
        verify_preprocessor: Whether each member has to have this very preprocessor. False allows members with
            patches, spacings or steps of their own, as long as classes and number of axes agree; then each sample is
            prepared once per preprocessor.

    Attributes:
        id: A name that tells groups apart; the group's folders are called ``group_<id>``.
        verbose: 0 for no progress bar in `predict`; each member has its own ``verbose`` for training.

    Raises:
        ModelGroupError: (a RuntimeError) If there is no member, one is no model, or one has another preprocessor.

    Example:
        >>> networks = [Neural_Network(pre_processor, seed=seed) for seed in range(3)]  # doctest: +SKIP
        >>> group = Model_Group(networks, pre_processor)  # doctest: +SKIP
        >>> group.train(samples[:80], epochs=50)  # doctest: +SKIP
        >>> group.predict(samples[80:], aggregation_func="mean")  # doctest: +SKIP
        >>> group.dump("models")  # doctest: +SKIP
    """

    def __init__(self, models: Sequence[Any], preprocessor: Preprocessor, verify_preprocessor: bool = True) -> None:
        super().__init__(preprocessor)
        self.models = _checked_members(models, preprocessor, verify_preprocessor)
        self.verify_preprocessor = verify_preprocessor
        self.verbose: str | int = "auto"

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return int(self.preprocessor.data_io.interface.channels)

    @property
    def classes(self) -> int:
        """Classes of the predictions, background included."""
        return int(self.preprocessor.data_io.interface.classes)

    @property
    def three_dim(self) -> bool:
        """Whether the images are volumes."""
        return bool(self.preprocessor.data_io.interface.three_dim)

    # ---------------------------------------------------------------- training

    def train(
        self,
        sample_list: Sequence[Hashable],
        epochs: int = 20,
        iterations: int | None = None,
        callbacks: Sequence[Callback] = (),
        class_weight: Any = None,
    ) -> list[Any]:
        """Train the members, one after the other, on the same samples.

        Args:
            sample_list: Names of the samples.
            epochs: How many epochs.
            iterations: Steps per epoch; None for once through all samples.
            callbacks: Keras callbacks, the same objects for each member; the list is not changed.
            class_weight: ``{class: weight}`` or a weight per class.

        Returns:
            What each member returned: Keras' History of a network.
        """
        self._warn_of_twins()
        return [model.train(list(as_index_list(sample_list)), epochs, iterations, list(callbacks), class_weight)
                for model in self._in_turn("trains")]  # fmt: skip

    def evaluate(
        self,
        training_samples: Sequence[Hashable],
        validation_samples: Sequence[Hashable],
        epochs: int = 20,
        iterations: int | None = None,
        callbacks: Sequence[Callback] = (),
        class_weight: Any = None,
    ) -> list[Any]:
        """Train the members, one after the other, and validate each after each epoch.

        Args:
            training_samples: Names of the samples that they are fitted to.
            validation_samples: Names of the samples that they are measured on, without augmentation.
            epochs: How many epochs.
            iterations: Steps per epoch; None for once through all samples.
            callbacks: Keras callbacks, the same objects for each member; the list is not changed.
            class_weight: ``{class: weight}`` or a weight per class.

        Returns:
            What each member returned: Keras' History of a network.
        """
        self._warn_of_twins()
        training, validation = as_index_list(training_samples), as_index_list(validation_samples)
        return [
            model.evaluate(list(training), list(validation), epochs, iterations, list(callbacks), class_weight)
            for model in self._in_turn("trains")
        ]

    def _in_turn(self, does: str) -> Any:
        for number, model in enumerate(self.models):
            logger.info("member %d of %d %s", number + 1, len(self.models), does)
            yield model

    def _warn_of_twins(self) -> None:
        """Say so where two networks have the same weights, and will learn the same."""
        weights = [model.model.get_weights() if hasattr(model, "predict_windows") else None for model in self.models]
        for second in range(len(weights)):
            for first in range(second):
                if _same_arrays(weights[first], weights[second]):
                    logger.warning(
                        "the members %d and %d start from the same weights and will learn almost the same, which a "
                        "group gains nothing from; give each Neural_Network a seed of its own: seed=%d",
                        *(first, second, second),
                    )
                    break

    # ---------------------------------------------------------------- prediction

    def predict(  # type: ignore[override]  # MIScnn's order: a group is also told how to aggregate
        self,
        sample_list: Sequence[Hashable] | Hashable,
        aggregation_func: str | AggregationFunction = "mean",
        activation_output: bool = False,
        return_output: bool = False,
        *,
        memory_budget: int | str | None = None,
    ) -> list[np.ndarray] | None:
        """Segment samples: the aggregate of what the members predict.

        - ``"mean"``: the mean of the class probabilities. It takes the memory of one network's prediction: networks
          on one preprocessor are averaged window by window.
        - ``"majority"``: the label with the most votes; of equally many the lowest.
        - ``"staple"``: labels weighed by each member's estimated reliability (extra ``staple``).
        - A function ``aggregation_func(sample, [prediction, …])`` of your own. `sample` is the sample as the data
          interface reads it; the predictions are on the grid of its image: labels ``(x, y[, z])``, or with
          `activation_output` float32 probabilities ``(x, y[, z], classes)``. It returns one such array.

        For all but the mean the members' predictions are arrays that are memory-mapped from temporary files, in
        ``<batch_path>/group_<id>/``: read-only, and gone when the function has returned.

        Args:
            sample_list: Names of the samples, or one name.
            aggregation_func: One of the names above, or registered in `aggregations`, or a function.
            activation_output: Class probabilities instead of labels; for the majority the shares of the votes.
            return_output: Return the predictions; otherwise each is saved by the interface as soon as it is made.
            memory_budget: As in `Neural_Network.predict`; for the mean of networks that share a preprocessor.

        Returns:
            With `return_output` a list of label arrays ``(x, y[, z])``, or of float32 probabilities
            ``(x, y[, z], classes)``, each in the shape of its original image.

        Raises:
            ConfigurationError: If there is no such function, or it cannot keep a budget.
            DataError: If the function returns something else than a prediction of the image.
            MemoryBudgetError: If the budget is too small.
        """
        function = find_aggregation(aggregation_func)
        budget = _budget(memory_budget, function)
        indices = as_index_list(sample_list)
        data_io = self.preprocessor.data_io
        data_io.check(indices, load_seg=False)
        if not return_output:
            make_folder(data_io.output_path)
        outputs = []
        for index in tqdm(indices, desc="Predicting", unit="sample", disable=self.verbose == 0 or len(indices) < 2):
            sample, prediction = self._predict_index(index, function, activation_output, budget)
            if return_output:
                outputs.append(prediction)
                continue
            sample.add_prediction(prediction, activation_output=activation_output)
            data_io.save_prediction(sample)
            del sample, prediction
        return outputs if return_output else None

    def predict_array(
        self,
        image: np.ndarray,
        spacing: Sequence[float] | None = None,
        aggregation_func: str | AggregationFunction = "mean",
        activation_output: bool = False,
        *,
        memory_budget: int | str | None = None,
    ) -> np.ndarray:
        """Segment an array.

        Args:
            image: ``(x, y[, z][, channels])``.
            spacing: Voxel size in mm per axis; needed where a subfunction resamples.
            aggregation_func: As in `predict`.
            activation_output: Class probabilities instead of labels.
            memory_budget: As in `predict`; `image` is part of it.

        Returns:
            Labels ``(x, y[, z])``, or float32 probabilities ``(x, y[, z], classes)``.
        """
        extended = {} if spacing is None else {"spacing": tuple(spacing)}
        function = find_aggregation(aggregation_func)
        budget = _budget(memory_budget, function)
        return self.predict_image("array", np.asarray(image), extended, function, activation_output, budget)

    def predict_file(
        self,
        image_path: str | Path | Sequence[str | Path],
        output_path: str | Path | None = None,
        aggregation_func: str | AggregationFunction = "mean",
        activation_output: bool = False,
        *,
        memory_budget: int | str | None = None,
    ) -> np.ndarray:
        """Segment an image file, and write the result in the image's own geometry.

        Args:
            image_path: The image, in a format that the interface reads (or that its ending tells); a list of files for
                an image whose channels lie in one file each.
            output_path: Where to write the result; None only returns it.
            aggregation_func: As in `predict`.
            activation_output: Class probabilities instead of labels.
            memory_budget: As in `predict`.

        Returns:
            What was written.

        Example:
            >>> load_group("models").predict_file("scan.nii.gz", "seg.nii.gz")  # doctest: +SKIP
        """
        function = find_aggregation(aggregation_func)
        budget = _budget(memory_budget, function)
        interface = interface_for(self.preprocessor.data_io.interface, image_path)
        if output_path is not None:
            if not activation_output:
                require_ending(interface, output_path)
            make_folder(Path(output_path).parent)
        image, extended = interface.read_file(image_path)
        prediction = self.predict_image(str(image_path), image, extended, function, activation_output, budget)
        if output_path is not None:
            sample = self._sample(str(image_path), image, extended)
            sample.add_prediction(prediction, activation_output=activation_output)
            interface.write_file(sample, output_path)
        return prediction

    def _predict_index(
        self, index: Hashable, function: AggregationFunction, activation_output: bool, budget: MemoryBudget | None
    ) -> tuple[Sample, np.ndarray]:
        prepared: dict[int, Sample] = {}

        def prepare(preprocessor: Preprocessor) -> Sample:
            # Its floor starts TensorFlow, which the members of a group have done.
            from miscnn_tf.neural_network.prediction import prepared_sample

            if id(preprocessor) not in prepared:
                # One at a time: the next preprocessor's sample takes the place of this one's.
                prepared.clear()
                prepared[id(preprocessor)] = prepared_sample(preprocessor, index, budget)
            return prepared[id(preprocessor)]

        members = MemberPredictions(self.models, index, prepare, budget=budget)
        if isinstance(function, Mean):
            prediction = members.mean(activation_output)
            return prepare(self.preprocessor), prediction

        def original() -> Sample:
            if isinstance(function, Aggregation):
                return prepare(self.preprocessor)  # ours do not look at the image, so it is not decoded again
            return self.preprocessor.data_io.sample_loader(index, load_seg=False)

        prediction, sample = self._from_all(members, original, function, activation_output)
        return sample, prediction

    def predict_image(
        self,
        name: str,
        image: np.ndarray,
        extended: Mapping[str, Any],
        function: AggregationFunction,
        activation_output: bool,
        budget: MemoryBudget | None = None,
    ) -> np.ndarray:
        """Segment an image that belongs to no data set; members that are groups give the mean of theirs.

        Args:
            name: What messages call it.
            image: ``(x, y[, z][, channels])``.
            extended: What an interface reads beside an image, such as ``"spacing"`` and ``"affine"``.
            function: The aggregation function.
            activation_output: Class probabilities instead of labels.
            budget: The memory that the process has to stay within.

        Returns:
            Labels ``(x, y[, z])``, or float32 probabilities ``(x, y[, z], classes)``.
        """

        def prepared(preprocessor: Preprocessor) -> Sample:
            # Its floor starts TensorFlow, which the members of a group have done.
            from miscnn_tf.neural_network.prediction import prepare

            sample = self._sample(name, image, extended)
            prepare(sample, preprocessor.subfunctions, budget, kept=True)
            return sample

        def of_group(group: Model_Group, activation_output: bool) -> np.ndarray:
            return group.predict_image(name, image, extended, find_aggregation("mean"), activation_output)

        members = MemberPredictions(self.models, None, prepared, of_group, budget)
        if isinstance(function, Mean):
            return members.mean(activation_output)
        return self._from_all(members, lambda: self._sample(name, image, extended), function, activation_output)[0]

    def _from_all(
        self,
        members: MemberPredictions,
        original: Callable[[], Sample],
        function: AggregationFunction,
        activation_output: bool,
    ) -> tuple[np.ndarray, Sample]:
        """For functions that need the predictions of all members."""
        folder = Path(self.preprocessor.data_io.batch_path) / group_file.folder_name(self.id)
        with members.on_disk(folder, wants_probabilities(function, activation_output)) as predictions:
            sample = original()
            return aggregate(function, sample, predictions, activation_output), sample

    def _sample(self, name: str, image: np.ndarray, extended: Mapping[str, Any]) -> Sample:
        return Sample(name, image, self.channels, self.classes, extended, three_dim=self.three_dim)

    # ---------------------------------------------------------------- state

    def reset(self) -> None:
        """Take all members back to their initial weights, optimizers and learning rates."""
        for model in self.models:
            model.reset()

    def copy(self) -> Self:
        """A group of its own, of copies of the members, on the same preprocessor.

        Of a class of your own it is one, too; attributes that you added are those of this group, as ``copy.copy`` would
        take them over.
        """
        twin = copy.copy(self)
        twin.id = uuid.uuid4().hex
        twin.models = [model.copy() for model in self.models]
        return twin

    def dump(self, file_path: str | Path) -> None:
        """Write the group into ``<file_path>/group_<id>/``: its members, and ``metadata.json``, which lists them.

        An earlier dump of this group there is replaced once the new one is complete. Of several machines that train
        together (``TF_CONFIG``), the first one writes it.

        Args:
            file_path: A folder; it is made where it is missing.

        Raises:
            StorageError: If it cannot be written.
        """
        if is_chief():
            group_file.write(self, file_path)
        else:
            logger.info("%s: %s is written by the first worker", read_cluster(), file_path)

    def load(self, file_path: str | Path, custom_objects: Mapping[str, Any] | None = None) -> None:
        """Read a dump into this group: each member takes over the weights of its counterpart, the group its id.

        `load_group` needs no group to read into.

        Args:
            file_path: The folder that was given to `dump`, or the folder ``group_<id>`` in it. Of several groups in
                one folder the one with this group's id is read.
            custom_objects: Layers of your own by name, where they are not registered with Keras.

        Raises:
            MissingDataError: If there is no group.
            ModelFileError: If it is damaged, of another format, or of other members.
        """
        group_file.read_into(self, file_path, custom_objects)

    def description(self) -> dict[str, Any]:
        """What the metadata say besides the members: plain data."""
        return {}

    @classmethod
    def from_description(
        cls, models: Sequence[Any], preprocessor: Preprocessor, description: Mapping[str, Any], verify: bool
    ) -> Model_Group:
        """A group of loaded members."""
        return cls(models, preprocessor, verify)


def _budget(memory_budget: int | str | None, function: AggregationFunction) -> MemoryBudget | None:
    if memory_budget is None:
        return None
    if not isinstance(function, Mean):
        raise ConfigurationError(
            'memory_budget is for aggregation_func="mean"; other functions look at the predictions of all members at '
            "once. Leave it out"
        )
    from miscnn_tf.neural_network.memory_budget import MemoryBudget

    return MemoryBudget(memory_budget)


def _checked_members(models: Sequence[Any], preprocessor: Preprocessor, verify: bool) -> list[Any]:
    if isinstance(models, Model) or not isinstance(models, Sequence | tuple | list) or not len(models):
        raise ModelGroupError(f"models={models!r} must be a list of at least one model")
    interface = preprocessor.data_io.interface
    for number, model in enumerate(models):
        if isinstance(model, type) or not isinstance(model, Model):
            raise ModelGroupError(
                f"models[{number}] is {model!r}, which is no model: a Neural_Network, a Model_Group, or an object of "
                f"your own with {', '.join(METHODS)}"
            )
        if any(model is other for other in models[:number]):
            raise ModelGroupError(f"models[{number}] is in the list already; use its copy()")
        own = model.preprocessor
        if own is preprocessor:
            continue
        if verify:
            raise ModelGroupError(
                f"models[{number}] has another preprocessor than the group; make it with the group's, or pass "
                "verify_preprocessor=False if they are meant to differ"
            )
        other = own.data_io.interface
        if (other.classes, bool(other.three_dim)) != (interface.classes, bool(interface.three_dim)):
            raise ModelGroupError(
                f"models[{number}] predicts {other.classes} classes in {3 if other.three_dim else 2}D, the group "
                f"{interface.classes} in {3 if interface.three_dim else 2}D; only alike predictions can be aggregated"
            )
    return list(models)


def _same_arrays(first: list[np.ndarray] | None, second: list[np.ndarray] | None) -> bool:
    if first is None or second is None or len(first) != len(second):
        return False
    return all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
