"""The frozen plan of one sample's augmentation: what was drawn, and how it is applied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.augmentation.intensity import Intensity
from miscnn_tf.processing.augmentation.spatial import Spatial


@dataclass(frozen=True)
class Augmentation:
    """All that will be done to one sample, in this order: mirror, spatial transform, intensity transforms.

    A plan is plain numbers, can be applied any number of times with the same result, and by several threads at once.

    Args:
        patch_shape: Shape of the sample, ``(x, y[, z])``.
        mirror: Axes that are flipped.
        spatial: Rotation, scaling and deformation; None where none was drawn.
        intensity: What changes the values, in order.
        labels_follow: Whether labels are mirrored and transformed along with the image.

    Example:
        >>> plan = Augmentation((8, 8), mirror=(0,))
        >>> image, labels = plan.apply(np.zeros((8, 8, 1), np.float32), None, (8, 8))
    """

    patch_shape: tuple[int, ...]
    mirror: tuple[int, ...] = ()
    spatial: Spatial | None = None
    intensity: tuple[Intensity, ...] = ()
    labels_follow: bool = True

    @property
    def moves(self) -> bool:
        """Whether voxels change their places, so that labels have to follow."""
        return bool(self.mirror) or self.spatial is not None

    @property
    def identity(self) -> bool:
        """Whether nothing was drawn."""
        return not self.moves and not self.intensity

    def region(self, patch_shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What has to be read: ``(start, shape)`` of a box, `start` relative to the patch's first voxel.

        The box holds all voxels that the transform reads and the margin of the interpolation. `start` may be negative.
        Without a spatial transform it is the patch itself.

        Raises:
            ConfigurationError: If the plan was drawn for another shape.
        """
        self._check_shape(patch_shape)
        if self.spatial is None:
            return (0,) * len(self.patch_shape), self.patch_shape
        start, shape = self.spatial.region()
        flipped = [
            size - first - length if axis in self.mirror else first
            for axis, (size, first, length) in enumerate(zip(self.patch_shape, start, shape, strict=True))
        ]
        return tuple(flipped), shape

    def apply(
        self, image: np.ndarray, labels: np.ndarray | None, patch_shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Augment one sample.

        Args:
            image: The box of `region`, ``(x, y[, z], channels)``, float32. It is never written to.
            labels: The labels of the same box, ``(x, y[, z])``, of an integer dtype, or None.
            patch_shape: Shape of the patch, as in `region`.

        Returns:
            The image ``(*patch_shape, channels)``, float32, and the labels ``patch_shape`` in the dtype they had. Where
            no value had to be computed they are the arrays that were passed in, or views of them.

        Raises:
            ConfigurationError: If a shape is not that of `region`.
        """
        self._check_shape(patch_shape)
        return self.apply_to_image(image), None if labels is None else self.apply_to_labels(labels)

    def apply_to_image(self, image: np.ndarray) -> np.ndarray:
        """The image part of `apply`."""
        self._check_region(image.shape[:-1], "image")
        given = image
        image = np.flip(image, self.mirror) if self.mirror else image
        if self.spatial is not None:
            image = self.spatial.image(image)
        if not self.intensity:
            return image
        # The region may be a view of a cache or of a memory map.
        image = np.array(image, np.float32, order="C") if np.may_share_memory(image, given) else image
        for transform in self.intensity:
            transform(image)
        return image

    def apply_to_labels(self, labels: np.ndarray) -> np.ndarray:
        """The label part of `apply`; labels that do not follow (``seg_augmentation=False``) come back as they are."""
        if not (self.moves and self.labels_follow):
            return labels
        self._check_region(labels.shape, "label map")
        labels = np.flip(labels, self.mirror) if self.mirror else labels
        return labels if self.spatial is None else self.spatial.labels(labels)

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
                f"is {shape}; read the box that region() returns"
            )
