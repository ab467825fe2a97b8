"""Damaged JSON: read as the standard library reads it, or refused with the file's name."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from fuzzing import altered, bit_flips, fuzz, how_many, mutations, truncations

from miscnn_tf._base import plain_files
from miscnn_tf._base.plain_files import read_json
from miscnn_tf.errors import DataError

DOCUMENT = {"TRAINING": ["a", "é", 7], "VALIDATION": [["b", 1], None], "deep": {"x": [0.5, -1e-3, True, {"y": "\t"}]}}


def read(path: Path) -> Any:
    return read_json(path, "the test writes it")


def difference(path: Path, content: Any) -> str | None:
    # repr, because NaN is not equal to itself, and 1 is equal to True.
    return (
        None if repr(content) == repr(json.loads(path.read_bytes().decode("utf-8-sig"))) else "read as another document"
    )


@how_many
def test_every_damaged_json_file_is_read_as_it_says_or_refused(tmp_path, number):
    whole = json.dumps(DOCUMENT, ensure_ascii=False).encode()
    documents = (json.dumps(one).encode() for one in altered(DOCUMENT, number, 1))
    inputs = itertools.chain([whole], documents, mutations(whole, number, 2), truncations(whole), bit_flips(whole))

    fuzzed = fuzz(read, inputs, tmp_path, "split.json", judge=difference)

    assert not fuzzed.failures, "\n".join(fuzzed.failures)
    assert fuzzed.results > number / 2, fuzzed
    assert fuzzed.refused > len(whole), fuzzed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', 'the key "a" occurs twice in one object'),
        ('{"a": ' + "9" * 4301 + "}", "a whole number of 4301 digits"),
        ('{"a": ' + "9" * 101 + "}", "a whole number of 101 digits"),
        ('{"a": 1e400}', "too large: '1e400'"),
        ("[" * 102 + "]" * 102, "nested more than 100 levels"),
        ('{"a": ' * 5_000, "levels"),
        ('{"a": ["\\ud800"]}', "a.0: half of a surrogate pair"),
        ('{"\\ud800": 1}', "half of a surrogate pair"),
    ],
)
def test_json_beyond_the_limits_is_refused(tmp_path, text, said):
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(DataError, match=r"file\.json is damaged") as caught:
        read(tmp_path / "file.json")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_state_of_a_random_generator_and_numbers_that_are_not_finite_are_read(tmp_path):
    content = {"state": 2**128 - 1, "loss": [float("inf"), -float("inf")]}
    (tmp_path / "file.json").write_text(json.dumps(content))
    assert read(tmp_path / "file.json") == content


def test_json_that_is_too_large_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_files, "LARGEST", 10)
    (tmp_path / "file.json").write_text("[1, 2, 3, 4]")
    with pytest.raises(DataError, match=r"file\.json: larger than"):
        read(tmp_path / "file.json")


def test_a_named_pipe_is_no_json_file(tmp_path):
    os.mkfifo(tmp_path / "file.json")
    with pytest.raises(DataError, match="named pipe"):
        read(tmp_path / "file.json")


def test_a_folder_is_no_json_file(tmp_path):
    with pytest.raises(DataError, match="folder"):
        read(tmp_path)
