"""Scan grids of phantoms: orientations, voxel sizes and rotations as affines, in patient mm; and smooth fields."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from miscnn_tf.errors import ConfigurationError

#: Region of a volume, one slice per axis.
Region = tuple[slice, ...]
#: A point, radii or a voxel size.
Vector = Sequence[float] | np.ndarray

_DIRECTIONS = {
    "R": (1, 0, 0),
    "L": (-1, 0, 0),
    "A": (0, 1, 0),
    "P": (0, -1, 0),
    "S": (0, 0, 1),
    "I": (0, 0, -1),
}


def orientation_matrix(orientation: str) -> np.ndarray:
    """Return the 3x3 signed permutation of an orientation code, one letter per stored axis.

    Args:
        orientation: Direction of each axis, as in nibabel's ``aff2axcodes``. KiTS19 is ``"IPL"``: the first axis runs
            down through the slices, the second to the back, the third to the patient's left.

    Raises:
        ConfigurationError: If it is not one letter each of R/L, A/P and S/I.

    Example:
        >>> orientation_matrix("IPL").tolist()
        [[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]]
    """
    code = str(orientation).upper()
    known = len(code) == 3 and all(letter in _DIRECTIONS for letter in code)
    matrix = np.array([_DIRECTIONS[letter] for letter in code], float).T if known else np.zeros((3, 3))
    if abs(np.linalg.det(matrix)) != 1:
        raise ConfigurationError(
            f"orientation must be one letter each of R/L, A/P and S/I, such as 'IPL' (KiTS19) or 'RAS', got "
            f"{orientation!r}"
        )
    return matrix


def axis_rotation(axis: int, degrees: float) -> np.ndarray:
    """Return the 3x3 rotation by `degrees` about one of the three axes.

    Example:
        >>> axis_rotation(2, 90).round().tolist()
        [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = cosine
    matrix[second, first], matrix[first, second] = sine, -sine
    return matrix


def centred_affine(shape: Sequence[int], directions: np.ndarray, spacing: Vector) -> np.ndarray:
    """Return the affine of a grid centred at the origin: columns of `directions` (3x3) times `spacing` (mm)."""
    affine = np.eye(4)
    affine[:3, :3] = directions * np.asarray(spacing, float)
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape, float) - 1) / 2)
    return affine


def fine_affine(affine: np.ndarray, factor: int) -> np.ndarray:
    """Return the affine of the grid with each voxel divided into `factor` voxels per axis."""
    fine = np.array(affine, float)
    fine[:3, :3] /= factor
    fine[:3, 3] = apply_affine(affine, np.full(3, 0.5 / factor - 0.5))
    return fine


def apply_affine(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map `points`, shape ``(..., 3)``, by a 4x4 affine."""
    return points @ affine[:3, :3].T + affine[:3, 3]


def smooth_field(points: np.ndarray, rng: np.random.Generator, wavelength: float, waves: int = 8) -> np.ndarray:
    """Evaluate a smooth random function, a sum of waves, at points; it does not depend on their density.

    Args:
        points: ``(axes, ...)`` coordinates, in mm or pixels; 2 or 3 axes.
        rng: Generator for the function.
        wavelength: Typical length of a bump, in the unit of `points`.
        waves: Number of sine waves, of 0.7 to 1.4 times this length.

    Returns:
        float32 of shape ``points.shape[1:]``, mean about 0 and standard deviation about 1, at most ``sqrt(2 * waves)``
        from 0.

    Example:
        >>> points = np.indices((4, 5)).astype("float32")
        >>> smooth_field(points, np.random.default_rng(0), wavelength=10).shape
        (4, 5)
    """
    axes = len(points)
    flat = points.reshape(axes, -1).astype(np.float32)
    total = np.zeros(flat.shape[1], np.float32)
    for _ in range(waves):
        direction = rng.standard_normal(axes)
        direction *= 2 * np.pi / (wavelength * rng.uniform(0.7, 1.4) * np.linalg.norm(direction))
        total += np.sin(direction.astype(np.float32) @ flat + np.float32(rng.uniform(0, 2 * np.pi)))
    return (total * np.float32(np.sqrt(2 / waves))).reshape(points.shape[1:])
