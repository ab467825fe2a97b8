"""Planes to a voxel grid: their order, the distance between them, and the affine; or why they make no volume."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from miscnn_tf.data_loading.dicom.header import DISTINCTIONS, Header, Plane
from miscnn_tf.data_loading.geometry import GRID_TOLERANCE, exact_spacing
from miscnn_tf.errors import DataError
from miscnn_tf.messages import some_of

logger = logging.getLogger(__name__)

#: DICOM's millimetres run to the left, to posterior and to superior, ours to the right, anterior and superior.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Directions are written with few digits; a hundredth of a degree is none.
_SAME_DIRECTION = 2e-3
# An obvious tilt; below it, positions are inexact.
_LEAST_TILT = 0.1
_SAME_PLACE = 1e-3


@dataclass(frozen=True)
class Grid:
    """The voxel grid of a series.

    Attributes:
        planes: File and plane of each slice, in the array's order.
        shape: Slices, rows, columns.
        affine: 4x4, index ``(slice, row, column)`` to mm (right, anterior, superior).
        spacing: Distance of the slices, of the rows and of the columns, mm.
        tilt: By how much the slices are sheared against each other (a tilted gantry), degrees.
    """

    planes: tuple[tuple[Header, Plane], ...]
    shape: tuple[int, int, int]
    affine: np.ndarray
    spacing: np.ndarray
    tilt: float

    @property
    def to_index(self) -> np.ndarray:
        """4x4, DICOM's mm to ``(slice, row, column)``."""
        return np.linalg.inv(LPS_TO_RAS @ self.affine)

    @property
    def files(self) -> list[str]:
        """The files, in the order in which their first plane comes."""
        return list(dict.fromkeys(str(header.path) for header, _ in self.planes))

    @property
    def where(self) -> str:
        """The series, for messages."""
        return f"the series in {self.planes[0][0].path.parent}"


def make_grid(headers: Sequence[Header]) -> Grid:
    """The grid of the planes of one series; overview images among them are left out.

    Args:
        headers: The files of the series, in any order.

    Raises:
        DataError: If slices are missing, occur more than once, or do not fit together; the message names files.

    Warns:
        UserWarning: If the gantry was tilted, or a slice lies there twice in the same copy.
    """
    planes = _of_one_kind(_without_copies(headers))
    first = planes[0][1]
    row, column = (np.array(first.orientation[part], float) for part in (slice(0, 3), slice(3, 6)))
    normal = np.cross(row, column)
    if not (_unit(row) and _unit(column) and _unit(normal)):
        raise DataError(
            f"{planes[0][0].path}: ImageOrientationPatient {list(first.orientation)} is not two directions at right "
            "angles; correct the header, or export the series again"
        )
    planes.sort(key=lambda pair: float(normal @ pair[1].position))
    places = np.array([plane.position for _, plane in planes])
    depths = places @ normal
    step, distance = _step(planes, places, depths, normal)
    tilt = math.degrees(math.atan2(float(np.linalg.norm(step - distance * normal)), distance))
    affine = np.eye(4)
    affine[:3, :3] = np.stack([step, column * first.spacing[0], row * first.spacing[1]], axis=1)
    affine[:3, 3] = places[0]
    grid = Grid(
        planes=tuple(planes),
        shape=(len(planes), planes[0][0].rows, planes[0][0].columns),
        affine=LPS_TO_RAS @ affine,
        spacing=exact_spacing((distance, *first.spacing)),
        tilt=tilt,
    )
    if tilt > _LEAST_TILT:
        warnings.warn(
            f"{grid.where}: the gantry was tilted by {tilt:.1f} degrees, and its slices are shifted against each "
            "other. The voxels are read as they are, and the affine says where they lie. Viewers built on ITK "
            'refuse a NIfTI label map on such a grid: write predictions as prediction_format="seg" or "rtstruct", or '
            "resample the series",
            UserWarning,
            stacklevel=2,
        )
    return grid


def _unit(vector: np.ndarray) -> bool:
    return abs(float(np.linalg.norm(vector)) - 1) < _SAME_DIRECTION


def _without_copies(headers: Sequence[Header]) -> list[Header]:
    """One file of each SOPInstanceUID."""
    kept: dict[str, Header] = {}
    copies = []
    for header in sorted(headers, key=lambda one: str(one.path)):
        other = kept.setdefault(header.sop_instance or str(header.path), header)
        if other is header:
            continue
        if other.planes != header.planes:
            raise DataError(
                f"{header.path} and {other.path} have the same SOPInstanceUID, but lie at different places: a program "
                "(for taking names out, perhaps) has given the images of one series one name. Export them again"
            )
        copies.append(f"{header.path} is a copy of {other.path}")
    if copies:
        are = "is" if len(copies) == 1 else "are"
        warnings.warn(f"{some_of(copies, 1)} (the same SOPInstanceUID) and {are} left out", UserWarning, stacklevel=4)
    return list(kept.values())


