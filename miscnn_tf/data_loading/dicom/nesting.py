"""Relations between the closed contours of one slice: repeated, nested, crossing or apart.

Points are ``(row, column)`` in pixels, as in `contours`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

# Coordinates are written with a few decimals: contours that differ or overlap by less than this are equal, or touch.
# In pixels; twice the distance within which a pixel's centre counts as on a contour.
_ROUNDING = 1e-2
_LEAST_POINTS = 3


@dataclass(frozen=True)
class Nesting:
    """Relations between the contours of one slice.

    Attributes:
        contours: Distinct contours: those that differ in more than start, direction, repeated points or rounding.
        crossing: Whether two of them overlap in part.
        around: For each contour the indices of those that surround it; empty unless some cross.
    """

    contours: list[np.ndarray]
    crossing: bool = False
    around: list[set[int]] = field(default_factory=list)

    @property
    def depths(self) -> list[int]:
        """Return for each contour the length of the longest chain of contours around it."""
        depths = [0] * len(self.contours)
        # A contour around another one has more contours inside it, and fewer around it.
        for position in sorted(range(len(depths)), key=lambda one: len(self.around[one])):
            depths[position] = max((depths[outer] + 1 for outer in self.around[position]), default=0)
        return depths


def nest(contours: Sequence[np.ndarray]) -> Nesting:
    """Find repeated, nested and crossing contours.

    Args:
        contours: Closed polygons ``(points, 2)``; the last point is joined to the first.

    Example:
        >>> outer = np.array([(0, 0), (0, 9), (9, 9), (9, 0)])
        >>> nested = nest([outer, outer[::-1], outer / 3 + 3])
        >>> len(nested.contours), nested.crossing
        (2, False)
    """
    contours = [points for points in contours if len(points)]
    first, second = _overlapping_boxes(contours)
    if not first.size:
        return Nesting(contours)
    import shapely

    involved = np.unique([first, second])
    regions = np.full(len(contours), None, object)
    regions[involved] = _regions([contours[position] for position in involved])
    a, b = regions[first], regions[second]
    shapely.prepare(regions[involved])
    inside = np.stack([shapely.contains_properly(b, a), shapely.contains_properly(a, b)])
    overlapping = np.zeros(len(a), bool)
    # Most contours are either separate or well within each other. The remaining ones touch, cross or are equal.
    for pair in np.flatnonzero(~inside.any(axis=0) & shapely.intersects(a, b)):
        inside[:, pair] = _is_within(a[pair], b[pair]), _is_within(b[pair], a[pair])
        overlapping[pair] = not inside[:, pair].any() and not _is_thin(shapely.intersection(a[pair], b[pair]))
    repeats = set(second[inside.all(axis=0)].tolist())
    kept = [position for position in range(len(contours)) if position not in repeats]
    crossing = any(
        not repeats & {one, other} for one, other in zip(first[overlapping], second[overlapping], strict=True)
    )
    around: list[set[int]] = []
    if crossing:
        renumbered = {position: number for number, position in enumerate(kept)}
        around = [set() for _ in kept]
        for inner, outer, within in ((first, second, inside[0]), (second, first, inside[1])):
            for one, other in zip(inner[within].tolist(), outer[within].tolist(), strict=True):
                if one in renumbered and other in renumbered:
                    around[renumbered[one]].add(renumbered[other])
    return Nesting([contours[position] for position in kept], crossing, around)


def ambiguous(contours: Sequence[np.ndarray]) -> bool:
    """Return True if a contour surrounds an area more than once, which programs fill by different rules.

    A figure eight does not: each half is surrounded once.

    Args:
        contours: Closed polygons of three and more points.

    Example:
        >>> eight = np.array([(0, 0), (9, 9), (9, 0), (0, 9)])
        >>> twice_round = np.array([(0, 0), (0, 9), (9, 9), (9, 0), (1, 1), (1, 8), (8, 8), (8, 1)])
        >>> ambiguous([eight]), ambiguous([eight, twice_round])
        (False, True)
    """
    import shapely

    crossing_themselves = np.flatnonzero(~shapely.is_valid(_polygons(contours)))
    return any(_is_ambiguous(contours[position]) for position in crossing_themselves.tolist())


def _is_ambiguous(contour: np.ndarray) -> bool:
    import shapely

    ring = np.concatenate([contour, contour[:1]])
    lines = shapely.node(shapely.linestrings(ring))
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(lines)))
    return any(
        not _is_thin(face) and (number := _winding_number(ring, shapely.point_on_surface(face))) and number % 2 == 0
        for face in faces
    )


def _winding_number(ring: np.ndarray, point: object) -> int:
    import shapely

    (row, column) = shapely.get_coordinates(point)[0]
    above = ring[:, 0] > row
    start, end = ring[:-1], ring[1:]
    crosses = np.flatnonzero(above[:-1] != above[1:])
    share = (row - start[crosses, 0]) / (end[crosses, 0] - start[crosses, 0])
    beyond = start[crosses, 1] + share * (end[crosses, 1] - start[crosses, 1]) > column
    return int(np.where(above[1:][crosses], 1, -1)[beyond].sum())


def _overlapping_boxes(contours: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of pairs whose bounding boxes overlap; contours of one or two points have an empty area."""
    areas = [position for position, points in enumerate(contours) if len(points) >= _LEAST_POINTS]
    if len(areas) < 2:
        return np.empty(0, int), np.empty(0, int)
    low = np.stack([contours[position].min(axis=0) for position in areas])
    high = np.stack([contours[position].max(axis=0) for position in areas])
    firsts, seconds = [], []
    for number, position in enumerate(areas[:-1]):
        later = slice(number + 1, None)
        meets = ((low[later] <= high[number]) & (low[number] <= high[later])).all(axis=1)
        found = np.array(areas[later])[meets]
        firsts.append(np.full(found.size, position))
        seconds.append(found)
    return np.concatenate(firsts), np.concatenate(seconds)


def _polygons(contours: Sequence[np.ndarray]) -> np.ndarray:
    import shapely

    numbers = np.repeat(np.arange(len(contours)), [len(points) for points in contours])
    return shapely.polygons(shapely.linearrings(np.concatenate(contours), indices=numbers))


def _regions(contours: Sequence[np.ndarray]) -> np.ndarray:
    """Return the areas inside contours by the even-odd rule, as shapely geometries."""
    import shapely

    polygons = _polygons(contours)
    mended = ~shapely.is_valid(polygons)
    # A buffer of zero width drops the lines that remain of keyholes.
    polygons[mended] = shapely.buffer(shapely.make_valid(polygons[mended], method="linework"), 0)
    return polygons


def _is_within(inner: object, outer: object) -> bool:
    import shapely

    return bool(shapely.covers(shapely.buffer(outer, _ROUNDING, join_style="mitre"), inner))


def _is_thin(area: object) -> bool:
    import shapely

    return bool(shapely.is_empty(shapely.buffer(area, -_ROUNDING / 2)))
