"""Series of CT images as the tests write them: with pydicom alone, and with every fault that is asked."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1, 0, 0, 0, 1, 0)
#: Directions along a row and along a column, as scanners write them.
ORIENTATIONS = {
    "axial": AXIAL,
    "feet first": (-1, 0, 0, 0, 1, 0),
    "prone": (-1, 0, 0, 0, -1, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
    "oblique": (0.96, 0.0, 0.28, 0.224, 0.6, -0.768),
}
SPACING = (0.8, 0.6)
DISTANCE = 2.5
ORIGIN = (-40.0, -55.5, 120.25)


def make_series(
    volume: np.ndarray,
    orientation: Sequence[float] = AXIAL,
    *,
    spacing: Sequence[float] = SPACING,
    distance: float = DISTANCE,
    origin: Sequence[float] = ORIGIN,
    shift: Sequence[float] = (0, 0, 0),
    slope: float = 1,
    intercept: float = -1024,
    dtype: Any = np.uint16,
    **values: Any,
) -> list[Dataset]:
    """A dataset per slice of a volume of stored values ``(slices, rows, columns)``.

    Args:
        volume: What is stored.
        orientation: ImageOrientationPatient.
        spacing: PixelSpacing.
        distance: Of the slices, along the normal, mm.
        origin: Position of the first.
        shift: How far each slice lies beside the one before it, mm: a tilted gantry.
        slope: RescaleSlope.
        intercept: RescaleIntercept.
        dtype: Type of the stored values, 16 bits.
        values: Any other attribute.
    """
    normal = np.cross(orientation[:3], orientation[3:])
    uids = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    series = []
    for number, plane in enumerate(volume):
        one = Dataset()
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, generate_uid()
        one.StudyInstanceUID, one.SeriesInstanceUID = uids["StudyInstanceUID"], uids["SeriesInstanceUID"]
        one.FrameOfReferenceUID = uids["FrameOfReferenceUID"]
        one.PatientName, one.PatientID, one.PatientBirthDate, one.PatientSex = "Test^Ünal", "T-1", "19700101", "O"
        one.SpecificCharacterSet = "ISO_IR 100"
        one.StudyDate, one.StudyTime, one.StudyID, one.AccessionNumber = "20200102", "101112", "1", ""
        one.ReferringPhysicianName = ""
        one.Modality, one.Manufacturer, one.SeriesNumber, one.SeriesDescription = "CT", "tests", 3, "thorax"
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.PositionReferenceIndicator = one.KVP = ""
        one.AcquisitionNumber, one.InstanceNumber = 1, number + 1
        one.SliceThickness = 9.0  # not their distance
        one.ImageOrientationPatient = [round(float(value), 6) for value in orientation]
        position = np.array(origin) + number * (distance * normal + np.array(shift))
        one.ImagePositionPatient = [round(float(value), 6) for value in position]
        one.PixelSpacing = list(spacing)
        one.Rows, one.Columns = plane.shape
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, int(np.dtype(dtype).kind == "i")
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = slope, intercept, "HU"
        for name, value in values.items():
            setattr(one, name, value)
        one.PixelData = np.ascontiguousarray(plane.astype(dtype)).tobytes()
        one["PixelData"].VR = "OW"
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        series.append(one)
    return series


def save_series(folder: Path, series: Sequence[Dataset], name: str = "{:06d}.dcm", order: Any = None) -> list[Path]:
    """Write datasets as files, by default in an order that has nothing to do with where they lie."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = order if order is not None else np.random.default_rng(len(series)).permutation(len(series))
    paths = []
    for number, one in zip(numbers, series, strict=True):
        paths.append(folder / name.format(int(number)))
        one.save_as(paths[-1], enforce_file_format=True)
    return paths


def random_volume(rng: np.random.Generator, shape: Sequence[int] = (6, 9, 7)) -> np.ndarray:
    """Stored values of 12 bits."""
    return rng.integers(0, 4096, shape)


