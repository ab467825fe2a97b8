"""Contours to masks and masks to contours, in the pixels of one slice; contours as stored in a ContourSequence.

Points are ``(row, column)``; whole numbers are the centres of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from miscnn_tf.data_loading.dicom.nesting import Nesting, nest

# Coordinates are written with a few decimals: a point this close to a pixel's centre counts as on it.
_ON_CONTOUR = 5e-3
_KIND, _OFFSET, _COUNT, _DATA = 0x30060042, 0x30060045, 0x30060046, 0x30060050
# mm; coordinates beyond a kilometre are errors.
_FARTHEST = 1e6
_LEAST_POINTS = 3
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_LINES = ("OPEN_PLANAR", "OPEN_NONPLANAR")


def fill_contours(
    contours: Sequence[np.ndarray] | Nesting, shape: tuple[int, int], *, exclusive: bool = False
) -> np.ndarray:
    """Fill the pixels whose centre is inside the contours.

    A contour within another one is a hole, and one within the hole an island; a hole that is joined to its outer
    contour by a channel of zero width ("keyhole") is a hole, too. Contours that overlap in part are united, and a
    repeated contour counts once. Pixels whose centre is on a contour are inside: several programs put the points on the
    centres of the outermost pixels. (`skimage.draw.polygon` fills one polygon at a time, and would remove those pixels
    again for a hole.)

    Args:
        contours: Closed polygons ``(points, 2)``; the last point is joined to the first. Or the result of `nest`.
        shape: Rows and columns.
        exclusive: Apply the even-odd rule to partly overlapping contours, too: the area inside two of them is outside.

    Returns:
        bool array of `shape`.

    Example:
        >>> fill_contours([np.array([[0.5, 0.5], [0.5, 2.5], [1.5, 2.5], [1.5, 0.5]])], (3, 4)).astype(int).tolist()
        [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    nesting = contours if isinstance(contours, Nesting) else nest(contours)
    mask = np.zeros(shape, bool)
    if exclusive or not nesting.crossing:
        _fill_even_odd(mask, nesting.contours)
        return mask
    depths = nesting.depths
    for position, contour in enumerate(nesting.contours):
        if depths[position] % 2:
            continue
        region = np.zeros(shape, bool)
        _fill_even_odd(region, [contour])
        for inner, hole in enumerate(nesting.contours):
            if depths[inner] % 2 and position in nesting.around[inner]:
                without = np.zeros(shape, bool)
                _fill_even_odd(without, [contour, hole])
                region &= without
        mask |= region
    return mask


def _fill_even_odd(mask: np.ndarray, contours: Sequence[np.ndarray]) -> None:
    """Set the pixels inside an odd number of contours, and those on a contour."""
    if not contours:
        return
    starts = np.concatenate(contours).astype(np.float64)
    ends = np.concatenate([np.roll(points, -1, axis=0) for points in contours]).astype(np.float64)
    # Most of a slice is far from the contours.
    first = np.clip(np.floor(starts.min(axis=0)), 0, mask.shape).astype(int)
    last = np.clip(np.ceil(starts.max(axis=0)) + 1, 0, mask.shape).astype(int)
    part = mask[first[0] : last[0], first[1] : last[1]]
    if not part.size:
        return
    starts -= first
    ends -= first
    # Just above and just below each row of centres, so that no edge can be along the line.
    for shift in (-_ON_CONTOUR, _ON_CONTOUR):
        _fill_rows(part, starts, ends, shift)
    at = np.rint(starts)
    on = (np.abs(starts - at).max(axis=1) <= _ON_CONTOUR) & (at >= 0).all(axis=1) & (at < part.shape).all(axis=1)
    rows, columns = at[on].astype(int).T
    part[rows, columns] = True


def _fill_rows(mask: np.ndarray, starts: np.ndarray, ends: np.ndarray, shift: float) -> None:
    """Fill each row of pixels between every second pair of edges that the line `shift` beside it crosses."""
    low, high = np.minimum(starts[:, 0], ends[:, 0]), np.maximum(starts[:, 0], ends[:, 0])
    # Half open, so that a corner on the line counts once, and an edge along it not at all.
    first = np.clip(np.ceil(low - shift), 0, len(mask)).astype(int)
    last = np.clip(np.ceil(high - shift), 0, len(mask)).astype(int)
    counts = last - first
    edges = np.repeat(np.arange(len(starts)), counts)
    if not edges.size:
        return
    rows = np.arange(edges.size) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    start, end = starts[edges], ends[edges]
    share = (rows + shift - start[:, 0]) / (end[:, 0] - start[:, 0])
    columns = start[:, 1] + share * (end[:, 1] - start[:, 1])
    order = np.lexsort((columns, rows))
    # A closed polygon crosses a line an even number of times: the sorted crossings are pairs.
    row = rows[order][::2]
    left = np.clip(np.ceil(columns[order][::2] - _ON_CONTOUR), 0, mask.shape[1]).astype(int)
    right = np.clip(np.floor(columns[order][1::2] + _ON_CONTOUR), -1, mask.shape[1] - 1).astype(int)
    inside = left <= right
    # Up where a run of pixels begins, down behind its end.
    change = np.zeros((mask.shape[0], mask.shape[1] + 1), np.int32)
    np.add.at(change, (row[inside], left[inside]), 1)
    np.add.at(change, (row[inside], right[inside] + 1), -1)
    mask |= np.cumsum(change, axis=1, out=change)[:, :-1] > 0


def trace_contours(mask: np.ndarray) -> list[np.ndarray]:
    """Trace the contours of a mask, each hole joined to its outer contour by a channel of zero width.

    This is DICOM's form of a CLOSED_PLANAR contour with a hole: programs that fill each contour separately read it
    correctly, too. The points are halfway between the centres of pixels, so that `fill_contours` restores the mask.

    Args:
        mask: bool ``(rows, columns)``.

    Returns:
        Polygons ``(points, 2)``; the last point is not the first again.

    Example:
        >>> [len(contour) for contour in trace_contours(np.array([[0, 1, 0], [0, 0, 0]], bool))]
        [4]
    """
    mask = np.asarray(mask, bool)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return []
    # Most of a slice is outside the mask. A margin makes the steps below safe.
    inside = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    edges = _Edges.around(inside)
    order, starts = _loops(edges.following)
    loop_of = np.empty(len(order), np.int64)
    loop_of[order] = np.repeat(np.arange(len(starts)), np.diff([*starts, len(order)]))
    needed = edges.turns()
    # Clockwise around an area, with rows downwards; counter-clockwise around a hole.
    holes = np.flatnonzero(np.add.reduceat(edges.doubled_areas()[order], starts) > 0)
    channels = []
    for hole in holes.tolist():
        members = order[starts[hole] : starts[hole + 1] if hole + 1 < len(starts) else None]
        begin = members[np.argmin(edges.points[members, 1])]
        # A hole's leftmost point looks along its row at the next contour to the left: one that begins further left.
        opposite = edges.left_of(begin, inside)
        needed[[begin, opposite]] = True
        channels.append((edges.points[begin, 1], begin, opposite))
    kept = order[needed[order]]
    parts = np.split(kept, np.searchsorted(loop_of[kept], np.arange(1, len(starts)))) if len(starts) > 1 else [kept]
    joined: dict[int, int] = {}
    for _, begin, opposite in sorted(channels):
        hole, outer = int(loop_of[begin]), int(loop_of[opposite])
        outer = joined.get(outer, outer)
        turned = np.roll(parts[hole], -int(np.flatnonzero(parts[hole] == begin)[0]))
        at = int(np.flatnonzero(parts[outer] == opposite)[0])
        parts[outer] = np.concatenate([parts[outer][: at + 1], turned, turned[:1], parts[outer][at:]])
        joined[hole] = outer
    corner = (rows[0] - 1, columns[0] - 1)
    joints = set(joined.values())
    loops = [(number, edges.points[part] + corner) for number, part in enumerate(parts) if number not in joined]
    return [_without_needless_points(loop) if number in joints else loop for number, loop in loops]


@dataclass(frozen=True)
class _Edges:
    """Edges between the pixels inside and outside a mask, each with the area on its right-hand side.

    Attributes:
        inner: Pixel on the inner side, a flat index.
        points: Centre ``(row, column)``.
        following: Index of the next edge around the area. Areas that meet in a corner are separate.
        keys: ``side * pixels + inner`` of each edge, ascending. The side of the outer pixel: 0 right, 1 below, 2 left,
            3 above.
        width: Number of columns of the mask.
    """

    inner: np.ndarray
    points: np.ndarray
    following: np.ndarray
    keys: np.ndarray
    width: int

    @classmethod
    def around(cls, inside: np.ndarray) -> _Edges:
        """Find the edges of a mask whose margin is outside."""
        width = inside.shape[1]
        flat = inside.ravel()
        towards = np.array([1, width, -1, -width])
        # Without the first and last row, whose neighbours would be beyond the array.
        low, high = width, flat.size - width
        found = [np.flatnonzero(flat[low:high] > flat[low + step : high + step]) + low for step in towards]
        inner, side = np.concatenate(found), np.repeat(np.arange(4), [len(one) for one in found])
        keys = side * flat.size + inner
        # With the area on the right, the way ahead is the outward direction turned right by 90 degrees.
        ahead = towards[(side + 1) % 4]
        right, left = flat[inner + ahead], flat[inner + towards[side] + ahead]
        next_inner = inner + np.where(right, ahead + np.where(left, towards[side], 0), 0)
        next_side = (side + np.where(right, np.where(left, 3, 0), 1)) % 4
        following = np.searchsorted(keys, next_side * flat.size + next_inner)
        rows, columns = np.divmod(inner, width)
        half = np.array([(0, 0.5), (0.5, 0), (0, -0.5), (-0.5, 0)])
        points = np.stack([rows, columns], axis=1) + half[side]
        return cls(inner, points, following, keys, width)

    def turns(self) -> np.ndarray:
        """Return True for the points at which the direction changes."""
        ahead = self.points[self.following] - self.points
        behind = np.empty_like(ahead)
        behind[self.following] = ahead
        return np.asarray((ahead != behind).any(axis=1))

    def doubled_areas(self) -> np.ndarray:
        """Return the part of each edge in twice the signed area of its loop."""
        rows, columns = self.points.T
        return rows * columns[self.following] - rows[self.following] * columns

    def left_of(self, edge: int, inside: np.ndarray) -> int:
        """Return the edge at which the run of inner pixels ends that extends to the left of an edge."""
        row, column = divmod(int(self.inner[edge]), self.width)
        run = int(np.argmin(inside[row, column::-1]))
        return int(np.searchsorted(self.keys, 2 * inside.size + self.inner[edge] - run + 1))


def _loops(following: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges in the order of their loops, and the position at which each loop starts."""
    onward = following.tolist()
    order: list[int] = []
    starts = []
    add = order.append
    for edge in range(len(onward)):
        if onward[edge] < 0:
            continue
        starts.append(len(order))
        # This runs once per edge of a volume, a million times.
        while (after := onward[edge]) >= 0:
            onward[edge] = -1
            add(edge)
            edge = after
    return np.array(order), np.array(starts)


def _without_needless_points(loop: np.ndarray) -> np.ndarray:
    """Return the points at which the direction changes."""
    before = loop - np.roll(loop, 1, axis=0)
    after = np.roll(loop, -1, axis=0) - loop
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    back = (before * after).sum(axis=1) < 0
    return loop[(np.abs(turns) > 1e-9) | back]


def contour_kind(contour: Any) -> str:
    """Return ContourGeometricType, or "" if it is missing."""
    value = _raw(contour, _KIND)
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value or "")
    return text.strip(" \0").upper()


def contour_points(contour: Any) -> np.ndarray:
    """Parse the points of a contour, ``(points, 3)``, in DICOM's millimetres.

    Raises:
        ValueError: If the text is not numeric, or the number of values does not match.
    """
    numbers = _numbers(contour, _DATA)
    if numbers.size % 3:
        raise ValueError(f"ContourData has {numbers.size} numbers, which is not a multiple of 3")
    claimed = _numbers(contour, _COUNT)
    if claimed.size and claimed[0] != numbers.size // 3:
        raise ValueError(f"NumberOfContourPoints is {claimed[0]:g}, but ContourData has {numbers.size // 3} points")
    if np.any(_numbers(contour, _OFFSET)):
        raise ValueError("ContourOffsetVector is not supported")
    return numbers.reshape(-1, 3)


def why_not_drawn(kind: str, points: np.ndarray) -> str | None:
    """Return the reason why a contour cannot be drawn; None if it can."""
    if kind in _LINES:
        return f"ContourGeometricType {kind} surrounds no area"
    if kind and kind not in _CLOSED:
        return f"ContourGeometricType {kind!r} is unknown"
    farthest = np.abs(points).max(initial=0)
    if not np.isfinite(farthest):
        return "not all of its coordinates are finite numbers"
    if farthest > _FARTHEST:
        return "one of its coordinates is more than a kilometre from the origin"
    # Usually the first few points are enough, and faster to check.
    if not _has_three_points(points[:6]) and not _has_three_points(points):
        return "it has fewer than three distinct points"
    return None


def _has_three_points(points: np.ndarray) -> bool:
    for _ in range(_LEAST_POINTS):
        if not len(points):
            return False
        points = points[(points != points[0]).any(axis=1)]
    return True


def _numbers(contour: Any, tag: int) -> np.ndarray:
    """Parse numbers from the raw text: pydicom would create and validate an object for each, which is slow."""
    value = _raw(contour, tag)
    if isinstance(value, bytes):
        value = value.strip(b" \0")
        if b"_" in value:
            # numpy accepts Python's underscores in numbers, DICOM does not.
            raise ValueError(f"{value[:40]!r} is not a list of numbers")
        value = value.split(b"\\") if value else None
    return np.atleast_1d(np.array([] if value in (None, "") else value, dtype=np.float64))


def _raw(contour: Any, tag: int) -> Any:
    return contour.get_item(tag).value if tag in contour else None
