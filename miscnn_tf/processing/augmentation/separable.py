"""Resampling where each axis can be treated by itself: a scaling without rotation, far cheaper than the general way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from miscnn_tf.processing.augmentation import spline


def smooth(image: np.ndarray, places: Sequence[np.ndarray]) -> np.ndarray:
    """Interpolate by `spline` on a grid of places.

    Args:
        image: Array with one axis per entry of `places`.
        places: Per axis, the places in voxels, at least one voxel from both ends.

    Returns:
        A float32 array, ``[len(axis) for axis in places]``.
    """
    for wanted in reversed(places):
        image = spline.last_axis_first(image)
        spline.filter_rows(image)
        image = spline.sample_rows(image, wanted)
    return image


def nearest(labels: np.ndarray, places: Sequence[np.ndarray]) -> np.ndarray:
    """The nearest voxel of each place of a grid, as a new array."""
    return labels[np.ix_(*(np.floor(wanted + 0.5).astype(np.intp) for wanted in places))]
