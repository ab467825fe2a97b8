"""What one DICOM file says of itself, read without its pixels."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from miscnn_tf.data_loading.dicom.extra import require_dicom
from miscnn_tf.errors import DataError

logger = logging.getLogger(__name__)

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
#: Segmentation Storage, and Label Map Segmentation Storage.
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_DICOMDIR = "1.2.840.10008.1.3.10"
#: Images of parameters, doses and the like, which are no scan.
_NO_SCANS = frozenset(("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "RTIMAGE", "PR", "KO", "SR", "REG", "OT", "SC"))
_PREAMBLE = 128
# Tag and length of the element that holds the pixels.
_PIXELS_HEADER = 8
_TAGS = [
    *("SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("FrameOfReferenceUID", "Modality", "SeriesNumber", "SeriesDescription", "InstanceNumber", "AcquisitionNumber"),
    *("AcquisitionTime", "EchoTime", "TemporalPositionIdentifier", "DiffusionBValue", "TriggerTime"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "PixelSpacing"),
    *("ImageOrientationPatient", "ImagePositionPatient", "SliceThickness", "SpacingBetweenSlices"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("ReferencedFrameOfReferenceSequence", "ReferencedSeriesSequence"),
]
#: What tells apart images of one place that lie in one series: headers' names, and what they are called in messages.
DISTINCTIONS = {
    "AcquisitionNumber": "acquisitions",
    "TemporalPositionIdentifier": "time points",
    "EchoTime": "echoes",
    "DiffusionBValue": "b-values",
    "TriggerTime": "trigger times",
    "AcquisitionTime": "acquisition times",
}


@dataclass(frozen=True)
class Plane:
    """Where one plane of pixels lies, in the patient's millimetres as DICOM has them (left, posterior, superior).

    Attributes:
        frame: Its number in the file, from 0.
        position: Centre of the first pixel, mm.
        orientation: Direction along a row, then along a column; 6 numbers.
        spacing: Distance between rows, then between columns, mm.
        thickness: Distance to the next plane where the header claims one, mm; only used for a plane that is alone.
        localizer: Whether it is an overview image.
    """

    frame: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    thickness: float | None
    localizer: bool


@dataclass(frozen=True)
class Header:
    """What the header of a file says.

    Attributes:
        path: The file.
        sop_class: UID of its kind.
        sop_instance: UID of the file's content.
        study: UID of the study.
        series: UID of the series.
        frame_of_reference: UID of the coordinate system, or "".
        modality: "CT", "MR", ….
        description: The series' description.
        number: The series' number, as text.
        rows: Pixels along a column; 0 without pixels.
        columns: Pixels along a row.
        samples: Values per pixel: 3 for colours.
        frames: Number of planes of pixels.
        least_size: Bytes that the file must have for its pixels, where they are not compressed; else 0.
        planes: Where they lie; fewer than frames where the header does not say.
        referenced_series: UIDs of the series that an annotation was made on.
        referenced_frames: UIDs of the coordinate systems that an annotation lies in.
        distinctions: What may tell it from another image of the same place, as `DISTINCTIONS` names it.
    """

    path: Path
    sop_class: str
    sop_instance: str
    study: str
    series: str
    frame_of_reference: str
    modality: str
    description: str
    number: str
    rows: int
    columns: int
    samples: int
    frames: int
    least_size: int
    planes: tuple[Plane, ...]
    referenced_series: frozenset[str]
    referenced_frames: frozenset[str]
    distinctions: tuple[tuple[str, str], ...]

    @property
    def is_annotation(self) -> bool:
        """Whether it is an RTSTRUCT or a SEG."""
        return self.sop_class == RTSTRUCT or self.sop_class in SEGMENTATIONS

    @property
    def is_scan(self) -> bool:
        """Whether it holds pixels that may be part of a volume to segment."""
        return self.rows > 0 and self.columns > 0 and self.modality not in _NO_SCANS and not self.is_annotation


def looks_like_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do; one called .dcm may do without.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            start = stream.read(_PREAMBLE + 4)
    except OSError as error:
        # It might be a slice, which would be missing unnoticed.
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check its permissions") from error
    return start[_PREAMBLE:] == b"DICM" or (path.suffix.lower() == ".dcm" and len(start) > 0)


def read_header(path: str | Path) -> Header | None:
    """Read the header of a file.

    Returns:
        None if it is no DICOM file, or one that is of no interest here (a DICOMDIR).

    Raises:
        DataError: If the file is damaged: it begins like a DICOM file, and ends in the middle of its header;
            or it cannot be read.
    """
    status = os.stat(path)
    # The interface asks for a series again and again: to check it, for its pixels, for its labels.
    return _read_header(str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8192)
def _read_header(name: str, size: int, changed: int) -> Header | None:
    require_dicom()
    import pydicom

    path = Path(name)
    if not size and path.suffix.lower() == ".dcm":
        # As the only slice of an end, it would not be missed.
        raise DataError(f"{path} is empty: copying it was interrupted, perhaps; copy or export the file again")
    if not looks_like_dicom(path):
        return None
    try:
        with open(path, "rb") as stream:
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_TAGS, force=True)
            before_pixels = stream.tell()
        if dataset.get("SOPClassUID") is None and dataset.get("SOPInstanceUID") is None:
            if dataset.file_meta.get("MediaStorageSOPClassUID", _DICOMDIR) == _DICOMDIR:
                logger.info("%s is left out: it is a DICOMDIR or no DICOM file", path)
                return None
            raise ValueError("the header says neither what it is nor to what it belongs")
        header = _header(path, dataset, before_pixels)
    except Exception as error:  # whatever a damaged file can provoke in the parser
        raise DataError(f"{path}: the DICOM header is damaged ({error}); copy or export the file again") from error
    return header if header.sop_class != _DICOMDIR else None


def _header(path: Path, dataset: Any, before_pixels: int) -> Header:
    from pydicom.uid import UID

    frames = int(dataset.get("NumberOfFrames") or 1)
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    if not rows * columns and UID(dataset.get("SOPClassUID", "")).name.endswith("Image Storage"):
        # pydicom reads a file up to where it was cut off, and says nothing.
        raise ValueError("it ends before the size of the image")
    series, references = _references(dataset)
    syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
    packed = syntax is not None and (syntax.is_compressed or syntax.is_deflated)
    bits = rows * columns * samples * frames * int(dataset.get("BitsAllocated") or 0)
    return Header(
        path=path,
        sop_class=str(dataset.get("SOPClassUID", "")),
        sop_instance=str(dataset.get("SOPInstanceUID", "")),
        study=str(dataset.get("StudyInstanceUID", "")),
        series=str(dataset.get("SeriesInstanceUID", "")),
        frame_of_reference=str(dataset.get("FrameOfReferenceUID") or ""),
        modality=str(dataset.get("Modality") or ""),
        description=str(dataset.get("SeriesDescription") or ""),
        number=str(dataset.get("SeriesNumber") if dataset.get("SeriesNumber") is not None else ""),
        rows=rows,
        columns=columns,
        samples=samples,
        frames=frames,
        least_size=0 if packed or not bits else before_pixels + _PIXELS_HEADER + bits // 8,
        planes=_planes(dataset, frames),
        referenced_series=series,
        referenced_frames=references,
        distinctions=tuple((name, str(dataset[name].value)) for name in DISTINCTIONS if dataset.get(name) is not None),
    )


def _planes(dataset: Any, frames: int) -> tuple[Plane, ...]:
    image_type = [str(part).upper() for part in dataset.get("ImageType") or ()]
    localizer = "LOCALIZER" in image_type or "SCOUT" in image_type
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        plane = _plane(0, [dataset], localizer) if frames == 1 else None
        return () if plane is None else (plane,)
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or ())
    planes = []
    for number, item in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        # What holds for this frame alone comes before what holds for all.
        groups = [
            group[name][0]
            for group in [item, *shared]
            for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
            if group.get(name)
        ]
        plane = _plane(number, groups, localizer)
        if plane is not None:
            planes.append(plane)
    return tuple(planes)


def _plane(number: int, groups: Sequence[Any], localizer: bool) -> Plane | None:
    position = _numbers(groups, "ImagePositionPatient", 3)
    orientation = _numbers(groups, "ImageOrientationPatient", 6)
    spacing = _numbers(groups, "PixelSpacing", 2)
    if position is None or orientation is None or spacing is None or min(spacing) <= 0:
        return None
    between = _numbers(groups, "SpacingBetweenSlices", 1) or _numbers(groups, "SliceThickness", 1)
    thickness = abs(between[0]) if between else 0.0
    return Plane(number, position, orientation, spacing, thickness or None, localizer)


def _numbers(groups: Sequence[Any], name: str, count: int) -> tuple[float, ...] | None:
    for group in groups:
        value = group.get(name)
        if value is None or value == "":
            continue
        numbers = tuple(float(one) for one in (value if count > 1 else [value]))
        if len(numbers) == count:
            return numbers
    return None


def _references(dataset: Any) -> tuple[frozenset[str], frozenset[str]]:
    series, frames = set(), set()
    if dataset.get("FrameOfReferenceUID"):
        frames.add(str(dataset.FrameOfReferenceUID))
    for item in dataset.get("ReferencedSeriesSequence") or ():
        series.add(str(item.get("SeriesInstanceUID", "")))
    for item in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        frames.add(str(item.get("FrameOfReferenceUID", "")))
        for study in item.get("RTReferencedStudySequence") or ():
            for one in study.get("RTReferencedSeriesSequence") or ():
                series.add(str(one.get("SeriesInstanceUID", "")))
    return frozenset(series - {""}), frozenset(frames - {""})
