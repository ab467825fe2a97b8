"""Regions that the score of a class is taken over, patch by patch."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.patching.blending import window_weights
from miscnn_tf.processing.patching.region import read_region
from miscnn_tf.processing.preparation import run_subfunctions
from miscnn_tf.processing.segmenter import PatchSegmenter

REGIONS = ("predicted", "all", "truth")
Region = str | Mapping[Hashable, np.ndarray]


def check_region(region: Region, indices: list[Hashable]) -> None:
    """Require a valid region.

    Raises:
        ConfigurationError: If `region` is an unknown name, or a mapping that lacks a sample.
    """
    if isinstance(region, str):
        if region not in REGIONS:
            raise ConfigurationError(f"region={region!r} must be one of {', '.join(map(repr, REGIONS))}, or masks")
        return
    if not isinstance(region, Mapping):
        raise ConfigurationError(
            f"region must be one of {', '.join(map(repr, REGIONS))}, or masks by sample ({{index: array}}); got a "
            f"{type(region).__name__}"
        )
    missing = [index for index in indices if index not in region]
    if missing:
        raise ConfigurationError(f"region holds no mask for sample {missing[0]!r}; give one for each sample")


class RegionPatch(NamedTuple):
    """A patch of a sample's grid, with the weights of its voxels.

    Attributes:
        image: float32 ``(x, y[, z], channels)``.
        start: Its first voxel on the preprocessed image; negative if it reaches beyond.
        weights: Weights of its voxels in the blended image, float32 ``(x, y[, z])``; 0 outside the image.
        mask: Labels or a mask of the region, ``(x, y[, z])``; None if the region depends on the scores, or is all.
    """

    image: np.ndarray
    start: tuple[int, ...]
    weights: np.ndarray
    mask: np.ndarray | None


class SampleRegion:
    """The region of a sample, and its patches with the weight of each voxel.

    A blended image is a weighted sum of its patches, and so is the sum of its scores over a region: a sum over patches
    with these weights is exactly the sum over the blended image.

    Args:
        model: The network.
        sample: The prepared sample.
        region: ``"predicted"``: the voxels that the network labels as the class; ``"all"``: all voxels of the image;
            ``"truth"``: those of the class in the sample's label map; or masks by sample, ``(x, y[, z])`` on the
            original image: those that are not 0.
    """

    def __init__(self, model: PatchSegmenter, sample: Sample, region: Region) -> None:
        self.sample = sample
        self.region = region
        self.plan = model.plan
        self._preprocessor = model.preprocessor
        self._labels = self._prepared_labels()

    def patches(self) -> Iterator[RegionPatch]:
        """Yield the patches in grid order, one at a time."""
        plan, shape = self.plan, self.sample.img_data.shape[:-1]
        grid, offset = plan.grid(shape), plan.offset(shape)
        along = [
            window_weights(starts, size, plan.blending).astype(np.float32)
            for starts, size in zip(grid.starts, grid.patch_shape, strict=True)
        ]
        for number, (location, image) in enumerate(zip(grid, plan.patches(self.sample), strict=True)):
            start = tuple(first - before for first, before in zip(location.start, offset, strict=True))
            weights = np.ones((), np.float32)
            for axis, place in enumerate(grid.position(number)):
                voxels = np.arange(start[axis], start[axis] + grid.patch_shape[axis])
                inside = (voxels >= 0) & (voxels < shape[axis])
                weights = np.multiply.outer(weights, along[axis][place] * inside)
            mask = None
            if self._labels is not None:
                mask = read_region(self._labels, start, grid.patch_shape, 0)[..., 0]
            yield RegionPatch(image, start, weights, mask)

    def counts(self, patch: RegionPatch, scores: np.ndarray, number: int) -> np.ndarray:
        """Return the weight of each voxel of a patch in the region of a class; 0 outside the region.

        Args:
            patch: The patch.
            scores: Scores or probabilities of its voxels, ``(x, y[, z], classes)``.
            number: The class.

        Returns:
            float32 array ``(x, y[, z])``.
        """
        if patch.mask is not None:
            chosen = patch.mask == number if self.region == "truth" else patch.mask != 0
        elif self.region == "predicted":
            chosen = scores.argmax(axis=-1) == number
        else:
            return patch.weights
        return patch.weights * chosen

    def _prepared_labels(self) -> np.ndarray | None:
        """Return the label map or mask on the preprocessed image's grid, ``(x, y[, z], 1)``."""
        index, preprocessor = self.sample.index, self._preprocessor
        if isinstance(self.region, Mapping):
            sample = preprocessor.data_io.sample_loader(index, load_seg=False)
            mask = np.asarray(self.region[index])
            spatial = sample.img_data.shape[:-1]
            if mask.shape not in (spatial, (*spatial, 1)):
                raise DataError(
                    f"sample {index!r}: the mask in region is {mask.shape}, but the image is {spatial} voxels; they "
                    "must be the same grid"
                )
            sample.add_segmentation((mask != 0).astype(np.uint8))
            run_subfunctions(sample, preprocessor.subfunctions, training=True)
            return sample.seg_data
        if self.region == "truth":
            # A step may change the image differently in training: only the label map of this sample is used.
            keep = preprocessor.prepare_subfunctions
            return preprocessor.prepare_sample_subfunctions(index, training=True, keep=keep).seg_data
        return None
