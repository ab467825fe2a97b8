"""Description of a file format of volumes, and checks that the readers of several formats share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf.data_loading import geometry
from miscnn_tf.data_loading.formats.volume_info import VolumeInfo, VoxelGrid
from miscnn_tf.errors import DataError, MissingDataError

#: Directions of NIfTI's world (right, anterior, superior) in that of DICOM and ITK (left, posterior, superior).
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class VolumeFormat:
    """A file format of volumes.

    Attributes:
        name: Name for messages.
        endings: Endings of the files that are read, in small letters.
        written: Ending of predictions.
        read_info: Reads the header of a file.
        write: Writes an array ``(x, y[, z[, channels]])`` in the geometry of `VolumeInfo.geometry`, atomically.
        recognises: Returns True if a file with one of the endings is a volume; None: all of them are.
        headers: Those of the endings whose voxels are in another file. They are only read, since two files cannot be
            replaced at once.
    """

    name: str
    endings: tuple[str, ...]
    written: str
    read_info: Callable[[Path], VolumeInfo]
    write: Callable[[Path, np.ndarray, Mapping[str, Any]], None]
    recognises: Callable[[Path], bool] | None = None
    headers: tuple[str, ...] = ()


def lps_grid(
    directions: Sequence[Sequence[float]] | np.ndarray, origin: Sequence[float], path: Path, where: str
) -> VoxelGrid:
    """Return the grid of steps in the space of DICOM and ITK (left, posterior, superior).

    Args:
        directions: The step along each axis of the array, mm; two axes get a third one of 1 mm at right angles.
        origin: Position of the first voxel, mm.
        path: The file, for the message.
        where: The fields, for the message.

    Raises:
        DataError: If the steps are not finite, or span no volume.
    """
    steps = np.zeros((3, 3))
    for axis, step in enumerate(directions):
        steps[: len(step), axis] = step
    if len(directions) == 2:
        normal = np.cross(steps[:, 0], steps[:, 1])
        with np.errstate(invalid="ignore", divide="ignore"):
            steps[:, 2] = normal / np.linalg.norm(normal)
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[: len(origin), 3] = origin
    if not geometry.is_usable(affine):
        raise DataError(
            f"{path}: {where} give the steps {np.asarray(directions).tolist()} from {list(origin)}, which are not "
            "finite or span no volume; export the file again"
        )
    return VoxelGrid.of(LPS @ affine)


def lps_affine(facts: Mapping[str, Any], axes: int) -> np.ndarray:
    """Return the affine to write in the space of DICOM and ITK, from the geometry of an image.

    Args:
        facts: The return value of `VolumeInfo.geometry`.
        axes: Number of spatial axes.
    """
    affine = facts.get("affine")
    if affine is not None:
        return LPS @ np.asarray(affine, dtype=np.float64)
    spacing = facts.get("spacing")
    sizes = [1.0] * 3 if spacing is None else [*map(float, spacing), 1.0][:3]
    return np.diag([*sizes[:axes], *[1.0] * (3 - axes), 1.0])


def data_file(path: Path, name: str) -> Path:
    """Return the file of the voxels that a header names, in the header's folder or below.

    Raises:
        DataError: If the name is outside that folder.
        MissingDataError: If the file does not exist.
    """
    relative = Path(name)
    if not name or relative.is_absolute() or ".." in relative.parts or "\0" in name or "\\" in name:
        raise DataError(
            f"{path}: the header names the data file {name!r}, which is not in its folder; move the file there and "
            "correct the header"
        )
    found = path.parent / relative
    if not found.exists():
        raise MissingDataError(f"{path}: the data file {found} does not exist; copy it beside the header")
    return found


def numbers(text: str, path: Path, field: str, count: int | None = None) -> list[float]:
    """Parse numbers that are separated by blanks.

    Raises:
        DataError: If one is not a number, or there are more or fewer than `count`.
    """
    try:
        found = [float(word) for word in text.split()]
    except ValueError:
        found = []
    if not found or (count is not None and len(found) != count):
        wanted = "numbers" if count is None else f"{count} numbers"
        raise DataError(f"{path}: {field} is {text[:80]!r}, but {wanted} are needed; export the file again")
    return found


def whole_numbers(text: str, path: Path, field: str, count: int | None = None, least: int = 1) -> list[int]:
    """Parse whole numbers of at least `least` that are separated by blanks.

    Raises:
        DataError: If they are not.
    """
    found = numbers(text, path, field, count)
    if not all(math.isfinite(value) and value == int(value) and least <= value < 2**53 for value in found):
        raise DataError(
            f"{path}: {field} is {text[:80]!r}, but whole numbers of at least {least} are needed; export the file again"
        )
    return [int(value) for value in found]
