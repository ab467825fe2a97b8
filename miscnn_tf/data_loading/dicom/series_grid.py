"""Construction of a voxel grid from image planes: order, slice distance and affine."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from miscnn_tf._base.messages import some_of
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

logger = logging.getLogger(__name__)

#: DICOM's millimetres run to the left, to posterior and to superior, ours to the right, anterior and superior.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Directions are written with few digits; a hundredth of a degree is within rounding.
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
        placed: Whether the header gives its position in the patient; False for a radiograph.
    """

    planes: tuple[tuple[Header, Plane], ...]
    shape: tuple[int, int, int]
    affine: np.ndarray
    spacing: np.ndarray
    tilt: float
    placed: bool = True

    @property
    def to_index(self) -> np.ndarray:
        """Matrix from DICOM's mm to ``(slice, row, column)``, 4x4."""
        return np.linalg.inv(LPS_TO_RAS @ self.affine)

    @property
    def files(self) -> list[str]:
        """Files, in the order of their first plane."""
        return list(dict.fromkeys(str(header.path) for header, _ in self.planes))

    @property
    def where(self) -> str:
        """Name of the series, for messages."""
        return f"the series in {self.planes[0][0].path.parent}"


def make_grid(headers: Sequence[Header], *, frames: Mapping[str, Any] | None = None, three_dim: bool = True) -> Grid:
    """Build the grid of the planes of one series; overview images are left out.

    Args:
        headers: The files of the series, in any order.
        frames: Planes to select if several have the same position: ``{"DiffusionBValue": 1000}``.
        three_dim: Whether to read a volume, or else an image without a position in the patient (a radiograph).

    Raises:
        DataError: If slices are missing, occur more than once, or do not fit together; the message names files.

    Warns:
        UserWarning: If the gantry was tilted, a slice is present in several identical copies, or the images were
            converted by another program.
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
            f"{planes[0][0].path}: ImageOrientationPatient {list(first.orientation)} is not two orthogonal unit "
            "vectors; correct the header, or export the series again"
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
            "other. The voxels are read as stored, with a sheared affine. Viewers built on ITK "
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
    """Keep one file of each SOPInstanceUID."""
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
                f"{header.path} and {other.path} have the same SOPInstanceUID, but different positions or "
                "content; possibly an anonymisation program has given all images of the series one UID. Export the "
                "series again"
            )
        copies.append(f"{header.path} is a copy of {other.path}")
    if copies:
        are = "is" if len(copies) == 1 else "are"
        warnings.warn(f"{some_of(copies, 1)} (the same SOPInstanceUID) and {are} left out", UserWarning, stacklevel=4)
    return list(kept.values())


def _without_captures(headers: Sequence[Header]) -> list[Header]:
    """Leave out headers without a position that are of another kind than the others, such as a screen capture."""
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
    """Refuse a file whose pixels are not one measured value each, at one position each."""
    if header.is_mosaic:
        raise DataError(
            f"{header.path}: Siemens mosaics (ImageType holds MOSAIC), in which one image holds the slices of a volume "
            "as tiles, cannot be read. Convert the series to NIfTI with dcm2niix"
        )
    if header.samples != 1:
        raise DataError(
            f"{header.path}: the pixels are colours (SamplesPerPixel {header.samples}, {header.photometric}), but a "
            "scan has one value per pixel. Leave the file out, or save colour images as PNG and use the layouts for "
            "images"
        )
    if header.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(
            f"{header.path}: PhotometricInterpretation is {header.photometric or 'missing'}, but only MONOCHROME1 and "
            "MONOCHROME2 are supported. Leave the file out, or export the original images"
        )


def _require_place(header: Header) -> None:
    """Refuse a file without the position of its images."""
    if len(header.planes) == header.frames:
        return
    if "PerFrameFunctionalGroupsSequence" in header.missing:
        advice = (
            "It is a cine series (ultrasound, angiography) or an older multi-frame image (nuclear medicine): leave it "
            "out, or convert it to NIfTI with a program that supports such files"
        )
    elif header.frames > 1:
        advice = "Export the series again, or leave the file out"
    else:
        advice = "Leave the file out; or read radiographs and other single images as 2D, with three_dim=False"
    raise DataError(
        f"{header.path}: the header lacks the position of its {header.frames} image(s) in the patient "
        f"({', '.join(header.missing)} missing), which a volume needs. {advice}"
    )


def _refuse_mixed_values(headers: Sequence[Header]) -> None:
    """Refuse a series whose values have several units, or are rescaled only in some of the files."""
    where = headers[0].path.parent
    rescaled = next((header for header in headers if header.has_rescale), None)
    stored = next((header for header in headers if not header.has_rescale), None)
    if rescaled and stored:
        raise DataError(
            f"the series in {where} mixes rescaled and stored values: {rescaled.path.name} has RescaleIntercept, but "
            f"{stored.path.name} lacks it. Export the series again, or leave this sample out"
        )
    units = {header.unit: header.path.name for header in headers if header.unit}
    if len(units) > 1:
        found = ", ".join(f"{unit} in {name}" for unit, name in units.items())
        raise DataError(
            f"the series in {where} mixes units: RescaleType is {found}. Export each unit as a separate series, or "
            "leave this sample out"
        )
    mappings = {mapping for header in headers for mapping in header.real_world}
    if stored and mappings:
        if len(mappings) > 1:
            raise DataError(
                f"the series in {where} mixes scales: RealWorldValueMappingSequence differs between "
                "its images, and RescaleSlope is missing. Convert the series to NIfTI with a program that applies it"
            )
        warnings.warn(
            f"the series in {where}: RealWorldValueMappingSequence is not applied; the stored values are used",
            UserWarning,
            stacklevel=3,
        )
    if stored and stored.modality == "CT":
        warnings.warn(
            f"{stored.path}: RescaleIntercept is missing, which a CT image must have; the stored values are used, "
            "which may not be Hounsfield units",
            UserWarning,
            stacklevel=3,
        )


def _chosen(headers: Sequence[Header], frames: Mapping[str, Any] | None) -> list[tuple[Header, Plane]]:
    """Return the planes that match ``frames``."""
    planes = [(header, plane) for header in headers for plane in header.planes]
    if any(not plane.localizer for _, plane in planes):
        planes = [(header, plane) for header, plane in planes if not plane.localizer]
    chosen = [(header, plane) for header, plane in planes if is_chosen(plane.distinctions, frames)]
    if not chosen:
        raise _nothing_chosen(headers, frames, [plane.distinctions for _, plane in planes])
    return chosen


def _picture(headers: Sequence[Header], frames: Mapping[str, Any] | None) -> Grid:
    """Build the grid of an image without a position in the patient, a radiograph; its origin is 0, as in ITK."""
    if any(not header.is_converted for header in headers):
        headers = [header for header in headers if not header.is_converted]
    chosen = [header for header in headers if is_chosen(header.distinctions, frames)]
    if not chosen:
        raise _nothing_chosen(headers, frames, [header.distinctions for header in headers])
    header = chosen[0]
    if len(chosen) > 1:
        raise DataError(
            f"the series in {header.path.parent} holds {len(chosen)} images "
            f"({some_of((one.path.name for one in chosen), 3)}), but a 2D sample has one. "
            f"{_how_to_choose([one.distinctions for one in chosen])}Put each into a separate folder, or remove the "
            "others"
        )
    if header.frames > 1:
        raise DataError(
            f"{header.path}: the file holds {header.frames} images, but a 2D sample has one. Save the wanted ones as "
            "PNG, and use the layouts for images"
        )
    _refuse_other_pixels(header)
    spacing = header.pixel_spacing
    if spacing is None or min(spacing) <= 0:
        spacing = header.aspect if min(header.aspect) > 0 else (1.0, 1.0)
        warnings.warn(
            f"{header.path}: the header lacks the pixel size (PixelSpacing, ImagerPixelSpacing); "
            f"assuming {spacing[0]:g} x {spacing[1]:g} mm",
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
    """Return the planes, if all have the same orientation, size and pixel spacing."""
    kinds: list[list[tuple[Header, Plane]]] = []
    for header, plane in planes:
        for kind in kinds:
            other_header, other = kind[0]
            if (header.rows, header.columns) == (other_header.rows, other_header.columns) and (
                (plane.orientation, plane.spacing) == (other.orientation, other.spacing)  # usually, and fast
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
            f"the series in {planes[0][0].path.parent} holds images on different grids: {found}. "
            f"{_how_to_choose([plane.distinctions for _, plane in planes])}{_apart(planes, 'kind')}"
        )
    return kinds[0]


def _step(
    planes: list[tuple[Header, Plane]], places: np.ndarray, depths: np.ndarray, normal: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the step from one slice to the next, and its component along the normal; mm."""
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
    # Check the positions, not the steps: rounded steps of 1.2 and 1.3 mm are even ones of 1.25 mm.
    even = depths[0] + (depths[-1] - depths[0]) * np.arange(len(depths)) / (len(depths) - 1)
    wide = np.flatnonzero(steps > 1.5 * typical)
    if wide.size:
        gaps = [
            f"{round(steps[at] / typical) - 1} between {planes[at][0].path.name} and {planes[at + 1][0].path.name} "
            f"({steps[at]:.4g} mm)"
            for at in wide
        ]
        raise DataError(
            f"the series in {where} has gaps: its slices are {typical:.4g} mm apart, but some are missing: "
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
            f"the series in {where}: {worst.name} is {astray.max():.3g} mm off the line of the other slices; the "
            "table or the patient moved, or two acquisitions are mixed. Export them separately"
        )
    sideways = step - float(step @ normal) * normal
    if float(np.linalg.norm(sideways)) * (len(places) - 1) <= allowed:
        # Rounded positions, not a tilt.
        step = normal * distance
    return step, distance


