"""Base class of the headers of volumes in all file formats, and voxel grids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf.data_loading import geometry


@dataclass(frozen=True)
class VoxelGrid:
    """Voxel grid in millimetres.

    Attributes:
        affine: 4x4, voxel to millimetres in NIfTI's world (right, anterior, superior); None if the format does not
            store it.
        spacing: Voxel size of the three spatial axes, mm; None if it is unknown.
    """

    affine: np.ndarray | None
    spacing: np.ndarray | None

    @classmethod
    def of(cls, affine: np.ndarray) -> VoxelGrid:
        """Return the grid of an affine; its spacing is the length of the columns."""
        return cls(affine, geometry.spacing_of(affine))

    def facts(self) -> dict[str, Any]:
        """Return what the writer of a format needs, as plain data and arrays."""
        known = {"affine": self.affine, "spacing": self.spacing}
        return {name: value.copy() for name, value in known.items() if value is not None}


@dataclass(frozen=True)
class VolumeInfo(ABC):
    """Header of a volume, or of an image of two axes in the same format.

    Attributes:
        path: The file.
        shape: Shape of the array that `read` returns, ``(x, y[, z[, channels]])``.
        grid: Voxel grid.
    """

    path: Path
    shape: tuple[int, ...]
    grid: VoxelGrid

    @property
    @abstractmethod
    def dtype(self) -> np.dtype:
        """Type of the array that `read` returns: the file's integer type, otherwise float32."""

    @abstractmethod
    def check(self) -> None:
        """Check that the file holds as much data as its header declares, without keeping them in memory.

        Raises:
            DataError: If it does not.
        """

    @abstractmethod
    def read(self) -> np.ndarray:
        """Read the voxels into an array of `shape` and `dtype`, in Fortran order.

        Raises:
            DataError: If the file is truncated or damaged.
        """

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the volume."""
        return (self.path,)

    @property
    def affine(self) -> np.ndarray | None:
        """Matrix from voxels to millimetres, 4x4; None if the format does not store it."""
        return self.grid.affine

    @property
    def spacing(self) -> np.ndarray | None:
        """Voxel size of the three spatial axes, mm; None if it is unknown."""
        return self.grid.spacing

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Number of voxels along three axes, without channels."""
        return (*self.shape, 1, 1)[:3]

    def geometry(self) -> dict[str, Any]:
        """Return what the writer of a format needs, as plain data and arrays."""
        return self.grid.facts()

    def form(self) -> tuple[int, bool]:
        """Return the number of channels, and whether the image is a volume."""
        channels = self.shape[3] if len(self.shape) > 3 else 1
        return channels, len(self.shape) > 2 and self.shape[2] > 1
