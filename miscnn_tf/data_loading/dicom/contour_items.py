"""Items of a ContourSequence: type and points as stored in the file."""

from __future__ import annotations

from typing import Any

import numpy as np

_KIND, _OFFSET, _COUNT, _DATA = 0x30060042, 0x30060045, 0x30060046, 0x30060050
# mm; coordinates beyond a kilometre are errors.
_FARTHEST = 1e6
_LEAST_POINTS = 3
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_LINES = ("OPEN_PLANAR", "OPEN_NONPLANAR")


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
