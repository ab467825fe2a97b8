"""Folders of files with odd names: each file is found with its label map, or there is one error."""

from __future__ import annotations

import io
import random
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from fuzzing import fuzz, how_many
from PIL import Image

from miscnn_tf.data_loading.interfaces import DatasetJSON_interface, Image_interface, NIFTI_interface, Paired_interface
from miscnn_tf.data_loading.layout_detection import recognise

NAME = "odd names"
ANY = 2**16
# Letters of several scripts, those with a composed and a decomposed form, and what shells, URLs and Windows dislike.
PARTS = (
    "a",
    "B",
    "7",
    "é",
    "Ü",
    "한",
    "ø",
    "ﬁ",
    "𝒳",
    "🫁",
    "\u0308",
    "\u200b",
    " ",
    "_",
    "-",
    ".",
    "%20",
    "#",
    "&",
    "'",
    '"',
)
RARE = ("\\", ":", "\n", "*", "?", "\udcff", "İ", "..", "~", "$x", "_0000", "_mask", "img_", ".nii", "segmentation")


def a_name(draw: random.Random) -> str:
    parts = [draw.choice(RARE if draw.random() < 0.05 else PARTS) for _ in range(draw.randint(1, 6))]
    name = "".join(parts)
    return name if name.strip(".") else "x"


def spelled(name: str, draw: random.Random) -> str:
    return unicodedata.normalize(draw.choice(("NFC", "NFD")), name)


def cased(ending: str, draw: random.Random) -> str:
    return "".join(draw.choice((letter, letter.upper())) for letter in ending)


def nifti(value: int) -> bytes:
    return nibabel.Nifti1Image(np.full((2, 3, 4), value, np.uint8), np.eye(4)).to_bytes()


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((2, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def data_set(layout: str, draw: random.Random) -> dict[str, bytes]:
    """Images of one value each, which is that of their label map."""
    files: dict[str, bytes] = {}
    write, ending = (png, ".png") if layout in ("IMG", "PAIRED") and draw.random() < 0.5 else (nifti, ".nii")
    if layout == "IMG":
        write, ending = png, ".png"
    for value in range(draw.randint(1, 4)):
        name = f"{a_name(draw)}{value}"
        image, mask = spelled(name, draw), spelled(name, draw)
        if layout in ("NIFTI", "IMG"):
            files[f"{image}/{cased('imaging', draw)}{cased(ending, draw)}"] = write(value)
            files[f"{image}/{cased('segmentation', draw)}{cased(ending, draw)}"] = write(value)
        else:
            folders = ("imagesTr", "labelsTr") if layout == "DATASET_JSON" else ("Images", "MASKS")
            files[f"{folders[0]}/{image}{cased(ending, draw)}"] = write(value)
            files[f"{folders[1]}/{mask}{cased(ending, draw)}"] = write(value)
            if draw.random() < 0.1:  # which one is meant, where they differ?
                files[f"{folders[0]}/{spelled(name, draw)}{cased(ending, draw)}"] = write(value)
    return files


def read(folder: Path) -> dict[str, tuple[str, str, int, int]]:
    layout = recognise(folder)
    interface: Any = {
        "NIFTI": lambda: NIFTI_interface(classes=ANY),
        "IMG": lambda: Image_interface(classes=ANY),
        "PAIRED": lambda: Paired_interface(classes=ANY),
        "DATASET_JSON": lambda: DatasetJSON_interface(channels=1, classes=ANY),
    }[layout]()
    found = {}
    for name in interface.initialize(folder):
        interface.check(name)
        reader = getattr(interface, "reader", interface)
        image = reader.image_paths(name)[0] if hasattr(reader, "image_paths") else reader.image_path(name)
        values = interface.load_image(name)[0], interface.load_segmentation(name)
        relative = [str(path.relative_to(folder)) for path in (image, reader.segmentation_path(name))]
        found[name] = (relative[0], relative[1], int(values[0].max()), int(values[1].max()))
    return found


def judge(folder: Path, found: dict[str, tuple[str, str, int, int]]) -> str | None:
    there = {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
    read_files = {file for image, mask, *_ in found.values() for file in (image, mask)}
    if read_files != there:
        return f"not read: {sorted(map(ascii, there - read_files))}"
    for name, (image, mask, value, label) in found.items():
        if value != label:
            return f"{name!a}: {image!a} has the label map {mask!a} of another"
    return None


@pytest.mark.parametrize("layout", ["NIFTI", "IMG", "PAIRED", "DATASET_JSON"])
@how_many
def test_odd_names(tmp_path, layout, number):
    def inputs() -> Iterator[dict[str, bytes]]:
        draw = random.Random(layout)
        for _ in range(number // 2):
            yield data_set(layout, draw)

    fuzzed = fuzz(read, inputs(), tmp_path, NAME, judge=judge)

    assert not fuzzed.failures, "\n".join(map(ascii, fuzzed.failures[:20]))
    assert fuzzed.results > number / 4
    assert fuzzed.refused > 0
