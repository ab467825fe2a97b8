"""Scores of each validation sample and class, written as tables."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from miscnn_tf._base.callable_module import make_callable
from miscnn_tf._base.files import make_folder
from miscnn_tf._base.messages import plural
from miscnn_tf.data_loading.interfaces.description import label_values_of, scored_names_of
from miscnn_tf.data_loading.label_scheme import LabelScheme, scheme_of
from miscnn_tf.data_loading.sample import memory_for
from miscnn_tf.errors import ConfigurationError, DataError, LabelError
from miscnn_tf.evaluation.dice import compute_dice, mean_dice
from miscnn_tf.evaluation.folds import check_samples
from miscnn_tf.evaluation.scores import Row, check_tolerance, score_by_scheme
from miscnn_tf.evaluation.summary import write_results
from miscnn_tf.evaluation.trainable import Predicting
from miscnn_tf.runs.earlier_files import remove_predictions
from miscnn_tf.runs.kept_predictions import KeptPredictions
from miscnn_tf.runs.names import RESULT_FILES, SCORES_FILE
from miscnn_tf.runs.score_summary import summary_table
from miscnn_tf.runs.score_table import with_sample, write_scores
from miscnn_tf.runs.tables import backup_evaluation
from miscnn_tf.runs.writer import Writer

__all__ = ["compute_dice", "detailed_validation", "mean_dice"]

logger = logging.getLogger(__name__)


def detailed_validation(
    validation_samples: Sequence[Hashable],
    model: Predicting,
    evaluation_path: str | Path,
    *,
    tolerance_mm: float = 1.0,
    draw_figures: bool = False,
    save_predictions: bool = True,
) -> dict[Hashable, list[float]]:
    """Predict samples and write the scores of each class.

    The samples are predicted one after the other, so that one sample is in memory at a time. The scores are computed on
    the grid of the original image, in mm if the interface knows the spacing. The folder gets:

    - ``detailed_validation.tsv``: ``sample_id``, ``dice_class-0``, …, a row per sample, with NaN for a class that is in
      neither the segmentation nor the prediction;
    - ``scores.csv``: all scores of `scores.score_label_maps`, a row per sample and class, units in the column names;
    - ``summary.json``: mean, standard deviation, median and confidence interval per class;
    - ``scores.png``: box plots (`draw_figures`);
    - ``predictions/``: the label maps in the format of the interface (`save_predictions`), which the report shows. Data
      in memory, and interfaces that cannot save, get ``.npy`` files.

    Tables of an earlier run are replaced. Each sample is added to both tables when its scores are computed, so that an
    interruption costs one sample; ``summary.json`` is written at the end. Existing predictions of the same weights and
    settings are used again; those of other models are removed.

    Of several cluster nodes, only the first one writes; the others return the same scores.

    Args:
        validation_samples: Names of samples that have a segmentation.
        model: The trained model, which predicts with its current weights.
        evaluation_path: The folder; created if missing.
        tolerance_mm: Tolerance of the normalised surface Dice, in mm (in pixels or voxels if the spacing is unknown).
        draw_figures: Draw box plots of the scores.
        save_predictions: Keep the label maps.

    Returns:
        Dice per class for each sample; `mean_dice` computes their means.

    Raises:
        ConfigurationError: If a sample does not exist, the tolerance is not a length, or the spacing of the interface
            is not one positive length per axis.
        DataError: If a segmentation does not fit its image, or holds labels that are not below the number of classes.
        StorageError: If a table cannot be written.

    Example:
        >>> scores = detailed_validation(["case_00000"], model, "evaluation")  # doctest: +SKIP
        >>> scores["case_00000"]  # doctest: +SKIP
        [0.998, 0.951, 0.802]
    """
    samples = check_samples(validation_samples, model)
    check_tolerance(tolerance_mm)
    folder, writer = Path(evaluation_path), Writer()
    kept = writer.write(lambda: _begin(folder, model, save_predictions))
    scores: dict[Hashable, list[float]] = {}
    rows: list[dict[str, Any]] = []

    def write_tables(index: Hashable) -> None:
        backup_evaluation([index, *scores[index]], folder)
        write_scores(folder / SCORES_FILE, rows)

    for index in tqdm(samples, desc="Scores per case", unit="case", disable=None if writer.is_chief else True):
        with memory_for(index, "reading its label map"):
            truth = _truth(model, index)  # first, to find its faults before the long prediction
        prediction = None if kept is None else kept.load(index)
        if prediction is None:
            prediction = _predicted(model, index)
            if kept is not None:
                kept.save(index, prediction)
        with memory_for(index, "its scores", prediction.shape):
            case = _measured(model, index, truth, prediction, tolerance_mm)
        del truth, prediction  # large arrays, before the next ones are read
        scores[index] = [row["dice"] for row in case]
        rows += with_sample(case, index)
        writer.write(partial(write_tables, index))
    interface = model.preprocessor.data_io.interface
    known = {"class_names": scored_names_of(interface), "label_values": label_values_of(interface)}
    facts = {name: value for name, value in known.items() if value is not None}
    summary = writer.write(lambda: write_results(folder, rows, draw_figures=draw_figures, facts=facts))
    if summary is not None:
        logger.info("%s: scores of %s\n%s", folder, plural(len(samples), "case"), summary_table(summary))
    return scores


def _begin(folder: Path, model: Predicting, save_predictions: bool) -> KeptPredictions | None:
    """Remove the results of other weights, and return the predictions in the folder."""
    make_folder(folder)
    for name in RESULT_FILES:
        (folder / name).unlink(missing_ok=True)
    columns = [f"dice_class-{number}" for number in range(_scheme(model).scored)]
    backup_evaluation(["sample_id", *columns], folder, start=True)
    if save_predictions:
        return KeptPredictions(folder, model)
    remove_predictions(folder)
    return None


def _scheme(model: Predicting) -> LabelScheme:
    return scheme_of(model.preprocessor.data_io.interface, model.classes)


def _predicted(model: Predicting, index: Hashable) -> np.ndarray:
    predictions = model.predict([index], return_output=True)
    assert predictions is not None  # return_output=True
    return predictions[0]


def _truth(model: Predicting, index: Hashable) -> np.ndarray:
    # From the interface, since the image is only needed for the prediction.
    truth = model.preprocessor.data_io.interface.load_segmentation(index)
    highest = np.max(truth)
    if highest >= _scheme(model).labels:  # of a custom interface; the others have checked it
        raise LabelError(
            f"sample {index!r}: its segmentation holds the label {highest:g}, but with classes={model.classes} labels "
            f"are 0 to {model.classes - 1}; correct the label map, or make interface and model with more classes"
        )
    return truth


def _measured(
    model: Predicting, index: Hashable, truth: np.ndarray, prediction: np.ndarray, tolerance_mm: float
) -> list[Row]:
    """Return the scores of a sample, a row per class."""
    interface = model.preprocessor.data_io.interface
    try:
        spacing = _spacing(interface, index)
        return score_by_scheme(truth, prediction, _scheme(model), spacing, tolerance_mm=tolerance_mm)
    except DataError as error:
        raise DataError(f"sample {index!r}: the prediction and its segmentation: {error}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"sample {index!r}: its spacing from the interface: {error}") from error


def _spacing(interface: Any, index: Hashable) -> tuple[float, ...] | None:
    """Return the voxel size in mm of the original image; None if unknown."""
    # An interface that is not derived from Abstract_IO may lack the methods that only read the header.
    details = interface.load_details(index) if hasattr(interface, "load_details") else None
    extended = None
    # A subclass with its own load_image() knows more than the method of its base class that reads headers.
    reads = next((cls for cls in type(interface).__mro__ if {"load_extended", "load_image"} & vars(cls).keys()), None)
    if reads is not None and "load_extended" not in vars(reads):
        extended = interface.load_image(index)[1]
    elif hasattr(interface, "load_extended"):
        extended = interface.load_extended(index)
    for facts in (details, extended):
        if facts and facts.get("spacing") is not None:
            return tuple(float(length) for length in facts["spacing"])
    return None


make_callable(__name__)
