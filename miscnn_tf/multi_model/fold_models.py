"""The models of a cross-validation on disk, as a group."""

from __future__ import annotations

import logging
from pathlib import Path

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.errors import MissingDataError
from miscnn_tf.multi_model.model_group import Model_Group
from miscnn_tf.runs.names import MODEL_FILE, RECORD_FILE, fold_folders

logger = logging.getLogger(__name__)


def fold_model_files(evaluation_path: str | Path) -> list[Path]:
    """The model files of the finished folds of a cross-validation, in the order of the folds.

    Raises:
        MissingDataError: If there is none.
    """
    folders = list(fold_folders(evaluation_path).values())
    finished = [folder for folder in folders if (folder / RECORD_FILE).is_file()]
    files = [folder / MODEL_FILE for folder in finished if (folder / MODEL_FILE).is_file()]
    if not files:
        raise MissingDataError(
            f"there is no model of a finished fold in {evaluation_path}: no fold_<number>/{MODEL_FILE} beside a "
            f"{RECORD_FILE}. Finish the cross-validation (the same call goes on), with save_models=True"
        )
    if len(files) < len(folders):
        logger.warning(
            "%s: only %d of %d folds are finished and have a model", evaluation_path, *map(len, (files, folders))
        )
    return files


def load_fold_models(evaluation_path: str | Path, data_io: Data_IO | None = None) -> Model_Group:
    """Read the models of a cross-validation as a group, which segments new images together.

    Args:
        evaluation_path: The folder that was given to `cross_validation`.
        data_io: Samples to predict by name; not needed for single files and arrays.

    Returns:
        A `Model_Group` of the finished folds. Members with the same preprocessing share one preprocessor.

    Raises:
        MissingDataError: If no fold is finished.
        ModelFileError: If a file is damaged.

    Example:
        >>> load_fold_models("evaluation").predict_file("scan.nii.gz", "seg.nii.gz")  # doctest: +SKIP
    """
    # Its floor starts TensorFlow.
    from miscnn_tf.neural_network.model_description import read_metadata
    from miscnn_tf.neural_network.model_file import load_model

    files = fold_model_files(evaluation_path)
    models = [load_model(file, data_io) for file in files]
    described = [read_metadata(file) for file in files]
    settings = [(each["preprocessor"], each["interface"]) for each in described]
    for model, own in zip(models, settings, strict=True):
        model.preprocessor = models[settings.index(own)].preprocessor
    return Model_Group(models, models[0].preprocessor, verify_preprocessor=False)
