"""Drawn augmentation of one sample, which can be applied any number of times.

Its parameters are drawn with the distributions of batchgenerators' transforms, from a given generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.augmentation.intensity import Intensity
from miscnn_tf.processing.patching.region import read_region

#: Two numbers, the lower one first.
Range = Sequence[float]


def happens(rng: np.random.Generator, probability: float) -> bool:
    """Draw True with this probability."""
    return bool(rng.random() < probability)


def draw_uniform(rng: np.random.Generator, limits: Range) -> float:
    """Draw a number uniformly between the two limits."""
    low, high = limits
    return float(low + (high - low) * rng.random())


def draw_around_one(rng: np.random.Generator, limits: Range) -> float:
    """Draw a factor: half of the draws are below 1, half above, each half uniform within the limits.

    This is how batchgenerators draws scaling, contrast and gamma: (0.3, 3.0) enlarges as often as it reduces. If both
    limits are on the same side of 1, the draw is uniform between them.

    Example:
        >>> 0.5 <= draw_around_one(np.random.default_rng(0), (0.5, 2.0)) <= 2.0
        True
    """
    low, high = limits
    if low >= 1 or high <= 1:
        return draw_uniform(rng, limits)
    return draw_uniform(rng, (low, 1.0) if rng.random() < 0.5 else (1.0, high))


def draw_factors(
    rng: np.random.Generator, limits: Range, channels: int, per_channel: bool, centred: bool
) -> tuple[float, ...]:
    """Draw a factor for each channel, or one for all of them.

    Args:
        rng: Source of the random numbers.
        limits: Lowest and highest factor.
        channels: Number of channels.
        per_channel: Draw a factor for each channel.
        centred: Draw with `draw_around_one` rather than uniformly.
    """
    draw = draw_around_one if centred else draw_uniform
    if per_channel:
        return tuple(draw(rng, limits) for _ in range(channels))
    return (draw(rng, limits),) * channels


def draw_seed(rng: np.random.Generator) -> int:
    """Draw the seed of an array of random numbers, which is generated when the augmentation is applied."""
    return int(rng.integers(2**63))


class SpatialTransform(Protocol):
    """Protocol of transforms that move voxels, such as `Spatial` and `LinearSpatial`."""

    def region(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the location of the voxels that are read: start relative to the patch's first voxel, shape."""

    def image(self, region: np.ndarray) -> np.ndarray:
        """Return the patch of the image ``(x, y[, z], channels)`` as a new array."""

    def labels(self, region: np.ndarray) -> np.ndarray:
        """Return the patch of the labels ``(x, y[, z])`` as a new array."""


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of one sample, in this order: mirror, spatial transform, intensity transforms.

    It holds plain numbers, always has the same result, and can be applied by several threads at once.

    Args:
        patch_shape: Shape of the sample, ``(x, y[, z])``.
        mirror: Axes that are flipped.
        spatial: Rotation, scaling and deformation; None where none was drawn.
        intensity: Intensity transforms, in order.
        labels_follow: Mirror and transform labels along with the image.
        mirror_last: Mirror after all other transforms rather than before them.
        masked_channels: Channels that are set to 0 after the other transforms where all channels were 0 before them.

    Example:
        >>> plan = Augmentation((8, 8), mirror=(0,))
        >>> image, labels = plan.apply(np.zeros((8, 8, 1), np.float32), None, (8, 8))
    """

    patch_shape: tuple[int, ...]
    mirror: tuple[int, ...] = ()
    spatial: SpatialTransform | None = None
    intensity: tuple[Intensity, ...] = ()
    labels_follow: bool = True
    mirror_last: bool = False
    masked_channels: tuple[int, ...] = ()

    @property
    def moves(self) -> bool:
        """True if voxels change their positions, so that labels have to follow."""
        return bool(self.mirror) or self.spatial is not None

    @property
    def identity(self) -> bool:
        """True if nothing was drawn."""
        return not self.moves and not self.intensity

    def region(self, patch_shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the location of the voxels that have to be read, as ``(start, shape)``.

        They are all voxels that the transform reads and the margin of the interpolation; without a spatial transform
        the patch itself. `start` is relative to the patch's first voxel and may be negative.

        Raises:
            ConfigurationError: If the augmentation was drawn for another shape.
        """
        self._check_shape(patch_shape)
        if self.spatial is None:
            return (0,) * len(self.patch_shape), self.patch_shape
        start, shape = self.spatial.region()
        mirror_first, _ = self._mirrors
        flipped = [
            size - first - length if axis in mirror_first else first
            for axis, (size, first, length) in enumerate(zip(self.patch_shape, start, shape, strict=True))
        ]
        return tuple(flipped), shape

    def apply(
        self, image: np.ndarray, labels: np.ndarray | None, patch_shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Augment one sample.

        Args:
            image: The voxels of `region`, ``(x, y[, z], channels)``, float32. The array is not changed.
            labels: The labels of the same voxels, ``(x, y[, z])``, of an integer dtype, or None.
            patch_shape: Shape of the patch, as in `region`.

        Returns:
            The image ``(*patch_shape, channels)``, float32, and the labels ``patch_shape`` of the same dtype. Without
            any computation they are the arguments, or views of them.

        Raises:
            ConfigurationError: If a shape is not that of `region`.
        """
        self._check_shape(patch_shape)
        return self.apply_to_image(image), None if labels is None else self.apply_to_labels(labels)

    def apply_to_image(self, image: np.ndarray) -> np.ndarray:
        """Augment the image alone, as in `apply`."""
        self._check_region(image.shape[:-1], "image")
        given = image
        first, last = self._mirrors
        image = np.flip(image, first) if first else image
        outside = np.logical_not(image.any(axis=-1)) if self.masked_channels else None
        if self.spatial is not None:
            image = self.spatial.image(image)
            outside = None if outside is None else self.spatial.labels(outside.view(np.uint8)).view(bool)
        if self.intensity:
            # The region may be a view of a cache or of a memory map.
            image = np.array(image, np.float32, order="C") if np.may_share_memory(image, given) else image
            for transform in self.intensity:
                transform(image)
        # Without any change, the masked channels are still 0 there.
        if outside is not None and (self.intensity or self.spatial is not None):
            for channel in self.masked_channels:
                image[..., channel][outside] = 0
        return np.flip(image, last) if last else image

    def apply_to_labels(self, labels: np.ndarray) -> np.ndarray:
        """Augment the labels alone, as in `apply`; with ``labels_follow=False`` they are returned unchanged."""
        return self.move_labels(labels) if self.labels_follow else labels

    def move_labels(self, labels: np.ndarray) -> np.ndarray:
        """Mirror and transform labels along with the image, also with ``labels_follow=False``."""
        if not self.moves:
            return labels
        self._check_region(labels.shape, "label map")
        first, last = self._mirrors
        labels = np.flip(labels, first) if first else labels
        labels = labels if self.spatial is None else self.spatial.labels(labels)
        return np.flip(labels, last) if last else labels

    @property
    def _mirrors(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes that are flipped before, and after the other transforms."""
        return ((), self.mirror) if self.mirror_last else (self.mirror, ())

    def _check_shape(self, patch_shape: tuple[int, ...]) -> None:
        if tuple(patch_shape) != self.patch_shape:
            raise ConfigurationError(
                f"this augmentation was drawn for patches of {self.patch_shape} voxels, not {tuple(patch_shape)}; draw "
                "one for this shape"
            )

    def _check_region(self, shape: tuple[int, ...], what: str) -> None:
        _, needed = self.region(self.patch_shape)
        if shape != needed:
            raise ConfigurationError(
                f"the augmentation of a patch of {self.patch_shape} voxels needs a region of {needed}, but the {what} "
                f"is {shape}; read the voxels that region() returns"
            )


def image_at(drawn: Augmentation, image: np.ndarray, start: tuple[int, ...]) -> np.ndarray:
    """Augment the patch at `start` of a whole image ``(x, y[, z], channels)``; outside, its border repeats."""
    begin, shape = _region_at(drawn, start)
    axes = [
        np.arange(first, first + size).clip(0, full - 1)
        for first, size, full in zip(begin, shape, image.shape[:-1], strict=True)
    ]
    return drawn.apply_to_image(image[np.ix_(*axes)])


def segmentation_at(drawn: Augmentation, seg: np.ndarray, start: tuple[int, ...]) -> np.ndarray:
    """Augment the patch at `start` of a whole segmentation; outside is background.

    Args:
        drawn: The augmentation.
        seg: One-hot ``(x, y[, z], classes)``, or labels ``(x, y[, z], 1)``.
        start: First voxel of the patch.

    Returns:
        The patch, of the same kind: exactly one class per voxel, also outside of the segmentation. If voxels have none
        or several, as those without annotation and those in overlapping regions, each channel is moved alone, and 0
        outside.
    """
    begin, shape = _region_at(drawn, start)
    classes = seg.shape[-1]
    if classes == 1:
        return drawn.apply_to_labels(read_region(seg, begin, shape, 0)[..., 0])[..., np.newaxis]
    inside = all(0 <= first <= full - size for first, size, full in zip(begin, shape, seg.shape[:-1], strict=True))
    if inside and not drawn.moves:
        return read_region(seg, begin, shape, 0)
    if not (np.count_nonzero(seg, axis=-1) == 1).all():
        channels = np.moveaxis(seg, -1, 0)[..., np.newaxis]
        alone = [segmentation_at(drawn, (channel > 0).astype(np.uint8), start) for channel in channels]
        return np.concatenate(alone, axis=-1).astype(np.float32)
    labels = np.argmax(seg, axis=-1).astype(np.min_scalar_type(classes - 1))
    moved = drawn.apply_to_labels(read_region(labels[..., np.newaxis], begin, shape, 0)[..., 0])
    return np.eye(classes, dtype=np.float32)[moved]


def _region_at(drawn: Augmentation, start: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    offset, shape = drawn.region(drawn.patch_shape)
    return tuple(first + before for first, before in zip(start, offset, strict=True)), shape
