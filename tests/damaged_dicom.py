"""Copies of a DICOM dataset in which elements are missing or hold something else."""

from __future__ import annotations

import copy
import io
import random
from collections.abc import Iterator

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

_TEXTS = (
    b"",
    b"nan ",
    b"1e400 ",
    b"-inf",
    b"-1",
    b"0 ",
    b"7 ",
    b"8.0 ",
    b"99999999999 ",
    b"1\\2 ",
    b"A ",
    b"\xd9\0",
    b"\0\0",
)

_CHARACTER_SET = 0x00080005


def altered_files(dataset: Dataset, number: int, seed: int) -> Iterator[bytes]:
    """Files in which one to three elements, at any depth, are missing, hold another value, or occur in other items."""
    draw = random.Random(seed)
    for _ in range(number):
        changed = copy.deepcopy(dataset)
        changed.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        for _ in range(draw.choice((1, 1, 2, 3))):
            _alter(changed, draw)
        stream = io.BytesIO()
        # Without preamble, if it does not have what a file has to begin with.
        changed.save_as(stream, enforce_file_format="SOPInstanceUID" in changed and "SOPClassUID" in changed)
        yield stream.getvalue()


def _alter(dataset: Dataset, draw: random.Random) -> None:
    places = list(_places(dataset))
    if not places:
        return
    item, tag = draw.choice(places)
    element = item[tag]
    if draw.random() < 0.35:
        del item[tag]
    elif element.VR == "SQ":
        items = list(element.value)
        if items and draw.random() < 0.5:
            items.pop(draw.randrange(len(items)))
        elif items:
            items.append(copy.deepcopy(draw.choice(items)))
        element.value = items
    elif element.VR in ("DS", "IS", "CS", "LO", "SH"):
        value = draw.choice(_TEXTS)
        texts = b"\\".join(str(one).encode() for one in element.value) if element.VM > 1 else b""
        if texts and draw.random() < 0.8:
            parts = texts.split(b"\\")
            parts[draw.randrange(len(parts))] = value.strip()
            value = b"\\".join(parts)
            value += b" " * (len(value) % 2)
        # Written as it is; where types are not written, the reader takes the one of the dictionary.
        item[tag] = DataElement(tag, "OB", value)
    elif element.VR == "US":
        element.value = draw.choice((0, 1, 2, 3, 255, 65535))


def _places(dataset: Dataset) -> Iterator[tuple[Dataset, int]]:
    for tag in list(dataset.keys()):
        if tag == _CHARACTER_SET:
            continue  # pydicom needs it to write the others
        yield dataset, tag
        if dataset[tag].VR == "SQ":
            for item in dataset[tag].value:
                yield from _places(item)
