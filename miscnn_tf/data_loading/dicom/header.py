"""Header of a DICOM file, read without its pixels."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from miscnn_tf._base.files import open_regular
from miscnn_tf.data_loading.dicom.distinctions import DISTINCTIONS, Distinctions, distinctions_of, frame_distinctions
from miscnn_tf.data_loading.dicom.recognition import DICOM_ENDINGS, is_dicom, require_dicom
from miscnn_tf.errors import DataError

logger = logging.getLogger(__name__)

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
#: Segmentation Storage, and Label Map Segmentation Storage.
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_DICOMDIR = "1.2.840.10008.1.3.10"
#: Secondary Capture Image Storage, and its multi-frame relatives (….7.1 to ….7.4).
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
#: Modalities of files that hold parameters, doses and similar data, not a scan.
_NO_SCANS = frozenset(("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "RTIMAGE", "PR", "KO", "SR", "REG"))
# Modalities of images that other programs made or converted.
_OTHER = frozenset(("OT", "SC"))
# Tag and length of the element that holds the pixels.
_PIXELS_HEADER = 8
# JPEG 2000 needs some 150 bytes for an empty slice of 512 x 512 pixels; scans need far more.
_MOST_COMPRESSED = 2000
#: Elements that a volume needs for each plane.
_PLACE = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
# PixelSpacing is calibrated where a header has several of them.
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_TAGS = [
    *("SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("FrameOfReferenceUID", "Modality", "SeriesNumber", "SeriesDescription", "InstanceNumber"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation"),
    *_SPACINGS,
    *("PixelAspectRatio", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness", "SpacingBetweenSlices"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "RealWorldValueMappingSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("ReferencedFrameOfReferenceSequence", "ReferencedSeriesSequence"),
    *DISTINCTIONS,
]


@dataclass(frozen=True)
class Plane:
    """Position of one plane of pixels, in DICOM's patient coordinates in mm (left, posterior, superior).

    Attributes:
        frame: Its number in the file, from 0.
        position: Centre of the first pixel, mm.
        orientation: Direction along a row, then along a column; 6 numbers.
        spacing: Distance between rows, then between columns, mm.
        thickness: Distance to the next plane according to the header, mm; only used for a single plane.
        localizer: Whether it is an overview image.
        distinctions: Values that may distinguish it from another image at the same position, by keyword of
            `DISTINCTIONS`.
    """

    frame: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    thickness: float | None
    localizer: bool
    distinctions: Distinctions = ()


@dataclass(frozen=True)
class Header:
    """Header of a file.

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
        image_type: Its parts, in capital letters: "ORIGINAL", "PRIMARY", "AXIAL".
        rows: Pixels along a column; 0 without pixels.
        columns: Pixels along a row.
        samples: Values per pixel: 3 for colours.
        photometric: PhotometricInterpretation: "MONOCHROME2", "PALETTE COLOR", ….
        frames: Number of planes of pixels.
        decoded_size: Bytes of the decoded pixels according to the header.
        least_size: Least size of a file with these pixels, bytes.
        compressed: Whether its pixels are compressed.
        planes: Positions of the planes; fewer than frames if the header lacks some.
        missing: Elements of the position of its image that the header lacks.
        pixel_spacing: Distance between rows and between columns of an image that may lack a position, mm.
        aspect: Height and width of a pixel, if its size is unknown.
        has_rescale: Whether the header gives a rescale slope and intercept or a Modality LUT.
        unit: RescaleType: "HU", ….
        real_world: Slopes and intercepts in RealWorldValueMappingSequence; None for a look-up table.
        referenced_series: UIDs of the series that an annotation was made on.
        referenced_frames: UIDs of the coordinate systems of an annotation.
        distinctions: Values that may distinguish it from another image at the same position, by keyword of
            `DISTINCTIONS`.
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
    image_type: tuple[str, ...]
    rows: int
    columns: int
    samples: int
    photometric: str
    frames: int
    decoded_size: int
    least_size: int
    compressed: bool
    planes: tuple[Plane, ...]
    missing: tuple[str, ...]
    pixel_spacing: tuple[float, ...] | None
    aspect: tuple[float, ...]
    has_rescale: bool
    unit: str
    real_world: frozenset[tuple[float, float] | None]
    referenced_series: frozenset[str]
    referenced_frames: frozenset[str]
    distinctions: Distinctions

    @property
    def is_annotation(self) -> bool:
        """True for an RTSTRUCT or a SEG."""
        return self.sop_class == RTSTRUCT or self.sop_class in SEGMENTATIONS

    @property
    def is_scan(self) -> bool:
        """True if its pixels may be an image to segment, or a part of one."""
        return self.rows > 0 and self.columns > 0 and self.modality not in _NO_SCANS and not self.is_annotation

    @property
    def is_converted(self) -> bool:
        """True if a program other than a scanner made it (Secondary Capture): an export, a screen capture, a report."""
        return self.is_other or self.sop_class.startswith(_SECONDARY_CAPTURE)

    @property
    def is_other(self) -> bool:
        """True if its modality is unspecific (OT, SC)."""
        return self.modality in _OTHER

    @property
    def is_mosaic(self) -> bool:
        """True if one plane holds the slices of a volume as tiles, as Siemens stores functional and diffusion MR."""
        return "MOSAIC" in self.image_type and self.frames == 1


