"""Choice of the postprocessing on the predictions of all folds of a cross-validation, as nnU-Net makes it."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from miscnn_tf._base.plain_files import write_json
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces.description import scored_names_of
from miscnn_tf.data_loading.label_scheme import LabelScheme, scheme_of
from miscnn_tf.data_loading.sample import memory_for
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError
from miscnn_tf.evaluation.dice import class_counts
from miscnn_tf.processing.components import FILL_HOLES, KEEP_LARGEST, ComponentStep, bounding_box
from miscnn_tf.runs.fold import read_record
from miscnn_tf.runs.names import POSTPROCESSING_FILE, PREDICTIONS_FOLDER, fold_folders
from miscnn_tf.runs.prediction_files import load_prediction

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PostprocessingDecision:
    """Decision about one step.

    Attributes:
        step: The step.
        before: Mean Dice without it: of the class, or of all classes together.
        after: Mean Dice with it.
        kept: True if it is part of the postprocessing.
        reason: The reason in words.
    """

    step: ComponentStep
    before: float
    after: float
    kept: bool
    reason: str


@dataclass(frozen=True)
class PostprocessingChoice:
    """Postprocessing that was chosen on a cross-validation.

    Attributes:
        folds: Number of folds.
        samples: Number of samples.
        names: Names of the classes or regions, without the background.
        before: Mean Dice of each without postprocessing.
        after: Mean Dice of each with the kept steps.
        decisions: All decisions, in the order in which they were made.
    """

    folds: int
    samples: int
    names: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    decisions: tuple[PostprocessingDecision, ...]

    @property
    def steps(self) -> tuple[ComponentStep, ...]:
        """The steps to apply, in order."""
        return tuple(decision.step for decision in self.decisions if decision.kept)

    @property
    def table(self) -> str:
        """Text for users: Dice of each class before and after, and the kept steps."""
        width = max(len("class"), *map(len, self.names))
        rows = [
            f"{name:<{width}}  {before:11.4f}  {after:10.4f}"
            for name, before, after in zip(self.names, self.before, self.after, strict=True)
        ]
        kept = "; ".join(step.description for step in self.steps) or "none, since no step improves the Dice"
        head = f"{'class':<{width}}  Dice before  Dice after"
        return "\n".join((f"Postprocessing, decided on {self.samples} samples: {kept}", head, *rows))

    def to_plain(self) -> dict[str, Any]:
        """Return the content of ``postprocessing.json``."""
        return {
            "folds": self.folds,
            "samples": self.samples,
            "steps": [step.to_plain() for step in self.steps],
            "dice": {
                name: {"before": _plain(before), "after": _plain(after)}
                for name, before, after in zip(self.names, self.before, self.after, strict=True)
            },
            "decisions": [
                {
                    **decision.step.to_plain(),
                    "dice_before": _plain(decision.before),
                    "dice_after": _plain(decision.after),
                    "kept": decision.kept,
                    "reason": decision.reason,
                }
                for decision in self.decisions
            ],
        }


def choose_postprocessing(evaluation_path: str | Path, data_io: Data_IO) -> PostprocessingChoice:
    """Decide on a finished cross-validation which postprocessing improves the Dice, and write it to its folder.

    First, keeping the largest component of all foreground together: if the mean Dice of all classes rises and that of
    no class falls. Then, if there are several classes, keeping the largest component of each class (or region) alone,
    if its mean Dice rises. These two rules are nnU-Net's. Last, filling the holes of each, if its mean Dice rises and
    that of no other class falls. Each decision is made on the result of the kept steps before it, and on all samples of
    the cross-validation, each predicted by the model that was not trained with it.

    Args:
        evaluation_path: The run folder, with the predictions of all folds (``run_detailed_evaluation=True``). It gets
            ``postprocessing.json``.
        data_io: The data set of the cross-validation.

    Raises:
        ConfigurationError: If the folder has fewer than two folds: one split is too few samples for a decision.
        MissingDataError: If a fold is not finished, or a prediction is missing.
        DataError: If a prediction does not fit its label map.
        StorageError: If the file cannot be written.

    Example:
        >>> choice = choose_postprocessing("evaluation", io)  # doctest: +SKIP
        >>> print(choice.table)  # doctest: +SKIP
    """
    root = Path(evaluation_path)
    folders = list(fold_folders(root).values())
    if len(folders) < 2:
        raise ConfigurationError(
            f"{root} has {len(folders)} folds; postprocessing is decided on a cross-validation of at least 2. Name the "
            "folder of 'miscnn-tf cross-validate'"
        )
    choice = choose_for_predictions({folder: _validated(folder) for folder in folders}, data_io)
    write_choice(root, choice)
    return choice


def write_choice(folder: Path, choice: PostprocessingChoice) -> None:
    """Write ``postprocessing.json`` to the folder of a cross-validation or comparison."""
    write_json(folder / POSTPROCESSING_FILE, choice.to_plain())


def choose_for_predictions(samples: Mapping[Path, Sequence[Hashable]], data_io: Data_IO) -> PostprocessingChoice:
    """Decide on saved predictions; nothing is written.

    Args:
        samples: The samples of each fold, by the folder of the fold, which has their predictions.
        data_io: The data set.

    Raises:
        MissingDataError: If a prediction is missing.
        DataError: If a prediction does not fit its label map.
    """
    scheme = scheme_of(data_io.interface)
    cases = [
        _Case.of(_truth(data_io, index), load_prediction(data_io, index, folder / PREDICTIONS_FOLDER), scheme, index)
        for folder, indices in samples.items()
        for index in indices
    ]
    return _choose(cases, len(samples), scheme, _names(data_io, scheme))


def choose_for_label_maps(
    truths: Sequence[np.ndarray], predictions: Sequence[np.ndarray], scheme: LabelScheme
) -> PostprocessingChoice:
    """Decide on label maps in memory, which are taken as one cross-validation; nothing is written.

    Args:
        truths: Label maps ``(x, y[, z])``.
        predictions: The predictions of these samples.
        scheme: Meaning of the labels.
    """
    pairs = zip(truths, predictions, strict=True)
    cases = [_Case.of(truth, prediction, scheme, number) for number, (truth, prediction) in enumerate(pairs)]
    names = scheme.scored_names([f"class {number}" for number in range(scheme.classes)])[1:]
    return _choose(cases, 0, scheme, names)


def _choose(cases: Sequence[_Case], folds: int, scheme: LabelScheme, names: Sequence[str]) -> PostprocessingChoice:
    if scheme.regions:
        members = [(region.labels, region.written) for region in scheme.regions]
    else:
        members = [((label,), label) for label in range(1, scheme.classes)]
    groups = [labels for labels, _ in members]
    first = before = _mean_dice(cases, groups)
    decisions = []

    def decide(step: ComponentStep, number: int | None) -> None:
        nonlocal cases, before
        changed = [case.after(step) for case in cases]
        after = _mean_dice(changed, groups)
        decisions.append(_decision(step, before, after, number, names))
        if decisions[-1].kept:
            cases, before = changed, after

    foreground = tuple(range(1, scheme.classes))
    decide(ComponentStep(KEEP_LARGEST, "all foreground", foreground, 1), None)
    for operation in (KEEP_LARGEST, FILL_HOLES):
        # Of a single class, the component of all foreground was decided above.
        if operation == FILL_HOLES or len(members) > 1:
            for number, (labels, written) in enumerate(members):
                decide(ComponentStep(operation, names[number], labels, written), number)
    return PostprocessingChoice(
        folds, len(cases), tuple(names), tuple(first.tolist()), tuple(before.tolist()), tuple(decisions)
    )


def _decision(
    step: ComponentStep, before: np.ndarray, after: np.ndarray, number: int | None, names: Sequence[str]
) -> PostprocessingDecision:
    """Apply nnU-Net's rule to the mean Dice of each class; NaN (a class without voxels) never improves."""
    known = ~np.isnan(before)
    if number is None:
        old, new = (float(dice[known].mean()) if known.any() else np.nan for dice in (before, after))
    else:
        old, new = float(before[number]), float(after[number])
    # As in nnU-Net, the component of a region may cost others.
    others = number is None or step.operation == FILL_HOLES
    worse = [name for name, *dice in zip(names, before, after, strict=True) if dice[1] < dice[0]] if others else []
    mean = "mean Dice" if number is None else "Dice"
    if np.isnan(old) or np.isnan(new):
        return PostprocessingDecision(step, old, new, False, f"the {mean} is not defined with and without this step")
    if not new > old:
        how = "stays the same" if new == old else "falls"
        return PostprocessingDecision(step, old, new, False, f"the {mean} {how} ({old:.4f}, then {new:.4f})")
    if worse:
        return PostprocessingDecision(step, old, new, False, f"the Dice of {', '.join(worse)} falls")
    return PostprocessingDecision(step, old, new, True, f"the {mean} rises from {old:.4f} to {new:.4f}")


