"""Cutting patches from a prepared sample: only the patch, and the margin that its augmentation needs, is read."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import DataError
from miscnn_tf.processing.data_augmentation import Data_Augmentation
from miscnn_tf.processing.patching.grid import PatchGrid, padded_shape
from miscnn_tf.processing.patching.region import read_region
from miscnn_tf.processing.patching.sampling import draw_start

#: How often a random patch that holds nothing but the skipped class is drawn again.
BLANK_TRIES = 20


class Patch(NamedTuple):
    """What the network gets of one sample.

    Attributes:
        image: float32, ``(x, y[, z], channels)``.
        labels: uint8 (uint16 above 256 classes), ``(x, y[, z])``; None where the sample has no label map.
    """

    image: np.ndarray
    labels: np.ndarray | None

    def required_labels(self, sample: Sample) -> np.ndarray:
        """The labels.

        Raises:
            DataError: If the sample has no label map.
        """
        if self.labels is None:
            raise DataError(f"sample {sample.index!r} has no segmentation, but training needs one")
        return self.labels


def cut(
    sample: Sample,
    start: tuple[int, ...],
    shape: tuple[int, ...],
    rng: np.random.Generator | None = None,
    augmentation: Data_Augmentation | None = None,
) -> Patch:
    """Cut one box out of a prepared sample, augmented where an augmentation is given.

    Args:
        sample: A prepared sample; its arrays may be memory maps.
        start: First voxel of the box per axis; may be negative. Outside the image lies the image's least value, and
            background.
        shape: Size of the box per axis.
        rng: Draws the augmentation; needed with one.
        augmentation: What may be done to the patch.
    """
    plan = None
    read_start, read_shape = start, shape
    if augmentation is not None:
        if rng is None:
            raise TypeError("an augmentation needs a random generator to draw from")
        plan = augmentation.draw(rng, shape, sample.img_data.shape[-1])  # a step may have added some
        margin, read_shape = plan.region(shape)
        read_start = tuple(first + before for first, before in zip(start, margin, strict=True))
    fill = sample.details.get("fill", 0)
    image = read_region(sample.img_data, read_start, read_shape, fill).astype(np.float32, copy=False)
    labels = None
    if sample.seg_data is not None:
        # An augmentation of the image alone hands the labels back as they are.
        along = plan is None or plan.labels_follow
        box = (read_start, read_shape) if along else (start, shape)
        labels = read_region(sample.seg_data, *box, 0)[..., 0]
    if plan is not None:
        image, labels = plan.apply(image, labels, shape)
    return Patch(image, labels)


class BoxSource:
    """Where the patches of a sample lie.

    Args:
        analysis: ``"fullimage"``, ``"patchwise-crop"`` or ``"patchwise-grid"``.
        patch_shape: Size of a patch per axis; None for whole images.
        overlap: Overlap of neighbouring grid patches per axis, in voxels.
        divisor: Whole images are cut out with sizes that are multiples of this, one number for all axes or one each.
        foreground: Share of random patches that are drawn around a foreground voxel.
        skip_class: Patches with nothing but this class are left out in training; None keeps all.
    """

    def __init__(
        self,
        analysis: str,
        patch_shape: tuple[int, ...] | None,
        overlap: tuple[int, ...],
        divisor: int | tuple[int, ...] = 1,
        foreground: float = 0.0,
        skip_class: int | None = None,
    ) -> None:
        self.analysis = analysis
        self.patch_shape = patch_shape
        self.overlap = overlap
        self.divisor = divisor
        self.foreground = foreground
        self.skip_class = skip_class

    def window(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Size of the patches of an image of this (spatial) size."""
        if self.patch_shape is not None:
            return self.patch_shape
        divisors = (self.divisor,) * len(image_shape) if isinstance(self.divisor, int) else self.divisor
        return tuple(-(-size // divisor) * divisor for size, divisor in zip(image_shape, divisors, strict=True))

    def grid(self, image_shape: tuple[int, ...]) -> PatchGrid:
        """The patches that cover the image, or the padded image where it is smaller than a patch."""
        window = self.window(image_shape)
        overlap = self.overlap[: len(window)] if self.patch_shape is not None else (0,) * len(window)
        return PatchGrid(padded_shape(image_shape, window), window, overlap)

    def offset(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """How many voxels of padding lie before the image on each axis of `grid`."""
        padded = padded_shape(image_shape, self.window(image_shape))
        return tuple((outer - inner) // 2 for outer, inner in zip(padded, image_shape, strict=True))

    def grid_starts(self, sample: Sample, training: bool = False) -> list[tuple[int, ...]]:
        """First voxels of the sample's grid patches, in image coordinates (negative where the image was padded)."""
        image_shape = sample.img_data.shape[:-1]
        offset = self.offset(image_shape)
        starts = [
            tuple(first - before for first, before in zip(location.start, offset, strict=True))
            for location in self.grid(image_shape)
        ]
        if training and self.skip_class is not None and sample.seg_data is not None:
            window = self.window(image_shape)
            starts = [start for start in starts if not self._blank(sample, start, window)]
        return starts

    def training_start(self, sample: Sample, rng: np.random.Generator) -> tuple[int, ...]:
        """First voxel of what a training step takes of a sample: a random patch, or the whole image."""
        return self.whole_start(sample) if self.analysis == "fullimage" else self.random_start(sample, rng)

    def whole_start(self, sample: Sample) -> tuple[int, ...]:
        """First voxel of the whole, padded image, in image coordinates."""
        return tuple(-before for before in self.offset(sample.img_data.shape[:-1]))

    def random_start(self, sample: Sample, rng: np.random.Generator) -> tuple[int, ...]:
        """First voxel of a random patch, in image coordinates."""
        image_shape = sample.img_data.shape[:-1]
        window = self.window(image_shape)
        locations = sample.details.get("locations")
        start = draw_start(rng, image_shape, window, locations, self.foreground)
        if self.skip_class is None or sample.seg_data is None:
            return start
        for _ in range(BLANK_TRIES):
            if not self._blank(sample, start, window):
                return start
            start = draw_start(rng, image_shape, window, locations, self.foreground)
        # Rare foreground: aim at it. A sample that has none gives a blank patch rather than an error.
        return draw_start(rng, image_shape, window, locations, 1.0)

    def _blank(self, sample: Sample, start: tuple[int, ...], window: tuple[int, ...]) -> bool:
        assert sample.seg_data is not None
        assert self.skip_class is not None
        return bool((read_region(sample.seg_data, start, window, self.skip_class) == self.skip_class).all())