def _repeated(planes: list[tuple[Header, Plane]], depths: np.ndarray, at: int, count: int) -> DataError:
    here, there = (dict(plane.distinctions) for _, plane in planes[at : at + 2])
    differ = [what for name, what in DISTINCTIONS.items() if not same_value(here.get(name, ()), there.get(name, ()))]
    why = f"which differ in {' and '.join(differ[:2])}; " if differ else ""
    names = [
        f"frame {plane.frame + 1} of {header.path.name}" if header.frames > 1 else header.path.name
        for header, plane in (planes[at], planes[at + 1])
    ]
    return DataError(
        f"the series in {planes[at][0].path.parent} has {count + 1} or more images at the same position, for instance "
        f"{names[0]} and {names[1]} at {depths[at]:.4g} mm, {why}a volume has one. "
        f"{_how_to_choose([plane.distinctions for _, plane in planes])}"
        f"{_apart(planes, 'of them' if differ else 'version')}"
    )


def _apart(planes: Sequence[tuple[Header, Plane]], what: str) -> str:
    """Return the advice how to separate images by hand."""
    if len({header.path for header, _ in planes}) == 1:
        return "Otherwise export the images as separate series"
    return f"Put each {what} into a separate folder, or remove the others"


def _how_to_choose(distinctions: Sequence[Distinctions]) -> str:
    """Return the advice which argument selects among images, with its values; empty if they do not differ."""
    values: dict[str, list[Value]] = {}
    for name in DISTINCTIONS:
        for one in distinctions:
            value = dict(one).get(name, ())
            if not any(same_value(value, other) for other in values.setdefault(name, [])):
                values[name].append(value)
    # An acquisition time that differs for each slice cannot select a volume.
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
        f"the series in {headers[0].path.parent} has no image that matches frames={dict(frames or {})!r} (found: "
        f"{found}); correct frames, or leave this sample out"
    )
