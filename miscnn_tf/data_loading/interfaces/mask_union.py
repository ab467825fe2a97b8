"""Union of one mask per structure or object to a label map."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np

from miscnn_tf._base.messages import plural, some_of
from miscnn_tf.data_loading.interfaces.sample_paths import MaskFile
from miscnn_tf.data_loading.labels import label_dtype
from miscnn_tf.data_loading.overlapping_masks import OverlapWarning
from miscnn_tf.errors import DataError, GridError


def unite(
    index: Hashable,
    masks: Sequence[MaskFile],
    read: Callable[[Path], np.ndarray],
    classes: int,
) -> np.ndarray:
    """Unite masks to a label map; a voxel in several structures gets the smallest one.

    Small structures are usually parts of large ones, such as a tumour of a liver. Masks are read one by one, and only
    the positions of their foreground are kept.

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
    shape: tuple[int, ...] | None = None
    structures: list[tuple[MaskFile, np.ndarray]] = []
    for mask in masks:
        array = read(mask.path)
        shape = array.shape if shape is None else shape
        if array.shape != shape:
            raise GridError(f"{mask.path} has shape {array.shape}, but {masks[0].path} {shape}; correct one of them")
        flat = array.ravel(order="F")
        where = np.flatnonzero(flat)
        _require_mask(mask, flat[where])
        structures.append((mask, where.astype(np.int32) if array.size < 2**31 else where))
    assert shape is not None
    largest = max(mask.label for mask in masks)  # beyond the classes if too few are given; the caller checks it
    labels = np.zeros(int(np.prod(shape)), label_dtype(max(classes, largest + 1)))
    names = {mask.label: mask.name for mask in masks}
    overlaps: Counter[tuple[int, int]] = Counter()
    for mask, where in sorted(structures, key=lambda one: -len(one[1])):
        held = labels[where]
        for other in np.unique(held[(held != 0) & (held != mask.label)]):
            overlaps[int(other), mask.label] += int(np.count_nonzero(held == other))
        labels[where] = mask.label
    if overlaps:
        pairs = [
            f"{plural(number, 'voxel')} of {names[large]} also in {names[small]}"
            for (large, small), number in overlaps.most_common()
        ]
        warnings.warn(
            OverlapWarning(
                f"sample {index!r}: masks overlap, and the smaller structure is used there: {some_of(pairs)}",
                (index, tuple(overlaps)),
            ),
            stacklevel=2,
        )
    return labels.reshape(shape, order="F")


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
