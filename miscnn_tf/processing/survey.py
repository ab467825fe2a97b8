"""What a look over all prepared samples says to the user before the training: padding, and classes that are rare."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from miscnn_tf.data_loading.sample import Sample

#: A class with a smaller share of all voxels than this is told: 1 in 100,000.
RARE_SHARE = 1e-5


class Surveyed(NamedTuple):
    """What is remembered of a prepared sample.

    Attributes:
        name: What it is called.
        shape: Its spatial shape.
        original: That of the image as it was read.
        voxels: Voxels per class; None without a label map.
    """

    name: Hashable
    shape: tuple[int, ...]
    original: tuple[int, ...]
    voxels: Sequence[int] | None


def survey(sample: Sample) -> Surveyed:
    """What `remarks` needs of a prepared sample."""
    return Surveyed(sample.index, sample.img_data.shape[:-1], sample.shape[:-1], sample.details.get("voxels"))


def remarks(samples: Sequence[Surveyed], patch_shape: tuple[int, ...] | None) -> list[str]:
    """What the user should know, in sentences.

    Args:
        samples: All samples of the training.
        patch_shape: Spatial shape of the patches; None for whole images.
    """
    said = []
    if patch_shape is not None:
        # A rim of padding is usual, and does no harm: patches are as large as the median image and divisible.
        small = [sample for sample in samples if any(2 * n < m for n, m in zip(sample.shape, patch_shape, strict=True))]
        if small:
            said.append(
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
                said.append(
                    f"class {label} has no voxel in any of the {len(labelled)} samples: it cannot be learned. Are "
                    "classes and label_map of the interface right?"
                )
            elif voxels < RARE_SHARE * total:
                said.append(
                    f"class {label} is rare: {voxels} of {total} voxels, in {cases} of {len(labelled)} samples. If its "
                    "Dice stays at 0, raise patchwise_foreground of the Preprocessor, or use class_weight"
                )
    return said
