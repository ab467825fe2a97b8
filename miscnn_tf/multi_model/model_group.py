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

from miscnn_tf._base.files import make_folder
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.interfaces.description import interface_for, read_for_model
from miscnn_tf.data_loading.label_scheme import LabelScheme, scheme_of
from miscnn_tf.data_loading.sample import Sample, as_index_list
from miscnn_tf.errors import ConfigurationError, ModelFileError, ModelGroupError
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
from miscnn_tf.neural_network.memory_budget import MemoryBudget, prepare_image, prepared_sample
from miscnn_tf.neural_network.prediction_output import PredictionOutput
from miscnn_tf.neural_network.previous_input import Segmentation, add_previous
from miscnn_tf.processing.components import ComponentStep
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.segmenter import PatchSegmenter, Prepare
from miscnn_tf.runs.previous_stage import PreviousStage
from miscnn_tf.runs.writer import Writer

if TYPE_CHECKING:
    from keras.callbacks import Callback

logger = logging.getLogger(__name__)


class Model_Group(Model):
    """Train several models on the same samples, and predict the aggregate of their predictions.

    Good members are networks of different seeds, architectures or losses: two networks of one architecture and one
    seed start from the same weights.

    Args:
        models: The members: networks (`Neural_Network`), groups, or models of your own (see `Model`).
        preprocessor: Prepares the samples, once for all members.
        verify_preprocessor: Whether each member must have this preprocessor. False allows members with patches,
            spacings or steps of their own, as long as classes and number of axes agree; then each sample is prepared
            once per preprocessor.

    Attributes:
        id: A name that distinguishes groups; the group's folders are called ``group_<id>``.
        verbose: 0 for no progress bar in `predict`; each member has its own ``verbose`` for training.

    Raises:
        ModelGroupError: (a RuntimeError) If there is no member, one is not a model, or one has another preprocessor.

    Example:
        >>> networks = [Neural_Network(pre_processor, seed=seed) for seed in range(3)]  # doctest: +SKIP
        >>> group = Model_Group(networks, pre_processor)  # doctest: +SKIP
        >>> group.train(samples[:80], epochs=50)  # doctest: +SKIP
        >>> group.predict(samples[80:], aggregation_func="mean")  # doctest: +SKIP
        >>> group.dump("models")  # doctest: +SKIP
    """

    #: Name of the class in the files of a group of models.
    kind = "Model_Group"

    def __init__(self, models: Sequence[Any], preprocessor: Preprocessor, verify_preprocessor: bool = True) -> None:
        super().__init__(preprocessor)
        self.models = _checked_members(models, preprocessor, verify_preprocessor)
        self.verify_preprocessor = verify_preprocessor
        self.verbose: str | int = "auto"
        self.postprocessing: tuple[ComponentStep, ...] = ()

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return int(self.preprocessor.data_io.interface.channels)

    @property
    def classes(self) -> int:
        """Classes of the predictions, background included."""
        return int(self.preprocessor.data_io.interface.classes)

    @property
    def scheme(self) -> LabelScheme:
        """Meaning of the labels: classes, voxels without annotation, and regions."""
        return scheme_of(self.preprocessor.data_io.interface)

    @property
    def three_dim(self) -> bool:
        """True for volumes, False for images."""
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
            The result of each member: Keras' History of a network.
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
            training_samples: Names of the samples to train on.
            validation_samples: Names of the samples to validate on, without augmentation.
            epochs: How many epochs.
            iterations: Steps per epoch; None for once through all samples.
            callbacks: Keras callbacks, the same objects for each member; the list is not changed.
            class_weight: ``{class: weight}`` or a weight per class.

        Returns:
            The result of each member: Keras' History of a network.
        """
        self._warn_of_twins()
        training, validation = as_index_list(training_samples), as_index_list(validation_samples)
        return [
            model.evaluate(list(training), list(validation), epochs, iterations, list(callbacks), class_weight)
            for model in self._in_turn("trains")
        ]

    def _in_turn(self, does: str) -> Any:
        self.postprocessing = ()  # it was chosen for the weights before this training
        for number, model in enumerate(self.models):
            logger.info("member %d of %d %s", number + 1, len(self.models), does)
            yield model

    def _warn_of_twins(self) -> None:
        """Warn if two networks have the same weights, and will learn the same."""
        weights = [model.model.get_weights() if isinstance(model, PatchSegmenter) else None for model in self.models]
        for second in range(len(weights)):
            for first in range(second):
                if _same_arrays(weights[first], weights[second]):
                    logger.warning(
                        "the members %d and %d start from the same weights and will learn almost the same, so that "
                        "the group gains nothing; give each Neural_Network a seed of its own: seed=%d",
                        *(first, second, second),
                    )
                    break

    # ---------------------------------------------------------------- prediction

    def predict(  # type: ignore[override]  # MIScnn's order of the arguments
        self,
        sample_list: Sequence[Hashable] | Hashable,
        aggregation_func: str | AggregationFunction = "mean",
        activation_output: bool = False,
        return_output: bool = False,
        *,
        memory_budget: int | str | None = None,
        file_format: str | None = None,
        values: str = "mask",
        threshold: float | None = None,
        overlay: bool = False,
        postprocessing: bool = True,
    ) -> list[np.ndarray] | None:
        """Segment samples: the aggregate of what the members predict.

        - ``"mean"``: the mean of the class probabilities. It takes the memory of one network's prediction: networks
          on one preprocessor are averaged patch by patch.
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
            file_format: As in `Neural_Network.predict`.
            values: As in `Neural_Network.predict`.
            threshold: As in `Neural_Network.predict`; for the mean.
            overlay: As in `Neural_Network.predict`.
            postprocessing: Apply the steps in `postprocessing` of the group to label maps. Class probabilities are not
                changed.

        Returns:
            With `return_output` a list of label arrays ``(x, y[, z])``, or of float32 probabilities
            ``(x, y[, z], classes)``, each in the shape of its original image.

        Raises:
            ConfigurationError: If there is no such function, or it cannot keep a budget.
            DataError: If the function does not return a prediction of the image.
            MemoryBudgetError: If the budget is too small.
        """
        output = PredictionOutput(activation_output, file_format, values, threshold, overlay, postprocessing)
        function = find_aggregation(aggregation_func)
        _require_mean(function, threshold)
        budget = _budget(memory_budget, function)
        indices = as_index_list(sample_list)
        data_io = self.preprocessor.data_io
        data_io.check(indices, load_seg=False)
        if not return_output:
            make_folder(data_io.output_path)
        outputs = []
        for index in tqdm(indices, desc="Predicting", unit="sample", disable=self.verbose == 0 or len(indices) < 2):
            sample, prediction = self._predict_index(index, function, output, budget)
            prediction = output.postprocessed(prediction, self.postprocessing, index)
            if return_output:
                outputs.append(prediction)
                continue
            write = output.saver(data_io, sample)
            sample.add_prediction(prediction, activation_output=activation_output)
            data_io.save_prediction(sample, write)
            del sample
            output.draw_sample(data_io, index, prediction)
            del prediction
        return outputs if return_output else None

    def predict_array(
        self,
        image: np.ndarray,
        spacing: Sequence[float] | None = None,
        aggregation_func: str | AggregationFunction = "mean",
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
            spacing: Voxel size in mm per axis; needed where a subfunction resamples.
            aggregation_func: As in `predict`.
            activation_output: Class probabilities instead of labels.
            memory_budget: As in `predict`; `image` is part of it.
            threshold: As in `predict`.
            postprocessing: As in `predict`.
            previous_segmentation: As in `Neural_Network.predict_array`, for the members that are cascades.

        Returns:
            Labels ``(x, y[, z])``, or float32 probabilities ``(x, y[, z], classes)``.
        """
        output = PredictionOutput(activation_output, threshold=threshold, postprocessing=postprocessing)
        extended = {} if spacing is None else {"spacing": tuple(spacing)}
        function = find_aggregation(aggregation_func)
        _require_mean(function, threshold)
        budget = _budget(memory_budget, function)
        sample = self._sample("array", np.asarray(image), extended)
        self._add_previous(sample, previous_segmentation)
        prediction = self._predict_image(sample, function, output, budget)
        return output.postprocessed(prediction, self.postprocessing, sample.index)

    def predict_file(
        self,
        image_path: str | Path | Sequence[str | Path],
        output_path: str | Path | None = None,
        aggregation_func: str | AggregationFunction = "mean",
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
            image_path: The image, in a format that the interface reads, or recognised by its ending; a list of files
                for an image with one file per channel.
            output_path: Where to write the result, in the format of its ending; None only returns it.
            aggregation_func: As in `predict`.
            activation_output: Class probabilities instead of labels.
            memory_budget: As in `predict`.
            file_format: As in `Neural_Network.predict_file`, like all that follow.
            values: Values in the file, "mask" or "index".
            threshold: Probability above which the foreground is chosen.
            overlay: Also draw the outlines of the labels, to ``overlays/`` beside the result.
            postprocessing: Apply the steps in `postprocessing` of the group to label maps.
            previous_segmentation: As in `Neural_Network.predict_file`, for the members that are cascades.

        Returns:
            The prediction; labels as class numbers.

        Example:
            >>> load_group("models").predict_file("scan.nii.gz", "seg.nii.gz")  # doctest: +SKIP
        """
        output = PredictionOutput(activation_output, file_format, values, threshold, overlay, postprocessing)
        function = find_aggregation(aggregation_func)
        _require_mean(function, threshold)
        budget = _budget(memory_budget, function)
        interface = interface_for(self.preprocessor.data_io.interface, image_path)
        image, extended = read_for_model(interface, image_path, self.channels, self.three_dim)
        sample = self._sample(str(image_path), image, extended)
        del image
        self._add_previous(sample, previous_segmentation, interface)
        write = output.file_writer(interface, sample, output_path)
        prediction = self._predict_image(sample, function, output, budget)
        prediction = output.postprocessed(prediction, self.postprocessing, sample.index)
        if write is not None and output_path is not None:
            sample.add_prediction(prediction, activation_output=activation_output)
            write(sample)
            output.draw_file(interface, image_path, output_path, prediction)
        return prediction

    def segment(self, prepare: Prepare, activation_output: bool = False, index: Hashable | None = None) -> np.ndarray:
        """Segment one image by the mean of the members: see `miscnn_tf.processing.segmenter.Segmenter`."""
        return MemberPredictions(self.models, index, prepare).mean(activation_output)

    def _predict_index(
        self, index: Hashable, function: AggregationFunction, output: PredictionOutput, budget: MemoryBudget | None
    ) -> tuple[Sample, np.ndarray]:
        def prepare(preprocessor: Preprocessor) -> Sample:
            return prepared_sample(preprocessor, index, budget)

        members = MemberPredictions(self.models, index, prepare, budget)
        if isinstance(function, Mean):
            prediction = members.mean(output.activation_output, output.threshold)
            return members.prepared(self.preprocessor), prediction

        def original() -> Sample:
            if isinstance(function, Aggregation):
                return members.prepared(self.preprocessor)  # ours do not read the image: it is not decoded again
            return self.preprocessor.data_io.sample_loader(index, load_seg=False)

        prediction, sample = self._from_all(members, original, function, output.activation_output)
        return sample, prediction

    def _predict_image(
        self,
        original: Sample,
        function: AggregationFunction,
        output: PredictionOutput,
        budget: MemoryBudget | None = None,
    ) -> np.ndarray:
        """Segment an image that belongs to no data set.

        Args:
            original: The image as it was read; it is not changed.
            function: The aggregation function.
            output: What is predicted.
            budget: Memory limit.
        """

        def prepare(preprocessor: Preprocessor) -> Sample:
            sample = self._sample(str(original.index), original.img_data, original.extended)
            if preprocessor.previous_stage is not None:
                sample.previous_data = original.previous_data
            prepare_image(sample, preprocessor.subfunctions, budget, kept=True)
            return sample

        members = MemberPredictions(self.models, None, prepare, budget)
        if isinstance(function, Mean):
            return members.mean(output.activation_output, output.threshold)
        return self._from_all(members, lambda: original, function, output.activation_output)[0]

    def _from_all(
        self,
        members: MemberPredictions,
        original: Callable[[], Sample],
        function: AggregationFunction,
        activation_output: bool,
    ) -> tuple[np.ndarray, Sample]:
        """Aggregate by a function that needs the predictions of all members."""
        folder = Path(self.preprocessor.data_io.batch_path) / group_file.folder_name(self.id)
        with members.on_disk(folder, wants_probabilities(function, activation_output)) as predictions:
            sample = original()
            return aggregate(function, sample, predictions, activation_output), sample

    def _add_previous(self, sample: Sample, given: Segmentation | None, interface: Abstract_IO | None = None) -> None:
        """Add the segmentation from the previous stage to an image if a member is a cascade."""
        cascades = [one for one in self.preprocessors() if one.previous_stage is not None]
        add_previous(sample, (cascades or [self.preprocessor])[0], given, interface)

    def _sample(self, name: str, image: np.ndarray, extended: Mapping[str, Any]) -> Sample:
        return Sample(name, image, self.channels, self.classes, extended, self.three_dim, self.scheme)

    # ---------------------------------------------------------------- state

    def reset(self) -> None:
        """Reset all members to their initial weights, optimizers and learning rates."""
        self.postprocessing = ()
        for model in self.models:
            model.reset()

    def copy(self) -> Self:
        """Return a new group of the same class, with copies of the members, on the same preprocessor.

        Attributes that you added are shared with this group, as with ``copy.copy``.
        """
        twin = copy.copy(self)
        twin.id = uuid.uuid4().hex
        twin.models = [model.copy() for model in self.models]
        return twin

    def dump(self, file_path: str | Path) -> None:
        """Write the group into ``<file_path>/group_<id>/``: its members, and ``metadata.json``, which lists them.

        An earlier dump of this group there is replaced once the new one is complete. Of several machines that train
        together, the first one writes it.

        Args:
            file_path: A folder; created if missing.

        Raises:
            StorageError: If it cannot be written.
        """
        metadata = {
            "kind": self.kind,
            "id": self.id,
            "verify_preprocessor": self.verify_preprocessor,
            "description": self.description(),
        }
        if self.postprocessing:
            metadata["postprocessing"] = [step.to_plain() for step in self.postprocessing]
        Writer().write_file(file_path, lambda: group_file.write(file_path, self.models, metadata))

    def load(self, file_path: str | Path, custom_objects: Mapping[str, Any] | None = None) -> None:
        """Read a dump into this group: the weights of each member, and the ids.

        `load_group` does not need a group to read into.

        Args:
            file_path: The folder that was given to `dump`, or the folder ``group_<id>`` in it. Of several groups in
                one folder the one with this group's id is read.
            custom_objects: Layers of your own by name, if they are not registered with Keras.

        Raises:
            MissingDataError: If there is no group.
            ModelFileError: If it is damaged, of another format, or of other members.
        """
        folder = group_file.find_folder(file_path, self.id)
        metadata = group_file.read(folder)
        members = metadata["members"]
        found, needed = [member["kind"] for member in members], [group_file.kind_of(model) for model in self.models]
        if found != needed:
            raise ModelFileError(
                f"{folder} holds a group of {', '.join(found)}, but this one has {', '.join(needed)}; read it with "
                "load_group(), or make a group of such members first"
            )
        files = [group_file.member_path(folder, member) for member in members]  # all are found before one is read
        for model, file in zip(self.models, files, strict=True):
            model.load(file, custom_objects)
        self.postprocessing = ()  # as that of the members: load_group() reads it
        self.id = metadata["id"]
        for model, member in zip(self.models, members, strict=True):
            model.id = member["id"]

    def preprocessors(self) -> list[Preprocessor]:
        """Return the preprocessor of each member, and of the members of groups among them."""
        found: list[Preprocessor] = []
        for model in self.models:
            found += model.preprocessors() if isinstance(model, Model_Group) else [model.preprocessor]
        return found

    def use_previous_stage(self, path: str | Path) -> None:
        """Take the segmentations of the previous stage from another folder, for all members that are cascades.

        Args:
            path: As in `PreviousStage`.
        """
        for preprocessor in self.preprocessors():
            if preprocessor.previous_stage is not None:
                preprocessor.previous_stage = PreviousStage(path)

    def share(self, preprocessor: Preprocessor) -> None:
        """Give the group a preprocessor, and its members too if they must have the group's."""
        self.preprocessor = preprocessor
        if not self.verify_preprocessor:
            return
        for model in self.models:
            if isinstance(model, Model_Group):
                model.share(preprocessor)
            else:
                model.preprocessor = preprocessor

    def description(self) -> dict[str, Any]:
        """Return the settings to write beside the members, as plain data."""
        return {}

    @classmethod
    def from_description(
        cls, models: Sequence[Any], preprocessor: Preprocessor, description: Mapping[str, Any], verify: bool
    ) -> Model_Group:
        """Return a group of loaded members."""
        return cls(models, preprocessor, verify)


def _budget(memory_budget: int | str | None, function: AggregationFunction) -> MemoryBudget | None:
    if memory_budget is None:
        return None
    if not isinstance(function, Mean):
        raise ConfigurationError(
            'memory_budget is for aggregation_func="mean"; other functions need the predictions of all members at '
            "once. Leave it out"
        )
    return MemoryBudget(memory_budget)


def _require_mean(function: AggregationFunction, threshold: float | None) -> None:
    """Require the mean of class probabilities if there is a threshold for them."""
    if threshold is not None and not isinstance(function, Mean):
        raise ConfigurationError(
            f"threshold={threshold} is for the mean of class probabilities; leave it out, or aggregate by the mean"
        )


def _checked_members(models: Sequence[Any], preprocessor: Preprocessor, verify: bool) -> list[Any]:
    if isinstance(models, Model) or not isinstance(models, Sequence | tuple | list) or not len(models):
        raise ModelGroupError(f"models={models!r} must be a list of at least one model")
    interface = preprocessor.data_io.interface
    for number, model in enumerate(models):
        if isinstance(model, type) or not isinstance(model, Model):
            raise ModelGroupError(
                f"models[{number}] is {model!r}, which is not a model: give a Neural_Network, a Model_Group, or an "
                f"object of your own with {', '.join(METHODS)}"
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
        theirs, ours = (scheme_of(one).region_settings() or "no regions" for one in (other, interface))
        if theirs != ours:
            raise ModelGroupError(
                f"models[{number}] predicts {theirs}, the group {ours}; only predictions of the same regions can be "
                "aggregated"
            )
        if (other.classes, bool(other.three_dim)) != (interface.classes, bool(interface.three_dim)):
            raise ModelGroupError(
                f"models[{number}] predicts {other.classes} classes in {3 if other.three_dim else 2}D, the group "
                f"{interface.classes} in {3 if interface.three_dim else 2}D; only predictions of the same classes and "
                "axes can be aggregated"
            )
    return list(models)


def _same_arrays(first: list[np.ndarray] | None, second: list[np.ndarray] | None) -> bool:
    if first is None or second is None or len(first) != len(second):
        return False
    return all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
