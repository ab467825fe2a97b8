"""A group of k members, each trained on its fold: the models of a cross-validation, predicting as one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscnn_tf._base.arguments import whole_number
from miscnn_tf.data_loading.sample import as_index_list
from miscnn_tf.errors import ConfigurationError, ModelFileError, ModelGroupError
from miscnn_tf.evaluation.all_folds import begin_folds, finish_folds
from miscnn_tf.evaluation.fold_run import check_run, run_split, writer_of
from miscnn_tf.evaluation.folds import check_samples, make_folds
from miscnn_tf.evaluation.options import ValidationOptions
from miscnn_tf.evaluation.starting_weights import starting_weights
from miscnn_tf.multi_model.model import Model
from miscnn_tf.multi_model.model_group import Model_Group
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.runs.fold import Fold, fold_to_plain, plain_to_fold
from miscnn_tf.runs.names import fold_folder

if TYPE_CHECKING:
    from keras.callbacks import Callback

Folds = int | Sequence[Fold | tuple[Sequence[Hashable], Sequence[Hashable]]]


class CrossValidationGroup(Model_Group):
    """k copies of a model, each trained on the training samples of its fold.

    Each sample is left out by one member: `evaluate` measures all of them on samples that they have not seen, and
    `predict` gives, for new samples, the aggregate of all members.

    Args:
        model: The model to copy; it is not changed.
        preprocessor: Prepares the samples, once for all members.
        folds: Number of folds (2 or more), made anew from the samples that are trained on, or the folds themselves:
            pairs of names ``(training, validation)``, as `runs.fold.load_disk2fold` and `make_folds` return, which can
            keep a patient's scans together.
        verify_preprocessor: Whether the model must have this preprocessor.
        seed: Seed of the split, if `folds` is a number; the same seed gives the folds of `cross_validation`.

    Attributes:
        models: The members, in the order of the folds.
        trained_folds: The folds of the last training; None before.

    Raises:
        ModelGroupError: (a RuntimeError) If `model` is not a model, or has another preprocessor.
        ConfigurationError: If `folds` is neither a number nor folds.

    Example:
        >>> group = CrossValidationGroup(model, pre_processor, folds=5)  # doctest: +SKIP
        >>> group.evaluate(samples[:80], epochs=50, evaluation_path="evaluation")  # doctest: +SKIP
        >>> group.predict(samples[80:], "mean")  # doctest: +SKIP
    """

    kind = "CrossValidationGroup"

    def __init__(
        self,
        model: Any,
        preprocessor: Preprocessor,
        folds: Folds,
        verify_preprocessor: bool = True,
        *,
        seed: int = 0,
    ) -> None:
        self.folds = _checked_folds(folds)
        self.seed = whole_number(seed, "seed")
        if isinstance(model, type) or not isinstance(model, Model):
            raise ModelGroupError(f"model={model!r} is not a model; give a Neural_Network")
        number = self.folds if isinstance(self.folds, int) else len(self.folds)
        super().__init__([model], preprocessor, verify_preprocessor)  # checked before it is copied
        self.models = [model.copy() for _ in range(number)]
        self.trained_folds: list[Fold] | None = None

    def train(
        self,
        sample_list: Sequence[Hashable],
        epochs: int = 20,
        iterations: int | None = None,
        callbacks: Sequence[Callback] = (),
        class_weight: Any = None,
    ) -> list[Any]:
        """Train each member on the training side of its fold, from its present weights.

        Args:
            sample_list: Names of the samples to split; if the folds were given, all of theirs.
            epochs: How many epochs.
            iterations: Steps per epoch; None for once through all samples.
            callbacks: Keras callbacks, the same objects for each member; the list is not changed.
            class_weight: ``{class: weight}`` or a weight per class.

        Returns:
            The result of each member: Keras' History of a network.
        """
        self.trained_folds = folds = self._folds_of(sample_list)
        return [
            model.train(list(fold.training), epochs, iterations, list(callbacks), class_weight)
            for model, fold in zip(self._in_turn("trains"), folds, strict=True)
        ]

    def evaluate(
        self,
        training_samples: Sequence[Hashable],
        validation_samples: Sequence[Hashable] | None = None,
        epochs: int = 20,
        iterations: int | None = None,
        callbacks: Sequence[Callback] = (),
        class_weight: Any = None,
        *,
        evaluation_path: str | Path | None = None,
        draw_figures: bool = False,
        run_detailed_evaluation: bool = False,
        resume: bool = True,
        archive: bool = False,
    ) -> list[Any]:
        """Train each member on its fold, and validate it after each epoch on samples that it is not trained on.

        With an `evaluation_path` this is a cross-validation of the group: each fold is trained afresh and leaves the
        files of `miscnn_tf.evaluation.cross_validation` in ``<evaluation_path>/fold_<i>/``, each member has the
        weights of its best epoch, and the same call after an interruption goes on where it stopped. A finished
        `cross_validation` with the same samples and settings is used as it is.

        Args:
            training_samples: Names of the samples that are split into folds.
            validation_samples: Names of samples to validate all members on; None: the validation side of each member's
                own fold.
            epochs: How many epochs.
            iterations: Steps per epoch; None for once through all samples.
            callbacks: Keras callbacks, the same objects for each member; the list is not changed.
            class_weight: ``{class: weight}`` or a weight per class; not with an `evaluation_path`.
            evaluation_path: Folder of the results; None writes nothing, and the members go on from their weights.
            draw_figures: Draw the curves of the loss and the metrics.
            run_detailed_evaluation: Predict each fold's validation samples and write their scores, and a summary.
            resume: False deletes the results in the folder, and starts afresh.
            archive: Move results of another run to a dated folder beside this one: as in `cross_validation`.

        Returns:
            The history of each member: Keras' History, or with an `evaluation_path` its dict
            ``{"loss": [per epoch], "val_loss": […], …}``.

        Raises:
            ConfigurationError: If arguments do not fit, or the folder holds results of other samples or settings.
        """
        folds = self._folds_of(training_samples)
        if evaluation_path is None:
            if draw_figures or run_detailed_evaluation:
                raise ConfigurationError("draw_figures and run_detailed_evaluation need an evaluation_path to write to")
            common = None if validation_samples is None else as_index_list(validation_samples)
            self.trained_folds = folds
            return [
                model.evaluate(
                    *(list(fold.training), list(fold.validation if common is None else common)),
                    *(epochs, iterations, list(callbacks), class_weight),
                )
                for model, fold in zip(self._in_turn("trains"), folds, strict=True)
            ]
        if validation_samples is not None or class_weight is not None:
            raise ConfigurationError(
                "with an evaluation_path each fold validates on its own samples and without class_weight; leave "
                "validation_samples and class_weight out"
            )
        options = ValidationOptions(
            epochs=epochs,
            iterations=iterations,
            draw_figures=draw_figures,
            run_detailed_evaluation=run_detailed_evaluation,
            callbacks=callbacks,
            resume=resume,
            archive=archive,
            report=False,
        )
        root, first = Path(evaluation_path), self.models[0]
        check_run(first, options)
        settings = {"seed": self.seed} if isinstance(self.folds, int) else {}
        writer = writer_of(first)
        with writer.locked(root):
            writer.write(lambda: begin_folds(root, folds, first, options, settings))
            self.trained_folds = folds
            options = replace(options, resume=True, archive=False)  # earlier results are deleted or moved
            histories = []
            for number, (fold, model) in enumerate(zip(folds, self._in_turn("trains"), strict=True)):
                with starting_weights(model):
                    histories.append(run_split(fold, model, fold_folder(root, number), options, writer))
            writer.write(lambda: finish_folds(root, first, options), wait=False)
        return histories

    def description(self) -> dict[str, Any]:
        """Return folds and seed as plain data."""
        return {
            "folds": self.folds if isinstance(self.folds, int) else [fold_to_plain(fold) for fold in self.folds],
            "seed": self.seed,
            "trained_folds": None
            if self.trained_folds is None
            else [fold_to_plain(fold) for fold in self.trained_folds],
        }

    @classmethod
    def from_description(
        cls, models: Sequence[Any], preprocessor: Preprocessor, description: Mapping[str, Any], verify: bool
    ) -> CrossValidationGroup:
        """Return a group of loaded members.

        Raises:
            ModelFileError: If the description does not fit them.
        """
        group = cls.__new__(cls)
        Model_Group.__init__(group, models, preprocessor, verify)
        where = "the group's metadata.json"
        folds, trained = description.get("folds"), description.get("trained_folds")
        if isinstance(folds, list):
            folds = [plain_to_fold(fold, where) for fold in folds]
        number = len(folds) if isinstance(folds, list) else folds
        if isinstance(number, bool) or number != len(models) or not isinstance(description.get("seed"), int):
            raise ModelFileError(f"{where} is damaged: {len(models)} members do not fit its folds; dump the group anew")
        group.folds = folds if isinstance(folds, list) else len(models)
        group.seed = description["seed"]
        group.trained_folds = None if trained is None else [plain_to_fold(fold, where) for fold in trained]
        return group

    def _folds_of(self, sample_list: Sequence[Hashable]) -> list[Fold]:
        samples = check_samples(sample_list, self)
        if isinstance(self.folds, int):
            return make_folds(samples, self.folds, self.seed)
        missing = {name for fold in self.folds for name in (*fold.training, *fold.validation)} ^ set(samples)
        if missing:
            raise ConfigurationError(
                f"the samples are not those of the folds: {sorted(map(str, missing))[:3]} is in one of them only; give "
                "all samples of the folds"
            )
        return self.folds


def _checked_folds(folds: Folds) -> int | list[Fold]:
    if isinstance(folds, Sequence) and not isinstance(folds, str) and folds:
        checked = []
        for fold in folds:
            sides = (fold.training, fold.validation) if isinstance(fold, Fold) else fold
            if not isinstance(sides, tuple | list) or len(sides) != 2 or any(isinstance(side, str) for side in sides):
                raise ConfigurationError(f"folds: {fold!r} is not a pair of lists, (training, validation)")
            training, validation = map(as_index_list, sides)
            both = set(training) & set(validation)
            if both:
                raise ConfigurationError(
                    f"folds: {min(map(str, both))!r} is on both sides of a fold; take it out of one"
                )
            checked.append(Fold(tuple(training), tuple(validation)))
        return checked
    return whole_number(folds, "folds", least=2)
