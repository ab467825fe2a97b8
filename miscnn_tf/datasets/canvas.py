"""A fine grid in patient millimetres to paint tissues on, which is averaged to the grid of a scan.

Shapes are painted over one another on a grid with `OVERSAMPLING` times as many voxels per axis as the scan. The
averaging causes a partial volume effect: a voxel on the border of two tissues has a value between theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.ndimage import zoom

from miscnn_tf.datasets.scan_grid import Region, Vector, apply_affine, fine_affine

#: Fine voxels per voxel and axis: 8 in each voxel.
OVERSAMPLING = 2
AIR = -1000.0


class Canvas:
    """Hounsfield units and labels on a fine grid, with the patient coordinates of every fine voxel.

    Args:
        shape: Shape of the scan in voxels, three axes.
        affine: 4x4, voxel index of the scan to patient mm (right, anterior, superior).
        rng: Generator for the smooth deformation of the anatomy and its texture.
        deformation: Amplitude of the deformation in mm.

    Attributes:
        hounsfield: float32, fine grid, initially air.
        labels: uint8, fine grid, initially 0.
        blocked: bool, fine grid; True for bone, muscle and everything outside the cavity, where organs are not painted.
        points: float32 ``(3, *fine)``, position of each fine voxel in the undeformed anatomy, mm.
        texture: float32, fine grid, smooth noise of standard deviation 1.
    """

    def __init__(
        self, shape: Sequence[int], affine: np.ndarray, rng: np.random.Generator, deformation: float = 5.0
    ) -> None:
        fine = tuple(int(size) * OVERSAMPLING for size in shape)
        self.shape = tuple(int(size) for size in shape)
        self.margin = 2 * deformation
        self._to_index = np.linalg.inv(fine_affine(affine, OVERSAMPLING))
        self.points = _deformed_points(fine, np.linalg.inv(self._to_index), rng, deformation)
        self.hounsfield = np.full(fine, AIR, np.float32)
        self.labels = np.zeros(fine, np.uint8)
        self.blocked = np.zeros(fine, bool)
        # A wavelength of about 8 mm for any voxel size.
        millimetres = np.abs(np.linalg.inv(self._to_index)[:3, :3]).max(axis=0) * np.array(fine)
        coarse = [max(3, round(size / 8.0)) for size in millimetres]
        self.texture = _upscale(rng.standard_normal(coarse).astype(np.float32), fine) * 1.6

    @property
    def everywhere(self) -> Region:
        """Region of the whole grid."""
        return tuple(slice(0, size) for size in self.labels.shape)

    def region(self, centre: Vector, radius: float) -> Region | None:
        """Return the region of a ball, with a margin for the deformation; None if it is outside the grid."""
        reach = radius + self.margin
        middle = apply_affine(self._to_index, np.asarray(centre, float))
        half = np.linalg.norm(self._to_index[:3, :3], axis=1) * reach
        start = np.maximum(np.floor(middle - half).astype(int), 0)
        stop = np.minimum(np.ceil(middle + half).astype(int) + 1, self.labels.shape)
        if np.any(start >= stop):
            return None
        return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))

    def local(self, region: Region, centre: Vector, axes: np.ndarray | None = None) -> np.ndarray:
        """Return coordinates ``(3, *region)`` in mm from `centre`, along the rows of `axes` (default: patient axes)."""
        points = self.points[(slice(None), *region)]
        flat = points.reshape(3, -1)
        centred = flat - np.asarray(centre, np.float32)[:, np.newaxis]
        if axes is not None:
            centred = np.asarray(axes, np.float32) @ centred
        return centred.reshape(points.shape)

    def paint(
        self,
        region: Region,
        mask: np.ndarray,
        value: float,
        *,
        unevenness: float = 0.0,
        label: int | None = None,
        organ: bool = True,
        over: int | None = None,
    ) -> None:
        """Paint a tissue over existing ones.

        Args:
            region: Region of `mask`.
            mask: bool, shape of the region.
            value: Hounsfield units.
            unevenness: Standard deviation of the tissue's texture, HU.
            label: Class to write, or None to leave the labels as they are.
            organ: Do not paint over `blocked` voxels.
            over: Paint over voxels of this class only.
        """
        if organ:
            mask = mask & ~self.blocked[region]
        if over is not None:
            mask = mask & (self.labels[region] == over)
        tissue = np.float32(value)
        if unevenness:
            tissue = tissue + np.float32(unevenness) * self.texture[region][mask]
        self.hounsfield[region][mask] = tissue
        if label is not None:
            self.labels[region][mask] = label

    def ellipsoid(
        self,
        centre: Vector,
        radii: Vector,
        value: float,
        axes: np.ndarray | None = None,
        *,
        bumps: float = 0.0,
        **how: Any,
    ) -> None:
        """Paint an ellipsoid with `radii` in mm along the rows of `axes`; `bumps` is its relative roughness."""
        region = self.region(centre, max(radii) * (1 + 2 * bumps))
        if region is None:
            return
        local = self.local(region, centre, axes) / np.asarray(radii, np.float32)[:, np.newaxis, np.newaxis, np.newaxis]
        squared = np.einsum("i...,i...->...", local, local)
        if bumps:
            squared = squared * (1 + np.float32(2 * bumps) * np.clip(self.texture[region], -2, 2))
        self.paint(region, squared < 1, value, **how)

    def tube(self, path: np.ndarray, radius: float | Vector, value: float, **how: Any) -> None:
        """Paint a tube along `path`, points ``(n, 3)`` in mm, with one radius or one per point."""
        radii = np.broadcast_to(np.asarray(radius, float), (len(path),))
        for start, stop, wide, narrow in zip(path[:-1], path[1:], radii[:-1], radii[1:], strict=True):
            axis = stop - start
            length = float(np.linalg.norm(axis))
            region = self.region((start + stop) / 2, length / 2 + max(wide, narrow))
            if region is None:
                continue
            local = self.local(region, start)
            along = np.clip(np.tensordot(axis / max(length, 1e-6) ** 2, local, axes=1), 0, 1).astype(np.float32)
            away = local - axis.astype(np.float32)[:, np.newaxis, np.newaxis, np.newaxis] * along
            reach = np.float32(wide) + np.float32(narrow - wide) * along
            self.paint(region, np.einsum("i...,i...->...", away, away) < reach**2, value, **how)

    def develop(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the scan: mean Hounsfield units (float32) and the most frequent labels (uint8)."""
        n = OVERSAMPLING
        blocks = tuple(part for size in self.shape for part in (size, n))
        image = self.hounsfield.reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float32)
        parts = self.labels.reshape(blocks)
        labels = np.zeros(self.shape, np.uint8)
        most = np.count_nonzero(parts == 0, axis=(1, 3, 5)).astype(np.int8)
        for label in range(1, int(self.labels.max()) + 1):
            count = np.count_nonzero(parts == label, axis=(1, 3, 5)).astype(np.int8)
            # If two labels are equally frequent, the higher one is used.
            wins = (count > 0) & (count >= most)
            labels[wins] = label
            most = np.maximum(most, count)
        return image, labels


def _upscale(coarse: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    factors = [target / size for target, size in zip(shape, coarse.shape, strict=True)]
    return zoom(coarse, factors, order=1, mode="nearest", grid_mode=False)


def _deformed_points(
    shape: Sequence[int], affine: np.ndarray, rng: np.random.Generator, amplitude: float
) -> np.ndarray:
    """Return patient coordinates of every fine voxel, deformed by a few long waves; float32 ``(3, *shape)``."""
    # Affine coordinates are linear and the waves are long, so that interpolation of a coarse grid is exact enough.
    lattice = [min(size, max(2, size // 6)) for size in shape]
    ticks = [np.linspace(0, size - 1, count) for size, count in zip(shape, lattice, strict=True)]
    points = apply_affine(affine, np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1))
    moved = points.copy()
    for axis in range(3):
        for _ in range(3):
            direction = rng.standard_normal(3)
            direction *= 2 * np.pi / rng.uniform(120, 260) / np.linalg.norm(direction)
            wave = np.sin(points @ direction + rng.uniform(0, 2 * np.pi))
            moved[..., axis] += amplitude / 3 * rng.uniform(0.5, 1.0) * wave
    return np.stack([_upscale(moved[..., axis].astype(np.float32), shape) for axis in range(3)])
