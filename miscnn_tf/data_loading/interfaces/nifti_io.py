"""Interface for volumes: a folder per sample with ``imaging.nii.gz`` and ``segmentation.nii.gz``, or other formats."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from miscnn_tf._base import configuration
from miscnn_tf._base.files import inside
from miscnn_tf.data_loading import geometry
from miscnn_tf.data_loading._discovery.image_forms import usual_nifti_form
from miscnn_tf.data_loading.file_names import (
    ENDINGS,
    ending_of,
    find_file,
    find_samples,
    folder_below,
    list_files,
    sample_folder,
    visible_files,
    warn_of_others,
)
from miscnn_tf.data_loading.formats.volume_info import VolumeInfo
from miscnn_tf.data_loading.formats.volumes import (
    VOLUME_ENDINGS,
    WRITTEN,
    check_size,
    files_of,
    find_volume,
    prediction_ending,
    read_info,
    read_voxels,
    volume_stem,
    write_volume,
)
from miscnn_tf.data_loading.interfaces.abstract_io import (
    Abstract_IO,
    prediction_labels,
    prediction_to_write,
    stat_fingerprint,
)
from miscnn_tf.data_loading.interfaces.sample_paths import SampleFiles
from miscnn_tf.data_loading.label_keys import LabelMap
from miscnn_tf.data_loading.label_values import class_values
from miscnn_tf.data_loading.labels import AxesError, check_axes, check_image, check_labels, normalised_label_map
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import DataError, GridError, MissingDataError

# KiTS21 has several label maps per case: the majority (MAJ), the union and the intersection of its annotators.
_SEGMENTATIONS = ("segmentation", "aggregated_MAJ_seg")
_MODALITY = re.compile(r"imaging_(\d{4})", re.IGNORECASE | re.ASCII)


class NIFTI_interface(Abstract_IO):
    """Interface for volumes (or 2D images) in NIfTI files, compressed or not, and in other formats of volumes.

    A sample is a folder with ``imaging.nii.gz`` and, for training, ``segmentation.nii.gz`` (in KiTS21
    ``aggregated_MAJ_seg.nii.gz``); or ``.nii``, ``.nrrd``,
    ``.mha``, ``.mhd``, ``.mgz``, ``.hdr`` with ``.img``, a TIFF stack, ``.npy``, ``.npz``. Several channels are the
    fourth axis of the image, or a file each: ``imaging_0000.nii.gz``, ``imaging_0001.nii.gz``, …, all on one grid.

    ``scl_slope`` and ``scl_inter`` are applied to images and label maps. Affine and spacing are converted to
    millimetres.

    Predictions are ``<output_path>/<index>.nii.gz`` with the image's affine, qform, sform and unit, or in the format of
    the image: integer labels, or with activation output the class probabilities as float32 along a fourth axis.

    Args:
        channels: Number of channels.
        classes: Number of classes, background included.
        three_dim: Whether the images are volumes; False for single slices ``(x, y)`` or ``(x, y, 1)``.
        pattern: Regular expression that a folder's whole name must match to be a sample; None takes all.
        label_map: Labels for values in the segmentation files, ``{255: 1}``; other values are kept. Predictions are
            written in the same values.

    Example:
        >>> interface = NIFTI_interface(pattern="case_000[0-9]*", channels=1, classes=3)
        >>> indices = interface.initialize("data")  # doctest: +SKIP
        >>> image, extended = interface.load_image(indices[0])  # doctest: +SKIP
        >>> extended["spacing"]  # doctest: +SKIP
        array([0.8, 0.8, 3. ])
    """

    layout_description: ClassVar[str] = """\
