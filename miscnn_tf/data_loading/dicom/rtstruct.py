"""RTSTRUCT: conversion of contours in patient coordinates to masks on the grid of a series.

pydicom parses the files. pydicomrt 0.9 is not used: it draws contours through the centres of the outermost pixels,
smooths them, and does not reproduce a mask with a hole (205 of 7126 voxels differ with all smoothing off); its affines
are float32, and it needs OpenCV (190 MB).
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf._base.files import open_regular
from miscnn_tf._base.messages import plural, some_of
from miscnn_tf.data_loading.dicom.contours import contour_kind, contour_points, fill_contours, why_not_drawn
from miscnn_tf.data_loading.dicom.header import RTSTRUCT
from miscnn_tf.data_loading.dicom.nesting import ambiguous, nest
from miscnn_tf.data_loading.dicom.recognition import require_dicom
from miscnn_tf.data_loading.dicom.series_grid import Grid
from miscnn_tf.data_loading.geometry import GRID_TOLERANCE
from miscnn_tf.errors import DataError

logger = logging.getLogger(__name__)

_UNDEFINED = 0xFFFFFFFF
# In slices; the coordinates of one plane may differ in their last digits.
_SAME_PLANE = 0.02
# In slices; a contour that extends further across them is not in a plane, or was drawn on other images.
_FLAT = 0.5
# In slices or pixels.
_EDGE = 1e-3


@dataclass(frozen=True)
class StructureSet:
    """The content of an RTSTRUCT.

    Attributes:
        names: Names of the structures by ROINumber.
        frames: FrameOfReferenceUID of each structure's coordinates by ROINumber, "" where the file has none.
        contours: Items of ContourSequence, as pydicom's datasets, by ROINumber.
        kinds: RTROIInterpretedType of structures by ROINumber, "EXTERNAL" for the outline of the patient.
    """

    names: dict[int, str]
    frames: dict[int, str]
    contours: dict[int, list[Any]]
    kinds: dict[int, str] = field(default_factory=dict)


def read_rtstruct(path: Path) -> StructureSet:
    """Read an RTSTRUCT file.

    Raises:
        DataError: If it is damaged, or the numbers of its structures are missing or ambiguous.

    Warns:
        UserWarning: If it has no contours at all, or contours of structures that it does not list.
    """
    require_dicom()
    import pydicom

    try:
        with open_regular(path) as stream:
            dataset = pydicom.dcmread(stream, force=True)
        _require_whole(dataset)
        # pydicom parses sequences on first use; parsing them here lets errors name the file.
        names, frames = _listed(dataset)
        contours = _contours(dataset)
        kinds = _kinds(dataset)
    except DataError:
        raise
    except Exception as error:  # damaged files may raise any error in the parser
        raise DataError(
            f"{path}: the RTSTRUCT is truncated or damaged ({' '.join(str(error).split())}); copy or export it again"
        ) from error
    if "ROIContourSequence" not in dataset:
        warnings.warn(f"{path} has no ROIContourSequence: its structures have no contours", UserWarning, stacklevel=3)
    for number, items in contours.items():
        if number not in names and items:
            roi = "a structure without ReferencedROINumber" if number is None else f"the structure {number}"
            warnings.warn(
                f"{path}: {plural(len(items), 'contour')} of {roi} left out, as StructureSetROISequence does not list "
                f"it ({some_of(map(_height_of_item, items), 3)}); export the file again",
                UserWarning,
                stacklevel=3,
            )
    return StructureSet(names, frames, {number: contours.get(number, []) for number in names}, kinds)


def _require_whole(dataset: Any) -> None:
    """Refuse a truncated file: pydicom reads a part of the last value without a warning."""
    from pydicom.dataelem import RawDataElement

    for tag in dataset.keys():  # noqa: SIM118 - iterating over the dataset itself would parse the values
        raw = dataset.get_item(tag)
        if (
            isinstance(raw, RawDataElement)
            and isinstance(raw.value, bytes)
            and len(raw.value) < raw.length < _UNDEFINED
        ):
            raise ValueError(f"it ends within the element {raw.tag}")


def _listed(dataset: Any) -> tuple[dict[int, str], dict[int, str]]:
    """Return name and frame of reference of each structure by its number."""
    if dataset.get("SOPClassUID", RTSTRUCT) != RTSTRUCT:
        raise ValueError(f"SOPClassUID is {dataset['SOPClassUID'].value.name}")
    if "StructureSetROISequence" not in dataset:
        raise ValueError("StructureSetROISequence is missing")
    names: dict[int, str] = {}
    frames = {}
    for item in dataset.StructureSetROISequence or ():
        name = str(item.get("ROIName") or "")
        number = _number(item, "ROINumber", f"the structure {name!r}")
        if number is None:
            raise ValueError(f"the structure {name!r} has no ROINumber")
        if names.setdefault(number, name) != name:
            raise ValueError(f"the structures {names[number]!r} and {name!r} have the same ROINumber {number}")
        frames[number] = str(item.get("ReferencedFrameOfReferenceUID") or "")
    return names, frames


def _contours(dataset: Any) -> dict[int | None, list[Any]]:
    """Return the items of each ContourSequence by ReferencedROINumber."""
    contours: dict[int | None, list[Any]] = {}
    for item in dataset.get("ROIContourSequence") or ():
        number = _number(item, "ReferencedROINumber", "an item of ROIContourSequence")
        found = contours.setdefault(number, [])
        for contour in item.get("ContourSequence") or ():
            _require_whole(contour)
            found.append(contour)
    return contours


def _kinds(dataset: Any) -> dict[int, str]:
    """Return the RTROIInterpretedType of each structure that has one."""
    kinds = {}
    for item in dataset.get("RTROIObservationsSequence") or ():
        try:
            number = _number(item, "ReferencedROINumber", "an item of RTROIObservationsSequence")
        except ValueError as error:  # the voxels do not depend on it, and the outline also has a name
            logger.info("the type of a structure is ignored: %s", error)
            continue
        if number is not None and (kind := str(item.get("RTROIInterpretedType") or "").strip()):
            kinds[number] = kind
    return kinds


def _number(item: Any, keyword: str, of: str) -> int | None:
    value = item.get(keyword)
    if value is None or value == "":
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{keyword} of {of} is {value!r}, which is not a whole number") from None


def roi_names(structures: StructureSet) -> dict[int, str]:
    """Return the names of the ROIs by number."""
    return structures.names


def roi_mask(structures: StructureSet, number: int, grid: Grid, path: Path) -> np.ndarray:
    """Return the voxels inside an ROI.

    Contours of the type CLOSED_PLANAR that overlap in part are united; one within another is a hole. Where the ROI has
    a contour of the type CLOSEDPLANAR_XOR, the even-odd rule applies to all of its contours. A contour without
    ContourGeometricType is drawn as CLOSED_PLANAR, the type of nearly all contours; most programs ignore the type.

    Args:
        structures: The return value of `read_rtstruct`.
        number: The ROI's number.
        grid: The grid of the series.
        path: The file, for messages.

    Returns:
        bool ``(slices, rows, columns)``.

    Raises:
        DataError: If a contour is not along the slices, is in another coordinate system, or is damaged.

    Warns:
        UserWarning: If contours are left out, if programs draw them differently, or if slices between contours have
            none; with structure, slice and reason.
    """
    where = f"{path}: the structure {structures.names.get(number, str(number))!r}"
    frame, expected = structures.frames.get(number, ""), grid.planes[0][0].frame_of_reference
    if frame and expected and frame != expected:
        raise DataError(
            f"{where} was drawn in another coordinate system than {grid.where}: its ReferencedFrameOfReferenceUID is "
            f"{frame}, the FrameOfReferenceUID of the images is {expected}. Register and export it again"
        )
    notes = _Notes()
    planes, exclusive = _by_slice(structures.contours.get(number, []), grid, where, notes)
    mask = np.zeros(grid.shape, bool)
    for position, at in sorted(planes.items()):
        # Contours of two planes on one slice (drawn on thinner slices) are not holes in each other: use the nearest.
        chosen = min((depth for depth, _ in at), key=lambda depth: abs(depth - position))
        together = [points for depth, points in at if abs(depth - chosen) < _SAME_PLANE]
        nesting = nest(together)
        mask[position] = fill_contours(nesting, grid.shape[1:], exclusive=exclusive)
        place = _slice_place(position, grid)
        if len(together) < len(at):
            notes.add(_THINNER, place)
        if nesting.crossing and not exclusive:
            notes.add(_CROSSING, place)
        if len(nesting.contours) < len(together) and exclusive:
            notes.add(_REPEATED, place)
        if ambiguous(nesting.contours):
            notes.add(_AMBIGUOUS, place)
    notes.warn(where, grid)
    _warn_of_thick_slices(sorted(planes), where, grid)
    return mask


_OUTSIDE = "{where} has {count} contour(s) outside {series} ({places}); they are left out"
_THINNER = (
    "{where} was drawn on thinner slices than {series} has; the nearest of several contours per slice is used "
    "({places})"
)
_UNTYPED = (
    "{where} has {count} contour(s) without ContourGeometricType ({places}); they are drawn as CLOSED_PLANAR. Export "
    "the file again if they are not closed"
)
_CROSSING = (
    "{where} has contours that overlap in part ({places}); they are united, but other programs leave out the overlap. "
    "Check these slices, or merge the contours"
)
_REPEATED = (
    "{where} has the same contour more than once ({places}), which would remove it by the rule of CLOSEDPLANAR_XOR; it "
    "is drawn only once. Check these slices"
)
_AMBIGUOUS = (
    "{where} has contours that surround an area twice ({places}); it is left out, as in a hole, but other programs "
    "fill it. Check these slices"
)
_LEFT_OUT = "{where}: {count} contour(s) left out, as {reason} ({places}). Correct the structure and export it again"


class _Notes:
    """Warnings of a structure, with the slices that they concern."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str], list[str]] = {}

    def add(self, text: str, place: str, reason: str = "") -> None:
        self._places.setdefault((text, reason), []).append(place)

    def warn(self, where: str, grid: Grid) -> None:
        for (text, reason), places in self._places.items():
            message = text.format(
                where=where, series=grid.where, count=len(places), places=some_of(places, 3), reason=reason
            )
            warnings.warn(message, UserWarning, stacklevel=4)


