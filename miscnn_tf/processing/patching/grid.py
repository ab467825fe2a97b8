"""Patch locations: on a grid for prediction, and drawn for training."""

from __future__ import annotations

import math
import operator
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Real
from typing import overload

import numpy as np

from miscnn_tf.errors import ConfigurationError

# Voxels processed together: temporaries of at most a few megabytes, whatever the image's size.
CHUNK_VOXELS = 2**18


@dataclass(frozen=True)
class PatchLocation:
    """Position and size of a patch on an image's grid.

    Args:
        start: First voxel, one integer per spatial axis. It may be negative, and the patch may reach beyond the image:
            see `miscnn_tf.processing.patching.region.read_region`.
        shape: Number of voxels per spatial axis.

    Example:
        >>> PatchLocation((0, 8), (4, 4)).to_slices()
        (slice(0, 4, None), slice(8, 12, None))
    """

    start: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def stop(self) -> tuple[int, ...]:
        """One past the last voxel, per spatial axis."""
        return tuple(first + size for first, size in zip(self.start, self.shape, strict=True))

    def to_slices(self) -> tuple[slice, ...]:
        """One slice per spatial axis: ``array[location.to_slices()]`` is the patch, channels and all."""
        return tuple(slice(first, last) for first, last in zip(self.start, self.stop, strict=True))


