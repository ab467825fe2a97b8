"""Remarks on all prepared samples before a training: small samples, and classes that are missing or rare."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from miscnn_tf.data_loading.sample import Sample

#: A class with a smaller share of all voxels is reported as rare.
RARE_SHARE = 1e-5


class Surveyed(NamedTuple):
    """Summary of a prepared sample.

    Attributes:
        name: Name (index) of the sample.
        shape: Spatial shape of the prepared image.
        original: Spatial shape of the image as it was read.
        voxels: Voxels per class; None without a label map.
    """

    name: Hashable
    shape: tuple[int, ...]
    original: tuple[int, ...]
    voxels: Sequence[int] | None


def survey(sample: Sample) -> Surveyed:
    """Return the summary of a prepared sample."""
    return Surveyed(sample.index, sample.img_data.shape[:-1], sample.shape[:-1], sample.details.get("voxels"))


def remarks(samples: Sequence[Surveyed], patch_shape: tuple[int, ...] | None) -> list[str]:
    """Return remarks for the user, one sentence or two each.

    Args:
        samples: All samples of the training.
        patch_shape: Spatial shape of the patches; None for whole images.
    """
    found = []
    if patch_shape is not None:
        # Some padding is normal: patches are as large as the median image, and divisible.
        small = [sample for sample in samples if any(2 * n < m for n, m in zip(sample.shape, patch_shape, strict=True))]
        if small:
            found.append(
                f"{len(small)} of {len(samples)} samples are less than half as large as patch_shape={patch_shape}, "
                f"such as {small[0].name!r} with {small[0].shape} voxels: they are padded for the network, and "
                "predictions are cropped back. A smaller patch_shape is faster"
            )
    labelled = [sample.voxels for sample in samples if sample.voxels is not None]
    if labelled:
        counts = np.array(labelled, np.int64)
        total = int(counts.sum())
        for label in range(1, counts.shape[1]):
            voxels, cases = int(counts[:, label].sum()), int(np.count_nonzero(counts[:, label]))
            if voxels == 0:
                found.append(
                    f"class {label} has no voxel in any of the {len(labelled)} samples, so it cannot be learned; check "
                    "classes and label_map of the interface"
                )
            elif voxels < RARE_SHARE * total:
                found.append(
                    f"class {label} is rare: {voxels} of {total} voxels, in {cases} of {len(labelled)} samples. If its "
                    "Dice stays at 0, raise patchwise_foreground of the Preprocessor, or use class_weight"
                )
    return found