def read_header(path: str | Path) -> Header | None:
    """Read the header of a file.

    Returns:
        None if it is not a DICOM file, or is a DICOMDIR.

    Raises:
        MissingDataError: If the file does not exist, or is a broken link.
        DataError: If the file cannot be read, or begins like a DICOM file but is damaged.
    """
    try:
        status = os.stat(path)
    except OSError:
        open_regular(path).close()  # raises an error that names the reason
        raise
    # The interface reads the headers of a series several times: to check it, for its pixels, for its labels.
    return _read_header(str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@lru_cache(maxsize=8192)
def _read_header(name: str, size: int, changed: int, status_changed: int, inode: int) -> Header | None:
    require_dicom()
    import pydicom

    path = Path(name)
    if not size and path.suffix.lower() in DICOM_ENDINGS:
        # An empty file at the end of a series would otherwise shorten the volume silently.
        raise DataError(f"{path} is empty; copy or export the file again")
    if not is_dicom(path):
        return None
    try:
        with open_regular(path) as stream:
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_TAGS, force=True)
            before_pixels = stream.tell()
        if dataset.get("SOPClassUID") is None and dataset.get("SOPInstanceUID") is None:
            if dataset.file_meta.get("MediaStorageSOPClassUID") == _DICOMDIR:
                logger.info("%s is left out: it is a DICOMDIR", path)
                return None
            raise ValueError("SOPClassUID and SOPInstanceUID are missing")
        header = _header(path, dataset, before_pixels)
    except DataError:
        raise
    except Exception as error:  # damaged files may raise any error in the parser
        raise DataError(
            f"{path}: the DICOM header is damaged, or this is not a DICOM file ({_reason(error)}); copy or export the "
            "file again, or remove it"
        ) from error
    return header if header.sop_class != _DICOMDIR else None


def _header(path: Path, dataset: Any, before_pixels: int) -> Header:
    from pydicom.uid import UID

    frames = int(dataset.get("NumberOfFrames") or 1)
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    samples, bits = int(dataset.get("SamplesPerPixel") or 1), int(dataset.get("BitsAllocated") or 0)
    if not rows * columns:
        # pydicom reads a truncated file without an error.
        kind = dataset.get("SOPClassUID", "")
        if UID(kind).name.endswith("Image Storage"):
            raise ValueError("it ends before the size of the image")
        if not dataset.get("Modality") or not dataset.get("SeriesInstanceUID"):
            raise ValueError("Modality or SeriesInstanceUID is missing")
        if dataset.file_meta.get("MediaStorageSOPClassUID", kind) != kind:
            raise ValueError(f"SOPClassUID is {kind}, but MediaStorageSOPClassUID differs")
    if rows * columns and not bits:
        raise ValueError("BitsAllocated is missing")
    if frames < 1:
        raise ValueError(f"NumberOfFrames is {frames}")
    series, references = _references(dataset)
    syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
    compressed = syntax is not None and (syntax.is_compressed or syntax.is_deflated)
    decoded_size = rows * columns * samples * frames * bits // 8
    distinctions = distinctions_of(dataset)
    planes = _planes(dataset, frames, distinctions)
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
        image_type=_image_type(dataset),
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=str(dataset.get("PhotometricInterpretation") or ""),
        frames=frames,
        decoded_size=decoded_size,
        least_size=decoded_size // _MOST_COMPRESSED if compressed else before_pixels + _PIXELS_HEADER + decoded_size,
        compressed=compressed,
        planes=planes,
        missing=_missing(dataset, frames),
        pixel_spacing=next((value for name in _SPACINGS if (value := _numbers([dataset], name, 2))), None),
        aspect=_numbers([dataset], "PixelAspectRatio", 2) or (1.0, 1.0),
        has_rescale=_has_rescale(dataset),
        unit=str(dataset.get("RescaleType") or ""),
        real_world=_real_world(dataset),
        referenced_series=series,
        referenced_frames=references,
        distinctions=distinctions,
    )


