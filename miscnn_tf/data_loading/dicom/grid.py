"""Planes to a voxel grid: their order, the distance between them, and the affine; or why they make no volume."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from miscnn_tf.data_loading.dicom.distinctions import (
    DISTINCTIONS,
    Distinctions,
    Value,
    is_chosen,
    same_value,
    show_value,
)
from miscnn_tf.data_loading.dicom.header import Header, Plane
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
        placed: Whether the header says where it is in the patient; not so for a radiograph.
    """

    planes: tuple[tuple[Header, Plane], ...]
    shape: tuple[int, int, int]
    affine: np.ndarray
    spacing: np.ndarray
    tilt: float
    placed: bool = True

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


def make_grid(headers: Sequence[Header], *, frames: Mapping[str, Any] | None = None, three_dim: bool = True) -> Grid:
    """The grid of the planes of one series; overview images among them are left out.

    Args:
        headers: The files of the series, in any order.
        frames: Which planes are meant, where several have one place: ``{"DiffusionBValue": 1000}``.
        three_dim: Whether a volume is wanted; if not, an image without a place in the patient (a radiograph) is read.

    Raises:
        DataError: If slices are missing, occur more than once, or do not fit together; the message names files.

    Warns:
        UserWarning: If the gantry was tilted, a slice is there twice in the same copy, or the images were converted by
            another program.
    """
    headers = _without_copies(headers)
    if not three_dim and not any(header.planes for header in headers):
        return _picture(headers, frames)
    headers = _without_captures(headers)
    for header in headers:
        _refuse_other_pixels(header)
        _require_place(header)
    planes = _chosen(headers, frames)
    _refuse_mixed_values([header for header, _ in planes])
    planes = _of_one_kind(planes)
    first_header, first = planes[0]
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
    if any(header.is_converted for header, _ in planes):
        kind = f"modality {first_header.modality}" if first_header.is_other else "Secondary Capture"
        warnings.warn(
            f"{grid.where}: a program made these images, not a scanner ({kind}); their values may not be what the "
            "scanner measured, such as Hounsfield units",
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
        if (other.planes, other.distinctions, other.rows, other.columns) != (
            header.planes,
            header.distinctions,
            header.rows,
            header.columns,
        ):
            raise DataError(
                f"{header.path} and {other.path} have the same SOPInstanceUID, but lie at different places or are "
                "different images: a program (for taking names out, perhaps) has given the images of one series one "
                "name. Export them again"
            )
        copies.append(f"{header.path} is a copy of {other.path}")
    if copies:
        are = "is" if len(copies) == 1 else "are"
        warnings.warn(f"{some_of(copies, 1)} (the same SOPInstanceUID) and {are} left out", UserWarning, stacklevel=4)
    return list(kept.values())


def _without_captures(headers: Sequence[Header]) -> list[Header]:
    """The headers but those without a position that are of another kind than the others, such as a screen capture."""
    placed = [header for header in headers if header.planes]
    kinds = {header.sop_class for header in placed}
    left_out = [header for header in headers if placed and not header.planes and header.sop_class not in kinds]
    if left_out:
        names = some_of((header.path.name for header in left_out), 3)
        warnings.warn(
            f"the series in {placed[0].path.parent}: {names} without a position, and of another kind than the other "
            "images, such as a screen capture; left out",
            UserWarning,
            stacklevel=3,
        )
    return [header for header in headers if header not in left_out]


def _refuse_other_pixels(header: Header) -> None:
    """Refuse a file whose pixels are not one measured value each, at one place each."""
    if header.is_mosaic:
        raise DataError(
            f"{header.path}: a Siemens mosaic (ImageType holds MOSAIC), one image with the slices of a volume as "
            "tiles. Convert the series to NIfTI with dcm2niix, and use that"
        )
    if header.samples != 1:
        raise DataError(
            f"{header.path}: its pixels are colours (SamplesPerPixel {header.samples}, {header.photometric}), but a "
            "scan has one value per pixel. Leave the file out, or save colour pictures as PNG and use the layouts for "
            "images"
        )
    if header.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(
            f"{header.path}: PhotometricInterpretation is {header.photometric or 'missing'}, and only MONOCHROME1 and "
            "MONOCHROME2 are measured values. Leave the file out, or export the original images"
        )


def _require_place(header: Header) -> None:
    """Refuse a file that does not say where its images lie."""
    if len(header.planes) == header.frames:
        return
    if "PerFrameFunctionalGroupsSequence" in header.missing:
        advice = (
            "It is a film (ultrasound, angiography) or an older multi-frame image (nuclear medicine): leave it out, or "
            "convert it to NIfTI with a program that knows such files"
        )
    elif header.frames > 1:
        advice = "Export the series again, or leave the file out"
    else:
        advice = "Leave the file out; or read radiographs and other single images as 2D, with three_dim=False"
    raise DataError(
        f"{header.path}: the header does not say where its {header.frames} image(s) lie in the patient "
        f"({', '.join(header.missing)} missing), and such images make no volume. {advice}"
    )


def _refuse_mixed_values(headers: Sequence[Header]) -> None:
    """Refuse a series whose values have several units, or are rescaled in a part of the files only."""
    where = headers[0].path.parent
    rescaled = next((header for header in headers if header.has_rescale), None)
    stored = next((header for header in headers if not header.has_rescale), None)
    if rescaled and stored:
        raise DataError(
            f"the series in {where} holds values of two kinds: {rescaled.path.name} has RescaleIntercept, and "
            f"{stored.path.name} lacks it. Export the series again, or leave this sample out"
        )
    units = {header.unit: header.path.name for header in headers if header.unit}
    if len(units) > 1:
        found = ", ".join(f"{unit} in {name}" for unit, name in units.items())
        raise DataError(
            f"the series in {where} holds values of several kinds: RescaleType is {found}. Export each kind apart, or "
            "leave this sample out"
        )
    mappings = {mapping for header in headers for mapping in header.real_world}
    if stored and mappings:
        if len(mappings) > 1:
            raise DataError(
                f"the series in {where} holds values of several scales: RealWorldValueMappingSequence differs between "
                "its images, and RescaleSlope is missing. Convert the series to NIfTI with a program that applies it"
            )
        warnings.warn(
            f"the series in {where}: RealWorldValueMappingSequence is not applied; the values are as they are stored",
            UserWarning,
            stacklevel=3,
        )
    if stored and stored.modality == "CT":
        warnings.warn(
            f"{stored.path}: RescaleIntercept is missing, which a CT image must have; the values are taken as they are "
            "stored, and may not be Hounsfield units",
            UserWarning,
            stacklevel=3,
        )


def _chosen(headers: Sequence[Header], frames: Mapping[str, Any] | None) -> list[tuple[Header, Plane]]:
    """The planes that are wanted."""
    planes = [(header, plane) for header in headers for plane in header.planes]
    if any(not plane.localizer for _, plane in planes):
        planes = [(header, plane) for header, plane in planes if not plane.localizer]
    chosen = [(header, plane) for header, plane in planes if is_chosen(plane.distinctions, frames)]
    if not chosen:
        raise _nothing_chosen(headers, frames, [plane.distinctions for _, plane in planes])
    return chosen


def _picture(headers: Sequence[Header], frames: Mapping[str, Any] | None) -> Grid:
    """The grid of an image without a place in the patient, a radiograph; it begins at 0, as ITK has it."""
    if any(not header.is_converted for header in headers):
        headers = [header for header in headers if not header.is_converted]
    chosen = [header for header in headers if is_chosen(header.distinctions, frames)]
    if not chosen:
        raise _nothing_chosen(headers, frames, [header.distinctions for header in headers])
    header = chosen[0]
    if len(chosen) > 1:
        raise DataError(
            f"the series in {header.path.parent} holds {len(chosen)} images "
            f"({some_of((one.path.name for one in chosen), 3)}), and a 2D sample has one. "
            f"{_how_to_choose([one.distinctions for one in chosen])}Put each into a folder of its own, or remove those "
            "that are not meant"
        )
    if header.frames > 1:
        raise DataError(
            f"{header.path}: it holds {header.frames} images, and a 2D sample has one. Save those that are meant as "
            "PNG, and use the layouts for images"
        )
    _refuse_other_pixels(header)
    spacing = header.pixel_spacing
    if spacing is None or min(spacing) <= 0:
        spacing = header.aspect if min(header.aspect) > 0 else (1.0, 1.0)
        warnings.warn(
            f"{header.path}: the header does not say how large a pixel is (PixelSpacing, ImagerPixelSpacing); "
            f"{spacing[0]:g} x {spacing[1]:g} mm is assumed",
            UserWarning,
            stacklevel=3,
        )
    plane = Plane(0, (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), spacing, None, False, header.distinctions)
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = (1.0, spacing[0], spacing[1], 1.0)
    return Grid(
        planes=((header, plane),),
        shape=(1, header.rows, header.columns),
        affine=LPS_TO_RAS @ affine,
        spacing=exact_spacing((1.0, *spacing)),
        tilt=0.0,
        placed=False,
    )


def _of_one_kind(planes: Sequence[tuple[Header, Plane]]) -> list[tuple[Header, Plane]]:
    """The planes, if all have one orientation, size and pixel spacing."""
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
            f"the series in {planes[0][0].path.parent} holds images that do not lie on one grid: {found}. "
            f"{_how_to_choose([plane.distinctions for _, plane in planes])}{_apart(planes, 'kind')}"
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
    here, there = (dict(plane.distinctions) for _, plane in planes[at : at + 2])
    differ = [what for name, what in DISTINCTIONS.items() if not same_value(here.get(name, ()), there.get(name, ()))]
    why = f"they differ in {' and '.join(differ[:2])}: " if differ else ""
    names = [
        f"frame {plane.frame + 1} of {header.path.name}" if header.frames > 1 else header.path.name
        for header, plane in (planes[at], planes[at + 1])
    ]
    return DataError(
        f"the series in {planes[at][0].path.parent} has {count + 1} or more images at the same place, for instance "
        f"{names[0]} and {names[1]} at {depths[at]:.4g} mm; {why}a volume has one. "
        f"{_how_to_choose([plane.distinctions for _, plane in planes])}"
        f"{_apart(planes, 'of them' if differ else 'version')}"
    )


def _apart(planes: Sequence[tuple[Header, Plane]], what: str) -> str:
    """How to part images by hand; what is in one file cannot be moved."""
    if len({header.path for header, _ in planes}) == 1:
        return "Otherwise export the images as separate series"
    return f"Put each {what} into a folder of its own, or remove those that are not meant"


def _how_to_choose(distinctions: Sequence[Distinctions]) -> str:
    """The argument that chooses among images, with the values that they have; empty where nothing tells them apart."""
    values: dict[str, list[Value]] = {}
    for name in DISTINCTIONS:
        for one in distinctions:
            value = dict(one).get(name, ())
            if not any(same_value(value, other) for other in values.setdefault(name, [])):
                values[name].append(value)
    # A time of acquisition that each slice has for itself chooses nothing.
    useful = {name: found for name, found in values.items() if 1 < len(found) <= max(2, len(distinctions) // 2)}
    if not useful:
        return ""
    named = "; ".join(
        f"{name} is {some_of((show_value(value) if value else 'missing' for value in found), 6)}"
        for name, found in list(useful.items())[:3]
    )
    name, found = next(iter(useful.items()))
    example = f'{{"{name}": {show_value(max(found, key=len))}}}'.replace("'", '"')
    return f"Choose one ({named}), e.g. DICOM_interface(frames={example}). "


def _nothing_chosen(
    headers: Sequence[Header], frames: Mapping[str, Any] | None, distinctions: Sequence[Distinctions]
) -> DataError:
    there = {
        name: some_of(sorted({show_value(value) for one in distinctions if (value := dict(one).get(name))}), 8)
        for name in frames or {}
    }
    found = "; ".join(f"{name} is {values}" for name, values in there.items())
    return DataError(
        f"the series in {headers[0].path.parent} has no image that frames={dict(frames or {})!r} matches (found: "
        f"{found}); correct frames, or leave this sample out"
    )