def _by_slice(
    contours: Sequence[Any], grid: Grid, where: str, notes: _Notes
) -> tuple[dict[int, list[tuple[float, np.ndarray]]], bool]:
    """Return depth and points (rows, columns) of the contours of each slice, and whether the even-odd rule applies."""
    planes: dict[int, list[tuple[float, np.ndarray]]] = {}
    exclusive = False
    single = []
    to_index = grid.to_index
    for contour in contours:
        kind = contour_kind(contour)
        if kind == "POINT":
            single.append(contour)
            continue
        try:
            millimetres = contour_points(contour)
        except (OverflowError, TypeError, ValueError) as error:
            raise DataError(f"{where} has a damaged contour: {error}; export it again") from error
        with np.errstate(invalid="ignore", over="ignore"):  # of numbers that are not finite, which are left out below
            points = millimetres @ to_index[:3, :3].T + to_index[:3, 3]
        reason = why_not_drawn(kind, millimetres)
        if reason is not None:
            notes.add(_LEFT_OUT, _place(millimetres, points, grid), reason)
            continue
        if not kind:
            notes.add(_UNTYPED, _place(millimetres, points, grid))
        exclusive = exclusive or kind == "CLOSEDPLANAR_XOR"
        thickness = float(np.ptp(points[:, 0]))
        # The plane of most of the points; single ones may be off it.
        depth = float(np.median(points[:, 0]) if thickness > _EDGE else points[0, 0])
        if thickness > _FLAT:
            raise DataError(
                f"{where} has contours across the slices (over {thickness + 1:.1f} of them, at "
                f"{_place(millimetres, points, grid)}), drawn on images of another orientation. Export it on the "
                "slices of this series, or as a SEG"
            )
        # The volume ends half a slice, and half a pixel, beyond the centres of the first and last one.
        low, high = points.min(axis=0), points.max(axis=0)
        low[0] = high[0] = depth
        if (high < -0.5 - _EDGE).any() or (low > np.array(grid.shape) - 0.5 + _EDGE).any():
            notes.add(_OUTSIDE, _place(millimetres, points, grid))
            continue
        # Round halves up, so that contours halfway between slices are not all assigned to the even ones.
        nearest = min(max(math.floor(depth + 0.5 + _SAME_PLANE), 0), len(grid.planes) - 1)
        planes.setdefault(nearest, []).append((depth, points[:, 1:]))
    if single and len(single) < len(contours):
        logger.info("%s: %d contour(s) of the kind POINT have no area and are left out", where, len(single))
    elif single:
        # A marker, which was hardly meant to be segmented.
        for contour in single:
            notes.add(_LEFT_OUT, _height_of_item(contour), "ContourGeometricType POINT surrounds no area")
    return planes, exclusive


