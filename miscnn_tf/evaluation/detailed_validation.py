"""Dice of each validation case and class, as a table on disk."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from miscnn_tf.data_loading.results import backup_evaluation
from miscnn_tf.data_loading.storage import make_folder
from miscnn_tf.errors import DataError
from miscnn_tf.evaluation.callable_module import make_callable
from miscnn_tf.evaluation.dice import compute_dice, mean_dice
from miscnn_tf.evaluation.folds import check_samples

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network

__all__ = ["compute_dice", "detailed_validation", "mean_dice"]


def detailed_validation(
    validation_samples: Sequence[Hashable], model: Neural_Network, evaluation_path: str | Path
) -> dict[Hashable, list[float]]:
    """Predict samples and write the Dice of each class, a row per sample.

    The samples are predicted one after the other, so that one case is in memory at a time, and measured on the grid of
    the original image.

    Args:
        validation_samples: Names of samples that have a segmentation.
        model: The trained model; its present weights predict.
        evaluation_path: Folder for ``detailed_validation.tsv`` with the columns ``sample_id``, ``dice_class-0``, …,
            created where missing; a table of an earlier run is replaced. NaN stands for a class that is neither in
            the segmentation nor in the prediction.

    Returns:
        Dice per class for each sample; `mean_dice` makes their means.

    Raises:
        ConfigurationError: If a sample does not exist.
        DataError: If a segmentation does not fit its image, or holds labels that are not below the number of classes.

    Example:
        >>> scores = detailed_validation(["case_00000"], model, "evaluation")  # doctest: +SKIP
        >>> scores["case_00000"]  # doctest: +SKIP
        [0.998, 0.951, 0.802]
    """
    samples = check_samples(validation_samples, model)
    folder = str(make_folder(evaluation_path))
    interface = model.preprocessor.data_io.interface
    backup_evaluation(["sample_id", *(f"dice_class-{number}" for number in range(model.classes))], folder, start=True)
    scores: dict[Hashable, list[float]] = {}
    for index in tqdm(samples, desc="Dice per case", unit="case", disable=None):
        predictions = model.predict([index], return_output=True)
        assert predictions is not None  # they were asked for
        try:
            # Straight from the interface: the image itself was decoded for the prediction already.
            scores[index] = compute_dice(interface.load_segmentation(index), predictions[0], model.classes)
        except DataError as error:
            raise DataError(f"sample {index!r}: the prediction and its segmentation: {error}") from error
        backup_evaluation([index, *scores[index]], folder)
    return scores


make_callable(__name__)