def _image_type(dataset: Any) -> tuple[str, ...]:
    parts = dataset.get("ImageType") or ()
    # A single part is text, not a list.
    return tuple(str(part).upper() for part in ([parts] if isinstance(parts, str) else parts))


def _planes(dataset: Any, frames: int, distinctions: Distinctions) -> tuple[Plane, ...]:
    localizer = bool({"LOCALIZER", "SCOUT"} & set(_image_type(dataset)))
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        plane = _plane(0, [dataset], localizer, distinctions) if frames == 1 else None
        return () if plane is None else (plane,)
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or ())
    items = list(dataset.PerFrameFunctionalGroupsSequence or ())
    if items and len(items) != frames:
        raise ValueError(f"PerFrameFunctionalGroupsSequence has {len(items)} items for {frames} frames")
    planes = []
    for number, item in enumerate(items):
        # Groups of this frame take precedence over shared ones.
        groups = [
            group[name][0]
            for group in [item, *shared]
            for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
            if group.get(name)
        ]
        plane = _plane(number, groups, localizer, frame_distinctions([item, *shared], distinctions))
        if plane is not None:
            planes.append(plane)
    return tuple(planes)


def _plane(number: int, groups: Sequence[Any], localizer: bool, distinctions: Distinctions) -> Plane | None:
    position, orientation, spacing = (_numbers(groups, name, count) for name, count in _PLACE.items())
    if position is None or orientation is None or spacing is None:
        return None
    if min(spacing) <= 0:
        raise ValueError(f"PixelSpacing is {list(spacing)}")
    between = _numbers(groups, "SpacingBetweenSlices", 1) or _numbers(groups, "SliceThickness", 1)
    thickness = abs(between[0]) if between else 0.0
    return Plane(number, position, orientation, spacing, thickness or None, localizer, distinctions)


def _missing(dataset: Any, frames: int) -> tuple[str, ...]:
    if "PerFrameFunctionalGroupsSequence" in dataset:
        return tuple(_PLACE)
    if frames > 1:
        return ("PerFrameFunctionalGroupsSequence",)
    return tuple(name for name, count in _PLACE.items() if _numbers([dataset], name, count) is None)


def _numbers(groups: Sequence[Any], name: str, count: int) -> tuple[float, ...] | None:
    for group in groups:
        value = group.get(name)
        if value is None or value == "":
            continue
        numbers = tuple(float(one) for one in (value if count > 1 and not isinstance(value, str) else [value]))
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"{name} is {list(numbers)}")
        if len(numbers) == count:
            return numbers
    return None


def _has_rescale(dataset: Any) -> bool:
    return any(
        group.get(name) is not None and group.get(name) != ""
        for group in _all_groups(dataset)
        for name in ("RescaleIntercept", "PixelValueTransformationSequence", "ModalityLUTSequence")
    )


def _real_world(dataset: Any) -> frozenset[tuple[float, float] | None]:
    mappings = [item for group in _all_groups(dataset) for item in group.get("RealWorldValueMappingSequence") or ()]
    return frozenset(
        None
        if item.get("RealWorldValueSlope") is None
        else (float(item.RealWorldValueSlope), float(item.get("RealWorldValueIntercept") or 0))
        for item in mappings
    )


def _all_groups(dataset: Any) -> list[Any]:
    names = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
    return [dataset, *(group for name in names for group in dataset.get(name) or ())]


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


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
