"""Writer of label maps as RTSTRUCT, with a structure per label and contours on the slices of a series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf._base.files import atomic_path
from miscnn_tf.data_loading.dicom.contours import trace_contours
from miscnn_tf.data_loading.dicom.header import RTSTRUCT
from miscnn_tf.data_loading.dicom.recognition import require_dicom
from miscnn_tf.data_loading.dicom.series import grid_of_files
from miscnn_tf.data_loading.dicom.series_grid import LPS_TO_RAS, Grid
from miscnn_tf.data_loading.dicom.writing import (
    COLOURS,
    checked_labels,
    new_dataset,
    new_uids,
    short_names,
    source_headers,
)

_CONTOUR_DATA = 0x30060050
_LONGEST_EXPLICIT = 0xFFFE
_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"
# A hundredth of a micrometre is far below any voxel size, and DICOM's decimal strings have at most 16 characters.
_DECIMALS = 5


def write_rtstruct(
    path: str | Path,
    labels: np.ndarray,
    series: str | Path | Sequence[str | Path],
    names: Mapping[int, str],
    *,
    label: str = "miscnn_tf",
    uid_seed: str | None = None,
    moment: datetime | None = None,
    frames: Mapping[str, Any] | None = None,
) -> Path:
    """Write a label map as DICOM RTSTRUCT, atomically.

    Holes are joined to their outer contours by a channel of zero width, as DICOM specifies. Reading the contours on
    the same series gives the same label map, voxel by voxel.

    Args:
        path: The output file; ends in ``.dcm``.
        labels: ``(slices, rows, columns)`` as `DICOM_interface` returns them for the series; 0 is background.
        series: The images: the folder of the series, or its files.
        names: Name of each label, ``{1: "Heart"}``; one without voxels becomes a structure without contours.
        label: Title of the structure set, at most 16 characters.
        uid_seed: Makes the file's UIDs always the same; None (default) draws new ones.
        moment: Date and time of creation in the file; None (default): now.
        frames: Images that the labels belong to, if the series has several at one position; see `DICOM_interface`.

    Returns:
        The path.

    Raises:
        DataError: If the labels do not match the grid of the series, or one of them has no name.
        MissingExtraError: If the extra is not installed.
        StorageError: If it cannot be written.

    Example:
        >>> write_rtstruct("rtstruct.dcm", labels, "LCTSC-Train-S1-001/ct", {1: "Heart"})  # doctest: +SKIP
    """
    require_dicom()
    from pydicom.dataset import Dataset
    from pydicom.uid import ImplicitVRLittleEndian

    grid = grid_of_files([series] if isinstance(series, str | Path) else series, frames=frames)
    labels = checked_labels(labels, names, grid, path)
    sources = source_headers(grid)
    moment = moment or datetime.now()
    dataset = new_dataset(RTSTRUCT, sources[0], moment, new_uids(2, uid_seed))
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.SeriesDescription = "Structures by miscnn_tf"
    dataset.OperatorsName = ""
    dataset.PositionReferenceIndicator = ""
    dataset.FrameOfReferenceUID = _frame_of_reference(sources[0], uid_seed)
    dataset.StructureSetLabel = label[:16]
    dataset.StructureSetDate, dataset.StructureSetTime = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [_references(sources, dataset.FrameOfReferenceUID)]
    dataset.StructureSetROISequence, dataset.ROIContourSequence, dataset.RTROIObservationsSequence = [], [], []
    of_file = dict(zip(grid.files, sources, strict=True))
    for number, (value, name) in enumerate(short_names(names).items(), start=1):
        roi = Dataset()
        roi.ROINumber = number
        roi.ReferencedFrameOfReferenceUID = dataset.FrameOfReferenceUID
        roi.ROIName = name
        roi.ROIGenerationAlgorithm = "AUTOMATIC"
        dataset.StructureSetROISequence.append(roi)
        item = Dataset()
        item.ROIDisplayColor = list(COLOURS[(number - 1) % len(COLOURS)])
        item.ReferencedROINumber = number
        contours = _contours(labels == value, grid, of_file)
        if contours:
            item.ContourSequence = contours
        dataset.ROIContourSequence.append(item)
        observation = Dataset()
        observation.ObservationNumber = observation.ReferencedROINumber = number
        observation.RTROIInterpretedType = "ORGAN"
        observation.ROIInterpreter = ""
        dataset.RTROIObservationsSequence.append(observation)
    if any(
        len(contour.get_item(_CONTOUR_DATA).value) > _LONGEST_EXPLICIT
        for item in dataset.ROIContourSequence
        for contour in item.get("ContourSequence", ())
    ):
        # With explicit VR, a longer value would need the type UN, which few programs read.
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
    return Path(path)


def _frame_of_reference(source: Any, uid_seed: str | None) -> str:
    return str(source.get("FrameOfReferenceUID") or new_uids(3, uid_seed)[2])


def _image_reference(source: Any, frame: int | None = None) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    if frame is not None:
        item.ReferencedFrameNumber = frame
    return item


def _references(sources: Sequence[Any], frame_of_reference: str) -> Any:
    from pydicom.dataset import Dataset

    series = Dataset()
    series.SeriesInstanceUID = sources[0].SeriesInstanceUID
    series.ContourImageSequence = [_image_reference(source) for source in sources]
    study = Dataset()
    study.ReferencedSOPClassUID = _STUDY_MANAGEMENT
    study.ReferencedSOPInstanceUID = sources[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    reference = Dataset()
    reference.FrameOfReferenceUID = frame_of_reference
    reference.RTReferencedStudySequence = [study]
    return reference


def _coordinates(points: np.ndarray) -> Any:
    """Store points as raw text: pydicom would create and validate an object for each number, which is slow."""
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    # As text, without the rounding errors of binary fractions: 12.3, not 12.29999999999.
    texts = (f"{value:.{_DECIMALS}f}".rstrip("0").rstrip(".") for value in points.ravel().tolist())
    value = "\\".join(texts).encode("ascii")
    value += b" " * (len(value) % 2)
    return RawDataElement(Tag(_CONTOUR_DATA), "DS", len(value), value, 0, False, True, True)


def _contours(mask: np.ndarray, grid: Grid, sources: Mapping[str, Any]) -> list[Any]:
    from pydicom.dataset import Dataset

    to_millimetres = LPS_TO_RAS @ grid.affine
    items = []
    for position in np.flatnonzero(mask.any(axis=(1, 2))):
        header, plane = grid.planes[position]
        frame = plane.frame + 1 if header.frames > 1 else None
        for polygon in trace_contours(mask[position]):
            index = np.insert(polygon, 0, position, axis=1)
            points = index @ to_millimetres[:3, :3].T + to_millimetres[:3, 3]
            contour = Dataset()
            contour.ContourImageSequence = [_image_reference(sources[str(header.path)], frame)]
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour[_CONTOUR_DATA] = _coordinates(points)
            items.append(contour)
    return items
