"""Detection of DICOM files from their first bytes, without pydicom; detection of the extra ``dicom``."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Literal

from miscnn_tf._base.files import open_regular
from miscnn_tf.errors import MissingExtraError

#: Endings of files that are meant to be DICOM, in any case of letters.
DICOM_ENDINGS = (".dcm", ".dicom", ".ima")

_PREAMBLE = 128
_START = _PREAMBLE + 4
_LOOKED_AT = 1024
_FIRST_GROUPS = (0x0002, 0x0008)
_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


def is_dicom(path: str | Path) -> bool:
    """Return True if a file has a DICOM ending, or begins like a DICOM file.

    Files without the preamble of the standard begin with an element of group 0002 or 0008. A file that has a DICOM
    ending but other content counts as DICOM, so that it is reported and not skipped silently.

    Raises:
        DataError: If it has another ending and cannot be read; it might be a slice.

    Example:
        >>> is_dicom("scan/IM0001.dcm"), is_dicom("scan/IM0001.IMA")
        (True, True)
    """
    if Path(path).suffix.lower() in DICOM_ENDINGS:
        return True
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        return begins_like_dicom(stream.read(_LOOKED_AT), size)


def begins_like_dicom(start: bytes, size: int) -> bool:
    """Return True if bytes are the beginning of a DICOM file of some size, with or without its preamble."""
    if start[_PREAMBLE:_START] == b"DICM":
        return True
    # Also after a preamble whose "DICM" is damaged: such a slice must not be skipped silently.
    return _are_elements(start, size) or _are_elements(start[_START:], size - _START)


def _are_elements(start: bytes, size: int) -> bool:
    """Return True if bytes are an element of DICOM's first groups, followed by another one."""
    order: Literal["little", "big"] = "big" if start[:2] == b"\x00\x08" else "little"
    first = _tag(start, order)
    explicit = start[4:6] in _VRS
    if first is None or first[0] not in _FIRST_GROUPS or (order == "big" and not explicit):
        return False
    if not explicit:
        behind = 8 + int.from_bytes(start[4:8], order)
    elif start[4:6] in _LONG_VRS:
        behind = 12 + int.from_bytes(start[8:12], order)
    else:
        behind = 8 + int.from_bytes(start[6:8], order)
    if behind > size:
        return False
    second = _tag(start[behind:], order)
    if second is None:  # beyond the bytes that were read
        return behind < size
    return second > first and second[0] in _FIRST_GROUPS


def _tag(header: bytes, order: Literal["little", "big"]) -> tuple[int, int] | None:
    if len(header) < 4:
        return None
    return int.from_bytes(header[:2], order), int.from_bytes(header[2:4], order)


def require_dicom() -> None:
    """Check that the extra is installed, without importing it.

    Raises:
        MissingExtraError: If a package is missing.
    """
    for name in ("pydicom", "highdicom", "shapely"):
        if not _is_installed(name):
            raise MissingExtraError(f"DICOM files need the package {name}: pip install 'miscnn_tf[dicom]'")


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
