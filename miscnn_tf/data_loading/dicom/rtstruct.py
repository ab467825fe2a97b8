"""RTSTRUCT: contours in the patient's millimetres to masks on the grid of a series.

The kept library for it, pydicomrt 0.9, was tried and is not used: it draws its contours through the centres of the
outermost pixels, smooths them, and a mask with a hole does not come back as it was (205 of 7126 voxels differ with all
smoothing off); its affines are float32, and it needs OpenCV (190 MB). pydicom holds the data, and what is here is the
geometry.
"""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf.data_loading.dicom.contours import fill_contours
from miscnn_tf.data_loading.dicom.extra import require_dicom
from miscnn_tf.data_loading.dicom.grid import Grid
from miscnn_tf.data_loading.geometry import GRID_TOLERANCE
from miscnn_tf.errors import DataError

logger = logging.getLogger(__name__)

_UNDEFINED = 0xFFFFFFFF
# In slices; the coordinates of one plane may differ in their last digits.
_SAME_PLANE = 0.02
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def read_rtstruct(path: Path) -> Any:
    """Read an RTSTRUCT file as pydicom's dataset.

    Raises:
        DataError: If it is damaged.
    """
    require_dicom()
    import pydicom

    try:
        dataset = pydicom.dcmread(path, force=True)
        _require_whole(dataset)
        # Sequences are parsed when they are looked at: now, so that damage is told with the file's name.
        for item in dataset.ROIContourSequence:
            _ = int(item.get("ReferencedROINumber", -1))
            for contour in item.get("ContourSequence") or ():
                _ = contour.get("ContourGeometricType")
        roi_names(dataset)
    except Exception as error:  # whatever a damaged file can provoke in the parser
        raise DataError(
            f"{path}: the RTSTRUCT is truncated or damaged ({' '.join(str(error).split())}); copy or export it again"
        ) from error
    return dataset


def _require_whole(dataset: Any) -> None:
    """Refuse a file that was cut off: pydicom takes what is there of the last value, and says nothing."""
    from pydicom.dataelem import RawDataElement

    for tag in dataset.keys():  # noqa: SIM118 - iterating over the dataset itself would parse the values
        raw = dataset.get_item(tag)
        if (
            isinstance(raw, RawDataElement)
            and isinstance(raw.value, bytes)
            and len(raw.value) < raw.length < _UNDEFINED
        ):
            raise ValueError(f"it ends within the element {raw.tag}")


def roi_names(dataset: Any) -> dict[int, str]:
    """The names of the ROIs by their numbers."""
    return {int(item.ROINumber): str(item.get("ROIName") or "") for item in dataset.StructureSetROISequence}


def roi_mask(dataset: Any, number: int, grid: Grid, path: Path) -> np.ndarray:
    """The voxels within an ROI.

    Args:
        dataset: What `read_rtstruct` gave.
        number: The ROI's number.
        grid: The grid of the series.
        path: The file, for messages.

    Returns:
        bool ``(slices, rows, columns)``.

    Raises:
        DataError: If a contour does not lie along the slices.

    Warns:
        UserWarning: If contours lie outside the volume or on no slice of it, or slices between contours have none.
    """
    name = roi_names(dataset).get(number, str(number))
    where = f"{path}: the structure {name!r}"
    mask = np.zeros(grid.shape, bool)
    planes: dict[int, list[tuple[float, np.ndarray]]] = {}
    outside = 0
    for points in _closed_contours(dataset, number, grid, where):
        depth = float(points[:, 0].mean())
        if float(np.abs(points[:, 0] - depth).max()) > 0.5:
            raise DataError(
                f"{where} has contours across the slices (over {np.ptp(points[:, 0]) + 1:.1f} of them): it was drawn "
                "on images of another direction. Export it on this series' slices, or as a SEG"
            )
        # Half a slice beyond the middle of the first and the last one, the volume ends.
        if not -0.5 - 1e-3 <= depth <= len(mask) - 0.5 + 1e-3:
            outside += 1
            continue
        # Of contours halfway between the slices each goes to the next one, not all to the even ones.
        nearest = min(max(math.floor(depth + 0.5 + _SAME_PLANE), 0), len(mask) - 1)
        planes.setdefault(nearest, []).append((depth, points[:, 1:]))
    if outside:
        warnings.warn(
            f"{where} has {outside} contour(s) outside {grid.where}; they are left out", UserWarning, stacklevel=3
        )
    skipped = 0
    for position, at in planes.items():
        # Contours of two planes on one slice (drawn on thinner slices) are no holes in each other: the nearer counts.
        chosen = min((depth for depth, _ in at), key=lambda depth: abs(depth - position))
        together = [points for depth, points in at if abs(depth - chosen) < _SAME_PLANE]
        skipped += len(at) - len(together)
        mask[position] = fill_contours(together, grid.shape[1:])
    if skipped:
        warnings.warn(
            f"{where} was drawn on thinner slices than {grid.where} has; of several contours per slice the nearest is "
            "used",
            UserWarning,
            stacklevel=3,
        )
    _warn_of_thick_slices(sorted(planes), where, grid)
    return mask


def _closed_contours(dataset: Any, number: int, grid: Grid, where: str) -> list[np.ndarray]:
    """The closed contours of an ROI as ``(points, 3)`` of slice, row and column."""
    found = []
    ignored: dict[str, int] = {}
    to_index = grid.to_index
    for item in dataset.ROIContourSequence:
        if int(item.get("ReferencedROINumber", -1)) != number:
            continue
        for contour in item.get("ContourSequence") or ():
            kind = str(contour.get("ContourGeometricType", ""))
            if kind not in _CLOSED:
                ignored[kind] = ignored.get(kind, 0) + 1
                continue
            try:
                points = _numbers(contour).reshape(-1, 3)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise DataError(f"{where} has a damaged contour ({error}); export it again") from error
            if len(points) and np.isfinite(points).all():
                found.append(points @ to_index[:3, :3].T + to_index[:3, 3])
    for kind, count in ignored.items():
        logger.info("%s: %d contour(s) of the kind %s surround no area, and are left out", where, count, kind)
    return found


def _numbers(contour: Any) -> np.ndarray:
    """The coordinates of a contour; from the text as it is in the file, as pydicom makes an object of each number."""
    raw = contour.get_item("ContourData")
    text = raw.value
    return np.array(text.split(b"\\") if isinstance(text, bytes) else contour.ContourData, dtype=np.float64)


def _warn_of_thick_slices(slices: list[int], where: str, grid: Grid) -> None:
    steps = np.diff(slices)
    if len(steps) > 1 and float(np.median(steps)) > 1 + GRID_TOLERANCE:
        warnings.warn(
            f"{where} was drawn on one of about {float(np.median(steps)):.0f} slices of {grid.where} only; those "
            "between have none of it. Interpolate the contours before training",
            UserWarning,
            stacklevel=4,
        )
