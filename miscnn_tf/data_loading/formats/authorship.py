"""A mark in the files that this package writes, by which `miscnn-tf cleanup` knows them again.

It is a line of text where the format has a place for such a line, and holds a checksum: a label map that somebody has
corrected by hand, and saved with a program that keeps the line, is not taken for ours any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from isal import isal_zlib

from miscnn_tf import __version__

_MARK = re.compile(r"miscnn_tf \S+ ([0-9a-f]{8})")


def mark(checksum: int) -> str:
    """The line.

    Example:
        >>> matches(mark(1234), 1234), matches(mark(1234), 1235)
        (True, False)
    """
    return f"miscnn_tf {__version__} {checksum:08x}"


def matches(line: str | None, checksum: int) -> bool:
    """Whether a line is ours, of a file with this checksum."""
    found = _MARK.fullmatch(line or "")
    return found is not None and int(found[1], 16) == checksum


def is_mark(line: str | None) -> bool:
    """Whether a line looks like ours."""
    return _MARK.fullmatch(line or "") is not None


def checksum_of(parts: Iterable[bytes | np.ndarray]) -> int:
    """CRC-32 of bytes and arrays, one after the other; arrays as they lie in Fortran order, as files have them."""
    checksum = 0
    for part in parts:
        if isinstance(part, np.ndarray):
            # Plane by plane: no copy of a whole volume.
            for plane in part.T if part.ndim > 1 else [part]:
                checksum = isal_zlib.crc32(np.ascontiguousarray(plane).reshape(-1).view(np.uint8).data, checksum)
        else:
            checksum = isal_zlib.crc32(part, checksum)
    return checksum