@dataclass(frozen=True)
class _Case:
    """Labels of one sample within the bounding box of its predicted foreground, compressed.

    Each step is tried on all samples. They are compressed, by about 100 times, to be read once and stay in memory.

    Attributes:
        shape: Shape of the bounding box.
        dtypes: Types of truth and prediction.
        truth: The truth in it.
        prediction: The prediction in it.
        outside: Number of voxels of each true label outside of it, where the prediction is background.
        sizes: Number of labels of the truth, and of classes.
        counts: Number of voxels of each true and predicted label, in the whole image.
    """

    shape: tuple[int, ...]
    dtypes: tuple[np.dtype, np.dtype]
    truth: bytes
    prediction: bytes
    outside: np.ndarray
    sizes: tuple[int, int]
    counts: np.ndarray

    @classmethod
    def of(cls, truth: np.ndarray, prediction: np.ndarray, scheme: LabelScheme, index: Hashable) -> Self:
        if truth.shape == (*prediction.shape, 1):
            truth = truth[..., 0]
        if truth.shape != prediction.shape:
            raise DataError(
                f"sample {index!r}: its prediction has the shape {prediction.shape}, its label map {truth.shape}; "
                "evaluate again"
            )
        with memory_for(index, "its postprocessing", lambda: prediction.shape):
            truth = truth.astype(scheme.dtype)
            box = bounding_box(prediction != 0) or (slice(0, 0),) * prediction.ndim
            inner, predicted = truth[box], prediction[box]
            everywhere, within = (np.bincount(part.ravel(), minlength=scheme.labels) for part in (truth, inner))
            outside, sizes = everywhere - within, (scheme.labels, scheme.classes)
            return cls(
                *(
                    inner.shape,
                    (inner.dtype, predicted.dtype),
                    zlib.compress(inner.tobytes(), 1),
                    zlib.compress(predicted.tobytes(), 1),
                ),
                *(outside, sizes, _counts(inner, predicted, outside, sizes)),
            )

    def after(self, step: ComponentStep) -> _Case:
        """Return the sample after a step."""
        if not self.counts[:, list(step.labels)].any():
            return self
        before = np.frombuffer(zlib.decompress(self.prediction), self.dtypes[1]).reshape(self.shape)
        prediction = step.apply(before)
        if prediction is before:
            return self
        truth = np.frombuffer(zlib.decompress(self.truth), self.dtypes[0]).reshape(self.shape)
        counts = _counts(truth, prediction, self.outside, self.sizes)
        packed = zlib.compress(prediction.tobytes(), 1)
        return _Case(self.shape, self.dtypes, self.truth, packed, self.outside, self.sizes, counts)

    def dice(self, labels: Sequence[int]) -> float:
        """Return the Dice of the union of labels; NaN if they are in neither label map."""
        counts, labels = self.counts[: self.sizes[1]], list(labels)  # without voxels without annotation
        total = int(counts[labels].sum() + counts[:, labels].sum())
        return 2 * int(counts[np.ix_(labels, labels)].sum()) / total if total else np.nan


