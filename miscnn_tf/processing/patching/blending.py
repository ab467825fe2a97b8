"""Putting overlapping predicted patches together again, in a memory that does not grow with the image's first axis."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.patching.grid import PatchGrid, PatchLocation

MODES = ("gaussian", "average")


class Slab(NamedTuple):
    """Finished rows ``start <= row < stop`` of the first axis: ``array`` is ``(stop - start, y[, z], channels)``."""

    start: int
    stop: int
    array: np.ndarray


class Blender:
    """Adds up weighted patches and hands out the rows of the first axis as soon as no later patch can change them.

    The weights are normalised beforehand. A Gaussian window is the product of one factor per axis, and so is its sum
    over a regular grid, hence ``w_i(x) = g(x - start_i) / sum_j g(x - start_j)`` per axis, and the sum of
    ``patch * outer(w)`` is already the blended value: no volume of weights is held, and nothing is divided afterwards.

    Patches come in the grid's order, except that those that share their first-axis start may come in any order. Only
    the rows that the current patches reach are held: ``patch_shape[0]`` rows, and what was finished but not yet fetched
    with `slabs`.

    Args:
        grid: Where the patches lie.
        channels: Channels of a patch (classes).
        mode: ``"gaussian"``: a patch counts less towards its border, with a standard deviation of 1/8 of the patch
            (Isensee et al., nnU-Net, Nature Methods 2021). It is ``exp(-8)`` at the very border, never 0.
            ``"average"``: every patch that covers a voxel counts alike.
        dtype: Floating type of the sum and the result, float32 by default.

    Raises:
        ConfigurationError: If `mode` is not known, or `dtype` not a floating type.

    Example:
        >>> grid = PatchGrid((6, 4), (4, 4), overlap=2)
        >>> blender = Blender(grid, channels=1)
        >>> for number in range(len(grid)):
        ...     blender.add(number, np.ones((4, 4, 1), np.float32))
        ...     print([(slab.start, slab.stop) for slab in blender.slabs()])
        [(0, 2)]
        [(2, 6)]
    """

    def __init__(
        self, grid: PatchGrid, channels: int, mode: str = "gaussian", dtype: npt.DTypeLike = np.float32
    ) -> None:
        if mode not in MODES:
            raise ConfigurationError(f"mode must be one of {', '.join(map(repr, MODES))}; got {mode!r}")
        if not np.issubdtype(np.dtype(dtype), np.floating):
            raise ConfigurationError(f"dtype must be a floating type; got {np.dtype(dtype)}")
        self.grid = grid
        self.channels = channels
        self.mode = mode
        self.dtype = np.dtype(dtype)
        self._weights = tuple(
            window_weights(starts, window, mode) for starts, window in zip(grid.starts, grid.patch_shape, strict=True)
        )
        self._per_layer = len(grid) // grid.counts[0]
        self._layer = -1
        self._missing: set[int] = set()
        self._finished: deque[Slab] = deque()
        self._sum = np.zeros((grid.patch_shape[0], *grid.image_shape[1:], channels), self.dtype)
        self._scratch = np.empty((*grid.patch_shape[1:], channels), self.dtype)
        self._enter_layer(0)

    def add(self, location: int | PatchLocation, values: npt.ArrayLike) -> None:
        """Add one patch, in place.

        Args:
            location: Its number in the grid, or its location.
            values: Array ``(*patch_shape, channels)``; it is not changed.

        Raises:
            ConfigurationError: If the shape is not that of a patch, or the patch comes a second time or out of order.
        """
        index = self.grid.index(location) if isinstance(location, PatchLocation) else int(location)
        values = np.asarray(values)
        if values.shape != (*self.grid.patch_shape, self.channels):
            raise ConfigurationError(
                f"patch {index} has shape {values.shape}; the grid needs {(*self.grid.patch_shape, self.channels)}"
            )
        if index not in self._missing:
            raise ConfigurationError(
                f"patch {index} was added already, or comes before the patches {sorted(self._missing)[:3]}; add each "
                "patch of the grid once, in the grid's order"
            )
        along = self.grid.position(index)
        rest = self.grid[index].to_slices()[1:]
        rows = self._row_weights(along[1:])
        # Row by row: what is multiplied stays in the processor's cache, and no temporary has the size of a patch.
        for row, weight in enumerate(self._weights[0][along[0]].astype(self.dtype)):
            np.multiply(values[row], rows * weight, out=self._scratch, casting="same_kind")
            target = self._sum[row][rest]
            target += self._scratch
        self._missing.remove(index)
        if not self._missing:
            self._finish_layer()

    def slabs(self) -> Iterator[Slab]:
        """Fetch the rows that were finished since the last call, in order; each is handed out once.

        Yields:
            Each `Slab`: first row, one past the last row, array ``(rows, y[, z], channels)`` that the caller may keep.
        """
        while self._finished:
            yield self._finished.popleft()

    def blend(self, patches: Iterable[npt.ArrayLike]) -> Iterator[Slab]:
        """Turn a stream of all patches, in the grid's order, into a stream of finished slabs.

        Args:
            patches: Arrays ``(*patch_shape, channels)``; taken one by one, as slabs are asked for.

        Yields:
            Each `Slab`; together they cover the first axis.

        Raises:
            ConfigurationError: If there are more or fewer patches than the grid has.

        Example:
            >>> grid = PatchGrid((6, 4), (4, 4), overlap=2)
            >>> patches = (np.full((4, 4, 2), 0.5, np.float32) for _ in grid)
            >>> [np.argmax(slab.array, axis=-1).shape for slab in Blender(grid, channels=2).blend(patches)]
            [(2, 4), (4, 4)]
        """
        given = 0
        for values in patches:
            if given == len(self.grid):
                raise ConfigurationError(f"there are more patches than the {given} of {self.grid}")
            self.add(given, values)
            given += 1
            yield from self.slabs()
        if given < len(self.grid):
            raise ConfigurationError(f"there are only {given} patches, but {self.grid} has {len(self.grid)}")

    def result(self) -> np.ndarray:
        """The whole blended array ``(x, y[, z], channels)``, where no slab was fetched before.

        Raises:
            ConfigurationError: If patches are missing, or slabs were fetched already.
        """
        if self._missing:
            raise ConfigurationError(f"the patches {sorted(self._missing)[:3]} and later ones were not added yet")
        if not self._finished or self._finished[0].start != 0:
            raise ConfigurationError("the slabs were fetched already; put those together, or do not fetch any")
        whole = np.empty((*self.grid.image_shape, self.channels), self.dtype)
        for slab in self.slabs():
            whole[slab.start : slab.stop] = slab.array
        return whole

    def _row_weights(self, along: tuple[int, ...]) -> np.ndarray:
        """The weights over one row of a patch, ``(y[, z], 1)``."""
        weights = np.ones(1)
        for number, axis in zip(along, self._weights[1:], strict=True):
            weights = np.multiply.outer(weights, axis[number])
        return weights[0][..., np.newaxis].astype(self.dtype)

    def _enter_layer(self, layer: int) -> None:
        self._layer = layer
        self._missing = set(range(layer * self._per_layer, (layer + 1) * self._per_layer))

    def _finish_layer(self) -> None:
        starts = self.grid.starts[0]
        first = starts[self._layer]
        if self._layer + 1 == len(starts):
            self._finished.append(Slab(first, self.grid.image_shape[0], self._sum))
            return
        step = starts[self._layer + 1] - first
        self._finished.append(Slab(first, first + step, self._sum[:step].copy()))
        # Moved row by row: one overlapping assignment would make numpy copy the whole sum first.
        for row in range(step, len(self._sum)):
            self._sum[row - step] = self._sum[row]
        self._sum[len(self._sum) - step :] = 0
        self._enter_layer(self._layer + 1)


def window_weights(starts: tuple[int, ...], window: int, mode: str) -> np.ndarray:
    """What each window of one axis counts at each of its voxels, normalised.

    Args:
        starts: First voxels of the windows, covering the axis.
        window: Voxels of a window.
        mode: ``"gaussian"`` or ``"average"``.

    Returns:
        float64 array ``(len(starts), window)``; at every voxel of the axis the weights of all windows sum to 1, and
        none is 0.
    """
    if mode == "gaussian":
        # Centred between the two middle voxels of an even window, so that the weights are symmetric.
        distance = (np.arange(window) - (window - 1) / 2) / (window / 8)
        profile = np.exp(-0.5 * distance**2)
    else:
        profile = np.ones(window)
    total = np.zeros(starts[-1] + window)
    for start in starts:
        total[start : start + window] += profile
    return np.stack([profile / total[start : start + window] for start in starts])
