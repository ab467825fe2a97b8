"""Resampling where each axis can be treated by itself: a scaling without rotation, at a third of the general cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def cubic(image: np.ndarray, places: Sequence[np.ndarray]) -> np.ndarray:
    """Interpolate by cubic B-splines on a grid of places (Unser, IEEE Signal Process. Mag. 1999).

    Args:
        image: Array with one axis per entry of `places`.
        places: Per axis, the places in voxels; at least one voxel from the first and two from the last.

    Returns:
        A float32 array, ``[len(axis) for axis in places]``.
    """
    for axis, wanted in enumerate(places):
        spline = ndimage.spline_filter1d(image, order=3, axis=axis, output=np.float32)
        first = np.floor(wanted).astype(np.intp)
        fraction = wanted - first
        image = np.zeros((*spline.shape[:axis], len(wanted), *spline.shape[axis + 1 :]), np.float32)
        for tap, weight in enumerate(_weights(fraction)):
            values = np.take(spline, first + (tap - 1), axis=axis)
            values *= weight.astype(np.float32).reshape(-1, *[1] * (spline.ndim - axis - 1))
            image += values
    return image


def nearest(labels: np.ndarray, places: Sequence[np.ndarray]) -> np.ndarray:
    """The nearest voxel of each place of a grid, as a new array."""
    return labels[np.ix_(*(np.floor(wanted + 0.5).astype(np.intp) for wanted in places))]


def _weights(fraction: np.ndarray) -> tuple[np.ndarray, ...]:
    """The cubic B-spline at the distances of the four voxels around a place."""
    rest = 1 - fraction
    return (
        rest**3 / 6,
        (4 - 6 * fraction**2 + 3 * fraction**3) / 6,
        (4 - 6 * rest**2 + 3 * rest**3) / 6,
        fraction**3 / 6,
    )
