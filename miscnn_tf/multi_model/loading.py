"""Read groups: those that `dump` wrote, and the models of a cross-validation."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.errors import ConfigurationError, MissingDataError, ModelFileError
from miscnn_tf.multi_model.cross_validation_group import CrossValidationGroup
from miscnn_tf.multi_model.group_file import GROUP_KINDS, METADATA, NETWORK_KIND, find_folder, member_path, read
from miscnn_tf.multi_model.model_group import Model_Group
from miscnn_tf.neural_network.model_description import read_metadata, reading
from miscnn_tf.processing.components import ComponentStep, steps_of
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction
from miscnn_tf.runs.names import MODEL_FILE, RECORD_FILE, fold_folders

logger = logging.getLogger(__name__)


def fold_model_files(evaluation_path: str | Path) -> list[Path]:
    """Return the model files of the finished folds of a cross-validation, in the order of the folds.

    Raises:
        MissingDataError: If there are none.
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
    files = fold_model_files(evaluation_path)
    group = load_files(files, data_io)
    group.postprocessing = _common_postprocessing(group.models, files)
    return group


def load_files(files: Sequence[Path], data_io: Data_IO | None = None) -> Model_Group:
    """Read model files as a group, without postprocessing: that of the members was not chosen for their mean.

    Args:
        files: The files, at least one. Members with the same preprocessing share one preprocessor.
        data_io: As in `load_fold_models`.

    Raises:
        ModelGroupError: If the models have different classes or axes.
        ModelFileError: If a file is damaged.
    """
    # Starts TensorFlow.
    from miscnn_tf.neural_network.model_file import load_model

    models = [load_model(file, data_io) for file in files]
    _share_equal(models, [_settings(file) for file in files])
    return Model_Group(models, models[0].preprocessor, verify_preprocessor=False)


def load_group(
    path: str | Path,
    data_io: Data_IO | None = None,
    subfunctions: Sequence[Abstract_Subfunction] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> Model_Group:
    """Read a group that ``dump`` wrote, ready to predict with the preprocessing of its training.

    Members that were trained with the same preprocessing share one preprocessor.

    Args:
        path: The folder that was given to ``dump``, if it holds one group, or the folder ``group_<id>`` in it.
        data_io: Samples to predict by name, or to train on; not needed for single files and arrays.
        subfunctions: The steps, if the files could not store them (a warning named them when they were written).
        custom_objects: Classes of your own by name: models, and what `miscnn_tf.load_model` may need. A model class is
            called with the group's preprocessor, and its ``load`` with the file.

    Returns:
        A `Model_Group`, or `CrossValidationGroup`.

    Raises:
        MissingDataError: If there is no group, or a file of it is missing.
        DataError: If its list is not JSON.
        ModelFileError: If it is damaged, of another format, or names something outside its folder.
        ConfigurationError: If the folder holds several groups, or a class is not known here.

    Example:
        >>> group = load_group("models")  # doctest: +SKIP
        >>> group.predict_file("scan.nii.gz", "seg.nii.gz")  # doctest: +SKIP
    """
    # Starts TensorFlow.
    from miscnn_tf.neural_network.model_file import load_model

    folder = find_folder(path, None)
    metadata = read(folder)
    own = dict(custom_objects or {})
    models: list[Any] = []
    settings: list[Any] = []
    waiting: list[tuple[int, type, Path]] = []
    for member in metadata["members"]:
        kind, file = member["kind"], member_path(folder, member)
        models.append(None)
        settings.append(None)
        if kind == NETWORK_KIND:
            models[-1] = load_model(file, data_io, subfunctions, own)
            settings[-1] = _settings(file)
        elif kind in GROUP_KINDS:
            models[-1] = load_group(file, data_io, subfunctions, own)
        elif kind in own:
            waiting.append((len(models) - 1, own[kind], file))
        else:
            raise ConfigurationError(
                f"{folder / METADATA} names a model of the class {kind!r}, which is not known here; pass "
                f"custom_objects={{{kind!r}: {kind}}}"
            )
    loaded = [model for model in models if model is not None]
    if not loaded:
        raise ConfigurationError(
            f"{folder} holds only models of your own classes, without a description of the preprocessing; make the "
            "Model_Group yourself, and call its load()"
        )
    _share_equal(models, settings)
    preprocessor = loaded[0].preprocessor
    for position, cls, file in waiting:
        models[position] = cls(preprocessor)
        models[position].load(file)
    if metadata["verify_preprocessor"]:
        for model, member in zip(models, metadata["members"], strict=True):
            if member["kind"] in GROUP_KINDS:
                model.share(preprocessor)
            else:
                model.preprocessor = preprocessor
    classes = {cls.kind: cls for cls in (Model_Group, CrossValidationGroup)}
    with reading(folder / METADATA):
        group = classes[metadata["kind"]].from_description(
            models, preprocessor, metadata["description"], metadata["verify_preprocessor"]
        )
    with reading(folder / METADATA):
        group.postprocessing = steps_of(metadata.get("postprocessing"), group.classes)
    group.id = metadata["id"]
    for model, member in zip(models, metadata["members"], strict=True):
        model.id = member["id"]
    return group


def _common_postprocessing(models: Sequence[Any], files: Sequence[Path]) -> tuple[ComponentStep, ...]:
    """Return the postprocessing of the models of all folds, which was chosen for them together."""
    steps: tuple[ComponentStep, ...] = models[0].postprocessing
    for model, file in zip(models, files, strict=True):
        if model.postprocessing != steps:
            raise ModelFileError(
                f"{file} has another postprocessing than {files[0]}; it is chosen for all folds together. Run "
                "'miscnn-tf cross-validate' again, which trains no finished fold, to choose and store it anew"
            )
    return steps


def _settings(file: Path) -> tuple[Any, Any]:
    described = read_metadata(file)
    return described["preprocessor"], described["interface"]


def _share_equal(models: Sequence[Any], settings: Sequence[tuple[Any, Any] | None]) -> None:
    """Give networks with the same preprocessing the preprocessor of the first of them."""
    for model, own in zip(models, settings, strict=True):
        if own is not None:
            model.preprocessor = models[settings.index(own)].preprocessor
