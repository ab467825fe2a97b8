"""Damaged descriptions of interfaces, as model files hold them: the interface that is described, or one error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fuzzing import altered, fuzz, how_many

from miscnn_tf.data_loading.interfaces import (
    DatasetJSON_interface,
    DICOM_interface,
    Image_interface,
    NIFTI_interface,
    NIFTIslicer_interface,
    Paired_interface,
)
from miscnn_tf.data_loading.interfaces.description import build_interface, class_names_of, describe_interface
from miscnn_tf.errors import ConfigurationError, MiscnnError

INTERFACES = [
    NIFTI_interface(2, 3, pattern="case_.*", label_map={255: 1}),
    NIFTIslicer_interface(1, classes=4, cache_bytes=1000),
    Image_interface(img_type="rgb", label_map={7: 1}),
    DICOM_interface(structure_dict={"Heart": 1}, annotation_tag="x"),
    DatasetJSON_interface(1, 2, True, part="all", file_ending=".nii.gz"),
    Paired_interface(3, 2, False, image_folder="a", mask_folder="b", class_names=["x", "y"]),
]
NAMES = {describe_interface(interface)["class_name"] for interface in INTERFACES}
NAME = "interface.json"


def read(path: Path) -> dict[str, Any] | None:
    document = json.loads(path.read_text())
    names = document.get("class_names") if isinstance(document, dict) else None
    try:
        interface = build_interface(document["interface"] if isinstance(document, dict) else document, None, names)
    except MiscnnError as error:
        raise type(error)(f"{path}: {error}") from error
    if interface is None:
        return None
    return {"interface": describe_interface(interface), "class_names": class_names_of(interface)}


def judge(path: Path, result: dict[str, Any] | None) -> str | None:
    document = json.loads(path.read_text())
    if result is None:
        # Without arguments, or of a class that is not known here.
        described = document["interface"]
        return "lost" if described["config"] is not None and described["class_name"] in NAMES else None
    said, made = document["interface"]["config"], result["interface"]["config"]
    # Arguments that are left out have their defaults; labels and structures are compared as numbers.
    if document.get("class_names") is not None:
        said, made = said | {"class_names": None}, made | {"class_names": None}
    wrong = {key: (value, made.get(key)) for key, value in said.items() if not same(value, made.get(key))}
    return f"built with another value: {wrong}" if wrong else None


def same(said: Any, made: Any) -> bool:
    if isinstance(said, dict) and isinstance(made, dict):
        # Of structures' names DICOM ignores spaces at the ends.
        said, made = ({str(key).strip(): value for key, value in one.items()} for one in (said, made))
        return said == made
    if isinstance(said, str) and isinstance(made, str):
        return said.lower().lstrip(".") == made.lower().lstrip(".")
    return said == made or (said == {} and made is None)


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda interface: type(interface).__name__)
@how_many
def test_altered_descriptions(tmp_path, interface, number):
    document = {"interface": describe_interface(interface), "class_names": class_names_of(interface)}
    changed = [document, *altered(document, number // 6, 1)]
    inputs = [json.dumps(one).encode() for one in changed if not isinstance(one, dict) or "interface" in one]

    fuzzed = fuzz(read, inputs, tmp_path, NAME, judge=judge)

    assert not fuzzed.failures, "\n".join(fuzzed.failures[:20])
    assert fuzzed.results > number / 100
    assert fuzzed.refused > number / 100


def test_the_type_of_an_argument_is_checked():
    with pytest.raises(ConfigurationError, match="the interface 'NIFTI': channels must be a whole number, got '1'"):
        build_interface({"class_name": "NIFTI", "config": {"channels": "1"}})
    with pytest.raises(ConfigurationError, match=r"class_names='ab', but it must be a list"):
        build_interface({"class_name": "NIFTI", "config": {}}, class_names="ab")
