"""Writer of label maps as RTSTRUCT, with a structure per label and contours on the slices of a series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from miscnn_tf._base.class_colours import class_colour
from miscnn_tf._base.files import atomic_path
from miscnn_tf.data_loading.dicom.contours import trace_contours
from miscnn_tf.data_loading.dicom.header import RTSTRUCT
from miscnn_tf.data_loading.dicom.recognition import require_dicom
from miscnn_tf.data_loading.dicom.series import grid_of_files
from miscnn_tf.data_loading.dicom.series_grid import LPS_TO_RAS, Grid
from miscnn_tf.data_loading.dicom.writing import (
    checked_labels,
    new_dataset,
    new_uids,
    short_names,
    source_headers,
)

_LONGEST_EXPLICIT = 0xFFFE
_PROGRESS_AFTER = 2.0  # seconds
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
    from pydicom.charset import convert_encodings
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
    structures = list(enumerate(short_names(names).items(), start=1))
    contours = _Contours(grid, dict(zip(grid.files, sources, strict=True)))
    drawn = [
        (number, position)
        for number, (value, _) in structures
        for position in np.flatnonzero((labels == value).any(axis=(1, 2))).tolist()
    ]
    values = {number: value for number, (value, _) in structures}
    for number, position in tqdm(
        drawn, desc="Tracing contours", unit="slice", delay=_PROGRESS_AFTER, disable=None, leave=False
    ):
        contours.add(number, position, labels[position] == values[number])
    implicit = contours.longest > _LONGEST_EXPLICIT
    if implicit:
        # With explicit VR, a longer value would need the type UN, which few programs read.
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    for number, (value, name) in structures:
        roi = Dataset()
        roi.ROINumber = number
        roi.ReferencedFrameOfReferenceUID = dataset.FrameOfReferenceUID
        roi.ROIName = name
        roi.ROIGenerationAlgorithm = "AUTOMATIC"
        dataset.StructureSetROISequence.append(roi)
        item = Dataset()
        item.ROIDisplayColor = list(class_colour(value))
        item.ReferencedROINumber = number
        if number in contours:
            contours.store(number, item, implicit=implicit)
        dataset.ROIContourSequence.append(item)
        observation = Dataset()
        observation.ObservationNumber = observation.ReferencedROINumber = number
        observation.RTROIInterpretedType = "ORGAN"
        observation.ROIInterpreter = ""
        dataset.RTROIObservationsSequence.append(observation)
    # Otherwise pydicom parses the contours again to look for elements of ambiguous VR.
    dataset.set_original_encoding(implicit, True, convert_encodings(dataset.SpecificCharacterSet))
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


class _Contours:
    """Contours of the structures, as the bytes of a ContourSequence.

    pydicom would create and validate an object for each number and each element: 15,000 contours take 20 seconds then.

    Attributes:
        longest: Length of the longest ContourData in bytes.
    """

    def __init__(self, grid: Grid, sources: Mapping[str, Any]) -> None:
        self._grid = grid
        self._sources = sources
        self._to_millimetres = LPS_TO_RAS @ grid.affine
        self._of: dict[int, list[tuple[int, int, bytes]]] = {}
        self._beginnings: dict[tuple[int, bool], bytes] = {}
        self.longest = 0

    def __contains__(self, number: int) -> bool:
        return number in self._of

    def add(self, number: int, position: int, mask: np.ndarray) -> None:
        """Trace the contours of a structure on a slice."""
        polygons = trace_contours(mask)
        index = np.insert(np.concatenate(polygons), 0, position, axis=1)
        texts = _texts(index @ self._to_millimetres[:3, :3].T + self._to_millimetres[:3, 3])
        ends = np.cumsum([3 * len(polygon) for polygon in polygons]).tolist()
        for start, end in zip([0, *ends], ends, strict=False):
            data = "\\".join(texts[start:end]).encode("ascii")
            self._of.setdefault(number, []).append((position, (end - start) // 3, data))
            self.longest = max(self.longest, len(data))

    def store(self, number: int, item: Any, *, implicit: bool) -> None:
        """Put the contours of a structure into its item of ROIContourSequence."""
        from pydicom.charset import default_encoding
        from pydicom.dataelem import RawDataElement
        from pydicom.tag import Tag

        parts = []
        for position, points, data in self._of[number]:
            fields = (
                self._beginning(position, implicit),
                _element(_NUMBER_OF_CONTOUR_POINTS, b"IS", str(points).encode("ascii"), implicit),
                _element(_CONTOUR_DATA, b"DS", data, implicit),
            )
            parts += [_ITEM, sum(map(len, fields)).to_bytes(4, "little"), *fields]
        value = b"".join(parts)
        tag = Tag("ContourSequence")
        item[tag] = RawDataElement(tag, "SQ", len(value), value, 0, implicit, True, True)
        # pydicom then writes the bytes as they are.
        item.set_original_encoding(implicit, True, default_encoding)

    def _beginning(self, position: int, implicit: bool) -> bytes:
        """Return the first elements of the contours on a slice: the image and the type."""
        from pydicom.dataset import Dataset
        from pydicom.filebase import DicomBytesIO
        from pydicom.filewriter import write_dataset

        if (position, implicit) not in self._beginnings:
            header, plane = self._grid.planes[position]
            frame = plane.frame + 1 if header.frames > 1 else None
            contour = Dataset()
            contour.ContourImageSequence = [_image_reference(self._sources[str(header.path)], frame)]
            contour.ContourGeometricType = "CLOSED_PLANAR"
            stream = DicomBytesIO()
            stream.is_implicit_VR, stream.is_little_endian = implicit, True
            write_dataset(stream, contour)
            self._beginnings[position, implicit] = stream.getvalue()
        return self._beginnings[position, implicit]


# Group and element as they are in a file.
_ITEM = bytes.fromhex("feff00e0")
_NUMBER_OF_CONTOUR_POINTS = bytes.fromhex("06304600")
_CONTOUR_DATA = bytes.fromhex("06305000")


def _element(tag: bytes, vr: bytes, value: bytes, implicit: bool) -> bytes:
    """Encode an element of text."""
    value += b" " * (len(value) % 2)
    return tag + (len(value).to_bytes(4, "little") if implicit else vr + len(value).to_bytes(2, "little")) + value


def _texts(points: np.ndarray) -> list[str]:
    """Return coordinates as text without the rounding errors of binary fractions: 12.3, not 12.29999999999."""
    scaled = np.rint(points.ravel() * 10**_DECIMALS).astype(np.int64)
    different, places = np.unique(scaled, return_inverse=True)
    taken: list[str] = np.array(list(map(_text, different.tolist())), object)[places].tolist()
    return taken


# Few of the coordinates differ, unless the slices are oblique.
@lru_cache(2**16)
def _text(scaled: int) -> str:
    return f"{scaled / 10**_DECIMALS:.{_DECIMALS}f}".rstrip("0").rstrip(".")