def _of_one_kind(headers: Sequence[Header]) -> list[tuple[Header, Plane]]:
    """The planes, if all have one orientation, size and pixel spacing; overview images are left out."""
    for header in headers:
        if len(header.planes) != header.frames:
            raise DataError(
                f"{header.path}: the header does not say where its {header.frames} image(s) lie in the patient "
                "(ImagePositionPatient, ImageOrientationPatient, PixelSpacing); such files make no volume. Leave them "
                "out, or export the series again as CT or MR"
            )
        if header.samples != 1:
            raise DataError(
                f"{header.path}: its pixels are colours ({header.samples} values each), but a scan has one value per "
                "pixel; export the series as CT or MR"
            )
    planes = [(header, plane) for header in headers for plane in header.planes]
    if any(not plane.localizer for _, plane in planes):
        planes = [(header, plane) for header, plane in planes if not plane.localizer]
    kinds: list[list[tuple[Header, Plane]]] = []
    for header, plane in planes:
        for kind in kinds:
            other_header, other = kind[0]
            if (header.rows, header.columns) == (other_header.rows, other_header.columns) and (
                (plane.orientation, plane.spacing) == (other.orientation, other.spacing)  # mostly, and at once
                or (
                    np.allclose(plane.orientation, other.orientation, atol=_SAME_DIRECTION)
                    and np.allclose(plane.spacing, other.spacing, rtol=1e-3)
                )
            ):
                kind.append((header, plane))
                break
        else:
            kinds.append([(header, plane)])
    if len(kinds) > 1:
        found = "; ".join(
            f"{len(kind)} of {kind[0][0].rows} x {kind[0][0].columns} pixels of "
            f"{kind[0][1].spacing[0]:g} x {kind[0][1].spacing[1]:g} mm, such as {kind[0][0].path.name}, "
            f"directions {[round(value, 3) for value in kind[0][1].orientation]}"
            for kind in kinds
        )
        raise DataError(
            f"the series in {headers[0].path.parent} holds images that do not lie on one grid: {found}. Put each kind "
            "into a folder of its own, or remove those that are not meant"
        )
    return kinds[0]


def _step(
    planes: list[tuple[Header, Plane]], places: np.ndarray, depths: np.ndarray, normal: np.ndarray
) -> tuple[np.ndarray, float]:
    """The way from one slice to the next, and its part along the normal; mm."""
    where = planes[0][0].path.parent
    if len(planes) == 1:
        thickness = planes[0][1].thickness or 1.0
        return normal * thickness, thickness
    steps = np.diff(depths)
    apart = steps[steps > _SAME_PLACE]
    typical = float(np.median(apart)) if apart.size else math.inf
    twice = np.flatnonzero(steps < GRID_TOLERANCE * typical)
    if twice.size:
        raise _repeated(planes, depths, int(twice[0]), len(twice))
    # What has to be even are the places themselves: steps of 1.2 and 1.3 mm are 1.25 mm, rounded.
    even = depths[0] + (depths[-1] - depths[0]) * np.arange(len(depths)) / (len(depths) - 1)
    wide = np.flatnonzero(steps > 1.5 * typical)
    if wide.size:
        gaps = [
            f"{round(steps[at] / typical) - 1} between {planes[at][0].path.name} and {planes[at + 1][0].path.name} "
            f"({steps[at]:.4g} mm)"
            for at in wide
        ]
        raise DataError(
            f"the series in {where} has gaps: its slices lie {typical:.4g} mm apart, and are missing: "
            f"{some_of(gaps, 3)}. Copy or export the missing files, or leave this sample out"
        )
    distance = float(depths[-1] - depths[0]) / (len(depths) - 1)
    if float(np.max(np.abs(depths - even))) > GRID_TOLERANCE * distance:
        raise DataError(
            f"the series in {where} has slices at uneven distances, {steps.min():.4g} to {steps.max():.4g} mm; a "
            "volume needs even ones. Resample it, or leave this sample out"
        )
    step = (places[-1] - places[0]) / (len(places) - 1)
    straight = places[0] + np.arange(len(places))[:, np.newaxis] * step
    astray = np.linalg.norm(places - straight, axis=1)
    allowed = GRID_TOLERANCE * max(min(planes[0][1].spacing), distance)
    if float(astray.max()) > allowed:
        worst = planes[int(np.argmax(astray))][0].path
        raise DataError(
            f"the series in {where}: {worst.name} lies {astray.max():.3g} mm beside the line of the other slices; the "
            "table or the patient moved, or two acquisitions are mixed. Export them apart"
        )
    sideways = step - float(step @ normal) * normal
    if float(np.linalg.norm(sideways)) * (len(places) - 1) <= allowed:
        # Rounded positions, no tilt.
        step = normal * distance
    return step, distance


def _repeated(planes: list[tuple[Header, Plane]], depths: np.ndarray, at: int, count: int) -> DataError:
    first, second = planes[at][0], planes[at + 1][0]
    differ = [
        what
        for name, what in DISTINCTIONS.items()
        if dict(first.distinctions).get(name) != dict(second.distinctions).get(name)
    ]
    why = f"they differ in {' and '.join(differ[:2])}: " if differ else ""
    return DataError(
        f"the series in {first.path.parent} has {count + 1} or more images at the same place, for instance "
        f"{first.path.name} and {second.path.name} at {depths[at]:.4g} mm; {why}a volume has one. Put each "
        f"{'of them' if differ else 'version'} into a folder of its own, or remove those that are not meant"
    )
