"""Tell whether a file is DICOM, without pydicom and without reading more than its beginning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from miscnn_tf.data_loading.opening import open_regular

#: Endings of files that are meant to be DICOM, in any case of letters.
DICOM_ENDINGS = (".dcm", ".dicom", ".ima")

_PREAMBLE = 128
_START = _PREAMBLE + 4
_LOOKED_AT = 1024
# Two well-formed elements in a row do not occur in other formats by chance.
_ELEMENTS = 2
_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_UNDEFINED = 0xFFFFFFFF


def is_dicom(path: str | Path) -> bool:
    """Whether a file is DICOM, or meant to be: by its ending, or by its beginning.

    Files without the preamble of the standard begin with an element of group 0002 or 0008. A file that has a DICOM
    ending but other content counts as DICOM, so that it is reported and not passed over.

    Raises:
        DataError: If it has no such ending and cannot be read; it might be a slice.

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
    """Whether bytes are the beginning of a DICOM file of some size, with or without its preamble."""
    if start[_PREAMBLE:_START] == b"DICM":
        return True
    # Behind a preamble whose mark is damaged, too: such a slice must not go missing unnoticed.
    return _are_elements(start, size) or _are_elements(start[_START:], size - _START)


def _are_elements(start: bytes, size: int) -> bool:
    """Whether bytes are elements of DICOM, in the encoding that their first one has."""
    order: Literal["little", "big"]
    if start[:2] in (b"\x08\x00", b"\x02\x00"):
        order = "little"
    elif start[:2] == b"\x00\x08":
        order = "big"
    else:
        return False
    explicit = start[4:6] in _VRS
    if order == "big" and not explicit:
        return False
    place, last = 0, (0, 0)
    for _ in range(_ELEMENTS):
        header = _element(start[place : place + 12], order, explicit)
        if header is None:
            return False
        tag, length, value = header
        if tag <= last or tag[0] not in (0x0002, 0x0008):
            return False
        last = tag
        if length == _UNDEFINED:
            return True
        place += value + length
        if place > size:
            return False
        if place + 12 > len(start):  # a long value; what comes next is not at hand
            return True
    return True


def _element(header: bytes, order: Literal["little", "big"], explicit: bool) -> tuple[tuple[int, int], int, int] | None:
    """Tag, length of the value, and where the value begins; None where it is not an element."""

    def number(begin: int, end: int) -> int:
        return int.from_bytes(header[begin:end], order)

    if len(header) < 12:
        return None
    tag = number(0, 2), number(2, 4)
    if not explicit:
        return tag, number(4, 8), 8
    if header[4:6] not in _VRS:
        return None
    if header[4:6] in _LONG_VRS:
        return tag, number(8, 12), 12
    return tag, number(6, 8), 8
