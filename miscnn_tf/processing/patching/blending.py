"""Blend overlapping predicted patches, in a memory that does not grow with the image's first axis."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.patching.grid import PatchGrid, PatchLocation

MODES = ("gaussian", "average", "nnunet")

#: Size of the slabs that finished rows are copied to; at least one row.
PIECE_BYTES = 8 * 2**20


class Slab(NamedTuple):
    """Finished rows ``start <= row < stop`` of the first axis: ``array`` is ``(stop - start, y[, z], channels)``."""

    start: int
    stop: int
    array: np.ndarray


#: Consecutive slabs ``(rows, columns[, z], classes)`` of these columns of the second axis, from row 0 on.
OpenSlabs = Callable[[slice], Iterable[Slab]]


class Blender:
    """Add up weighted patches, and yield rows of the first axis as soon as no later patch can change them.

    The weights are normalised beforehand. A Gaussian weight is the product of one factor per axis, and so is its sum
    over a regular grid, hence ``w_i(x) = g(x - start_i) / sum_j g(x - start_j)`` per axis, and the sum of
    ``patch * outer(w)`` is already the blended value: no volume of weights is held, and nothing is divided afterwards.

    Patches come in the grid's order, except that those that share their first-axis start may come in any order. Only
    the rows that the current patches reach are held, ``patch_shape[0]`` of them. Those that are finished are copied a
    few at a time, when they are fetched with `slabs`, or all at once where the next patch comes before that.

    With `columns` only a part of the second axis is blended, from the patches that reach it, as if the whole were: for
    images whose ``patch_shape[0]`` rows do not fit into memory.

    Args:
        grid: Locations of the patches.
        channels: Channels of a patch (classes).
        mode: ``"gaussian"``: a patch counts less towards its border, with a standard deviation of 1/8 of the patch
            (Isensee et al., nnU-Net, Nature Methods 2021). It is ``exp(-8)`` at the very border, never 0.
            ``"average"``: every patch that covers a voxel counts alike.
        dtype: Floating type of the sum and the result, float32 by default.
        columns: Voxels of the second axis to blend; None for all. Slabs hold only these.

    Attributes:
        numbers: The numbers of the patches to add, in order.

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
        self,
        grid: PatchGrid,
        channels: int,
        mode: str = "gaussian",
        dtype: npt.DTypeLike = np.float32,
        columns: slice | None = None,
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
        self.columns = columns
        self.numbers: Sequence[int] = range(len(grid)) if columns is None else grid.reaching(columns)
        self._per_layer = len(self.numbers) // grid.counts[0]
        self._shape = grid.image_shape[1:]
        if columns is not None:
            self._shape = (columns.stop - columns.start, *self._shape[1:])
        self._layer = -1
        self._missing: set[int] = set()
        self._finished: deque[Slab] = deque()
        self._fetched = False
        self._sum = np.zeros((grid.patch_shape[0], *self._shape, channels), self.dtype)
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
        if not self._missing and self._layer + 1 < self.grid.counts[0]:
            self._next_layer()
        if index not in self._missing:
            raise ConfigurationError(
                f"patch {index} was added already, or comes before the patches {sorted(self._missing)[:3]}; add each "
                "patch of the grid once, in the grid's order"
            )
        along = self.grid.position(index)
        rest, part = self._overlap(index)
        rows = self._row_weights(along[1:])[part]
        scratch = self._scratch[part]
        # Row by row: what is multiplied stays in the processor's cache, and no temporary has the size of a patch.
        for row, weight in enumerate(self._weights[0][along[0]].astype(self.dtype)):
            np.multiply(values[row][part], rows * weight, out=scratch, casting="same_kind")
            target = self._sum[row][rest]
            target += scratch
        self._missing.remove(index)

    def slabs(self) -> Iterator[Slab]:
        """Yield the rows that were finished since the last call, in order; each only once.

        Yields:
            Each `Slab`: first row, one past the last row, array ``(rows, y[, z], channels)`` that the caller may keep.
        """
        while self._finished:
            self._fetched = True
            yield self._finished.popleft()
        while not self._missing and self._given < self._done:
            self._fetched = True
            yield self._next_piece()

    def blend(self, patches: Iterable[npt.ArrayLike]) -> Iterator[Slab]:
        """Turn a stream of all patches, in the grid's order, into a stream of finished slabs.

        Args:
            patches: Arrays ``(*patch_shape, channels)``, those of `numbers`; taken one by one, as slabs are asked for.

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
            if given == len(self.numbers):
                raise ConfigurationError(f"there are more patches than the {given} of {self.grid}")
            self.add(self.numbers[given], values)
            given += 1
            del values  # otherwise it stays in memory while the rows that it finished are processed
            yield from self.slabs()
        if given < len(self.numbers):
            raise ConfigurationError(f"there are only {given} patches, but {self.grid} has {len(self.numbers)}")

    def result(self) -> np.ndarray:
        """Return the whole blended array ``(x, y[, z], channels)``, if no slab was fetched before.

        Raises:
            ConfigurationError: If patches are missing, or slabs were fetched already.
        """
        if self._missing:
            raise ConfigurationError(f"the patches {sorted(self._missing)[:3]} and later ones were not added yet")
        if self._fetched:
            raise ConfigurationError("the slabs were fetched already; put those together, or do not fetch any")
        whole = np.empty((self.grid.image_shape[0], *self._shape, self.channels), self.dtype)
        for slab in self.slabs():
            whole[slab.start : slab.stop] = slab.array
        return whole

    def _row_weights(self, along: tuple[int, ...]) -> np.ndarray:
        """Return the weights over one row of a patch, ``(y[, z], 1)``."""
        weights = np.ones(1)
        for number, axis in zip(along, self._weights[1:], strict=True):
            weights = np.multiply.outer(weights, axis[number])
        return weights[0][..., np.newaxis].astype(self.dtype)

    def _overlap(self, index: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Return the slices of a patch's row in the sum's rows, and those of its part there."""
        rest = self.grid[index].to_slices()[1:]
        if self.columns is None:
            return rest, ()
        start, stop = rest[0].start, rest[0].stop
        low, high = max(start, self.columns.start), min(stop, self.columns.stop)
        within = slice(low - self.columns.start, high - self.columns.start)
        return (within, *rest[1:]), (slice(low - start, high - start),)

    def _enter_layer(self, layer: int) -> None:
        starts = self.grid.starts[0]
        self._layer = layer
        self._missing = set(self.numbers[layer * self._per_layer : (layer + 1) * self._per_layer])
        # Number of rows that this layer finishes, and number of those that were fetched.
        self._done = (starts[layer + 1] if layer + 1 < len(starts) else self.grid.image_shape[0]) - starts[layer]
        self._given = 0

    def _next_piece(self, rows: int | None = None) -> Slab:
        """Return finished rows as a new array: the caller may keep them."""
        if rows is None:
            rows = max(1, PIECE_BYTES // self._sum[0].nbytes)
        first, last = self._given, min(self._given + rows, self._done)
        self._given = last
        start = self.grid.starts[0][self._layer]
        piece = self._sum[first:last]
        is_last = self._layer + 1 == self.grid.counts[0]  # nothing will be added to the sum any more
        return Slab(start + first, start + last, piece if is_last else piece.copy())

    def _next_layer(self) -> None:
        step = self._done
        if self._given < step:  # not fetched yet, but the next patches need the memory
            self._finished.append(self._next_piece(step))
        # Moved row by row: one overlapping assignment would make numpy copy the whole sum first.
        for row in range(step, len(self._sum)):
            self._sum[row - step] = self._sum[row]
        self._sum[len(self._sum) - step :] = 0
        self._enter_layer(self._layer + 1)


def window_weights(starts: tuple[int, ...], window: int, mode: str) -> np.ndarray:
    """Return the normalised weight of each patch of one axis at each of its voxels.

    Args:
        starts: First voxels of the patches, which cover the axis.
        window: Voxels of a patch.
        mode: ``"gaussian"``, ``"average"``, or ``"nnunet"``, whose weights are Gaussian.

    Returns:
        float64 array ``(len(starts), window)``; at every voxel of the axis the weights of all patches sum to 1, and
        none is 0.
    """
    if mode != "average":
        # Centred between the two middle voxels of an even patch, so that the weights are symmetric; nnU-Net's are not.
        centre = window // 2 if mode == "nnunet" else (window - 1) / 2
        distance = (np.arange(window) - centre) / (window / 8)
        profile = np.exp(-0.5 * distance**2)
    else:
        profile = np.ones(window)
    total = np.zeros(starts[-1] + window)
    for start in starts:
        total[start : start + window] += profile
    return np.stack([profile / total[start : start + window] for start in starts])


def cut_slabs(slabs: Iterator[Slab], part: Sequence[slice]) -> Iterator[Slab]:
    """Cut a part out of an array that comes in slabs; all of `slabs` are taken."""
    rows, inner = part[0], tuple(part[1:])
    for start, stop, array in slabs:
        low, high = max(start, rows.start), min(stop, rows.stop)
        cut = array[(slice(low - start, high - start), *inner)] if low < high else None
        del array
        if cut is not None:
            yield Slab(low - rows.start, high - rows.start, cut)
        del cut


class SlabRows:
    """An array that never exists as a whole: rows of its first axis are read in order, while slabs are made.

    For `miscnn_tf.processing.interpolation.resized_slabs`, which reads its source that way. One slab is held at a time,
    and of those before it the rows that are read once more. If even the rows that are being made are too large, the
    second axis is read in sections: a part of the array (``rows[:, 20:40]``) makes slabs of its columns only, from its
    first row on. Before the slabs of one part are begun, those of the part before are taken to their end.

    Args:
        open_slabs: Makes the slabs, for a range of columns; they are taken one by one, as rows are read.
        shape: Shape of the whole, ``(x, y[, z], classes)``.
        sections: Number of sections of the second axis to read it in.

    Attributes:
        shape: The same, as a tuple; a part has its own.
        ndim: Its number of axes.
        sections: The same.

    Example:
        >>> slabs = (Slab(row, row + 2, np.full((2, 3, 1), row)) for row in (0, 2, 4))
        >>> rows = SlabRows(lambda columns: slabs, (6, 3, 1))
        >>> rows[1:3][:, 0, 0], rows[2:6][:, 0, 0]
        (array([0, 2]), array([2, 2, 4, 4]))
    """

    def __init__(self, open_slabs: OpenSlabs, shape: Sequence[int], sections: int = 1) -> None:
        self.sections = sections
        self._open_slabs = open_slabs
        self._running: list[Iterator[Slab]] = []  # at most one, shared by all parts
        self._set_box([slice(0, size) for size in shape])

    def _set_box(self, box: Sequence[slice]) -> None:
        self._box = tuple(box)
        self.shape = tuple(one.stop - one.start for one in self._box)
        self.ndim = len(self.shape)
        self._slabs: Iterator[Slab] | None = None
        self._held: deque[Slab] = deque()

    @overload
    def __getitem__(self, key: slice) -> np.ndarray: ...

    @overload
    def __getitem__(self, key: tuple[slice, ...]) -> SlabRows: ...

    def __getitem__(self, key: slice | tuple[slice, ...]) -> np.ndarray | SlabRows:
        """Return rows as an array; with a slice per leading axis a part, whose slabs are made when its rows are read.

        Raises:
            IndexError: If the rows are before those of the last call.
            ConfigurationError: If the slabs end too early.
        """
        if isinstance(key, tuple):
            asked = [slice(*one.indices(size)) for one, size in zip(key, self.shape, strict=False)]
            inner = [
                slice(outer.start + one.start, outer.start + one.stop)
                for outer, one in zip(self._box, asked, strict=False)
            ]
            part = copy.copy(self)
            part._set_box([*inner, *self._box[len(inner) :]])
            return part
        start, stop, _ = key.indices(self.shape[0])
        self._move_to(start, stop)
        parts = [slab.array[max(start - slab.start, 0) : stop - slab.start] for slab in self._held]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def slabs(self) -> Iterator[Slab]:
        """Yield all rows from the first on, slab by slab."""
        yield from self._begin()

    def finish(self) -> None:
        """Take the slabs that were not read, so that their generator ends, and makes its last checks."""
        self._held.clear()
        while self._running:
            for slab in self._running[0]:
                del slab
            self._running.clear()

    def _begin(self) -> Iterator[Slab]:
        self.finish()
        rows, columns, *others = self._box
        width = slice(0, columns.stop - columns.start)
        slabs = cut_slabs(iter(self._open_slabs(columns)), (rows, width, *others))
        self._running.append(slabs)
        return slabs

    def _move_to(self, start: int, stop: int) -> None:
        """Hold the slabs with these rows."""
        if self._slabs is None:
            self._slabs = self._begin()
        while self._held and self._held[0].stop <= start:
            self._held.popleft()
        if self._held and start < self._held[0].start:
            raise IndexError(f"row {start} is gone; read rows in order, from {self._held[0].start} on now")
        reached = self._held[-1].stop if self._held else 0
        while reached < stop:
            if self._held:
                # A copy, because a view would keep the whole slab while the next one is made.
                last = self._held.pop()
                first = max(last.start, start)
                self._held.append(Slab(first, last.stop, last.array[first - last.start :].copy()))
                del last
            slab = next(self._slabs, None)
            if slab is None:
                raise ConfigurationError(f"the slabs end before row {stop} of {self.shape[0]}")
            reached = slab.stop
            if reached > start:
                self._held.append(slab)
            del slab
