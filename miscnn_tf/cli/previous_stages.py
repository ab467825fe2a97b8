"""The previous stage of a cascade for ``miscnn-tf predict``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading.file_names import stem_of
from miscnn_tf.errors import ConfigurationError, MissingDataError
from miscnn_tf.neural_network.model_description import read_metadata

#: Folder of the segmentations of the previous stage, in the folder of the predictions.
PREVIOUS_FOLDER: Final = "previous_stage"


def previous_stage_of(files: Sequence[Path], given: str | Path | None) -> Path | None:
    """Return the path of the previous stage of a cascade; None for other models.

    Args:
        files: The model files, at least one.
        given: Path that replaces the recorded one.

    Raises:
        ConfigurationError: If a path is given, but no model is a cascade; or the models record several paths.
        MissingDataError: If the path does not exist.
    """
    recorded = {read_metadata(file)["preprocessor"].get("previous_stage") for file in files} - {None}
    if not recorded:
        if given is not None:
            raise ConfigurationError(
                f"--previous-stage {given}: {files[0]} is not the second stage of a cascade; leave the option out"
            )
        return None
    if given is None and len(recorded) > 1:
        raise ConfigurationError(
            f"the models are cascades with several previous stages: {some_of(sorted(recorded))}; name one of them with "
            "--previous-stage"
        )
    path = Path(next(iter(recorded)) if given is None else given)
    if not path.exists():
        where = "--previous-stage" if given is not None else "the model file records its path"
        raise MissingDataError(
            f"the previous stage of the cascade, {path}, does not exist ({where}). Name its run folder or model with "
            "--previous-stage, or a folder with the segmentations of these images that it made"
        )
    return path


def segmentation_of(stage: Path, name: str) -> Path:
    """Return the file with the segmentation of an image by the previous stage.

    Args:
        stage: The file, or a folder of such files.
        name: Name of the image.

    Raises:
        MissingDataError: If there is none.
    """
    if stage.is_file():
        return stage
    found = sorted(path for path in stage.iterdir() if path.is_file() and stem_of(path) == name)
    if not found:
        raise MissingDataError(
            f"the folder of the previous stage, {stage}, has no segmentation of {name!r}: a file of that name, such as "
            f"{name}.nii.gz. Segment the image with the previous stage, or name its model with --previous-stage"
        )
    return found[0]
