"""Locations of the patches of a grid."""

from __future__ import annotations

import math
import operator
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import overload

from miscnn_tf.errors import ConfigurationError


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
        self, image_shape: Sequence[int], patch_shape: Sequence[int], overlap: int | Sequence[int] = 0
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
            axis_starts(*axis) for axis in zip(self.image_shape, self.patch_shape, self.overlap, strict=True)
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


def axis_starts(size: int, window: int, overlap: int) -> tuple[int, ...]:
    """Return the first voxels of the patches that cover one axis; the last patch is moved back inside.

    Args:
        size: Voxels along the axis.
        window: Voxels of a patch.
        overlap: Voxels that neighbours share (at least; the last two may share more).

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
    return (*range(0, size - window, window - overlap), size - window)


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