def make_rtstruct(series: Sequence[Dataset], rois: dict[str, list[Any]], **values: Any) -> Dataset:
    """An RTSTRUCT on a series.

    Args:
        series: The images.
        rois: Of each structure its contours: ``(slice, points)`` or ``(slice, points, kind)``; the points are
            ``(row, column)`` of the slice, fractions included, and so may the slice be a fraction.
        values: Any attribute of the file.
    """
    first = series[0]
    one = Dataset()
    one.SOPClassUID, one.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", generate_uid()
    one.StudyInstanceUID, one.SeriesInstanceUID = first.StudyInstanceUID, generate_uid()
    one.Modality, one.StructureSetLabel, one.PatientID = "RTSTRUCT", "test", "T-1"
    referenced = Dataset()
    referenced.SeriesInstanceUID = first.SeriesInstanceUID
    study = Dataset()
    study.ReferencedSOPInstanceUID, study.RTReferencedSeriesSequence = first.StudyInstanceUID, [referenced]
    frame = Dataset()
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = first.FrameOfReferenceUID, [study]
    one.ReferencedFrameOfReferenceSequence = [frame]
    one.StructureSetROISequence, one.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois.items(), start=7):
        roi, item = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        item.ReferencedROINumber, item.ContourSequence = number, []
        for at, points, *kind in contours:
            contour = Dataset()
            contour.ContourGeometricType = kind[0] if kind else "CLOSED_PLANAR"
            placed = in_patient(series, at, np.asarray(points, float))
            contour.NumberOfContourPoints = len(placed)
            contour.ContourData = [f"{value:.6f}"[:16] for value in placed.ravel()]
            item.ContourSequence.append(contour)
        one.StructureSetROISequence.append(roi)
        one.ROIContourSequence.append(item)
    for name, value in values.items():
        setattr(one, name, value)
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return one


def in_patient(series: Sequence[Dataset], at: float, points: np.ndarray) -> np.ndarray:
    """Points of a slice in DICOM's mm, by the standard's equation (PS3.3, C.7.6.2.1.1), slice by slice."""
    below = series[min(int(at), len(series) - 1)]
    position = np.array(below.ImagePositionPatient, float)
    if at != int(at):
        position = position + (at - int(at)) * (np.array(series[int(at) + 1].ImagePositionPatient, float) - position)
    along, down = (np.array(below.ImageOrientationPatient[part], float) for part in (slice(3), slice(3, 6)))
    rows, columns = points.T
    spacing = [float(value) for value in below.PixelSpacing]
    return position + np.outer(columns * spacing[1], along) + np.outer(rows * spacing[0], down)


def square(low: float, high: float) -> list[tuple[float, float]]:
    """The corners of a square in rows and columns."""
    return [(low, low), (low, high), (high, high), (high, low)]


def group(**values: Any) -> list[Dataset]:
    """A functional group: a sequence of one item."""
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return [item]


def enhanced(series: Sequence[Dataset], more: Sequence[dict[str, Any]] | None = None, **values: Any) -> Dataset:
    """An enhanced CT: all slices of a series in one file, in an order that is not theirs.

    Args:
        series: The slices; the intercept of each grows by one.
        more: Further functional groups of each slice.
        values: Any other attribute of the file.
    """
    one = copy.deepcopy(series[0])
    del one.ImagePositionPatient, one.ImageOrientationPatient, one.PixelSpacing, one.RescaleSlope, one.RescaleIntercept
    one.SOPClassUID = EnhancedCTImageStorage
    one.NumberOfFrames = len(series)
    first = series[0]
    one.SharedFunctionalGroupsSequence = group(
        PlaneOrientationSequence=group(ImageOrientationPatient=first.ImageOrientationPatient),
        PixelMeasuresSequence=group(PixelSpacing=first.PixelSpacing, SliceThickness=9),
    )
    order = np.random.default_rng(3).permutation(len(series))
    one.PerFrameFunctionalGroupsSequence = [
        group(
            PlanePositionSequence=group(ImagePositionPatient=series[number].ImagePositionPatient),
            PixelValueTransformationSequence=group(
                RescaleSlope=1, RescaleIntercept=-1024 + int(number), RescaleType="HU"
            ),
            **(more[number] if more else {}),
        )[0]
        for number in order
    ]
    one.PixelData = b"".join(series[number].PixelData for number in order)
    for name, value in values.items():
        setattr(one, name, value)
    return one


def make_picture(picture: np.ndarray, **values: Any) -> Dataset:
    """A radiograph (DX) of stored values ``(rows, columns)``: without a place in the patient."""
    digital = "1.2.840.10008.5.1.4.1.1.1.1"
    values = {"SOPClassUID": digital, "Modality": "DX", "ImagerPixelSpacing": [0.2, 0.1], "slope": 1, **values}
    (one,) = make_series(picture[np.newaxis], **{"intercept": 0, **values})
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "FrameOfReferenceUID"):
        delattr(one, name)
    if "PixelSpacing" not in values:
        del one.PixelSpacing
    one.ImageType = ["ORIGINAL", "PRIMARY"]
    return one
