"""Choice of slices, orientation and grey levels in figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from scipy import ndimage


def window_levels(image: np.ndarray) -> tuple[float, float]:
    """Return the values to show as black and white: percentiles, which are robust to outliers such as metal.

    Args:
        image: Any array; values that are not finite are ignored.

    Returns:
        Two different numbers, in ascending order, also for a constant image.
    """
    # A million voxels are enough for percentiles.
    values = image.reshape(-1)[:: max(1, image.size // 2**20)]
    if values.dtype == bool:
        values = values.astype(np.uint8)  # numpy does not compute percentiles of bool
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    black, white = (float(value) for value in np.percentile(values, [0.5, 99.5]))
    return (black, white) if white > black else (black, black + 1.0)


def displayed(image: np.ndarray, axes: int) -> tuple[np.ndarray, bool]:
    """Return the channels of an image that are shown, and True for colour images.

    Args:
        image: Array ``(x, y[, z])`` or ``(x, y[, z], channels)``.
        axes: Number of spatial axes, 2 or 3.

    Returns:
        The first channel without its axis, and False; the whole of a 2D image with three channels, and True.
    """
    if image.ndim == axes:
        return image, False
    colour = axes == 2 and image.shape[-1] == 3
    return (image if colour else image[..., 0]), colour


def interesting_slices(maps: Sequence[np.ndarray], count: int = 3) -> list[int]:
    """Return informative slices of the first axis, with distances between them, in ascending order.

    The score of a slice is the sum over the classes of the area in it relative to the largest area in any slice, so
    that small structures count as much as large ones. Slices are chosen by score, with a minimum distance between them.

    Args:
        maps: Label maps ``(slices, rows, columns)`` of one shape.
        count: Maximum number of slices.

    Returns:
        At least one slice; the middle one if all maps are empty.

    Example:
        >>> labels = np.zeros((9, 4, 4), np.uint8)
        >>> labels[5, :2] = 1
        >>> interesting_slices([labels])
        [5]
    """
    interest = np.zeros(maps[0].shape[0])
    for labels in maps:
        for number in range(1, int(labels.max(initial=0)) + 1):
            area = (labels == number).sum(axis=(1, 2), dtype=np.int64)
            interest += area / max(1, area.max())
    filled = np.flatnonzero(interest)
    if not filled.size:
        return [len(interest) // 2]
    order = np.argsort(-interest, kind="stable")
    return spaced(order[interest[order] > 0], max(1, int(filled[-1] - filled[0] + 1) // (count + 1)), count)


def spaced(order: np.ndarray, apart: int, count: int) -> list[int]:
    """Return the first `count` positions of `order` that are at least `apart` from each other, in ascending order."""
    chosen: list[int] = []
    for position in order.tolist():
        if len(chosen) < count and all(abs(position - other) >= apart for other in chosen):
            chosen.append(position)
    return sorted(chosen)


@dataclass(frozen=True)
class View:
    """Orientation of an array as a stack ``(slices, rows downwards, columns rightwards)``.

    Attributes:
        axes: The array's axes in that order.
        flips: Axes that are reversed.
        slices: Number of slices.
        row_mm: Distance of rows in mm.
        column_mm: Distance of columns in mm.
    """

    axes: tuple[int, ...]
    flips: tuple[bool, ...]
    slices: int
    row_mm: float
    column_mm: float

    @classmethod
    def of(cls, shape: tuple[int, ...], spacing: Sequence[float], affine: np.ndarray | None) -> View:
        """Return the view of an array ``(x, y[, z])``, in radiological convention if it has an affine.

        Args:
            shape: Its spatial shape.
            spacing: Voxel size per axis in mm.
            affine: Array ``(4, 4)`` from voxels to mm in RAS+ world coordinates. Without one, slices are perpendicular
                to the axis of the largest spacing.
        """
        if len(shape) == 2:
            return cls((0, 1), (False, False), 1, float(spacing[0]), float(spacing[1]))
        if affine is not None:
            # Slices from the feet up, rows to the back, columns to the patient's left.
            orientation = nib.orientations.io_orientation(np.asarray(affine, float))
            wanted = [(2, 1), (1, -1), (0, -1)]
            axes = tuple(int(np.flatnonzero(orientation[:, 0] == world)[0]) for world, _ in wanted)
            flips = tuple(bool(orientation[axis, 1] != sign) for axis, (_, sign) in zip(axes, wanted, strict=True))
        else:
            across = max(range(3), key=lambda axis: (round(float(spacing[axis]), 3), axis))
            # Slices first, as in DICOM and KiTS: rows and columns as stored. Otherwise as in NIfTI: the second axis
            # points up.
            axes, flips = (
                ((0, 1, 2), (False, False, False)) if across == 0 else ((across, 3 - across, 0), (False, True, False))
            )
        return cls(axes, flips, shape[axes[0]], float(spacing[axes[1]]), float(spacing[axes[2]]))

    def turn(self, array: np.ndarray) -> np.ndarray:
        """Return an array ``(x, y[, z][, channels])`` as a stack, ``(1, …)`` for a 2D image."""
        rest = tuple(range(len(self.axes), array.ndim))
        turned = array.transpose((*self.axes, *rest))[
            tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        ]
        return turned if len(self.axes) == 3 else turned[np.newaxis]

    def number(self, position: int) -> int:
        """Return the index of a slice in the original array."""
        return self.slices - 1 - position if self.flips[0] else position


def close_up(marked: np.ndarray, view: View) -> tuple[slice, slice]:
    """Return rows and columns of a square around marked voxels, three times as large, within the image."""
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    if not rows.size:
        return slice(None), slice(None)
    millimetres = (view.row_mm, view.column_mm)
    sides = [(found[-1] - found[0] + 1) * mm for found, mm in zip((rows, columns), millimetres, strict=True)]
    # A minimum size, for structures of a few voxels.
    half = max(1.5 * max(sides), 16 * max(millimetres))
    spans = []
    for found, mm in zip((rows, columns), millimetres, strict=True):
        centre = (found[0] + found[-1] + 1) / 2
        spans.append(slice(max(0, int(centre - half / mm)), int(np.ceil(centre + half / mm))))
    return spans[0], spans[1]


def levels_around(image: np.ndarray, marked: np.ndarray) -> tuple[float, float]:
    """Return grey levels for marked voxels and their surroundings, without air and metal elsewhere."""
    if not marked.any():
        return window_levels(image)
    rim = max(2, round(float(np.sqrt(marked.sum(axis=(1, 2)).max())) / 5))
    near = image[ndimage.maximum_filter(marked, size=(1, 2 * rim + 1, 2 * rim + 1))]
    near = near[np.isfinite(near)].astype(np.float32)
    if not near.size or near.min() == near.max():
        return window_levels(image)
    least, tenth, ninetieth, most = (float(value) for value in np.percentile(near, [0.5, 10, 90, 99.5]))
    room = 0.75 * (ninetieth - tenth)
    black, white = max(least, tenth - room), min(most, ninetieth + room)
    return (black, white) if white > black else window_levels(image)


def hide_frame(axes: Axes) -> None:
    """Remove the ticks and the frame of axes."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
