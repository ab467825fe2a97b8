"""Damaged copies of DICOM datasets, and the series and readers of the tests that use them."""

from __future__ import annotations

import copy
import io
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from dicom_series import make_series, save_series
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from miscnn_tf.data_loading.dicom.series import grid_of_files
from miscnn_tf.data_loading.dicom.series_grid import Grid

#: UIDs that are the same in each run, and with them the mutations.
UIDS = {"StudyInstanceUID": "1.2.3.1", "SeriesInstanceUID": "1.2.3.2", "FrameOfReferenceUID": "1.2.3.3"}

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


def content(dataset: Dataset) -> bytes:
    """Return a dataset as the bytes of its file."""
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def write_blank_series(
    folder: Path, shape: Sequence[int], *, fixed_instances: bool = False
) -> tuple[list[Dataset], Grid]:
    """Write a series of zeros with `UIDS`, and return its datasets and grid.

    Args:
        folder: The folder of the series.
        shape: Slices, rows, columns.
        fixed_instances: Whether the SOPInstanceUIDs are the same in each run, too.
    """
    datasets = make_series(np.zeros(shape), **UIDS)
    if fixed_instances:
        for number, one in enumerate(datasets):
            one.SOPInstanceUID = f"1.2.3.6.{number}"
    save_series(folder, datasets)
    return datasets, grid_of_files([folder])


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Yield a list that holds the messages of all warnings once the block has ended."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield messages
    messages += [str(one.message) for one in caught]


def altered_files(dataset: Dataset, number: int, seed: int) -> Iterator[bytes]:
    """Yield files in which one to three elements, at any depth, are missing, changed, or copied from other items."""
    draw = random.Random(seed)
    for _ in range(number):
        changed = copy.deepcopy(dataset)
        changed.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        for _ in range(draw.choice((1, 1, 2, 3))):
            _alter(changed, draw)
        stream = io.BytesIO()
        # Without preamble, if it lacks elements that a file must have.
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
        # Written unchanged; with implicit VR, the reader takes the type from the dictionary.
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