def _place(millimetres: np.ndarray, points: np.ndarray, grid: Grid) -> str:
    """Return the slice of a contour, or its height if it is outside all slices."""
    depths = points[:, 0][np.isfinite(points[:, 0])]
    if depths.size and -0.5 - _EDGE <= (depth := float(np.median(depths))) <= len(grid.planes) - 0.5 + _EDGE:
        return _slice_place(min(max(round(depth), 0), len(grid.planes) - 1), grid)
    return _height(millimetres)


def _slice_place(position: int, grid: Grid) -> str:
    return f"slice {position}, z = {grid.planes[position][1].position[2]:g} mm"


def _height(millimetres: np.ndarray) -> str:
    heights = millimetres[:, 2][np.isfinite(millimetres[:, 2])]
    return f"z = {np.median(heights):g} mm" if heights.size else "position unknown"


def _height_of_item(contour: Any) -> str:
    try:
        return _height(contour_points(contour))
    except (OverflowError, TypeError, ValueError):
        return "position unknown"


def _warn_of_thick_slices(slices: list[int], where: str, grid: Grid) -> None:
    steps = np.diff(slices)
    if len(steps) > 1 and float(np.median(steps)) > 1 + GRID_TOLERANCE:
        warnings.warn(
            f"{where} was drawn only on about one in {float(np.median(steps)):.0f} slices of {grid.where}; the slices "
            "between are background. Interpolate the contours before training",
            UserWarning,
            stacklevel=4,
        )
