"""Damaged folders of prepared samples: what was written, or what the altered text says, or refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import Input, altered, bit_flips, fuzz, how_many, mutations, truncations

from miscnn_tf.data_loading.cache.sample_files import SAMPLE_FILE, UnstorableError, read_sample, write_sample
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import DataError

DETAILS = {"spacing": (1.0, 2.5, 3.0), "origin": np.array([1.5, 2.5]), 3: "three", "flags": np.array([True, False])}


def sample() -> Sample:
    image = np.arange(60, dtype=np.float32).reshape(3, 4, 5, 1)
    made = Sample("case_1", image, 1, 3, extended={"affine": np.eye(4)})
    made.details = dict(DETAILS)
    made.seg_data = (image % 3).astype(np.uint8)
    made.details["table"] = np.arange(100)
    made.history = [{"step": "Padding", "shape": (3, 4, 5)}]
    return made


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    folder = write_sample(tmp_path / "whole" / "case_1.key", sample())
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read(folder: Path) -> Sample:
    return read_sample(folder, mmap=False)


def plain(sample: Sample) -> Any:
    """All of a sample in a form that can be compared, types included."""

    def of(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return [value.dtype.str, value.shape, value.tobytes()]
        if isinstance(value, dict):
            return {repr(key): of(item) for key, item in value.items()}
        return [type(value).__name__, *map(of, value)] if isinstance(value, list | tuple) else repr(value)

    return {name: of(value) for name, value in vars(sample).items()}


def test_what_is_written_is_read(tmp_path):
    assert plain(read(write_sample(tmp_path / "a", sample()))) == plain(sample())


@how_many
def test_every_damaged_header_of_a_prepared_array_is_noticed(tmp_path, number, files):
    whole = files["image.npy"]
    flips = itertools.islice(bit_flips(whole), 128 * 8)  # of the header; voxels have no checksum
    inputs: list[Input] = [{**files, "image.npy": one} for one in (whole, *flips, *truncations(whole))]

    def judge(path: Path, found: Sample) -> str | None:
        return None if plain(found) == plain(sample()) else "another sample"

    fuzzed = fuzz(read, inputs, tmp_path, "case_1.key", judge=judge)

    assert not fuzzed.failures, "\n".join(fuzzed.failures)
    assert fuzzed.results >= 1, fuzzed
    assert fuzzed.refused > 1000, fuzzed


@how_many
def test_every_altered_description_of_a_prepared_sample_is_read_as_it_says_or_refused(tmp_path, number, files):
    document = json.loads(files[SAMPLE_FILE])
    texts = itertools.chain(
        [files[SAMPLE_FILE]],
        (json.dumps(one).encode() for one in altered(document, number, 1)),
        mutations(files[SAMPLE_FILE], number, 2),
    )
    inputs: list[Input] = [{**files, SAMPLE_FILE: text} for text in texts]

    def judge(path: Path, found: Sample) -> str | None:
        said = json.loads((path / SAMPLE_FILE).read_bytes())
        for name in ("index", "channels", "classes", "three_dim"):
            if repr(getattr(found, name)) != repr(said[name]):
                return f"{name} is {getattr(found, name)!r}"
        if list(found.shape) != said["shape"]:
            return f"shape is {found.shape}"
        for name in ("img_data", "seg_data"):
            array, known = getattr(found, name), getattr(sample(), name)
            if array is not None and not (array.dtype == known.dtype and np.array_equal(array, known)):
                return f"{name} is another array"
        for name in ("extended", "details", "history"):
            # As text: 1 is not 1.0 there.
            if json.dumps(said[name]) == json.dumps(document[name]) and plain(found)[name] != plain(sample())[name]:
                return f"{name} is {getattr(found, name)!r}"
        return None

    fuzzed = fuzz(read, inputs, tmp_path, "case_1.key", judge=judge)

    assert not fuzzed.failures, "\n".join(fuzzed.failures)
    assert fuzzed.results > 30, fuzzed
    assert fuzzed.refused > number / 2, fuzzed


@pytest.mark.parametrize(
    "changed",
    [
        {"channels": "1"},
        {"three_dim": 1},
        {"classes": 3.0},
        {"shape": "345"},
        {"details": {"a": {"$array": {"dtype": "<i4", "shape": [1], "values": [1.5]}}}},
        {"details": {"a": {"$array": {"dtype": "<i4", "shape": [-1], "values": [1, 2]}}}},
        {"details": {"a": {"$array": {"dtype": "<f4", "shape": [1], "values": ["3"]}}}},
        {"details": {"a": {"$array": "0"}}},
        {"details": {"a": {"$dict": [[1, 2], [1, 3]]}}},
        {"types": {}},
    ],
    ids=str,
)
def test_nothing_in_a_prepared_sample_is_converted(tmp_path, changed):
    folder = write_sample(tmp_path / "a", sample())
    content = json.loads((folder / SAMPLE_FILE).read_text())
    (folder / SAMPLE_FILE).write_text(json.dumps({**content, **changed}))
    with pytest.raises(DataError, match="is damaged"):
        read_sample(folder)


def test_a_prepared_sample_of_an_earlier_version_without_types_is_read(tmp_path):
    folder = write_sample(tmp_path / "a", sample())
    content = json.loads((folder / SAMPLE_FILE).read_text())
    del content["types"]
    (folder / SAMPLE_FILE).write_text(json.dumps(content))
    assert plain(read(folder)) == plain(sample())


def test_a_number_that_could_not_be_read_back_is_not_stored(tmp_path):
    made = sample()
    made.details["large"] = 10**100
    with pytest.raises(UnstorableError, match=r"details\['large'\]"):
        write_sample(tmp_path / "a", made)
    made.details["large"] = 10**100 - 1
    assert read(write_sample(tmp_path / "a", made)).details["large"] == 10**100 - 1
