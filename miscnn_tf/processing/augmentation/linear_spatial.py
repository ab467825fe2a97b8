"""Rotation and scaling with linear interpolation, as nnU-Net transforms its patches.

The position of each voxel of the result, relative to the centre of the patch, is scaled and rotated, and the image is
interpolated there. A scale above 1 makes structures smaller.

Labels follow batchgeneratorsv2's ``SpatialTransform``: the label with the largest interpolated share wins, and the
nearest one if shares are equal. Labels that nearest-neighbour interpolation would make jagged get smooth borders.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

#: batchgeneratorsv2 compares shares in thousandths, as float16: shares that differ by less than 0.0005 are equal.
SHARES = 1000


@dataclass(frozen=True)
class LinearSpatial:
    """A rotation and scaling with its drawn values.

    Args:
        patch_shape: Shape of the result, ``(x, y[, z])``.
        angles: Rotation in radians: around x, y and z in 3D; one angle in 2D and within slices; empty for no rotation.
        scale: Factor of all axes that are transformed.
        slices_along: The axis across the slices, along which voxels keep their positions; None to transform all axes.

    Example:
        >>> turn = LinearSpatial((32, 32), angles=(0.1,))
        >>> start, shape = turn.region()
        >>> turn.image(np.zeros((*shape, 1), np.float32)).shape
        (32, 32, 1)
    """

    patch_shape: tuple[int, ...]
    angles: tuple[float, ...] = ()
    scale: float = 1.0
    slices_along: int | None = None

    @property
    def matrix(self) -> np.ndarray:
        """Matrix of rotation and scaling, ``(axes, axes)``, from positions in the result to those in the image.

        It is ``Rx @ Ry @ Rz * scale``, nnU-Net's ``Rz @ Ry @ Rx`` of its reversed axes, with the angles negated.
        """
        turned = [axis for axis in range(len(self.patch_shape)) if axis != self.slices_along]
        matrix = np.eye(len(self.patch_shape))
        # The plane of each angle, its axes in the order of the rotation: around x, y and z.
        planes = [turned] if len(turned) == 2 else [[1, 2], [2, 0], [0, 1]]
        for angle, (first, second) in zip(self.angles, planes, strict=False):
            rotation = np.eye(len(self.patch_shape))
            rotation[first, first] = rotation[second, second] = math.cos(angle)
            rotation[first, second], rotation[second, first] = -math.sin(angle), math.sin(angle)
            matrix = matrix @ rotation
        matrix[:, turned] *= self.scale
        return matrix

    def region(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the location of the voxels that the transform reads: start relative to the patch's first voxel, shape.

        The start is negative where that region begins before the patch, positive where less than the patch is needed.
        """
        centre = (np.array(self.patch_shape) - 1) / 2
        reach = np.abs(self.matrix) @ centre
        # One voxel more, because rounding may move a position to just beyond the outermost voxel.
        start = np.floor(centre - reach).astype(int) - 1
        stop = np.ceil(centre + reach).astype(int) + 2
        return tuple(start.tolist()), tuple((stop - start).tolist())

    def image(self, region: np.ndarray) -> np.ndarray:
        """Interpolate an image.

        Args:
            region: The voxels of `region`, ``(x, y[, z], channels)``.

        Returns:
            A new float32 array ``(*patch_shape, channels)``.
        """
        result = np.empty((*self.patch_shape, region.shape[-1]), np.float32)
        for channel in range(region.shape[-1]):
            self._sample(np.asarray(region[..., channel], np.float32), result[..., channel], order=1)
        return result

    def labels(self, region: np.ndarray) -> np.ndarray:
        """Take the label with the largest interpolated share.

        Args:
            region: The voxels of `region`, ``(x, y[, z])``, integers.

        Returns:
            A new array ``patch_shape`` of the same dtype.
        """
        result = np.empty(self.patch_shape, region.dtype)
        self._sample(region, result, order=0)
        # All voxels that are interpolated are neighbours of the nearest one. Shares need to be computed only where the
        # nearest one has a neighbour of another label.
        edge = np.empty(self.patch_shape, np.uint8)
        self._sample((_extreme(region, np.maximum) != _extreme(region, np.minimum)).view(np.uint8), edge, order=0)
        places = np.nonzero(edge)
        if len(places[0]):
            result[places] = self._largest_share(region, np.stack(places), result[places])
        return result

    def _largest_share(self, region: np.ndarray, places: np.ndarray, nearest: np.ndarray) -> np.ndarray:
        """Return the labels at the voxels ``places (axes, count)`` of the result."""
        positions = self.matrix @ places + self._offset()[:, np.newaxis]
        below = np.floor(positions).astype(np.intp)
        above = positions - below
        corners, weights = [], []
        for corner in itertools.product((0, 1), repeat=len(below)):
            step = np.array(corner)[:, np.newaxis]
            inside = np.minimum(below + step, np.array(region.shape)[:, np.newaxis] - 1)
            corners.append(region[tuple(inside)])
            weights.append(np.where(step, above, 1 - above).prod(axis=0))
        best, share, nearest_share = (
            nearest.copy(),
            np.zeros(len(nearest), np.float16),
            np.zeros_like(nearest, np.float16),
        )
        for label in np.unique(corners):
            score = sum(weight * (found == label) for found, weight in zip(corners, weights, strict=True))
            score = (SHARES * score).astype(np.float16)
            better = score > share
            best[better], share[better] = label, score[better]
            own = nearest == label
            nearest_share[own] = score[own]
        return np.where(nearest_share == share, nearest, best)

    def _offset(self) -> np.ndarray:
        start, _ = self.region()
        centre = (np.array(self.patch_shape) - 1) / 2
        return np.asarray(centre - start - self.matrix @ centre)

    def _sample(self, region: np.ndarray, result: np.ndarray, order: int) -> None:
        # The region includes all that is sampled, so that the mode of continuation has no effect.
        ndimage.affine_transform(
            region,
            self.matrix,
            self._offset(),
            self.patch_shape,
            output=result,
            order=order,
            prefilter=False,
            mode="nearest",
        )


def _extreme(labels: np.ndarray, choose: np.ufunc) -> np.ndarray:
    """Return the maximum or minimum of each voxel and its neighbours, diagonal ones included."""
    result = labels.copy()
    for axis in range(labels.ndim):
        before = np.moveaxis(result, axis, 0)
        given = before.copy()
        choose(before[1:], given[:-1], out=before[1:])
        choose(before[:-1], given[1:], out=before[:-1])
    return result
