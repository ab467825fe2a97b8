"""The settings of patches as a value, and cutting patches from a prepared sample by them.

Only the patch, and the margin that its augmentation needs, is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Final, NamedTuple

import numpy as np

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.augmentation.previous_labels import disturb, one_hot
from miscnn_tf.processing.data_augmentation import Data_Augmentation
from miscnn_tf.processing.patching.grid import PatchGrid, draw_start, padded_shape
from miscnn_tf.processing.patching.region import read_region

ANALYSES: Final = ("fullimage", "patchwise-crop", "patchwise-grid")

#: How often a random patch that holds nothing but the skipped class is drawn again.
BLANK_TRIES = 20


class Patch(NamedTuple):
    """A patch of a sample as the network gets it.

    Attributes:
        image: float32, ``(x, y[, z], channels)``; of a cascade with the one-hot segmentation of the previous stage.
        labels: uint8 (uint16 above 256 classes), ``(x, y[, z])``; None if the sample has no label map.
    """

    image: np.ndarray
    labels: np.ndarray | None

    def required_labels(self, sample: Sample) -> np.ndarray:
        """Return the labels.

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
    fill: Any = None,
) -> Patch:
    """Cut one patch out of a prepared sample, and augment it if an augmentation is given.

    Args:
        sample: A prepared sample; its arrays may be memory maps.
        start: First voxel of the patch per axis; may be negative. Outside the image, the patch holds `fill`, and
            background.
        shape: Size of the patch per axis.
        rng: Draws the augmentation; needed with one.
        augmentation: How to augment the patch.
        fill: Value outside the image; None: the least one of each channel.
    """
    drawn = None
    read_start, read_shape = start, shape
    if augmentation is not None:
        if rng is None:
            raise TypeError("an augmentation needs a random generator to draw from")
        drawn = augmentation.draw(rng, shape, sample.img_data.shape[-1])  # a step may have added channels
        margin, read_shape = drawn.region(shape)
        read_start = tuple(first + before for first, before in zip(start, margin, strict=True))
    fill = sample.details.get("fill", 0) if fill is None else fill
    image = read_region(sample.img_data, read_start, read_shape, fill).astype(np.float32, copy=False)
    labels = None
    if sample.seg_data is not None:
        # An augmentation of the image alone returns the labels unchanged.
        along = drawn is None or drawn.labels_follow
        location = (read_start, read_shape) if along else (start, shape)
        labels = read_region(sample.seg_data, *location, 0)[..., 0]
    if drawn is not None:
        image, labels = drawn.apply(image, labels, shape)
    if sample.previous_data is not None:
        previous = read_region(sample.previous_data, read_start, read_shape, 0)[..., 0]
        if drawn is not None and rng is not None:
            previous = disturb(drawn.move_labels(previous), sample.classes, rng)
        image = np.concatenate([image, one_hot(previous, sample.classes)], axis=-1)
    return Patch(image, labels)


