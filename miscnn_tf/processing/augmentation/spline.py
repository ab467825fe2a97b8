"""Interpolation by quadratic B-splines: their coefficients, and their values at positions between the voxels.

Order 2 is a compromise. On the hippocampus MRI, rotated by up to 15 degrees, the result differs from that of order 5 by
4 % of the image's standard deviation (order 3: 2 %, linear: 13 %). It keeps 2 % less detail (mean of the absolute
Laplacian) than order 3; linear interpolation, which blurs, keeps 31 % less. Sampling takes 0.4 to 0.5 times as long as
with order 3 (``benchmarks/augmentation.py``).

Reference:
    Unser, Splines: a perfect fit for signal and image processing, IEEE Signal Processing Magazine 1999.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

#: The order of the splines, for SciPy.
ORDER = 2

_POLE = math.sqrt(8) - 3
_GAIN = (1 - _POLE) * (1 - 1 / _POLE)
# Higher powers of the pole are below the precision of float32.
_HORIZON = 12


def coefficients(image: np.ndarray) -> np.ndarray:
    """Return the coefficients of the spline that passes through all voxels.

    They equal ``scipy.ndimage.spline_filter(image, order=2)`` within the precision of float32, several times faster,
    because whole planes of voxels are computed at a time.

    Args:
        image: ``(x, y[, z])``.

    Returns:
        A new C-contiguous float32 array of the same shape.
    """
    for _ in range(image.ndim):
        image = last_axis_first(image)
        filter_rows(image)
    return image


def resample_axes(image: np.ndarray, positions: Sequence[np.ndarray]) -> np.ndarray:
    """Interpolate on a grid that is given axis by axis, far cheaper than at arbitrary points.

    Args:
        image: Array with one axis per entry of `positions`.
        positions: Per axis, the positions in voxels, at least one voxel from both ends.

    Returns:
        A float32 array, ``[len(axis) for axis in positions]``.
    """
    for wanted in reversed(positions):
        image = last_axis_first(image)
        filter_rows(image)
        image = sample_rows(image, wanted)
    return image


def last_axis_first(image: np.ndarray) -> np.ndarray:
    """Return a C-contiguous float32 copy whose first axis was the last."""
    return np.array(np.moveaxis(image, -1, 0), np.float32, order="C", copy=True)


def filter_rows(rows: np.ndarray) -> None:
    """Replace float32 values by spline coefficients along the first axis, in place; values mirror beyond its ends."""
    count = len(rows)
    if count == 1:
        return
    pole, buffer = np.float32(_POLE), np.empty_like(rows[0])
    rows *= np.float32(_GAIN)
    rows[0] = _start(rows)
    for before, row in itertools.pairwise(rows):
        np.multiply(before, pole, out=buffer)
        row += buffer
    last = rows[-1]
    np.multiply(rows[-2], pole, out=buffer)
    last += buffer
    last *= np.float32(_POLE / (_POLE**2 - 1))
    for number in range(count - 2, -1, -1):
        row = rows[number]
        np.subtract(rows[number + 1], row, out=row)
        row *= pole


def sample_rows(rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the values of the spline along the first axis.

    Args:
        rows: Coefficients.
        positions: Positions in voxels, at least one voxel from both ends.

    Returns:
        A float32 array ``(len(positions), *rows.shape[1:])``.
    """
    middle = np.floor(positions + 0.5).astype(np.intp)
    distance = positions - middle
    weights = 0.5 * (0.5 - distance) ** 2, 0.75 - distance**2, 0.5 * (0.5 + distance) ** 2
    result = np.zeros((len(positions), *rows.shape[1:]), np.float32)
    for tap, weight in enumerate(weights):
        values = rows[middle + (tap - 1)]
        values *= weight.astype(np.float32).reshape(-1, *[1] * (rows.ndim - 1))
        result += values
    return result


def _start(rows: np.ndarray) -> np.ndarray:
    """Return the first value of the recursion, from all rows and their mirror images."""
    count = len(rows)
    period = 2 * count - 2
    total = np.zeros_like(rows[0])
    for number in range(min(count, _HORIZON)):
        weight = _POLE**number
        if 0 < number < count - 1:
            weight += _POLE ** (period - number)
        total += np.float32(weight / (1 - _POLE**period)) * rows[number]
    return total
