"""Interface for DICOM series: a sample is a folder with the images of one scan, and an RTSTRUCT or SEG for training."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Hashable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from miscnn_tf._base import configuration
from miscnn_tf._base.files import inside
from miscnn_tf._base.messages import did_you_mean, some_of
from miscnn_tf.data_loading._discovery.study_folders import find_studies, study_parts
from miscnn_tf.data_loading.dicom.distinctions import normalised_frames
from miscnn_tf.data_loading.dicom.header import RTSTRUCT, Header, read_header
from miscnn_tf.data_loading.dicom.recognition import DICOM_ENDINGS, is_dicom, require_dicom
from miscnn_tf.data_loading.dicom.rtstruct import read_rtstruct, roi_mask, roi_names
from miscnn_tf.data_loading.dicom.rtstruct_writer import write_rtstruct
from miscnn_tf.data_loading.dicom.seg import read_seg, segment_masks, segment_names
from miscnn_tf.data_loading.dicom.seg_writer import write_seg
from miscnn_tf.data_loading.dicom.series import (
    Scan,
    choose_annotation,
    choose_series,
    describe_files,
    holds_images,
    scan_folder,
    sort_headers,
)
from miscnn_tf.data_loading.dicom.series_grid import Grid, make_grid
from miscnn_tf.data_loading.dicom.structures import (
    choose_structures,
    normalised_structure_dict,
    why_left_out,
)
from miscnn_tf.data_loading.dicom.volume import check_files, read_volume
from miscnn_tf.data_loading.file_names import (
    ENDINGS,
    composed,
    find_nifti,
    find_samples,
    first_image,
    is_nifti,
    sample_folder,
)
from miscnn_tf.data_loading.formats.nifti_reader import read_info
from miscnn_tf.data_loading.formats.nifti_writer import write_nifti
from miscnn_tf.data_loading.formats.volumes import read_voxels
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO, prediction_labels, prediction_to_write
from miscnn_tf.data_loading.label_keys import LabelMap
from miscnn_tf.data_loading.label_values import class_values, completed
from miscnn_tf.data_loading.labels import (
    AxesError,
    check_axes,
    check_image,
    check_labels,
    label_dtype,
    normalised_label_map,
)
from miscnn_tf.data_loading.overlapping_masks import merge_masks
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError

logger = logging.getLogger(__name__)

#: Formats of predictions, and the ending of the file.
PREDICTION_FORMATS = {"nifti": ENDINGS[0], "seg": ".dcm", "rtstruct": ".dcm"}

# In digests, as label maps of earlier versions differ where structures overlap.
_SMALL_OVER_LARGE = "smaller structures are kept"

_FILES_LOOKED_AT = 50
# A series has hundreds of files.
_SERIES_LOOKED_AT = 5


class DICOM_interface(Abstract_IO):
    """Interface for volumes in DICOM series (CT, MR, PET), with RTSTRUCT or SEG files as label maps.

    A sample is a folder, in the data folder or in ``train/`` and ``val/`` in it, which are kept as the split; ``test/``
    beside them is left out, with a remark. The files of a sample may have any name and may be in folders below it. The
    images of one SeriesInstanceUID form the volume, ordered by their position in the patient. If there are several
    series, the one on which the annotation was drawn is used. CT values are Hounsfield units: the rescale slope and
    intercept are applied. DICOMDIRs and other files are left out; so are, beside a scan, overview images and images
    without a position, such as screen captures and dose reports.

    The axes of the arrays are (slice, row, column); the affine gives their directions. Missing slices, several images
    at one position and mixed series raise errors that name the files. The slices of a tilted gantry are read as stored,
    with a sheared affine and a warning. With ``three_dim=False`` a radiograph (CR, DX, MG) is an image ``(row,
    column)``; MONOCHROME1 is inverted there, so that large values are bright in all radiographs.

    Predictions are ``<output_path>/<index>.nii.gz``, or ``.dcm``; class probabilities always are NIfTI.

    Args:
        channels: Number of channels; a series has one.
        classes: Number of classes, background included.
        three_dim: Whether the samples are volumes; False for single images ``(row, column)``.
        mask_background: Label of the voxels that belong to no structure.
        structure_dict: Names of structures of an RTSTRUCT, or segments of a SEG, and their labels:
            ``{"Heart": 1}``. Several names may have one label; where structures overlap, the smaller one is kept,
            with a warning. Optional for a SEG, whose segment numbers are the labels by default.
        annotation_tag: Part of the name of the annotation's folder (or file), if a sample holds several.
        pattern: Regular expression that a folder's whole name must match to be a sample; None takes all.
        label_map: Mapping of the labels to classes, ``{2: 1}``; others are kept. NIfTI predictions hold the labels
            before this mapping; the segments of a SEG or RTSTRUCT are numbered by class.
        series: Regular expression that the whole description or UID of the series must match, if a sample holds
            several.
        modality: Modality of the series, if a sample holds several: "CT", "MR", ….
        frames: Images to select if a series has several at one position: keywords of the header and their
            values, ``{"DiffusionBValue": 1000}``. The error for such a series lists them.
        prediction_format: Format of predictions: "nifti", "seg" or "rtstruct".

    Raises:
        MissingExtraError: If the extra ``dicom`` is not installed.
        ConfigurationError: If an argument cannot be used.

    Example:
        >>> structures = {"Esophagus": 1, "Heart": 2, "Lung_L": 3, "Lung_R": 4, "SpinalCord": 5}
        >>> interface = DICOM_interface(classes=6, structure_dict=structures)
        >>> interface.names_of_classes()
        ('background', 'Esophagus', 'Heart', 'Lung_L', 'Lung_R', 'SpinalCord')
    """

    layout_description: ClassVar[str] = """\