@dataclass(frozen=True)
class PatchPlan:
    """Settings of patches and their batches, made by `Preprocessor.plan` for one network.

    A plan never changes: prediction, explanations and memory estimates that share a preprocessor each take their own.

    Attributes:
        analysis: ``"fullimage"``, ``"patchwise-crop"`` or ``"patchwise-grid"``.
        patch_shape: Size of a patch per axis; None for whole images.
        overlap: Overlap of neighbouring grid patches per axis, in voxels; empty for whole images.
        blending: How overlapping predictions are merged: see `Preprocessor`.
        divisors: Whole images are padded to multiples of these, one number per axis; empty: to nothing.
        foreground: Share of random patches that are drawn around a foreground voxel.
        skip_class: Patches with nothing but this class are left out in training; None keeps all.
        batch_size: Patches per batch.
        seed: Seed of the order, the crops and the augmentation in training.

    Example:
        >>> plan = PatchPlan("fullimage", divisors=(4, 4))
        >>> plan.patch_shape_for((20, 22))
        (20, 24)
    """

    analysis: str
    patch_shape: tuple[int, ...] | None = None
    overlap: tuple[int, ...] = ()
    blending: str = "gaussian"
    divisors: tuple[int, ...] = ()
    foreground: float = 0.0
    skip_class: int | None = None
    batch_size: int = 1
    seed: int = 0

    @property
    def averages_logits(self) -> bool:
        """True if predictions are averaged before the softmax or sigmoid, instead of after it."""
        return self.blending == "nnunet"

    def patch_shape_for(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the size of the patches of an image of this (spatial) size: of the padded image, for whole images."""
        if self.patch_shape is not None:
            return self.patch_shape
        divisors = self.divisors or (1,) * len(image_shape)
        return tuple(-(-size // divisor) * divisor for size, divisor in zip(image_shape, divisors, strict=True))

    def grid(self, image_shape: Sequence[int]) -> PatchGrid:
        """Return the patches that cover the image, or the padded image where it is smaller than a patch."""
        patch_shape = self.patch_shape_for(image_shape)
        overlap = self.overlap[: len(patch_shape)] if self.patch_shape is not None else (0,) * len(patch_shape)
        return PatchGrid(padded_shape(image_shape, patch_shape), patch_shape, overlap, even=self.averages_logits)

    def offset(self, image_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the number of voxels of padding before the image on each axis of `grid`."""
        padded = padded_shape(image_shape, self.patch_shape_for(image_shape))
        return tuple((outer - inner) // 2 for outer, inner in zip(padded, image_shape, strict=True))

    def grid_starts(self, sample: Sample, training: bool = False) -> list[tuple[int, ...]]:
        """Return the first voxels of the sample's grid patches, in image coordinates (negative in the padding)."""
        image_shape = sample.img_data.shape[:-1]
        offset = self.offset(image_shape)
        starts = [
            tuple(first - before for first, before in zip(location.start, offset, strict=True))
            for location in self.grid(image_shape)
        ]
        if training and self.skip_class is not None and sample.seg_data is not None:
            starts = [start for start in starts if not self._blank(sample, start)]
        return starts

    def patches(self, sample: Sample, numbers: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """Cut the patches that a network predicts, in grid order, one by one.

        A patch is the whole image if the analysis is ``"fullimage"``. It reaches beyond the image if that is smaller,
        or not a multiple of the divisors.

        Args:
            sample: The sample after all subfunctions.
            numbers: Numbers in the grid of the patches to cut; None for all.

        Returns:
            float32 arrays ``(x, y[, z], channels)``.
        """
        shape, starts = self.patch_shape_for(sample.img_data.shape[:-1]), self.grid_starts(sample)
        chosen = starts if numbers is None else [starts[number] for number in numbers]
        # nnU-Net fills with 0, which is the mean after its normalisation.
        fill = 0 if self.averages_logits else None
        return (cut(sample, start, shape, fill=fill).image for start in chosen)

    def training_start(self, sample: Sample, rng: np.random.Generator) -> tuple[int, ...]:
        """Return the first voxel of a training step's patch of a sample: a random one, or the whole image."""
        return self.whole_start(sample) if self.analysis == "fullimage" else self.random_start(sample, rng)

    def whole_start(self, sample: Sample) -> tuple[int, ...]:
        """Return the first voxel of the whole, padded image, in image coordinates."""
        return tuple(-before for before in self.offset(sample.img_data.shape[:-1]))

    def random_start(self, sample: Sample, rng: np.random.Generator) -> tuple[int, ...]:
        """Draw the first voxel of a random patch, in image coordinates."""
        image_shape = sample.img_data.shape[:-1]
        shape = self.patch_shape_for(image_shape)
        locations = sample.details.get("locations")
        start = draw_start(rng, image_shape, shape, locations, self.foreground)
        if self.skip_class is None or sample.seg_data is None:
            return start
        for _ in range(BLANK_TRIES):
            if not self._blank(sample, start):
                return start
            start = draw_start(rng, image_shape, shape, locations, self.foreground)
        # Rare foreground: aim at it. A sample without any gives a blank patch rather than an error.
        return draw_start(rng, image_shape, shape, locations, 1.0)

    def _blank(self, sample: Sample, start: tuple[int, ...]) -> bool:
        assert sample.seg_data is not None
        assert self.skip_class is not None
        shape = self.patch_shape_for(sample.img_data.shape[:-1])
        return bool((read_region(sample.seg_data, start, shape, self.skip_class) == self.skip_class).all())


def checked_patch_shape(patch_shape: Any, analysis: str, axes: int) -> tuple[int, ...] | None:
    """Return the size of patches as whole numbers; None for whole images.

    Raises:
        ConfigurationError: If it is not one positive whole number per axis.
    """
    if analysis == "fullimage":
        return None
    listed = isinstance(patch_shape, tuple | list) and len(patch_shape) == axes and _all_whole(patch_shape)
    if not listed or any(n < 1 for n in patch_shape or ()):
        raise ConfigurationError(
            f"patch_shape={patch_shape!r}: analysis={analysis!r} on {axes}D data needs a tuple of {axes} "
            f"positive whole numbers, such as {(64, 64, 32)[:axes]}"
        )
    return tuple(int(n) for n in patch_shape or ())


def checked_overlap(overlap: Any, patch_shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the overlap of neighbouring patches, one number per axis; empty for whole images.

    Args:
        overlap: Voxels, or fractions of the patch between 0 and 1, rounded down; one for all axes, or one per axis.
        patch_shape: Spatial shape of the patches; None for whole images.

    Raises:
        ConfigurationError: If it is not whole numbers below the patch's size, or fractions of it.

    Example:
        >>> checked_overlap(0.5, (64, 64, 33)), checked_overlap((8, 8, 0.25), (64, 64, 32))
        ((32, 32, 16), (8, 8, 8))
    """
    if patch_shape is None:
        return ()
    axes = len(patch_shape)
    listed = tuple(overlap)[:axes] if isinstance(overlap, Iterable) else (overlap,) * axes
    if len(listed) == axes:
        listed = tuple(map(_in_voxels, listed, patch_shape))
    whole = len(listed) == axes and _all_whole(listed)
    if not whole or any(not 0 <= n < size for n, size in zip(listed, patch_shape, strict=True)):
        raise ConfigurationError(
            f"patchwise_overlap={overlap!r} needs {axes} numbers, one per axis: voxels, from 0 to less "
            f"than the patch's size ({patch_shape}), or a fraction of it between 0 and 1"
        )
    return tuple(int(n) for n in listed)


def _in_voxels(overlap: Any, size: int) -> Any:
    return int(float(overlap) * size) if isinstance(overlap, Real) and 0 < float(overlap) < 1 else overlap


def _all_whole(values: Iterable[Any]) -> bool:
    return all(isinstance(value, Real) and value % 1 == 0 for value in values)  # 8.0 too: half of a patch
