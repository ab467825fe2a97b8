"""Mark in the files that this package writes, by which `miscnn-tf cleanup` recognises them.

The mark is a line in a text field of the format, with a checksum: a label map that was corrected by hand and saved by a
program that keeps the line no longer counts as written by this package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from isal import isal_zlib

from miscnn_tf import __version__

_MARK = re.compile(r"miscnn_tf \S+ ([0-9a-f]{8})")


def mark(checksum: int) -> str:
    """Return the mark of a file with a checksum.

    Example:
        >>> matches(mark(1234), 1234), matches(mark(1234), 1235)
        (True, False)
    """
    return f"miscnn_tf {__version__} {checksum:08x}"


def matches(line: str | None, checksum: int) -> bool:
    """Return True if a line is the mark of a file with this checksum."""
    found = _MARK.fullmatch(line or "")
    return found is not None and int(found[1], 16) == checksum


def is_mark(line: str | None) -> bool:
    """Return True if a line has the form of a mark."""
    return _MARK.fullmatch(line or "") is not None


def checksum_of(parts: Iterable[bytes | np.ndarray]) -> int:
    """Compute the CRC-32 of bytes and arrays in succession; arrays in Fortran order, as in files."""
    checksum = 0
    for part in parts:
        if isinstance(part, np.ndarray):
            # Plane by plane, without a copy of the whole volume.
            for plane in part.T if part.ndim > 1 else [part]:
                checksum = isal_zlib.crc32(np.ascontiguousarray(plane).reshape(-1).view(np.uint8).data, checksum)
        else:
            checksum = isal_zlib.crc32(part, checksum)
    return checksum