def _counts(truth: np.ndarray, prediction: np.ndarray, outside: np.ndarray, sizes: tuple[int, int]) -> np.ndarray:
    counts = class_counts(truth, prediction, sizes[0]) if truth.size else np.zeros((sizes[0],) * 2, np.int64)
    counts[:, 0] += outside
    return counts[:, : sizes[1]]


def _mean_dice(cases: Sequence[_Case], groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the mean Dice of each group of labels over the samples that have it; NaN if none has."""
    dice = np.array([[case.dice(labels) for labels in groups] for case in cases])
    number = np.count_nonzero(~np.isnan(dice), axis=0)
    means: np.ndarray = np.where(number > 0, np.nansum(dice, axis=0) / np.maximum(number, 1), np.nan)
    return means


def _validated(folder: Path) -> Sequence[Hashable]:
    record = read_record(folder)
    if record is None or not record.detailed:
        raise MissingDataError(
            f"the fold in {folder} is not finished or has no predictions; postprocessing is decided on all folds. "
            "Finish the cross-validation with run_detailed_evaluation=True (the same call continues it)"
        )
    return record.fold.validation


def _truth(data_io: Data_IO, index: Hashable) -> np.ndarray:
    return np.asarray(data_io.interface.load_segmentation(index))


def _names(data_io: Data_IO, scheme: LabelScheme) -> tuple[str, ...]:
    names = scored_names_of(data_io.interface)
    numbered = scheme.scored_names([f"class {number}" for number in range(scheme.classes)])
    return tuple(numbered if names is None else map(str, names))[1:]


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
