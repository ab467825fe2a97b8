"""DICOM SEG: the segments of a file as masks on the grid of a series."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf.data_loading.dicom.extra import require_dicom
from miscnn_tf.data_loading.dicom.grid import LPS_TO_RAS, Grid
from miscnn_tf.data_loading.dicom.header import Plane, read_header
from miscnn_tf.data_loading.geometry import GRID_TOLERANCE
from miscnn_tf.errors import DataError


def read_seg(path: Path) -> Any:
    """Read a SEG file as highdicom's `Segmentation`.

    Raises:
        DataError: If it is damaged.
    """
    require_dicom()
    import highdicom

    try:
        return highdicom.seg.segread(path)
    except Exception as error:  # whatever a damaged file can provoke in the parser
        raise DataError(
            f"{path}: the SEG is truncated or damaged ({' '.join(str(error).split())}); copy or export it again"
        ) from error


def segment_names(segmentation: Any) -> dict[int, str]:
    """The labels of the segments by their numbers."""
    return {int(item.SegmentNumber): str(item.get("SegmentLabel") or "") for item in segmentation.SegmentSequence}


def segment_masks(
    segmentation: Any, grid: Grid, path: Path, wanted: Collection[int] | None = None
) -> dict[int, np.ndarray]:
    """The voxels of segments.

    The frames of the file are put where they lie in the patient, whatever their order and direction; places that it
    does not hold are outside all segments. Of a fractional segment, at least half counts.

    Args:
        segmentation: What `read_seg` gave.
        grid: The grid of the series.
        path: The file, for messages.
        wanted: Numbers of the segments; None for all. Each takes as much memory as a volume of bytes, and files of
            a hundred segments are usual.

    Returns:
        bool ``(slices, rows, columns)`` of each segment number.

    Raises:
        DataError: If its voxels are not those of the grid, or the pixels are damaged.

    Warns:
        UserWarning: If a part of it lies outside the grid.
    """
    header = read_header(path)
    assert header is not None
    planes = header.planes
    if len(planes) != header.frames:
        raise DataError(
            f"{path}: the SEG does not say where its {header.frames} frames lie in the patient; export it again"
        )
    try:
        frames = np.asarray(segmentation.pixel_array).reshape(-1, header.rows, header.columns)
        numbers = _segment_numbers(segmentation, header.frames)
    except Exception as error:  # whatever damaged pixels can provoke in the decoders
        raise DataError(
            f"{path}: the SEG is truncated or damaged ({' '.join(str(error).split())}); copy or export it again"
        ) from error
    kind = str(segmentation.SegmentationType)
    half = float(segmentation.get("MaximumFractionalValue") or 1) / 2 if kind == "FRACTIONAL" else 0.5
    masks = {
        number: np.zeros(grid.shape, bool)
        for number in segment_names(segmentation)
        if wanted is None or number in wanted
    }
    lost = 0
    for frame, plane, number in zip(frames, planes, numbers, strict=True):
        labels = np.unique(frame[frame > 0]).tolist() if number is None else [number]
        for label in labels:
            inside = frame == label if number is None else frame >= half
            if label in masks and inside.any():
                lost += _place(masks[label], inside, plane, grid, path)
    if lost:
        warnings.warn(f"{path}: {lost} voxels lie outside {grid.where} and are left out", UserWarning, stacklevel=3)
    return masks


def _segment_numbers(segmentation: Any, frames: int) -> list[int | None]:
    """The segment of each frame; None where the pixels say it (a label map)."""
    if str(segmentation.SegmentationType) == "LABELMAP":
        return [None] * frames
    shared = list(segmentation.get("SharedFunctionalGroupsSequence") or ())
    numbers: list[int | None] = []
    for item in segmentation.PerFrameFunctionalGroupsSequence:
        group = next(one for one in [item, *shared] if one.get("SegmentIdentificationSequence"))
        numbers.append(int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber))
    return numbers


def _place(mask: np.ndarray, inside: np.ndarray, plane: Plane, grid: Grid, path: Path) -> int:
    """Set the voxels of a frame, and return how many lie outside the grid."""
    corner, down, along = _in_grid(plane, grid)
    rows, columns = np.nonzero(inside)
    places = corner + rows[:, np.newaxis] * down + columns[:, np.newaxis] * along
    index = np.rint(places)
    if float(np.abs(places - index).max()) > GRID_TOLERANCE or not _whole_steps(down, along):
        raise DataError(
            f"{path}: the voxels of the SEG are not those of {grid.where} (its frame {plane.frame} lies "
            f"{np.abs(places - index).max():.2g} voxels beside them). Resample it to the series with nearest-neighbour "
            "interpolation"
        )
    index = index.astype(int)
    within = ((index >= 0) & (index < grid.shape)).all(axis=1)
    mask[tuple(index[within].T)] = True
    return int(np.count_nonzero(~within))


def _in_grid(plane: Plane, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First pixel, step to the next row and step to the next column of a frame, in voxels of the grid."""
    inverse = np.linalg.inv(LPS_TO_RAS @ grid.affine)
    corner = inverse[:3, :3] @ plane.position + inverse[:3, 3]
    down = inverse[:3, :3] @ (np.array(plane.orientation[3:]) * plane.spacing[0])
    along = inverse[:3, :3] @ (np.array(plane.orientation[:3]) * plane.spacing[1])
    return corner, down, along


def _whole_steps(down: np.ndarray, along: np.ndarray) -> bool:
    """Whether a pixel further in the frame is a voxel further in the grid."""
    steps = np.abs(np.stack([down, along]))
    return bool(np.allclose(steps, np.rint(steps), atol=0.02) and (np.rint(steps).sum(axis=1) == 1).all())
