"""Augmentation of the segmentation from the previous stage of a cascade, and its one-hot channels.

nnU-Net changes these channels in training, so that the second network does not trust the first one blindly:
morphological operations enlarge, shrink, open or close a class, and connected components are removed. Ranges and
probabilities are those of its trainer (nnunetv2 2.8.1).

A ball of radius r is the set of voxels at a distance of at most r. For whole radii it is the structuring element of
nnU-Net; for fractional ones, nnU-Net's is stretched, and shifted by half a voxel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from scipy import ndimage

from miscnn_tf.processing.augmentation.drawn_augmentation import draw_uniform, happens

#: Probability that classes of a patch are changed by morphological operations, or lose a connected component.
P_MORPHOLOGY: Final = 0.4
P_REMOVAL: Final = 0.2
#: Probability of each class to be changed if its patch is.
P_CLASS: Final = 0.5
#: Radius of the ball, in voxels.
RADIUS: Final = (1.0, 8.0)
#: A component is kept if it has at least this share of the voxels of a patch.
LARGEST_SHARE: Final = 0.15


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return a channel for each class but the background, float32 ``(x, y[, z], classes - 1)``.

    Example:
        >>> one_hot(np.array([[0, 1, 2]], np.uint8), 3).tolist()
        [[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]]
    """
    return (labels[..., np.newaxis] == np.arange(1, classes, dtype=labels.dtype)).astype(np.float32)


def disturb(labels: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Draw changes of the segmentation in a training patch, and apply them.

    Args:
        labels: The segmentation ``(x, y[, z])``, which is not changed.
        classes: Number of classes, background included.
        rng: Source of the random numbers.

    Returns:
        The labels, or a changed copy of them.
    """
    if happens(rng, P_MORPHOLOGY):
        labels = labels.copy()
        for label in _drawn_classes(rng, classes):
            operation = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
            change_class(labels, label, operation, draw_uniform(rng, RADIUS))
    if happens(rng, P_REMOVAL):
        labels = labels.copy()
        for label in _drawn_classes(rng, classes):
            remove_component(labels, label, rng)
    return labels


def change_class(
    labels: np.ndarray, label: int, operation: Callable[[np.ndarray, float], np.ndarray], radius: float
) -> None:
    """Apply a morphological operation to the voxels of a class, in place: new ones replace those of other classes.

    Args:
        labels: The segmentation ``(x, y[, z])``.
        label: The class.
        operation: One of `OPERATIONS`.
        radius: Radius of the ball, in voxels.
    """
    before = labels == label
    if not before.any():
        return
    after = operation(before, radius)
    labels[before & ~after] = 0
    labels[after] = label


def remove_component(labels: np.ndarray, label: int, rng: np.random.Generator) -> None:
    """Remove a random connected component of a class, in place, unless all of them are large."""
    components, number = ndimage.label(labels == label, np.ones((3,) * labels.ndim))
    sizes = np.bincount(components.ravel(), minlength=number + 1)[1:]
    small = np.flatnonzero(sizes < LARGEST_SHARE * labels.size) + 1
    if small.size:
        labels[components == small[int(rng.integers(small.size))]] = 0


def dilate(mask: np.ndarray, radius: float) -> np.ndarray:
    """Return the voxels at a distance of at most `radius` from the mask; beyond its borders, nothing is in it."""
    if not mask.any():
        return mask.copy()
    reach = int(radius)
    box = tuple(
        slice(max(0, int(found[0]) - reach), int(found[-1]) + reach + 1)
        for found in (np.flatnonzero(mask.any(axis=_others(mask.ndim, axis))) for axis in range(mask.ndim))
    )
    result = np.zeros_like(mask)
    result[box] = ndimage.distance_transform_edt(~mask[box]) <= radius
    return result


def erode(mask: np.ndarray, radius: float) -> np.ndarray:
    """Return the voxels at a distance of more than `radius` from all voxels that are not in the mask."""
    return ~dilate(~mask, radius)


def close_gaps(mask: np.ndarray, radius: float) -> np.ndarray:
    """Dilate, then erode."""
    return erode(dilate(mask, radius), radius)


def open_bridges(mask: np.ndarray, radius: float) -> np.ndarray:
    """Erode, then dilate."""
    return dilate(erode(mask, radius), radius)


#: The morphological operations, of equal probability.
OPERATIONS: Final = (dilate, erode, close_gaps, open_bridges)


def _drawn_classes(rng: np.random.Generator, classes: int) -> list[int]:
    """Draw the classes to be changed, in random order."""
    return [int(label) for label in rng.permutation(np.arange(1, classes)) if happens(rng, P_CLASS)]


def _others(ndim: int, axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(ndim) if other != axis)
