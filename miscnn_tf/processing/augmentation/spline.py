"""Interpolation by quadratic B-splines: their coefficients, and their values at places between the voxels.

Quadratic, because more cannot be seen, and less can. On the hippocampus MRI, turned by up to 15 degrees, the result
differs from that of splines of order 5 by 4 % of the image's standard deviation; cubic splines' by 2 %, linear
interpolation's by 13 %. Of the detail (the mean of the absolute Laplacian) 2 % less is left than with cubic splines,
but 31 % less with linear interpolation, which blurs. Sampling takes 0.4 to 0.5 times as long as of a cubic one
(``benchmarks/augmentation.py``).

Reference:
    Unser, Splines: a perfect fit for signal and image processing, IEEE Signal Processing Magazine 1999.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

#: The order of the splines, for SciPy.
ORDER = 2

_POLE = math.sqrt(8) - 3
_GAIN = (1 - _POLE) * (1 - 1 / _POLE)
# From here on the powers of the pole are below float32's precision.
_HORIZON = 12


def coefficients(image: np.ndarray) -> np.ndarray:
    """The coefficients of the spline that passes through all voxels.

    The same as ``scipy.ndimage.spline_filter(image, order=2)`` within float32's precision, several times faster: whole
    planes of voxels are computed at a time.

    Args:
        image: ``(x, y[, z])``.

    Returns:
        A new C-contiguous float32 array of the same shape.
    """
    for _ in range(image.ndim):
        image = last_axis_first(image)
        filter_rows(image)
    return image


def last_axis_first(image: np.ndarray) -> np.ndarray:
    """A C-contiguous float32 copy whose first axis was the last; after as many times as there are axes all are back."""
    return np.array(np.moveaxis(image, -1, 0), np.float32, order="C", copy=True)


def filter_rows(rows: np.ndarray) -> None:
    """Replace float32 values by spline coefficients along the first axis, in place; beyond its ends values mirror."""
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


def sample_rows(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The spline's values along the first axis.

    Args:
        rows: Coefficients.
        places: Places in voxels, at least one voxel from both ends.

    Returns:
        A float32 array ``(len(places), *rows.shape[1:])``.
    """
    middle = np.floor(places + 0.5).astype(np.intp)
    distance = places - middle
    weights = 0.5 * (0.5 - distance) ** 2, 0.75 - distance**2, 0.5 * (0.5 + distance) ** 2
    result = np.zeros((len(places), *rows.shape[1:]), np.float32)
    for tap, weight in enumerate(weights):
        values = rows[middle + (tap - 1)]
        values *= weight.astype(np.float32).reshape(-1, *[1] * (rows.ndim - 1))
        result += values
    return result


def _start(rows: np.ndarray) -> np.ndarray:
    """The first value of the recursion, from all rows and their mirror images."""
    count = len(rows)
    period = 2 * count - 2
    total = np.zeros_like(rows[0])
    for number in range(min(count, _HORIZON)):
        weight = _POLE**number
        if 0 < number < count - 1:
            weight += _POLE ** (period - number)
        total += np.float32(weight / (1 - _POLE**period)) * rows[number]
    return total
