"""JSON files."""

from __future__ import annotations

import json
import os

import pytest

from miscnn_tf._base.plain_files import read_json, write_json
from miscnn_tf.errors import DataError, MissingDataError


def test_round_trip_in_text_that_people_can_read(tmp_path):
    content = {"Fälle": ["a", 1, None, 0.5]}
    write_json(tmp_path / "new" / "file.json", content)
    assert read_json(tmp_path / "new" / "file.json", "") == content
    assert "Fälle" in (tmp_path / "new" / "file.json").read_text(encoding="utf-8")


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "file.json", [1])
    with pytest.raises(TypeError):
        write_json(tmp_path / "file.json", [object()])
    assert json.loads((tmp_path / "file.json").read_text()) == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


def test_a_missing_file_says_what_writes_it(tmp_path):
    with pytest.raises(MissingDataError, match=r"file\.json does not exist; split_folds\(\) writes it"):
        read_json(tmp_path / "file.json", "split_folds() writes it")


def test_a_byte_order_mark_is_no_damage(tmp_path):
    (tmp_path / "file.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "file.json", "") == {"a": 1}


def test_what_to_do_about_a_damaged_file_can_be_said(tmp_path):
    (tmp_path / "file.json").write_text("{")
    with pytest.raises(DataError, match=r"file\.json is damaged .*; mend it"):
        read_json(tmp_path / "file.json", "", "mend it")


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(DataError, match=r"file\.json is damaged"):
        read_json(tmp_path / "file.json", "")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a": [1, 2],\n}', r"line 1: there is a comma before the closing '\}'; remove it"),
        ('{"a": [1,\n 2,\n]}', r"line 2: there is a comma before the closing '\]'; remove it"),
        ('{\n// cases\n"a": 1}', "line 2: JSON does not support comments"),
        ("{'a': 1}", "line 1: single quotes are not valid in JSON"),
        ('{"a": 1, "a": 2}', 'the key "a" occurs twice in one object'),
        ('{"a": 1 "b": 2}', "Expecting ',' delimiter: line 1"),
    ],
)
def test_the_fault_is_named(tmp_path, text, fault):
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(DataError, match=rf"file\.json is damaged \({fault}.*\); mend it"):
        read_json(tmp_path / "file.json", "", "mend it")


def test_file_names_that_are_not_utf_8(tmp_path):
    name = os.fsdecode(b"case_\xff")
    write_json(tmp_path / "file.json", {"names": [name, "Fälle"]})
    assert read_json(tmp_path / "file.json", "") == {"names": [name, "Fälle"]}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings_of_other_programs(tmp_path, encoding):
    (tmp_path / "file.json").write_text('{"Fälle": 1}', encoding=encoding)
    assert read_json(tmp_path / "file.json", "") == {"Fälle": 1}


def test_what_is_not_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(DataError, match=r"pipe\.json: not a regular file but a named pipe"):
        read_json(tmp_path / "pipe.json", "")
