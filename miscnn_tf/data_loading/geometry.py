"""Geometry of voxel grids: affine, spacing, orientation, and the grids after resampling.

An affine is the 4x4 matrix that maps the index of a voxel centre to millimetres,
``(x, y, z) = affine @ (i, j, k, 1)``, in NIfTI's world (right, anterior, superior). Its first three columns are the
steps along the array's axes; the length of a step is the spacing. The axes of the array need not be those of the
world.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nibabel.orientations import aff2axcodes

#: Grids that differ by less than this share of a voxel are equal: qforms in float32 are that inexact.
GRID_TOLERANCE = 0.1

# A voxel that lacks less than a thousandth counts: headers hold spacings as float32, so that 100 voxels of "0.7" mm
# are 99.9999983 of 0.7 mm, and a spacing computed from an oblique affine is off by a millionth or so.
_COMPLETE_VOXEL = 1e-3


def spacing_of(affine: np.ndarray) -> np.ndarray:
    """Return the voxel size along each array axis, for any orientation: the length of each column of the affine.

    Args:
        affine: 4x4 matrix.

    Returns:
        float64 array of shape (3,), mm.

    Example:
        >>> import numpy as np
        >>> turned = np.array([[0, 0, 3, 0], [0.8, 0, 0, 0], [0, 0.8, 0, 0], [0, 0, 0, 1.0]])
        >>> spacing_of(turned).tolist()
        [0.8, 0.8, 3.0]
    """
    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    return exact_spacing(np.sqrt(np.sum(columns**2, axis=0)))


def exact_spacing(spacing: Sequence[float] | np.ndarray) -> np.ndarray:
    """Remove the rounding noise of float32 from a spacing: 0.699999988 becomes 0.7.

    Headers keep float32, which has seven digits; six are kept here. Without it, 100 voxels of 0.7 mm resampled to 0.7
    mm would be rounded down to 99.
    """
    return np.array([float(f"{float(value):.6g}") for value in spacing])


def axis_codes(affine: np.ndarray) -> str:
    """Return the directions of the array axes, one letter each: ``"RAS"`` for right, anterior, superior.

    An oblique axis gets the direction that it is closest to; an axis without length gets ``"?"``.
    """
    return "".join(code or "?" for code in aff2axcodes(np.asarray(affine, dtype=np.float64)))


def orientation_of(extended: Mapping[str, Any], three_dim: bool) -> str | None:
    """Return the directions of the axes of a volume from the metadata of its file, or None if they are unknown."""
    affine = extended.get("affine")
    if affine is None or not three_dim or not is_usable(np.asarray(affine)):
        return None
    return axis_codes(np.asarray(affine))


def is_usable(affine: np.ndarray) -> bool:
    """Return True if the affine is finite and spans a volume."""
    affine = np.asarray(affine, dtype=np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        return False
    with np.errstate(over="ignore", under="ignore"):
        spacing = np.sqrt(np.sum(affine[:3, :3] ** 2, axis=0))
    return bool(
        (spacing > 0).all() and np.isfinite(spacing).all() and abs(np.linalg.det(affine[:3, :3] / spacing)) > 1e-6
    )


def grid_difference(
    shape: Sequence[int],
    affine: np.ndarray,
    other_shape: Sequence[int],
    other_affine: np.ndarray,
    tolerance: float = GRID_TOLERANCE,
) -> str | None:
    """Describe how two voxel grids differ.

    The distance between corresponding corner voxels is compared, not the matrices' entries: a small
    rotation moves the far corner of a large volume by much.

    Args:
        shape: Spatial shape of the first grid (3 axes, or 2, in the plane of the first two).
        affine: Its 4x4 affine.
        other_shape: Spatial shape of the second grid.
        other_affine: Its 4x4 affine.
        tolerance: Largest distance that is not a difference, as a share of the smallest voxel size.

    Returns:
        A description such as ``"spacing (1, 1, 3) mm against (1, 1, 2.5) mm"``, or None if the grids are the same.

    Example:
        >>> import numpy as np
        >>> grid_difference((4, 5, 6), np.eye(4), (4, 5, 7), np.eye(4))
        'shape (4, 5, 6) against (4, 5, 7)'
    """
    found: list[str] = []
    first, second = np.asarray(affine, dtype=np.float64), np.asarray(other_affine, dtype=np.float64)
    if tuple(shape) != tuple(other_shape):
        found.append(f"shape {_listed(shape)} against {_listed(other_shape)}")
    spacings = spacing_of(first), spacing_of(second)
    # Grids of different shapes lack common corners; compare at those of the smaller one.
    limits = [min(pair) - 1 for pair in zip(shape, other_shape, strict=False)][:3]
    limits += [0] * (3 - len(limits))
    corners = np.array(np.meshgrid(*[(0, limit) for limit in limits], [1])).reshape(4, -1)
    apart = float(np.max(np.linalg.norm((first - second)[:3] @ corners, axis=0)))
    allowed = tolerance * float(min(spacings[0].min(), spacings[1].min()))
    if not apart <= allowed:
        found.extend(_affine_differences(first, second, spacings, allowed) or [f"voxels up to {apart:.4g} mm apart"])
    return "; ".join(found) or None


def _affine_differences(
    first: np.ndarray, second: np.ndarray, spacings: tuple[np.ndarray, np.ndarray], allowed: float
) -> list[str]:
    found = []
    if not np.allclose(*spacings, rtol=1e-3):
        found.append(f"spacing {_listed(spacings[0])} mm against {_listed(spacings[1])} mm")
    codes = axis_codes(first), axis_codes(second)
    if codes[0] != codes[1]:
        found.append(f"axes pointing {codes[0]} against {codes[1]}")
    else:
        turn = (first[:3, :3] / spacings[0]).T @ (second[:3, :3] / spacings[1])
        angle = math.degrees(math.acos(float(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
        if angle > 0.05:
            found.append(f"turned by {angle:.2g} degrees")
    shift = float(np.linalg.norm(first[:3, 3] - second[:3, 3]))
    if not shift <= allowed:
        found.append(f"first voxel {shift:.4g} mm apart")
    return found


def resampled_shape(
    shape: Sequence[int], spacing: Sequence[float] | np.ndarray, new_spacing: Sequence[float] | np.ndarray
) -> tuple[int, ...]:
    """Return the shape after resampling to `new_spacing`: ``floor(shape x spacing / new_spacing)``, at least 1.

    A size less than a thousandth of a voxel below a whole number is rounded up to it.

    Example:
        >>> resampled_shape((100, 100, 30), (0.7, 0.7, 3), (0.7, 1.4, 1.5))
        (100, 50, 60)
    """
    return tuple(
        max(1, math.floor(size * float(old) / float(new) + _COMPLETE_VOXEL))
        for size, old, new in zip(shape, spacing, new_spacing, strict=True)
    )


def shifted_affine(affine: np.ndarray, start: Sequence[float]) -> np.ndarray:
    """Return the affine of the part of a grid that begins at voxel `start`; negative values mean padding.

    Example:
        >>> import numpy as np
        >>> shifted_affine(np.diag([2, 2, 3, 1]), (0, 0, 10))[:3, 3].tolist()
        [0.0, 0.0, 30.0]
    """
    affine = np.array(affine, dtype=np.float64)
    offset = np.zeros(3)
    offset[: len(start)] = start
    affine[:3, 3] += affine[:3, :3] @ offset
    return affine


def _listed(values: Sequence[float] | np.ndarray) -> str:
    return "(" + ", ".join(f"{float(value):.6g}" for value in values) + ")"
