"""Slabs that are made one after the other, as an array whose rows are read once, in order."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

import numpy as np

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.patching.blending import Slab, cut_slabs

#: Consecutive slabs ``(rows, columns[, z], classes)`` of these columns of the second axis, from row 0 on.
OpenSlabs = Callable[[slice], Iterable[Slab]]


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
