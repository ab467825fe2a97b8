"""Applying a plan inside a whole image that has nothing around it, as `Data_Augmentation.run` has to."""

from __future__ import annotations

import numpy as np

from miscnn_tf.processing.augmentation.plan import Augmentation
from miscnn_tf.processing.patching.region import read_region

Position = tuple[int, ...]


def image_at(plan: Augmentation, image: np.ndarray, start: Position) -> np.ndarray:
    """Augment the patch of `image` ``(x, y[, z], channels)`` that begins at `start`; outside, the border repeats."""
    begin, shape = _box(plan, start)
    axes = [
        np.arange(first, first + size).clip(0, full - 1)
        for first, size, full in zip(begin, shape, image.shape[:-1], strict=True)
    ]
    return plan.apply_to_image(image[np.ix_(*axes)])


def segmentation_at(plan: Augmentation, seg: np.ndarray, start: Position) -> np.ndarray:
    """Augment the patch of a segmentation that begins at `start`; outside is background.

    Args:
        plan: What to do.
        seg: One-hot ``(x, y[, z], classes)``, or labels ``(x, y[, z], 1)``.
        start: First voxel of the patch.

    Returns:
        The patch, of the same kind: exactly one class per voxel, also where the patch reaches beyond the image.
    """
    begin, shape = _box(plan, start)
    classes = seg.shape[-1]
    if classes == 1:
        return plan.apply_to_labels(read_region(seg, begin, shape, 0)[..., 0])[..., np.newaxis]
    inside = all(0 <= first <= full - size for first, size, full in zip(begin, shape, seg.shape[:-1], strict=True))
    if inside and not plan.moves:
        return read_region(seg, begin, shape, 0)
    labels = np.argmax(seg, axis=-1).astype(np.min_scalar_type(classes - 1))
    moved = plan.apply_to_labels(read_region(labels[..., np.newaxis], begin, shape, 0)[..., 0])
    return np.eye(classes, dtype=np.float32)[moved]


def _box(plan: Augmentation, start: Position) -> tuple[Position, tuple[int, ...]]:
    offset, shape = plan.region(plan.patch_shape)
    return tuple(first + before for first, before in zip(start, offset, strict=True)), shape
