"""Damaged and strange dataset.json: each is read as a second, independent reading says, or is one error."""

from __future__ import annotations

import gzip
import json
import posixpath
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import altered, fuzz, how_many, mutations
from layout_data import MSD, NNUNET
from nibabel import Nifti1Image

from miscnn_tf.data_loading.interfaces import DatasetJSON_interface

NAME = "Task04"
NIFTI = gzip.compress(Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.eye(4)).to_bytes())
FILES = {
    "decathlon": ["imagesTr/hippocampus_367", "imagesTr/hippocampus_304", "labelsTr/hippocampus_367"]
    + ["labelsTr/hippocampus_304", "imagesTs/hippocampus_267"],
    "nnunet": [f"imagesTr/p_{case}_000{channel}" for case in ("01", "03") for channel in range(2)]
    + ["labelsTr/p_01", "labelsTr/p_03"],
}


def documents(form: str, folder: Path) -> list[Any]:
    """Right documents of a form, to be altered."""
    if form == "nnunet":
        return [NNUNET, NNUNET | {"labels": {"background": 0.0, "PZ": "1", "TZ": [2]}, "file_ending": "NII.GZ"}]
    paths = [
        {"image": ".\\imagesTr\\hippocampus_367.nii.gz", "label": str(folder / "labelsTr" / "hippocampus_367.nii.gz")},
        {"image": "imagesTr/../imagesTr/hippocampus_304.nii.gz", "label": "./labelsTr//hippocampus_304.nii.gz"},
    ]
    return [MSD, MSD | {"training": paths, "labels": {"0": "background", "1.0": "Anterior", " 2": "Posterior"}}]


def read(folder: Path) -> dict[str, Any]:
    interface = DatasetJSON_interface()
    names = interface.initialize(folder)
    return {
        "classes": interface.names_of_classes(),
        "channels": interface.channels,
        "three_dim": interface.three_dim,
        "cases": {name: interface._sample(name) for name in names},
    }


class UnclearError(Exception):
    """The document does not say it clearly."""


def judged(form: str) -> Any:
    def judge(folder: Path, result: dict[str, Any]) -> str | None:
        try:
            expected = meaning(
                json.loads((folder / "dataset.json").read_bytes(), object_pairs_hook=unique), form, folder
            )
        except (UnclearError, ValueError) as reason:
            return f"read, but should be refused: {reason}"
        found = {
            name: ([str(path.relative_to(folder)) for path in files.images], files.segmentation)
            for name, files in result.pop("cases").items()
        }
        found = {name: (images, mask and str(mask.relative_to(folder))) for name, (images, mask) in found.items()}
        result["cases"] = found
        return None if result == expected else f"{result} is not {expected}"

    return judge


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise UnclearError("a key twice")
    return dict(pairs)


def meaning(document: Any, form: str, folder: Path) -> dict[str, Any]:
    """What a document says, read by hand."""
    if type(document) is not dict:
        raise UnclearError("not an object")
    channels = channels_of(document) or {"decathlon": 1, "nnunet": 2}[form]
    if str(document.get("file_ending") or ".nii.gz").strip().lower().lstrip(".") not in ("nii.gz", "nii"):
        raise UnclearError("another format")
    training = document.get("training")
    if training in (None, []):
        stems = sorted(
            {posixpath.basename(file).removesuffix(f"_{file[-4:]}") for file in FILES[form] if "imagesTr" in file}
        )
        if form == "decathlon":
            stems = ["hippocampus_304", "hippocampus_367"]
        listed = [(stem, f"imagesTr/{stem}.nii.gz", f"labelsTr/{stem}.nii.gz") for stem in stems]
    else:
        listed = [case_of(entry, folder) for entry in training]
    cases = {stem: (images_of(image, channels, form), mask) for stem, image, mask in listed if not stem.startswith(".")}
    return {"classes": classes_of(document.get("labels")), "channels": channels, "three_dim": True, "cases": cases}


def images_of(image: str, channels: int, form: str) -> list[str]:
    first = f"{image[:-7]}_0000"
    if form == "nnunet" and first in FILES[form]:
        return [f"{image[:-7]}_{number:04d}.nii.gz" for number in range(max(channels, 2))]
    return [image]


def case_of(entry: Any, folder: Path) -> tuple[str, str, str | None]:
    image, mask = (entry.get("image"), entry.get("label")) if type(entry) is dict else (entry, None)
    image, mask = path_of(image, folder), None if mask is None else path_of(mask, folder)
    return re.sub(r"(?i)\.nii(\.gz)?$", "", posixpath.basename(image)), image, mask


