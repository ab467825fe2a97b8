"""Distances between segmented surfaces: HD95, average symmetric surface distance and normalised surface Dice.

Surfaces are defined as in DeepMind's *surface-distance* (Nikolov et al., J. Med. Internet Res. 23(7), 2021,
doi:10.2196/26151). Their elements are at the corners between voxels, if the voxels around a corner are neither all
inside nor all outside. Each has the area in mm² (in 2D: length in mm) that marching cubes gives it (Lorensen & Cline,
SIGGRAPH 1987). All scores are weighted by that area and therefore do not depend on the sampling of an axis, in contrast
to counts of voxels. A mask that is cut off by the border of the image has a surface there. Distances along an axis are
exact; those between slanted or curved surfaces are up to about half a voxel too small, since the elements are on both
sides of the true surface and the nearest one counts (as for border voxels).

DeepMind's own package is not used: its release (0.1) fails on an empty mask with NumPy 2 and sorts Python tuples, which
takes minutes on a CT. The tests compare with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from miscnn_tf._base.arguments import number, spacings
from miscnn_tf.errors import ConfigurationError, DataError

# Corners per slab; a few arrays have this many bytes.
_SLAB_CORNERS = 2**22
# Surfaces of fewer elements than one in so many corners of their box are searched by a k-d tree, in memory and time
# that grow with the surface. Denser ones, as the noise of an untrained network, are faster by a distance transform.
_SPARSE = 20


@dataclass(frozen=True)
class SurfaceDistances:
    """Distance of each surface element to the nearest element of the other surface.

    Args:
        to_pred: Distances from the elements of the truth, mm, ascending, float64; infinite if the prediction is empty.
        to_truth: Distances from the elements of the prediction.
        truth_areas: Areas (3D, mm²) or lengths (2D, mm) of the elements of the truth, in the order of `to_pred`.
        pred_areas: Areas of the elements of the prediction, in the order of `to_truth`.
    """

    to_pred: np.ndarray
    to_truth: np.ndarray
    truth_areas: np.ndarray
    pred_areas: np.ndarray

    def hausdorff(self, percent: float = 95.0) -> float:
        """Return the larger directed `percent` percentile, weighted by area; 100 is the Hausdorff distance.

        MedPy pools both directions, which gives a smaller number if one direction is better.

        Returns:
            mm; infinite if one mask is empty, NaN if both are.
        """
        if not 0 <= number(percent, "percent") <= 100:
            raise ConfigurationError(f"percent={percent!r} must be from 0 to 100")
        if self._empty():
            return self._of_empty(math.inf)
        return max(
            _weighted_percentile(self.to_pred, self.truth_areas, percent),
            _weighted_percentile(self.to_truth, self.pred_areas, percent),
        )

    def average(self) -> float:
        """Return the average symmetric surface distance: the mean over the elements of both, weighted by area.

        Returns:
            mm; infinite if one mask is empty, NaN if both are.
        """
        if self._empty():
            return self._of_empty(math.inf)
        total = self.to_pred @ self.truth_areas + self.to_truth @ self.pred_areas
        return float(total / self._area())

    def surface_dice(self, tolerance: float) -> float:
        """Return the normalised surface Dice: the share of both surfaces within `tolerance` of the other one.

        Args:
            tolerance: mm, 0 or more.

        Returns:
            0 to 1; 0 if one mask is empty, NaN if both are.
        """
        if not 0 <= number(tolerance, "tolerance") < math.inf:
            raise ConfigurationError(f"tolerance={tolerance!r} must be a length in mm, 0 or more")
        if self._empty():
            return self._of_empty(0.0)
        # Three voxels of 0.1 mm are 0.30000000000000004 mm, and still within 0.3 mm.
        limit = tolerance * (1 + 1e-9)
        within = self.truth_areas[self.to_pred <= limit].sum() + self.pred_areas[self.to_truth <= limit].sum()
        return float(within / self._area())

    def _area(self) -> float:
        return float(self.truth_areas.sum() + self.pred_areas.sum())

    def _empty(self) -> bool:
        return not (self.to_pred.size and self.to_truth.size)

    def _of_empty(self, of_one: float) -> float:
        return of_one if self.to_pred.size or self.to_truth.size else math.nan


def surface_distances(truth: np.ndarray, pred: np.ndarray, spacing: Sequence[float]) -> SurfaceDistances:
    """Compute the distances between the surfaces of two masks.

    Args:
        truth: Mask ``(x, y[, z])``, not 0 inside.
        pred: Mask of the same grid.
        spacing: Voxel size in mm, one number per axis.

    Returns:
        The distances, with the scores as methods.

    Raises:
        DataError: If the grids differ, or have neither 2 nor 3 axes.
        ConfigurationError: If `spacing` is not one positive length per axis.

    Example:
        >>> import numpy as np
        >>> truth, pred = np.zeros((2, 20, 20, 20), bool)
        >>> truth[4:10, 4:10, 4:10] = pred[6:12, 4:10, 4:10] = True
        >>> surface_distances(truth, pred, (1.5, 1.0, 1.0)).hausdorff()
        3.0
    """
    truth, pred = np.asarray(truth) != 0, np.asarray(pred) != 0
    return class_surface_distances(truth.view(np.uint8), pred.view(np.uint8), 1, spacing)[0]


def class_surface_distances(
    truth: np.ndarray, pred: np.ndarray, classes: int, spacing: Sequence[float]
) -> list[SurfaceDistances]:
    """Distances between the surfaces of each class of two label maps, but those of the background.

    Only the bounding box of a class is looked at, in slabs, and only its surface elements are kept; the nearest ones
    are found in a k-d tree. Beside the label maps, memory grows with the surfaces (about 150 bytes per element), not
    with the volume; only where a surface fills its box, as noise does, is it 20 bytes per voxel of the box.

    Args:
        truth: Label map ``(x, y[, z])`` of integers; not checked, `dice.class_counts` does that.
        pred: Label map of the same grid.
        classes: The highest label that is measured.
        spacing: Voxel size in mm, one number per axis.

    Returns:
        The distances of the labels 1 to `classes`.

    Raises:
        DataError: If the grids differ, or have neither 2 nor 3 axes.
        ConfigurationError: If `spacing` is not one positive length per axis.
    """
    lengths = spacings(spacing, "spacing")
    if truth.shape != pred.shape or truth.ndim not in (2, 3):
        raise DataError(
            f"truth has the shape {truth.shape}, pred {pred.shape}: surfaces are those of 2D or 3D masks on one grid. "
            "Resample one of them, or take off axes of length 1"
        )
    if len(lengths) != truth.ndim:
        raise ConfigurationError(
            f"spacing={tuple(spacing)} has {len(lengths)} lengths, but the label maps {truth.ndim} axes"
        )
    # The order of the axes changes no distance, and memory is read from front to back (NIfTI is in Fortran order).
    order = sorted(range(truth.ndim), key=lambda axis: -abs(truth.strides[axis]))
    truth, pred = truth.transpose(order), pred.transpose(order)
    lengths = tuple(lengths[axis] for axis in order)
    pairs = zip(_boxes(truth, classes), _boxes(pred, classes), strict=True)
    return [
        _distances(_elements(truth, label, truth_box), _elements(pred, label, pred_box), truth.shape, lengths)
        for label, (truth_box, pred_box) in enumerate(pairs, start=1)
    ]


Box = tuple[slice, ...]
# Flat numbers of corners in the grid of all corners, ascending, int64; and how the voxels around each are set, uint8.
Elements = tuple[np.ndarray, np.ndarray]
# The same corners as one array of whole numbers per axis.
Places = tuple[np.ndarray, ...]


def _boxes(labels: np.ndarray, classes: int) -> list[Box | None]:
    if labels.size == 0:
        return [None] * classes
    return list(ndimage.find_objects(labels, max_label=classes))


def _elements(labels: np.ndarray, label: int, box: Box | None) -> Elements:
    """Return the corners with the surface of a label."""
    if box is None:
        return np.empty(0, np.int64), np.empty(0, np.uint8)
    inside = labels[box]
    corners = tuple(size + 1 for size in inside.shape)
    full = 2**2**labels.ndim - 1
    rows = max(1, _SLAB_CORNERS // math.prod(corners[1:]))
    numbers, codes = [], []
    for first in range(0, corners[0], rows):
        last = min(first + rows, corners[0])
        # The voxels on both sides of these corners, with a rim that is outside.
        around = np.zeros((last - first + 1, *(size + 1 for size in corners[1:])), np.uint8)
        low, high = max(first - 1, 0), min(last, inside.shape[0])
        target = (slice(low - first + 1, high - first + 1), *(slice(1, -1),) * (labels.ndim - 1))
        np.equal(inside[low:high], label, out=around[target].view(bool))
        code = np.zeros(tuple(size - 1 for size in around.shape), np.uint8)
        for bit, offset in enumerate(_neighbours(labels.ndim)):
            window = around[tuple(slice(start, start + size) for start, size in zip(offset, code.shape, strict=True))]
            code |= window << np.uint8(bit)
        found = np.flatnonzero((code != 0) & (code != full))
        places = np.unravel_index(found, code.shape)
        starts = (first + box[0].start, *(part.start for part in box[1:]))
        grid = tuple(size + 1 for size in labels.shape)
        absolute = tuple(place + start for place, start in zip(places, starts, strict=True))
        numbers.append(np.ravel_multi_index(absolute, grid).astype(np.int64, copy=False))
        codes.append(code.ravel()[found])
    return np.concatenate(numbers), np.concatenate(codes)


def _distances(truth: Elements, pred: Elements, shape: tuple[int, ...], spacing: tuple[float, ...]) -> SurfaceDistances:
    areas = element_areas(spacing)
    to_pred, truth_areas = _sorted(_nearest(truth[0], pred[0], shape, spacing), areas[truth[1]])
    to_truth, pred_areas = _sorted(_nearest(pred[0], truth[0], shape, spacing), areas[pred[1]])
    return SurfaceDistances(to_pred, to_truth, truth_areas, pred_areas)


def _nearest(start: np.ndarray, goal: np.ndarray, shape: tuple[int, ...], spacing: tuple[float, ...]) -> np.ndarray:
    """Return the distance in mm from each corner to the nearest of others."""
    distances = np.zeros(start.size)
    if not goal.size:
        distances.fill(np.inf)
        return distances
    # Good segmentations share most of their surface; only the rest is searched.
    apart = np.flatnonzero(goal[np.minimum(np.searchsorted(goal, start), goal.size - 1)] != start)
    if apart.size:
        starts, goals = _places(start[apart], shape), _places(goal, shape)
        low = [min(int(a.min()), int(b.min())) for a, b in zip(starts, goals, strict=True)]
        size = [max(int(a.max()), int(b.max())) - c + 1 for a, b, c in zip(starts, goals, low, strict=True)]
        dense = (apart.size + goal.size) * _SPARSE > math.prod(size)
        distances[apart] = (_by_transform if dense else _by_tree)(starts, goals, low, size, spacing)
    return distances


def _by_tree(
    starts: Places, goals: Places, low: Sequence[int], size: Sequence[int], spacing: tuple[float, ...]
) -> np.ndarray:
    # Without balancing, points on a regular grid are found several times faster.
    tree = cKDTree(_points(goals, spacing), balanced_tree=False, compact_nodes=False)
    return tree.query(_points(starts, spacing), workers=-1)[0]


def _by_transform(
    starts: Places, goals: Places, low: Sequence[int], size: Sequence[int], spacing: tuple[float, ...]
) -> np.ndarray:
    local = tuple(place - least for place, least in zip(starts, low, strict=True))
    free = np.ones(size, bool)
    free[tuple(place - least for place, least in zip(goals, low, strict=True))] = False
    # The indices of the nearest corners need a quarter of the memory of the distances.
    nearest = ndimage.distance_transform_edt(free, sampling=spacing, return_distances=False, return_indices=True)
    squared = np.zeros(local[0].size)
    for place, goal, length in zip(local, nearest, spacing, strict=True):
        squared += ((goal[local] - place) * length) ** 2
    return np.sqrt(squared)


def _places(numbers: np.ndarray, shape: tuple[int, ...]) -> Places:
    return np.unravel_index(numbers, tuple(size + 1 for size in shape))


def _points(places: Places, spacing: tuple[float, ...]) -> np.ndarray:
    points = np.empty((places[0].size, len(places)))
    for axis, place in enumerate(places):
        np.multiply(place, spacing[axis], out=points[:, axis])
    return points


def _sorted(distances: np.ndarray, areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(distances, kind="stable")
    return distances[order], areas[order]


def _weighted_percentile(distances: np.ndarray, areas: np.ndarray, percent: float) -> float:
    share = np.cumsum(areas)
    position = int(np.searchsorted(share, percent / 100 * share[-1]))
    return float(distances[min(position, distances.size - 1)])


def _neighbours(ndim: int) -> list[tuple[int, ...]]:
    """Return the voxels around a corner, in the order of their bits."""
    return list(product((0, 1), repeat=ndim))


@lru_cache(maxsize=64)
def element_areas(spacing: tuple[float, ...]) -> np.ndarray:
    """Return the area (2D: length) of the surface element for each combination of the voxels around a corner.

    Bit b of the index is set if the voxel ``list(itertools.product((0, 1), repeat=ndim))[b]`` is inside.

    Args:
        spacing: Voxel size in mm per axis, 2 or 3.

    Returns:
        Float64, 16 or 256 numbers in mm or mm²; 0 for all outside and all inside. The array is shared and read-only.
    """
    ndim = len(spacing)
    neighbours = _neighbours(ndim)
    areas = np.zeros(2 ** len(neighbours))
    for code in range(1, len(areas) - 1):
        inside = [place for bit, place in enumerate(neighbours) if code >> bit & 1]
        if 2 * len(inside) > len(neighbours):
            # A surface has one area from both sides, and marching cubes cuts off the smaller part.
            inside = [place for place in neighbours if place not in inside]
        areas[code] = _contour_length(inside, spacing) if ndim == 2 else _triangle_area(inside, spacing)
    areas.flags.writeable = False
    return areas


def _contour_length(inside: Sequence[tuple[int, ...]], spacing: tuple[float, ...]) -> float:
    diagonal = math.hypot(*spacing)
    if len(inside) == 1:
        return diagonal / 2
    along = [axis for axis in (0, 1) if inside[0][axis] != inside[1][axis]]
    return diagonal if len(along) == 2 else spacing[along[0]]


def _triangle_area(inside: Sequence[tuple[int, ...]], spacing: tuple[float, ...]) -> float:
    from skimage.measure import marching_cubes  # slow to import

    cube = np.zeros((2, 2, 2), np.float32)
    cube[tuple(np.transpose(inside))] = 1
    points, triangles, _, _ = marching_cubes(cube, 0.5, method="lorensen")
    corners = (points.astype(np.float64) * spacing)[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float(np.linalg.norm(normals, axis=1).sum() / 2)