class PatchGrid(Sequence[PatchLocation]):
    """All patches of a regular grid over an image, in order: the first axis is the outermost loop.

    Neighbours share `overlap` voxels. Where the grid does not come out even, the last patch of an axis is moved back
    inside, so that every patch has the full shape and every voxel is covered. Locations are made when asked for; the
    grid itself holds only the starts of each axis.

    Args:
        image_shape: Spatial shape of the image, at least `patch_shape` in each axis (see `padded_shape`).
        patch_shape: Spatial shape of a patch.
        overlap: Voxels that neighbours share, one number per axis or one for all.
        even: Distribute the patches of each axis evenly instead of moving the last one back, as nnU-Net does.

    Attributes:
        starts: First voxels of the patches, one ascending tuple per axis.

    Raises:
        ConfigurationError: If the numbers of axes differ, or an axis cannot be covered (see `axis_starts`).

    Example:
        >>> grid = PatchGrid((10, 4), (4, 4), overlap=(1, 0))
        >>> [location.start for location in grid]
        [(0, 0), (3, 0), (6, 0)]
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        patch_shape: Sequence[int],
        overlap: int | Sequence[int] = 0,
        even: bool = False,
    ) -> None:
        self.image_shape = tuple(int(size) for size in image_shape)
        self.patch_shape = tuple(int(size) for size in patch_shape)
        if isinstance(overlap, Sequence):
            self.overlap = tuple(int(voxels) for voxels in overlap)
        else:
            self.overlap = (int(overlap),) * len(self.patch_shape)
        if not len(self.image_shape) == len(self.patch_shape) == len(self.overlap):
            raise ConfigurationError(
                f"image_shape {self.image_shape}, patch_shape {self.patch_shape} and overlap {self.overlap} must have "
                "one number per spatial axis each"
            )
        self.starts: tuple[tuple[int, ...], ...] = tuple(
            axis_starts(*axis, even) for axis in zip(self.image_shape, self.patch_shape, self.overlap, strict=True)
        )

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of patches along each axis."""
        return tuple(len(starts) for starts in self.starts)

    def position(self, index: int) -> tuple[int, ...]:
        """Return the place along each axis of the patch number `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"patch {index} of a grid of {len(self)}")
        position = []
        for count in reversed(self.counts):
            index, along = divmod(index, count)
            position.append(along)
        return tuple(reversed(position))

    def reaching(self, columns: slice) -> list[int]:
        """Return the numbers of the patches that hold any of these voxels of the second axis, in order.

        Args:
            columns: First voxel and one past the last.
        """
        along = [
            number
            for number, start in enumerate(self.starts[1])
            if start < columns.stop and start + self.patch_shape[1] > columns.start
        ]
        others = [range(count) for count in self.counts]
        strides = [math.prod(self.counts[axis + 1 :]) for axis in range(len(self.counts))]
        places = product(others[0], along, *others[2:])
        return [sum(map(operator.mul, place, strides)) for place in places]

    def index(self, value: PatchLocation, start: int = 0, stop: int | None = None) -> int:
        """Return the number of a location, without a search; one that is not of this grid raises ValueError."""
        found = 0
        fits = isinstance(value, PatchLocation) and value.shape == self.patch_shape
        if fits and len(value.start) == len(self.starts):
            for starts, first in zip(self.starts, value.start, strict=True):
                along = bisect_left(starts, first)
                if along == len(starts) or starts[along] != first:
                    break
                found = found * len(starts) + along
            else:
                first_asked, last_asked, _ = slice(start, stop).indices(len(self))
                if first_asked <= found < last_asked:
                    return found
        raise ValueError(f"{value} is not a patch of {self}")

    def __len__(self) -> int:
        return math.prod(self.counts)

    @overload
    def __getitem__(self, index: int) -> PatchLocation: ...
    @overload
    def __getitem__(self, index: slice) -> list[PatchLocation]: ...
    def __getitem__(self, index: int | slice) -> PatchLocation | list[PatchLocation]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        along = self.position(index)
        start = tuple(starts[number] for starts, number in zip(self.starts, along, strict=True))
        return PatchLocation(start, self.patch_shape)

    def __iter__(self) -> Iterator[PatchLocation]:
        return (PatchLocation(start, self.patch_shape) for start in product(*self.starts))

    def __contains__(self, value: object) -> bool:
        try:
            self.index(value)  # type: ignore[arg-type]
        except ValueError:
            return False
        return True

    def __repr__(self) -> str:
        return f"PatchGrid(image_shape={self.image_shape}, patch_shape={self.patch_shape}, overlap={self.overlap})"


def axis_starts(size: int, window: int, overlap: int, even: bool = False) -> tuple[int, ...]:
    """Return the first voxels of the patches that cover one axis; the last patch is moved back inside.

    Args:
        size: Voxels along the axis.
        window: Voxels of a patch.
        overlap: Voxels that neighbours share (at least; the last two may share more).
        even: All starts are distributed evenly, and rounded.

    Returns:
        ``ceil((size - window) / (window - overlap)) + 1`` ascending starts, from 0 to ``size - window``.

    Raises:
        ConfigurationError: If `window` is not positive, `overlap` not in ``[0, window)``, or `size` below `window`
            (pad the image first).

    Example:
        >>> axis_starts(10, 4, 0)
        (0, 4, 6)
    """
    if window < 1:
        raise ConfigurationError(f"patch_shape must be positive; got {window}")
    if not 0 <= overlap < window:
        raise ConfigurationError(
            f"overlap must be at least 0 and less than the patch, {window} voxels on this axis; got {overlap}"
        )
    if size < window:
        raise ConfigurationError(
            f"image_shape: the image has {size} voxels on an axis where patch_shape is {window}; pad it to the patch "
            "first, or choose a smaller patch_shape"
        )
    starts = (*range(0, size - window, window - overlap), size - window)
    if not even or len(starts) == 1:
        return starts
    step = (size - window) / (len(starts) - 1)
    return tuple(round(step * number) for number in range(len(starts)))


def padded_shape(image_shape: Sequence[int], patch_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape to pad an image to, so that a grid of patches fits on it: the larger of both, per axis.

    Raises:
        ConfigurationError: If the numbers of axes differ.

    Example:
        >>> padded_shape((100, 20, 30), (32, 32, 32))
        (100, 32, 32)
    """
    if len(image_shape) != len(patch_shape):
        raise ConfigurationError(
            f"patch_shape {tuple(patch_shape)} must have one number per spatial axis of the image, {tuple(image_shape)}"
        )
    return tuple(max(int(size), int(patch)) for size, patch in zip(image_shape, patch_shape, strict=True))


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
    rare class is seen as often as a frequent one; the uniform patches show foreground away from the centre). If class 0
    is in `locations`, it is the annotated voxels of a partly annotated image; other patches are centred on one of them.

    If the image is smaller than the patch, the start is negative, so that the image is in the patch's middle, as
    batchgenerators' ``pad_nd_image`` would pad it; `region.read_region` fills the rest.

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
    chosen: int | None = None
    if locations is not None and len(locations):
        chosen = 0 if locations[0, 0] == 0 else None  # sorted by class
        if foreground > 0 and rng.random() < foreground:
            present = np.unique(locations[:, 0])
            chosen = rng.choice(present[present > 0]) if present[-1] > 0 else chosen
    if locations is not None and chosen is not None:
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