def path_of(text: Any, folder: Path) -> str:
    if type(text) is not str or "\0" in text or not text.strip():
        raise UnclearError(f"no path: {text!r}")
    text = text.replace("\\", "/")
    path = posixpath.normpath(text.removeprefix(f"{folder}/"))
    # Packed or not, in any case of letters: it is the file that is there.
    there = re.sub(r"(?i)\.nii(\.gz)?$", "", path)
    path = f"{there}.nii.gz" if "/".join(there.split("/")[-2:]) in FILES["decathlon"] else path
    # The path of another place, of which folder and file are here.
    tail = "/".join(path.split("/")[-2:])
    if path.startswith("/") and tail.removesuffix(".nii.gz") in FILES["decathlon"]:
        return tail
    if path.startswith(("/", "../")) or path in (".", "..") or re.match("[A-Z]:/", path):
        raise UnclearError(f"outside: {path}")
    return path


def channels_of(document: dict[str, Any]) -> int | None:
    numbers = set()
    for key in ("channel_names", "modality"):
        names = document.get(key)
        if not names:
            continue
        if type(names) is dict and sorted(number_of(name, f"no channel: {name!r}") for name in names) != list(
            range(len(names))
        ):
            raise UnclearError("gaps in the channels")
        if type(names) not in (dict, list, str):
            raise UnclearError("no channels")
        numbers.add(1 if type(names) is str else len(names))
    if len(numbers) > 1:
        raise UnclearError("two numbers of channels")
    return next(iter(numbers), None)


def number_of(value: Any, otherwise: str) -> int:
    if type(value) is list and len(value) == 1:
        value = value[0]
    if type(value) is str and re.fullmatch(r"\s*[0-9]{1,9}(\.0*)?\s*", value):
        value = float(value)
    if type(value) not in (int, float) or value != value or value in (float("inf"), -float("inf")) or value % 1:
        raise UnclearError(otherwise)
    return int(value)


def classes_of(labels: Any) -> tuple[str, ...]:
    if type(labels) is not dict:
        raise UnclearError("no labels")
    readings = []
    for keys_are_names in (True, False):
        try:
            pairs = [(name, value) if keys_are_names else (value, name) for name, value in labels.items()]
            if any(type(name) not in (str, int, float) for name, _ in pairs):
                raise UnclearError("no name")
            readings.append([(number_of(value, "no number"), str(name)) for name, value in pairs])
        except UnclearError:
            pass
    if not readings:  # one entry this way, another that way
        either = []
        for key, value in labels.items():
            try:
                either.append((number_of(key, "no number"), str(value)))
                if type(value) not in (str, int, float):
                    raise ValueError("no name")
            except UnclearError:
                either.append((number_of(value, f"no label: {value!r}"), key))
        readings = [either]
    if len({tuple(number for number, _ in reading) for reading in readings}) > 1:
        raise UnclearError("two readings")
    names = dict(readings[0])
    if len(names) < len(readings[0]) or any(name.strip().lower() == "ignore" for name in names.values()):
        raise UnclearError("two names, or something to ignore")
    names.setdefault(0, "background")
    if sorted(names) != list(range(len(names))):
        raise UnclearError("gaps")
    return tuple(names[number] for number in sorted(names))


def data_set(form: str, content: bytes) -> dict[str, bytes]:
    return {"dataset.json": content, **{f"{file}.nii.gz": NIFTI for file in FILES[form]}}


@pytest.mark.parametrize("form", FILES)
@how_many
def test_altered_documents(tmp_path, form, number):
    inputs = []
    for seed, document in enumerate(documents(form, tmp_path / "input" / NAME)):
        inputs += [json.dumps(one).encode() for one in (document, *altered(document, number // 4, seed))]
        inputs += mutations(json.dumps(document, indent=1).encode(), number // 4, seed)

    fuzzed = fuzz(read, (data_set(form, content) for content in inputs), tmp_path, NAME, judge=judged(form))

    assert not fuzzed.failures, "\n".join(fuzzed.failures[:20])
    assert fuzzed.results > number / 10
    assert fuzzed.refused > number / 10


STRANGE = (
    0,
    1,
    2,
    3,
    -1,
    1.0,
    2.0,
    1.5,
    "1",
    "2.0",
    "liver",
    "ignore",
    "",
    [1],
    [1, 2],
    [],
    [[1]],
    None,
    True,
    {"a": 1},
)


@how_many
def test_labels_of_any_kind(tmp_path, number):
    draw = np.random.default_rng(0)
    inputs = []
    for _ in range(number):
        labels = {}
        for label in range(draw.integers(1, 5)):
            odd = STRANGE[draw.integers(len(STRANGE))] if draw.random() < 0.2 else label
            key = ("abcd"[label], str(label), f"{label}.0")[draw.integers(3)] if draw.random() < 0.3 else "abcd"[label]
            labels[key] = odd if not key[0].isdigit() or draw.random() < 0.1 else "wxyz"[label]
        inputs.append(json.dumps(NNUNET | {"labels": labels}).encode())

    fuzzed = fuzz(read, (data_set("nnunet", content) for content in inputs), tmp_path, NAME, judge=judged("nnunet"))

    assert not fuzzed.failures, "\n".join(fuzzed.failures[:20])
    assert fuzzed.results > number / 10
    assert fuzzed.refused > number / 10
