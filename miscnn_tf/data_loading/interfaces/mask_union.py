"""Union of one mask per structure or object to a label map."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path

import numpy as np

from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading.interfaces.sample_paths import MaskFile
from miscnn_tf.data_loading.overlapping_masks import merge_masks
from miscnn_tf.errors import DataError, GridError


def unite(
    index: Hashable,
    masks: Sequence[MaskFile],
    read: Callable[[Path], np.ndarray],
    classes: int,
) -> np.ndarray:
    """Unite masks to a label map; a voxel in several structures gets the smallest one.

    Small structures are usually parts of large ones, such as a tumour of a liver. Masks are read one by one, and only
    their bounding boxes are kept.

    Args:
        index: Name of the sample, for messages.
        masks: At least one mask.
        read: Reads a mask.
        classes: Number of classes, background included.

    Raises:
        DataError: If a mask has more than one value beside 0, or another shape than the first.

    Warns:
        OverlapWarning: If a voxel is in structures of different classes; it names them.
    """
    first = read(masks[0].path)

    def read_all() -> Iterator[tuple[str, int, np.ndarray]]:
        for mask in masks:
            array = first if mask is masks[0] else read(mask.path)
            if array.shape != first.shape:
                raise GridError(
                    f"{mask.path} has shape {array.shape}, but {masks[0].path} {first.shape}; correct one of them"
                )
            foreground = array != 0
            _require_mask(mask, array[foreground])
            yield mask.name, mask.label, foreground

    largest = max(mask.label for mask in masks)  # beyond the classes if too few are given; the caller checks it
    return merge_masks(read_all(), first.shape, max(classes, largest + 1), 0, f"sample {index!r}")


def _require_mask(mask: MaskFile, values: np.ndarray) -> None:
    """Require that the foreground of a mask has one value, or whole numbers if they number objects."""
    if values.size == 0:
        return
    found = np.unique(values)
    if not np.isfinite(found).all():
        raise DataError(f"{mask.path} holds NaN or infinite voxels; a mask holds 0 and one other value. Save it again")
    if not mask.numbered and found.size > 1:
        raise DataError(
            f"{mask.path} holds {some_of([0, *found.tolist()])}, but the mask of one structure holds 0 and one other "
            "value: was it interpolated, or is it a label map of several structures? Save it again as a mask"
        )