a folder per sample, with a DICOM series and RTSTRUCT or SEG files anywhere below it
  case_00/….dcm                   or train/case_00/….dcm and val/case_01/….dcm"""
    recognition_order: ClassVar[int] = 50
    writes_annotations: ClassVar[bool] = True

    def __init__(
        self,
        channels: int = 1,
        classes: int = 2,
        three_dim: bool = True,
        mask_background: int = 0,
        structure_dict: Mapping[str, int] | None = None,
        annotation_tag: str | None = None,
        *,
        pattern: str | None = None,
        label_map: LabelMap | None = None,
        series: str | None = None,
        prediction_format: str = "nifti",
        modality: str | None = None,
        frames: Mapping[str, Any] | None = None,
    ) -> None:
        require_dicom()
        super().__init__(channels=channels, classes=classes, three_dim=three_dim)
        self.structure_dict = normalised_structure_dict(structure_dict, classes)
        self.mask_background = mask_background
        self.annotation_tag = annotation_tag
        self.pattern = pattern
        self.label_map = normalised_label_map(label_map, classes)
        self.series = series
        self.prediction_format = prediction_format
        self.modality = modality
        self.frames = normalised_frames(frames)
        self.data_directory: Path | None = None
        # Only for data sets in train/ and val/.
        self._folders: dict[str, Path] = {}
        if not 0 <= mask_background < classes:
            raise ConfigurationError(
                f"mask_background={mask_background!r} is not one of the {classes} classes (0 to {classes - 1})"
            )
        if prediction_format not in PREDICTION_FORMATS:
            hint = did_you_mean(prediction_format, PREDICTION_FORMATS)
            raise ConfigurationError(
                f"prediction_format={prediction_format!r} must be one of {', '.join(PREDICTION_FORMATS)}.{hint}"
            )
        try:
            re.compile(series or "")
        except (re.error, TypeError) as error:
            raise ConfigurationError(f"series={series!r} is not a valid regular expression ({error})") from error
        if modality is not None and (not isinstance(modality, str) or not modality):
            raise ConfigurationError(f'modality={modality!r} must be a text such as "CT", or None')
        self.class_names = self._named_classes()

    @classmethod
    def find_image(cls, folder: Path) -> Path | None:
        """Return a DICOM file, by ending or content, among the first 50 files below a folder; None if there is none."""
        files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        return next((path for path in islice(files, _FILES_LOOKED_AT) if is_dicom(path)), None)

    @classmethod
    def recognises(cls, folder: Path, settings: Mapping[str, Any]) -> str | None:
        """Return the evidence: a DICOM file in one of the folders, or in one of the folders of ``train`` or ``val``."""
        for part in study_parts(folder, lambda sample: cls.find_image(sample) is not None):
            image = first_image(part.folder, settings.get("pattern"), cls.find_image)
            if image is not None:
                return f"it holds {image.relative_to(folder).as_posix()}"
        return super().recognises(folder, settings)

    @classmethod
    def from_folder(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """Make the interface; radiographs are two-dimensional, classes are the structures that all samples share."""
        if "three_dim" in settings:
            return super().from_folder(folder, settings)
        chosen_by = ("pattern", "series", "modality", "annotation_tag")
        probe = cls.from_settings({key: settings[key] for key in chosen_by if key in settings})
        pictures = []
        for index in probe.initialize(folder)[:_SERIES_LOOKED_AT]:
            try:
                pictures.append(probe.is_picture(index))
            except DataError as error:  # reported when the sample is read
                logger.debug("%s", error)
        return super().from_folder(folder, {**settings, "three_dim": not pictures or not all(pictures)})

    def values_of_classes(self) -> tuple[int, ...]:
        """Return the value of each class in NIfTI predictions: the label of its structures before the label map."""
        return class_values(self._whole_label_map, self.classes)

    def initialize(self, input_path: str | Path) -> list[Hashable]:
        """Find the sample folders below `input_path`: those with a DICOM image in them, or in a folder below.

        Returns:
            Their names, sorted.

        Raises:
            MissingDataError: If none exist; the message lists what was found instead.
        """
        root = Path(input_path)
        self._folders, self.validation_samples, self.found_in = {}, (), None
        parts = study_parts(root, holds_images) if root.is_dir() else []
        if parts:
            found = find_studies(parts, self._names_in)
            if not found.folders:
                raise MissingDataError(
                    f"pattern={self.pattern!r} matches none of the folders in "
                    f"{', '.join(str(part.folder) for part in parts)}; it must match the whole name"
                )
            self._folders = {composed(name): folder for name, folder in found.folders.items()}
            self.validation_samples, self.found_in = found.validation, found.found_in
            self.data_directory = root
            return list(found.folders)
        try:
            indices = find_samples(
                root, self.pattern, lambda folder: holds_images(folder, nested=folder != root), "a DICOM series"
            )
        except MissingDataError as error:
            there = describe_files(root) if root.is_dir() else None
            if there is None or holds_images(root):
                raise
            # The usual message advises to rename files, which would not help here.
            raise MissingDataError(
                f"{root} holds DICOM files, but none of its folders holds images of a scan: {there}. Add the images of "
                "the scan; screen captures and reports cannot be segmented"
            ) from error
        self.data_directory = root
        return indices

    def load_image(self, index: Hashable) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the series of a sample.

        Returns:
            The volume ``(slice, row, column)`` in Hounsfield units (or other rescaled values) as
            int16, int32 or float32; and ``{"type": "dicom", "affine": 4x4, "spacing": mm per axis, "files": the
            images, …}``.

        Raises:
            MissingDataError: If the series is missing.
            DataError: If it does not form a volume, or a file is damaged.
        """
        return self._read(self.grid(index))

    def load_extended(self, index: Hashable) -> dict[str, Any]:
        """Return the metadata that `load_image` returns, from the headers alone."""
        return self._extended(self.grid(index))

    def load_details(self, index: Hashable) -> dict[str, Any] | None:
        """Return a mark that values are Hounsfield units already, for `TransformHU`."""
        return {"slope": 1.0, "intercept": 0.0}

    def load_shape(self, index: Hashable) -> tuple[int, ...]:
        """Return the spatial shape of the series, from its headers alone."""
        shape = self.grid(index).shape
        return shape if self.three_dim else shape[1:]

    def load_segmentation(self, index: Hashable) -> np.ndarray:
        """Read the RTSTRUCT or SEG of a sample as a label map ``(slice, row, column)``.

        Raises:
            MissingDataError: If it is missing.
            DataError: If there are several, it is in another coordinate system, or holds none of the wanted structures.

        Warns:
            UserWarning: If names are only in the file, or only in `structure_dict`.
        """
        grid, annotation = self._annotated(index)
        labels = self._label_map(annotation, grid)
        return check_labels(self._without_slice_axis(labels), self.classes, annotation.path, self._whole_label_map)

    def load_prediction(self, index: Hashable, output_path: str | Path) -> np.ndarray:
        """Read a prediction that `save_prediction` wrote, in any of the formats.

        Returns:
            Labels ``(slice, row, column)``, uint8 or uint16; or probabilities with the classes as the last axis,
            float32.

        Raises:
            MissingDataError: If the prediction is missing.
        """
        stem = inside(output_path, index)
        dicom = stem.with_name(f"{stem.name}.dcm")
        nifti = find_nifti(stem)
        if dicom.is_file() and (nifti is None or self.prediction_format != "nifti"):
            return self._read_dicom_prediction(dicom, self.grid(index))
        if nifti is None:
            ending = PREDICTION_FORMATS[self.prediction_format]
            raise MissingDataError(
                f"prediction {inside(output_path, index, ending)} does not exist; predict {index!r} first"
            )
        array = read_voxels(read_info(nifti))
        if array.ndim == 4:
            return array if self.three_dim else array[:, :, 0]
        axes = 3 if self.three_dim else 2
        # A volume of one column, for instance, is stored with fewer axes.
        array = array.reshape(array.shape + (1,) * (axes - array.ndim), order="F")
        return prediction_labels(array, self.classes, nifti, self._whole_label_map, self.values_of_classes())

    def save_prediction(self, sample: Sample, output_path: str | Path) -> None:
        """Write ``sample.pred_data`` below `output_path` in the interface's format, atomically; see `write_file`.

        Raises:
            StorageError: If it cannot be written.
        """
        activation = prediction_to_write(sample, output_path)[1]
        ending = ENDINGS[0] if activation else PREDICTION_FORMATS[self.prediction_format]
        self.write_file(sample, inside(output_path, sample.index, ending))

    @staticmethod
    def check_file_termination(termination: str) -> bool:
        """Return True if the ending is ``.dcm``, ``.dicom`` or ``.ima``."""
        return termination.lower() in DICOM_ENDINGS

    @staticmethod
    def writes_file_termination(termination: str) -> bool:
        """Return True if `write_file` writes files with this ending: ``.dcm``, ``.nii.gz`` or ``.nii``."""
        return termination.lower() in (".dcm", *ENDINGS)

    def get_ROI_names(self, index: Hashable) -> list[list[Any]]:
        """Return number and name of each structure of a sample's RTSTRUCT (or segment of its SEG), ``[[1, "Heart"]]``.

        Raises:
            MissingDataError: If the sample has no annotation.
        """
        annotation = self._annotated(index)[1]
        return [[number, name] for number, name in self._names(annotation)[1].items()]

    def named_structures(self, index: Hashable) -> dict[str, str | None]:
        """Return the names of a sample's structures, with the reason for the outline of the patient to be left out.

        Raises:
            MissingDataError: If the sample has no annotation.
        """
        annotation = self._annotated(index)[1]
        content, names = self._names(annotation)
        kinds = content.kinds if annotation.sop_class == RTSTRUCT else {}
        return {name.strip(): why_left_out(name, kinds.get(number, "")) for number, name in names.items()}

    def structure_labels(self) -> dict[str, int]:
        """Return `structure_dict`."""
        return dict(self.structure_dict)

    def check(self, index: Hashable, load_seg: bool = True) -> None:
        """Check a sample without decoding its images: complete slices and files, and a matching annotation.

        Raises:
            DataError: If a check fails; the message names the file.
        """
        grid = self.grid(index)
        self._check_axes(grid)
        check_files(grid)
        if not load_seg:
            return
        annotation = self._annotated(index)[1]
        _, names = self._names(annotation)
        if self.structure_dict or annotation.sop_class == RTSTRUCT:
            choose_structures(names, self.structure_dict, annotation.path, self.structures_left_out)

    def fingerprint(self, index: Hashable, input_path: str | Path) -> str | None:
        """Return a digest of the sample's files and of the settings of the label map; None without a folder."""
        folder = self._folders.get(composed(str(index)))
        source = (input_path, index) if folder is None else (folder.parent, folder.name)
        files = super().fingerprint(source[1], str(source[0]))
        if files is None:
            return None
        # The order matters where structures of one size overlap.
        structures = list(self.structure_dict.items())
        meaning = [
            _SMALL_OVER_LARGE,
            self.mask_background,
            structures,
            self.annotation_tag,
            self.label_map,
            self.series,
        ]
        if self.modality is not None or self.frames is not None:
            meaning += [self.modality, self.frames]
        return configuration.digest(files, meaning)

    def read_file(self, path: str | Path | Sequence[str | Path]) -> tuple[np.ndarray, dict[str, Any]]:
        """Read a series at any path, as `load_image` does.

        Args:
            path: The folder of the series; one of its files, which selects the whole series (or only itself, if the
                interface is 2D); or a list of its files.
        """
        return self._read(self._grid_of(path))

    def write_file(self, sample: Sample, path: str | Path) -> None:
        """Write ``sample.pred_data`` to a file, on the grid of its series, atomically.

        Args:
            sample: A sample whose ``extended`` comes from `load_image` or `read_file`.
            path: Ends in ``.nii.gz`` or ``.nii``, with the series' geometry; or in ``.dcm``: an RTSTRUCT if
                `prediction_format` is "rtstruct", otherwise a SEG.

        Raises:
            ConfigurationError: If class probabilities are to be written as DICOM, or the sample comes from elsewhere.
            StorageError: If it cannot be written.
        """
        path = Path(path)
        if not is_nifti(path):
            self.write_annotation(sample, path, "rtstruct" if self.prediction_format == "rtstruct" else "seg")
            return
        array, activation = prediction_to_write(sample, path, self.values_of_classes())
        if activation and not sample.three_dim:
            array = array[:, :, np.newaxis]
        write_nifti(path, array, sample.extended)

    def load_annotation(self, index: Hashable, path: str | Path) -> np.ndarray:
        """Read a SEG or RTSTRUCT at any path on the grid of a sample, by the names of the classes.

        Raises:
            DataError: If it is not one, refers to another series, or holds other names.
        """
        path = Path(path)
        header, grid = read_header(path), self.grid(index)
        if header is None or not header.is_annotation:
            raise DataError(f"{path} is neither an RTSTRUCT nor a SEG; give the files that were predicted")
        if grid.planes[0][0].series not in header.referenced_series:
            raise DataError(f"{path} refers to another series than {grid.where}; it is not a prediction of {index!r}")
        labels = {name: label for label, name in self._names_to_write().items()}
        held = self._names(header)[1]
        unknown = sorted({name for name in held.values() if name not in labels})
        if unknown:
            raise DataError(
                f"{path} holds the structures {some_of(unknown)}, but the classes are {some_of(labels)}; give "
                "the labels of the training, or its model"
            )
        array = self._label_map(header, grid, {number: labels[name] for number, name in held.items()})
        return check_labels(self._without_slice_axis(array), self.classes, path)

    def write_annotation(self, sample: Sample, path: str | Path, kind: str) -> None:
        """Write ``sample.pred_data`` as SEG or RTSTRUCT on the grid of its series, atomically.

        Args:
            sample: A sample whose ``extended`` comes from `load_image` or `read_file`.
            path: Ends in ``.dcm``.
            kind: "seg" or "rtstruct".

        Raises:
            ConfigurationError: If it has class probabilities, or comes from elsewhere.
            StorageError: If it cannot be written.
        """
        path = Path(path)
        array, activation = prediction_to_write(sample, path)
        if path.suffix.lower() != ".dcm":
            raise ConfigurationError(f"{path}: predictions of DICOM end in .dcm or .nii.gz; name the output so")
        if activation:
            raise ConfigurationError(f"{path}: class probabilities are written as NIfTI only; name the output .nii.gz")
        files = sample.extended.get("files")
        if not files:
            raise ConfigurationError(
                f"{path}: sample {sample.index!r} was not read from DICOM, but a SEG or RTSTRUCT references its "
                "images; name the output .nii.gz"
            )
        if (header := read_header(files[0])) is not None and not header.planes:
            raise ConfigurationError(
                f"{path}: {files[0]} has no position in the patient, which a SEG or RTSTRUCT refers to; name the "
                "output .nii.gz"
            )
        if not sample.three_dim:
            array = array[np.newaxis]
        array = array.astype(label_dtype(max(self.classes, sample.classes)), copy=True)
        # In the files background is 0, even if mask_background differs.
        numbers = self._structure_numbers()
        table = np.zeros(int(array.max()) + 1, array.dtype)
        for label in np.unique(array):
            if int(label) != self.mask_background:
                table[label] = numbers.get(int(label), 0)
        if unknown := sorted({int(label) for label in np.unique(array)} - {*numbers, self.mask_background}):
            raise DataError(f"{path}: the prediction of {sample.index!r} holds {unknown}, which is not a class")
        names = {numbers[label]: name for label, name in self._names_to_write().items()}
        writer = write_rtstruct if kind == "rtstruct" else write_seg
        writer(path, table[array], files, names, frames=self.frames)

    def grid(self, index: Hashable) -> Grid:
        """Return the voxel grid of a sample, and the files of its slices.

        Raises:
            MissingDataError: If the series is missing.
            DataError: If it does not form a volume.
        """
        return self._grid_in(scan_folder(self._folder(index)))

    def _names_in(self, folder: Path) -> list[str]:
        """Return the names of the samples in a part of the data set; none if `pattern` matches none."""
        try:
            return [str(name) for name in find_samples(folder, self.pattern, holds_images, "a DICOM series")]
        except MissingDataError as error:  # `initialize` raises an error if no part has samples
            logger.info("%s", error)
            return []

    def is_picture(self, index: Hashable) -> bool:
        """Return True if the image of a sample has no position in the patient, like radiographs.

        Raises:
            DataError: If the headers cannot be read.
        """
        scan = scan_folder(self._folder(index))
        return not any(header.planes for header in self._chosen(scan))

    def _folder(self, index: Hashable) -> Path:
        known = self._folders.get(composed(str(index)))
        return sample_folder(self.data_directory, index, self) if known is None else known

    def _chosen(self, scan: Scan) -> list[Header]:
        return choose_series(scan, self.series, self.annotation_tag, modality=self.modality)

    def _grid_in(self, scan: Scan) -> Grid:
        return self._make_grid(self._chosen(scan))

    def _make_grid(self, headers: Sequence[Header]) -> Grid:
        return make_grid(headers, frames=self.frames, three_dim=self.three_dim)

    def _grid_of(self, path: str | Path | Sequence[str | Path]) -> Grid:
        if not isinstance(path, str | Path):
            files = [Path(one) for one in path]
            headers = [header for one in files if (header := read_header(one)) is not None]
            return self._grid_in(sort_headers(files[0].parent, headers))
        path = Path(path)
        if path.is_dir():
            return self._grid_in(scan_folder(path))
        if not path.exists():
            raise MissingDataError(f"{path}: the file or folder does not exist; check the path")
        header = read_header(path)
        if header is None or not header.is_scan:
            raise DataError(f"{path} is not a DICOM image; pass the folder of a series, or one of its files")
        if not self.three_dim:
            return self._make_grid([header])
        return self._make_grid(scan_folder(path.parent).series[header.series])

    def _read(self, grid: Grid) -> tuple[np.ndarray, dict[str, Any]]:
        self._check_axes(grid)
        volume = self._without_slice_axis(read_volume(grid))
        return check_image(volume, grid.where), self._extended(grid)

    def _check_axes(self, grid: Grid) -> None:
        if not self.three_dim and grid.shape[0] > 1:
            raise AxesError.of(
                f"{grid.where} has {grid.shape[0]} slices, but this interface reads single images; make the interface "
                "with three_dim=True",
                grid.where,
                grid.shape,
            )
        check_axes(grid.shape if self.three_dim else grid.shape[1:], self.three_dim, self.channels, grid.where)

    def _extended(self, grid: Grid) -> dict[str, Any]:
        affine, spacing = grid.affine, grid.spacing
        if not self.three_dim:
            affine, spacing = affine[:, [1, 2, 0, 3]], spacing[1:]
        return {
            "type": "dicom",
            "affine": affine.copy(),
            "spacing": spacing.copy(),
            "series": grid.planes[0][0].series,
            # Absolute, since prepared samples may be used from another working folder.
            "files": [os.path.abspath(path) for path in grid.files],
        }

    @property
    def _whole_label_map(self) -> dict[int, int] | None:
        """Return the label map, completed with the labels of `structure_dict`."""
        if self.label_map is None:
            return None
        return completed(self.label_map, [self.mask_background, *self.structure_dict.values()])

    def _without_slice_axis(self, array: np.ndarray) -> np.ndarray:
        return array if self.three_dim else array[0]

    def _annotated(self, index: Hashable) -> tuple[Grid, Header]:
        """Return the grid of a sample and its annotation."""
        scan = scan_folder(self._folder(index))
        grid = self._grid_in(scan)
        if not grid.placed:
            raise DataError(
                f"{grid.files[0]} has no position in the patient, so an RTSTRUCT or SEG cannot be matched to it. To "
                "train on radiographs, save images and masks as PNG or TIFF"
            )
        annotation = choose_annotation(scan, grid, self.annotation_tag)
        # SEG if there are both, independently of the order in which threads read them.
        is_rtstruct = annotation.sop_class == RTSTRUCT and self.annotation_format != "seg"
        self.annotation_format = "rtstruct" if is_rtstruct else "seg"
        return grid, annotation

    def _names(self, annotation: Header) -> tuple[Any, dict[int, str]]:
        """Return the content of an annotation, and the names of its structures by number."""
        if annotation.sop_class == RTSTRUCT:
            content = read_rtstruct(annotation.path)
            return content, roi_names(content)
        content = read_seg(annotation.path)
        return content, segment_names(content)

    def _label_map(self, annotation: Header, grid: Grid, labels_of: Mapping[int, int] | None = None) -> np.ndarray:
        """Return the label map of an annotation, by the names of its structures, or by number with `labels_of`."""
        content, names = self._names(annotation)
        path = annotation.path
        is_rtstruct = annotation.sop_class == RTSTRUCT
        if labels_of is None and (self.structure_dict or is_rtstruct):
            chosen = choose_structures(names, self.structure_dict, path, self.structures_left_out)
        else:
            chosen = [(number, name, labels_of[number] if labels_of else number) for number, name in names.items()]
        if is_rtstruct:
            masks = ((name, label, roi_mask(content, number, grid, path)) for number, name, label in chosen)
        else:
            of_number = segment_masks(content, grid, path, {number for number, _, _ in chosen})
            masks = ((name, label, of_number.pop(number)) for number, name, label in chosen)
        highest = max([self.classes, *(label + 1 for _, _, label in chosen)])
        return merge_masks(masks, grid.shape, highest, self.mask_background, path)

    def _read_dicom_prediction(self, path: Path, grid: Grid) -> np.ndarray:
        header = read_header(path)
        if header is None or not header.is_annotation:
            raise DataError(f"{path} is neither an RTSTRUCT nor a SEG; predict again")
        if unknown := set(self._names(header)[1]) - set(self._structure_numbers().values()):
            raise DataError(f"{path} holds the structures {sorted(unknown)} for {self.classes} classes; predict again")
        # By number, since class names may have changed.
        labels = self._label_map(header, grid, {number: label for label, number in self._structure_numbers().items()})
        return check_labels(self._without_slice_axis(labels), self.classes, path)

    def _structure_numbers(self) -> dict[int, int]:
        """Return the number that is written for each class but the background."""
        labels = [label for label in range(self.classes) if label != self.mask_background]
        return {label: number for number, label in enumerate(labels, start=1)}

    def _names_to_write(self) -> dict[int, str]:
        names = self.names_of_classes()
        if self.class_names is None:
            names = tuple(f"class {name}" for name in names)
        return {label: names[label] for label in self._structure_numbers()}

    def _named_classes(self) -> tuple[str, ...] | None:
        """Return the class names by `structure_dict`; None if it has no name for any class but the background."""
        names: dict[int, list[str]] = {}
        for name, label in self.structure_dict.items():
            names.setdefault((self.label_map or {}).get(label, label), []).append(name)
        if not names.keys() - {self.mask_background}:
            return None
        background = {self.mask_background: ["background"]}
        numbered = {label: [f"class {label}"] for label in range(self.classes)}
        named = numbered | names | background
        return tuple(" and ".join(named[label]) for label in range(self.classes))
