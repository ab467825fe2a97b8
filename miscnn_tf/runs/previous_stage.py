"""Segmentations that the previous stage of a cascade made: out-of-fold predictions of a run, or a folder of files."""

from __future__ import annotations

import glob
import os
from collections.abc import Hashable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf._base.configuration import digest
from miscnn_tf._base.files import inside
from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading.file_names import find_file
from miscnn_tf.data_loading.formats.volumes import WRITTEN, read_info
from miscnn_tf.data_loading.geometry import grid_difference
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO, stat_fingerprint
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import DataError, GridError, MissingDataError
from miscnn_tf.runs.fold import Fold, read_fold, read_record
from miscnn_tf.runs.names import PREDICTIONS_FOLDER, SAMPLES_FILE, fold_folders
from miscnn_tf.runs.prediction_files import read_prediction, read_prediction_record


class PreviousStage:
    """Segmentations of the samples by the previous stage of a cascade, such as networks on coarser images.

    A network on the previous stage's segmentations must see them as they will be for new images. In training, each
    sample therefore has the prediction of the fold that was trained without it.

    Args:
        path: The folder of a finished cross-validation (with its detailed evaluation, which keeps the predictions), or
            a folder of label maps that are named like the samples, as `Neural_Network.predict` and
            ``miscnn-tf predict`` write them. It is read when a segmentation is needed.

    Example:
        >>> previous_stage = PreviousStage("coarse_cross_validation")
        >>> Preprocessor(data_io, 2, patch_shape=(96, 96, 96), previous_stage=previous_stage)  # doctest: +SKIP
    """

    def __init__(self, path: str | Path) -> None:
        self.path = os.path.abspath(path)

    def __repr__(self) -> str:
        return f"PreviousStage({self.path!r})"

    def load(self, interface: Abstract_IO, sample: Sample) -> np.ndarray:
        """Return the label map ``(x, y[, z])`` of a sample as it was read.

        Raises:
            MissingDataError: If there is none.
            DataError: If it is damaged.
            GridError: If it is of another image.
        """
        folder = self._folder_of(sample.index)
        try:
            return read_previous(interface, sample, sample.index, folder)
        except MissingDataError as error:
            raise self._missing([sample.index]) from error

    def fingerprint(self, index: Hashable) -> str:
        """Return a digest that changes with the file of a sample."""
        folder = self._folder_of(index)
        return digest(str(folder), stat_fingerprint(_files(folder, index)))

    def require(self, indices: Iterable[Hashable]) -> None:
        """Require a segmentation of each sample, by a model that was trained without it.

        Raises:
            MissingDataError: If one is missing.
            DataError: If a model was trained on the sample.
        """
        names = list(indices)
        missing = [index for index in names if not _files(self._folder_of(index), index)]
        if missing:
            raise self._missing(missing)
        known = self._trained_on & set(map(str, names))
        if known:
            raise DataError(
                f"the segmentations of the previous stage in {self.path} were predicted by a model that was trained on "
                f"{some_of(sorted(known), 3)}; on new images it is less exact, and the network would trust it too "
                "much. Cross-validate the previous stage (miscnn-tf cross-validate), and name the folder of the "
                "cross-validation"
            )

    @cached_property
    def _folds(self) -> list[tuple[Path, Fold]]:
        """Folders with predictions, and the samples that each was trained and validated on; empty for other folders."""
        root = Path(self.path)
        if not root.is_dir():
            raise MissingDataError(
                f"the previous stage of the cascade, {self.path}, does not exist. Name the folder of its "
                "cross-validation, or of its label maps: key previous_stage of [data], option --previous-stage, "
                "PreviousStage(path)"
            )
        folders = list(fold_folders(root).values()) or ([root] if (root / SAMPLES_FILE).is_file() else [])
        return [(one, _finished(one)) for one in folders]

    @cached_property
    def _by_sample(self) -> dict[Hashable, Path]:
        """Folder of the predictions of each sample that a run has validated."""
        return {name: folder / PREDICTIONS_FOLDER for folder, fold in self._folds for name in fold.validation}

    @cached_property
    def _trained_on(self) -> set[str]:
        """Names of samples on which the model was trained that predicted a folder of label maps, if it is known."""
        record: dict[str, Any] = ({} if self._folds else read_prediction_record(Path(self.path))) or {}
        model = Path(record.get("model", ""))
        runs = [model.parent] if model.is_file() else [model, *fold_folders(model).values()]
        known = [read_fold(one / SAMPLES_FILE) for one in runs if record and (one / SAMPLES_FILE).is_file()]
        return {str(name) for fold in known for name in fold.training}

    def _folder_of(self, index: Hashable) -> Path:
        """Return the folder with the prediction of a sample.

        Raises:
            MissingDataError: If the run has not predicted it.
        """
        if not self._folds:
            return Path(self.path)
        if index not in self._by_sample:
            raise self._missing([index])
        return self._by_sample[index]

    def _missing(self, indices: list[Hashable]) -> MissingDataError:
        names = some_of(map(repr, indices), 3)
        if not self._folds:
            return MissingDataError(
                f"the previous stage of the cascade has no segmentation of {names}: {self.path} has no label map of "
                "that name. Predict the images with the previous stage first, or correct the folder"
            )
        trained = {name for _, fold in self._folds for name in fold.training}
        if any(index in trained for index in indices):
            return MissingDataError(
                f"the previous stage of the cascade, {self.path}, has no prediction of {names} by a model that was "
                "trained without it. Cross-validate the previous stage on all samples, with its detailed evaluation "
                "(miscnn-tf cross-validate), and name that folder"
            )
        return MissingDataError(
            f"the previous stage of the cascade, {self.path}, was not validated on {names}. For new images, predict "
            "them with the previous stage first, and name the folder of these predictions (miscnn-tf predict does "
            "both)"
        )


def read_previous(interface: Abstract_IO, sample: Sample, index: Hashable, folder: str | Path) -> np.ndarray:
    """Read the label map of an image from the previous stage of a cascade.

    Args:
        interface: Reads the label map.
        sample: The image as it was read.
        index: Name of the file, without its ending.
        folder: Folder of the file.

    Raises:
        MissingDataError: If it does not exist.
        GridError: If its file has another position in space than the image. Its shape is checked by `Sample`.
    """
    labels = read_prediction(interface, index, folder)
    stem = inside(folder, index)
    file = find_file(stem.parent, stem.name, WRITTEN) if sample.three_dim else None
    own = sample.extended.get("affine")
    if file is not None and own is not None:
        affine = read_info(file).grid.affine
        shape = sample.img_data.shape[:-1]
        difference = None if affine is None else grid_difference(shape, np.asarray(own), labels.shape, affine)
        if difference is not None:
            raise GridError(
                f"sample {sample.index!r}: its segmentation of the previous stage, {file}, is not on the grid of the "
                f"image: {difference}. It must be a segmentation of this image"
            )
    return labels


def _finished(folder: Path) -> Fold:
    record = read_record(folder)
    if record is None or not record.detailed:
        raise MissingDataError(
            f"the previous stage of the cascade is not finished: {folder} has no predictions of all its validation "
            "samples. Finish it by the same command, or call with run_detailed_evaluation=True"
        )
    return record.fold


def _files(folder: Path, index: Hashable) -> list[Path]:
    """Return the files of a sample, which may be label maps in any format."""
    stem = inside(folder, index)
    return sorted(stem.parent.glob(f"{glob.escape(stem.name)}.*"))