a folder per sample, with NIfTI files
  case_00/imaging.nii.gz          or imaging_0000.nii.gz, imaging_0001.nii.gz, …; .nrrd, .mha, .mgz, …
  case_00/segmentation.nii.gz     or KiTS21's aggregated_MAJ_seg.nii.gz"""
    recognition_order: ClassVar[int] = 20

    def __init__(
        self,
        channels: int = 1,
        classes: int = 2,
        three_dim: bool = True,
        pattern: str | None = None,
        *,
        label_map: LabelMap | None = None,
    ) -> None:
        super().__init__(channels=channels, classes=classes, three_dim=three_dim)
        self.pattern = pattern
        self.label_map = normalised_label_map(label_map, classes)
        self.data_directory: Path | None = None

    @classmethod
    def find_image(cls, folder: Path) -> Path | None:
        """Return the first image file of a sample's folder; None if it has none."""
        return next(iter(image_files(folder)), None)

    @classmethod
    def from_folder(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """Make the interface; channels and dimension are those of most images, classes those of all segmentations."""
        return cls.from_labels(folder, with_usual_form(folder, settings))

    @classmethod
    def defines_classes(cls, folder: Path) -> bool:
        """Return False: only the segmentations show the classes."""
        return False

    def values_of_classes(self) -> tuple[int, ...]:
        """Return the value of each class in segmentations and predictions, by the label map."""
        return class_values(self.label_map, self.classes)

    def initialize(self, input_path: str | Path) -> list[Hashable]:
        """Find the sample folders below `input_path`.

        Returns:
            Their names, sorted.

        Raises:
            MissingDataError: If none exist; the message lists what was found instead.
            ConfigurationError: If `pattern` is not a valid regular expression.
        """
        indices = find_samples(input_path, self.pattern, lambda folder: bool(image_files(folder)), "imaging.nii.gz")
        self.data_directory = Path(input_path)
        usual, of_kits21 = (self.data_directory / str(indices[0]) / f"{name}{ENDINGS[0]}" for name in _SEGMENTATIONS)
        # os.path.exists is False for a folder that cannot be read, which reading the sample reports.
        is_kits21 = os.path.exists(of_kits21) and not os.path.exists(usual)
        self.found_in = f"label maps {of_kits21.name}, the majority of the annotators" if is_kits21 else None
        return indices

    def load_image(self, index: Hashable) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the image of a sample.

        Returns:
            The image ``(x, y[, z][, channels])`` in the file's integer type or float32, in Fortran order, never
            float64; and ``{"type": "nifti", "affine": 4x4, "spacing": mm per axis, …}``.

        Raises:
            MissingDataError: If the image is missing.
            DataError: If it is damaged or does not match this interface.

        Warns:
            UserWarning: If it holds NaN or infinite voxels.
        """
        return self._read_image(self.image_infos(index))

    def load_extended(self, index: Hashable) -> dict[str, Any]:
        """Return the metadata that `load_image` returns, from the header alone."""
        return self._extended(self.image_infos(index)[0])

    def load_shape(self, index: Hashable) -> tuple[int, ...]:
        """Return the spatial shape of the image, from its header alone."""
        return self._image_shape(self.image_infos(index)[0])[: 3 if self.three_dim else 2]

    def load_segmentation(self, index: Hashable) -> np.ndarray:
        """Read the label map of a sample: ``(x, y[, z])``, uint8 (uint16 above 256 classes).

        Raises:
            MissingDataError: If it is missing.
            DataError: If its values are not labels below `classes`.
        """
        labels, path = self._labels(index)
        return check_labels(labels, self.classes, path, self.label_map)

    def stored_labels(self, index: Hashable) -> np.ndarray:
        """Return the stored values of the segmentation file, regardless of `classes` and `label_map`."""
        return self._labels(index)[0]

    def load_prediction(self, index: Hashable, output_path: str | Path) -> np.ndarray:
        """Read a prediction that `save_prediction` wrote.

        Returns:
            Labels ``(x, y[, z])``, uint8 or uint16; or probabilities ``(x, y[, z], classes)``, float32.

        Raises:
            MissingDataError: If the prediction is missing.
        """
        path = find_prediction(index, output_path)
        info = read_info(path)
        array = read_voxels(info)
        if len(info.shape) == 4:
            return array if self.three_dim else array[:, :, 0]
        array = array.reshape(self.label_shape(info), order="F")
        return prediction_labels(array, self.classes, path, self.label_map, self.values_of_classes())

    def save_prediction(self, sample: Sample, output_path: str | Path) -> None:
        """Write ``sample.pred_data`` to ``<output_path>/<index>.nii.gz``, or in the image's format, atomically.

        Raises:
            StorageError: If it cannot be written.
        """
        ending = sample.extended.get("file_ending", ENDINGS[0])
        self.write_file(sample, inside(output_path, sample.index, ending))

    @staticmethod
    def check_file_termination(termination: str) -> bool:
        """Return True if the ending is that of a volume: ``.nii``, ``.nii.gz``, ``.nrrd``, ``.mha``, …."""
        return termination.lower() in VOLUME_ENDINGS

    def writes_file_termination(self, termination: str) -> bool:
        """Return True if `write_file` writes files with this ending."""
        return termination.lower() in WRITTEN

    def check(self, index: Hashable, load_seg: bool = True) -> None:
        """Check a sample by its headers: complete files, channels, dimension, grid.

        Raises:
            DataError: If a check fails; the message names the file.
        """
        infos = self.image_infos(index)
        for info in infos:
            check_size(info)
        if not load_seg:
            return
        for segmentation in self.segmentation_infos(index):
            self.label_shape(segmentation)
            check_size(segmentation)
            difference = _grid_difference(infos[0], segmentation)
            if difference:
                raise GridError(
                    f"{segmentation.path} is not on the grid of {infos[0].path}: {difference} (image against "
                    "segmentation). Resample the segmentation to the image with nearest-neighbour interpolation, or "
                    "correct its header"
                )

    def fingerprint(self, index: Hashable, input_path: str | Path) -> str | None:
        """Return a digest of the sample's files (name, size, time of change) and the label map; None without files."""
        files = [file for path in self.source_paths(index, input_path) for file in files_of(path)]
        return configuration.digest(stat_fingerprint(files), self.label_map) if files else None

    def read_file(self, path: str | Path | Sequence[str | Path]) -> tuple[np.ndarray, dict[str, Any]]:
        """Read an image at any path, as `load_image` does.

        Args:
            path: A volume in any of the formats; a list of them, one per channel; or a folder with ``imaging.nii.gz``
                or ``imaging_0000.nii.gz``, ….
        """
        if not isinstance(path, str | Path):
            return self._read_image(self._checked([read_info(part) for part in path]))
        if Path(path).is_dir():
            return self._read_image(self._checked([read_info(part) for part in _image_paths(Path(path))]))
        return self._read_image(self._checked([read_info(path)]))

    def write_file(self, sample: Sample, path: str | Path) -> None:
        """Write ``sample.pred_data`` to a file in the image's geometry and the format of the ending, atomically.

        The geometry is taken from ``sample.extended``, as set by `load_image` or `read_file`. Labels are written in the
        values of the segmentation files, as uint8 or a wider type if needed, on the image's axes; probabilities as
        float32 with the classes as fourth axis.
        """
        array, activation = prediction_to_write(sample, path, self.values_of_classes())
        # A slice that is (x, y, 1) in its file is written in that shape, so that viewers can overlay it.
        if not sample.three_dim and (activation or sample.extended.get("file_axes", 2) == 3):
            array = array[:, :, np.newaxis]
        write_volume(path, array, sample.extended)

    def image_infos(self, index: Hashable) -> list[VolumeInfo]:
        """Return the headers of a sample's image files, after checking them against this interface and each other.

        Raises:
            MissingDataError: If the image is missing, or one of its channels is missing.
            DataError: If the dimension, the channels or the grids do not match.
        """
        return self._checked([read_info(path) for path in self.image_paths(index)])

    # Paths of the files. A subclass for another layout overrides these three (and `initialize`).

    def image_paths(self, index: Hashable) -> list[Path]:
        """Return the image files of a sample: one, or one per channel.

        Raises:
            MissingDataError: If it is missing, or one of the channels is missing.
        """
        return _image_paths(sample_folder(self.data_directory, index, self))

    def segmentation_path(self, index: Hashable) -> Path:
        """Return the segmentation file of a sample.

        Raises:
            MissingDataError: If it is missing.
        """
        folder = sample_folder(self.data_directory, index, self)
        path = _segmentation_in(folder)
        if path is None:
            raise MissingDataError(
                f"{folder} holds no segmentation.nii.gz (found: {list_files(folder)}); add it, or leave {index!r} out "
                "of training"
            )
        return path

    def sample_files(self, index: Hashable) -> SampleFiles:
        """Return the files of a sample."""
        folder = sample_folder(self.data_directory, index, self)
        return SampleFiles(tuple(image_files(folder)), _segmentation_in(folder))

    def source_paths(self, index: Hashable, input_path: str | Path) -> list[Path]:
        """Return all files of a sample that exist."""
        folder = folder_below(input_path, index)
        segmentation = _segmentation_in(folder)
        return image_files(folder) + ([segmentation] if segmentation else [])

    def _checked(self, infos: list[VolumeInfo]) -> list[VolumeInfo]:
        """Check that the files of one image have this interface's dimension and channels, on one grid."""
        if len(infos) == 1:
            check_axes(self._image_shape(infos[0]), self.three_dim, self.channels, infos[0].path)
            return infos
        for info in infos:
            check_axes(self.label_shape(info), self.three_dim, 1, info.path)
            difference = _grid_difference(infos[0], info)
            if difference:
                raise DataError(
                    f"{info.path} is not on the grid of {infos[0].path}: {difference}. Channels of one sample "
                    "must share a grid: register and resample it"
                )
        check_axes((*self.label_shape(infos[0]), len(infos)), self.three_dim, self.channels, infos[0].path.parent)
        return infos

    def _read_image(self, infos: list[VolumeInfo]) -> tuple[np.ndarray, dict[str, Any]]:
        first = infos[0]
        if len(infos) == 1:
            image = read_voxels(first).reshape(self._image_shape(first), order="F")
            check_image(image, first.path)
        else:
            common = np.result_type(*[info.dtype for info in infos])
            dtype = np.dtype(np.float32) if common.kind == "f" else common
            image = np.empty((*self.label_shape(first), len(infos)), dtype, order="F")
            for channel, info in enumerate(infos):
                image[..., channel] = check_image(read_voxels(info), info.path).reshape(image.shape[:-1], order="F")
        return image, self._extended(first)

    def _extended(self, info: VolumeInfo) -> dict[str, Any]:
        facts = info.geometry()
        facts["type"] = "nifti"
        written = prediction_ending(ending_of(info.path))
        if written != ENDINGS[0]:
            facts |= {"type": written[1:], "file_ending": written}
        if not self.three_dim:
            if "spacing" in facts:
                facts["spacing"] = facts["spacing"][:2]
            # An array (x, y, 3) is an image in colours.
            colours = info.form()[0] > 1 and len(info.shape) == 3
            facts["file_axes"] = 2 if colours else min(len(info.shape), 3)
        return facts

    def _image_shape(self, info: VolumeInfo) -> tuple[int, ...]:
        shape = info.shape
        if not self.three_dim and len(shape) > 2 and shape[2] == 1:
            return shape[:2] + shape[3:]
        return shape

    def label_shape(self, info: VolumeInfo) -> tuple[int, ...]:
        """Return the spatial shape of a file that has one value per voxel.

        Raises:
            DataError: If it has more, or its dimension differs from this interface's.
        """
        shape = self._image_shape(info)
        axes = 3 if self.three_dim else 2
        if len(shape) != axes:
            raise AxesError.of(
                f"{info.path}: the shape is {info.shape}, but "
                f"{'three axes (x, y, z)' if self.three_dim else 'two axes (x, y)'} with one value per voxel are "
                "needed; convert the file, or make the interface with another three_dim",
                info.path,
                info.shape,
            )
        return shape

    def segmentation_info(self, index: Hashable) -> VolumeInfo:
        """Return the header of a sample's segmentation.

        Raises:
            MissingDataError: If it is missing.
        """
        return read_info(self.segmentation_path(index))

    def segmentation_infos(self, index: Hashable) -> list[VolumeInfo]:
        """Return the headers of all files of a sample's segmentation: one by default.

        Raises:
            MissingDataError: If it is missing.
        """
        return [self.segmentation_info(index)]

    def _labels(self, index: Hashable) -> tuple[np.ndarray, Path]:
        info = self.segmentation_info(index)
        return read_voxels(info).reshape(self.label_shape(info), order="F"), info.path


def image_files(folder: Path) -> list[Path]:
    """List the image files of a folder: ``imaging.nii.gz``, else all ``imaging_<4 digits>.nii.gz``, sorted; or others.

    Names are compared case-insensitively. If a channel exists twice, or files of both forms exist, a warning names the
    ones that are read.
    """
    if not folder.is_dir():
        return []
    single = find_volume(folder / "imaging", any_case=True)
    named = [path for path in visible_files(folder) if path.name.lower().startswith("imaging_")]
    numbers = {path: match[1] for path in named if (match := _MODALITY.fullmatch(volume_stem(path) or ""))}
    if single is not None:
        if numbers:
            warn_of_others(single, numbers)
        return [single]
    channels = (find_volume(folder / f"imaging_{number}", any_case=True) for number in sorted(set(numbers.values())))
    return [path for path in channels if path is not None]


def _segmentation_in(folder: Path) -> Path | None:
    found = (find_volume(folder / name, any_case=True) for name in _SEGMENTATIONS)
    return next((path for path in found if path is not None), None)


def with_usual_form(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with channels and ``three_dim`` of most images, from their headers, if they are not given."""
    channels, three_dim = settings.get("channels"), settings.get("three_dim")
    if channels is None or three_dim is None:
        probe = NIFTI_interface(pattern=settings.get("pattern"))
        names = probe.initialize(folder)
        channels, three_dim = usual_nifti_form(names, probe.image_paths, folder, channels=channels, three_dim=three_dim)
    return {"channels": channels, "three_dim": three_dim, **settings}


def _image_paths(folder: Path) -> list[Path]:
    """Return `image_files`, and raise an error if the image or a channel is missing."""
    files = image_files(folder)
    if not files:
        raise MissingDataError(
            f"{folder} holds no imaging.nii.gz (found: {list_files(folder)}); add or rename the image"
        )
    for position, path in enumerate(files if len(files) > 1 else []):
        if not path.name.lower().startswith(f"imaging_{position:04d}."):
            raise MissingDataError(
                f"{folder}: imaging_{position:04d}.nii.gz is missing; channels are numbered from 0000 without gaps"
            )
    return files


def find_prediction(index: Hashable, output_path: str | Path) -> Path:
    """Find the file of a prediction, ``<output_path>/<index>.nii.gz`` or in another format, in any case of letters.

    Raises:
        MissingDataError: If it is missing.
    """
    stem = inside(output_path, index)
    path = find_file(stem.parent, stem.name, WRITTEN)
    if path is None:
        raise MissingDataError(
            f"prediction {inside(output_path, index, ENDINGS[0])} does not exist; predict {index!r} first"
        )
    return path


def _grid_difference(first: VolumeInfo, second: VolumeInfo) -> str | None:
    shapes = (first.spatial_shape, second.spatial_shape)
    # A format without a position in space is on the grid of any other of its shape.
    if first.affine is None or second.affine is None:
        return geometry.grid_difference(shapes[0], np.eye(4), shapes[1], np.eye(4))
    return geometry.grid_difference(shapes[0], first.affine, shapes[1], second.affine)
