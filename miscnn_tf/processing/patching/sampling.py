"""Draw the patches that a network is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Real

import numpy as np

from miscnn_tf.errors import ConfigurationError

# Voxels processed together: temporaries of at most a few megabytes, whatever the image's size.
CHUNK_VOXELS = 2**18


def class_locations(labels: np.ndarray, classes: int, rng: np.random.Generator, limit: int = 1000) -> np.ndarray:
    """Draw voxels of each foreground class, once per image, so that patches can be centred on them later.

    The label map is read twice, in chunks along its slowest axis: voxels are counted, then those are picked whose
    numbers were drawn. Each subset of a class's voxels is equally likely.

    Args:
        labels: Label map ``(x, y[, z])`` of integers, in any memory order; may be a memory map.
        classes: Number of classes, background (0) included. Labels outside ``1 … classes - 1`` are left out.
        rng: Source of the random numbers.
        limit: Maximum number of voxels per class; all voxels of smaller classes are returned.

    Returns:
        int32 array ``(n, 1 + axes)``: the class, then the voxel. Rows are sorted by class; a class that does not occur
        has none.

    Raises:
        ConfigurationError: If `labels` has no integer type, or `limit` is not positive.

    Example:
        >>> labels = np.zeros((4, 4), np.uint8)
        >>> labels[1, 2] = 1
        >>> class_locations(labels, classes=2, rng=np.random.default_rng(0))
        array([[1, 1, 2]], dtype=int32)
    """
    if not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
        raise ConfigurationError(f"labels must be integers; got {labels.dtype}")
    if limit < 1:
        raise ConfigurationError(f"limit must be at least 1; got {limit}")
    # In the order of the voxels in memory: NIfTI arrays are Fortran-ordered.
    axes = sorted(range(labels.ndim), key=lambda axis: -abs(labels.strides[axis]))
    ordered = labels.transpose(axes)
    counts = [np.bincount(found.astype(np.intp), minlength=classes)[1:] for _, found in _foreground(ordered, classes)]
    if not counts:
        return np.empty((0, 1 + labels.ndim), np.int32)
    before = np.cumsum([np.zeros_like(counts[0]), *counts], axis=0)
    wanted = [
        np.sort(rng.choice(total, size=min(limit, int(total)), replace=False)) if total else np.empty(0, np.int64)
        for total in before[-1]
    ]
    picked: list[list[np.ndarray]] = [[] for _ in wanted]
    for chunk, (voxels, found) in enumerate(_foreground(ordered, classes)):
        for number, ordinals in enumerate(wanted):
            low, high = np.searchsorted(ordinals, before[chunk : chunk + 2, number])
            if low < high:
                of_class = voxels[found == number + 1]
                picked[number].append(of_class[ordinals[low:high] - before[chunk, number]])
    rows = []
    for number, chunks in enumerate(picked):
        if chunks:
            voxels = np.stack(np.unravel_index(np.concatenate(chunks), ordered.shape), axis=1)
            row = np.empty((len(voxels), 1 + labels.ndim), np.int32)
            row[:, 0] = number + 1
            row[:, 1 + np.asarray(axes)] = voxels
            rows.append(row)
    return np.concatenate(rows) if rows else np.empty((0, 1 + labels.ndim), np.int32)


def draw_start(
    rng: np.random.Generator,
    image_shape: Sequence[int],
    patch_shape: Sequence[int],
    locations: np.ndarray | None = None,
    foreground: float = 0.0,
) -> tuple[int, ...]:
    """Draw the first voxel of a training patch.

    Either uniformly among all positions inside the image, or, with probability `foreground`, around the foreground: a
    class is drawn uniformly among those in `locations`, then one of its voxels, and the patch is centred on it and
    moved back inside the image, which keeps the voxel in the patch (oversampling as in nnU-Net, Isensee et al. 2021: a
    rare class is seen as often as a frequent one; the uniform patches show foreground away from the centre).

    If the image is smaller than the patch, the start is negative, so that the image is in the patch's middle, as
    `batchgenerators`' ``pad_nd_image`` would pad it; `read_region` fills the rest.

    Args:
        rng: Source of the random numbers.
        image_shape: Spatial shape of the image.
        patch_shape: Spatial shape of the patch.
        locations: Result of `class_locations`. None or empty: no foreground to draw.
        foreground: Probability of a patch around the foreground, 0 to 1.

    Returns:
        First voxel per spatial axis.

    Raises:
        ConfigurationError: If the numbers of axes differ, or `foreground` is not a probability.

    Example:
        >>> draw_start(np.random.default_rng(0), (10, 3), (10, 8))
        (0, -2)
    """
    if len(image_shape) != len(patch_shape):
        raise ConfigurationError(
            f"patch_shape {tuple(patch_shape)} must have one number per spatial axis of the image, {tuple(image_shape)}"
        )
    if not isinstance(foreground, Real) or not 0 <= foreground <= 1:
        raise ConfigurationError(f"foreground must be a probability between 0 and 1; got {foreground!r}")
    room = [int(size) - int(patch) for size, patch in zip(image_shape, patch_shape, strict=True)]
    if foreground > 0 and locations is not None and len(locations) and rng.random() < foreground:
        chosen = rng.choice(np.unique(locations[:, 0]))
        first, last = np.searchsorted(locations[:, 0], [chosen, chosen + 1])
        voxel = locations[rng.integers(first, last), 1:]
        start = [int(centre) - int(patch) // 2 for centre, patch in zip(voxel, patch_shape, strict=True)]
        start = [min(max(first, 0), free) for first, free in zip(start, room, strict=True)]
    else:
        start = [int(rng.integers(0, free + 1)) if free > 0 else 0 for free in room]
    return tuple(first if free >= 0 else -(-free // 2) for first, free in zip(start, room, strict=True))


def _foreground(labels: np.ndarray, classes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield flat voxel numbers and classes of the foreground, chunk by chunk along the first axis."""
    row_voxels = int(np.prod(labels.shape[1:]))
    rows = max(1, CHUNK_VOXELS // max(1, row_voxels))
    for first in range(0, labels.shape[0], rows):
        flat = np.asarray(labels[first : first + rows]).reshape(-1)
        voxels = np.flatnonzero(flat > 0)
        found = flat[voxels]
        if found.size and found.max() >= classes:
            known = found < classes
            voxels, found = voxels[known], found[known]
        voxels += first * row_voxels
        yield voxels, found
