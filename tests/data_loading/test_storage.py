from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miscnn_tf.data_loading.storage import atomic_path, inside, make_folder
from miscnn_tf.errors import DataError, MissingDataError, StorageError


def _fail_half_way(target: Path, error: Exception) -> None:
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error


def test_the_file_appears_complete_and_the_folder_is_made(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "x.nii.gz"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("half")
        assert not target.exists()
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_failure_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError):
        _fail_half_way(target, ZeroDivisionError())
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_disk_that_fills_up_is_named_with_what_to_do(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    with pytest.raises(
        StorageError, match=rf"could not write {target}: No space left .*Free space there: \d+ MB.*make room"
    ):
        _fail_half_way(target, OSError(errno.ENOSPC, "No space left on device"))
    assert list(tmp_path.iterdir()) == []


def test_errors_that_are_not_about_the_new_file_pass_through(tmp_path: Path) -> None:
    source = tmp_path / "scans" / "gone.nii.gz"
    with pytest.raises(FileNotFoundError) as caught, atomic_path(tmp_path / "out" / "x.txt"):
        source.read_bytes()
    assert not isinstance(caught.value, StorageError)
    with pytest.raises(MissingDataError), atomic_path(tmp_path / "out" / "x.txt"):
        raise MissingDataError("the scan is gone")


def test_a_folder_in_the_files_place(tmp_path: Path) -> None:
    (tmp_path / "x.txt" / "y").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"could not write .*x\.txt"), atomic_path(tmp_path / "x.txt") as temporary:
        temporary.write_text("new")


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(StorageError, match="could not create the folder"):
            make_folder(folder)


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miscnn_tf.data_loading.storage.os.access", lambda *_: False)
    with pytest.raises(StorageError, match="not writable"):
        make_folder(tmp_path)


def test_names_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 248 + ".nii.gz")
    with atomic_path(target) as temporary:
        temporary.write_text("")
    assert target.exists()


@pytest.mark.parametrize(
    "index",
    [
        "",
        "  ",
        ".",
        "..",
        "../x",
        "a/../../x",
        "a/..",
        "/etc/passwd",
        "C:\\x",
        "C:/x",
        "a\\..\\b",
        "a\0b",
        "//server/x",
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(index: str) -> None:
    with pytest.raises(DataError, match="rename the sample"):
        inside("root", index)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ("case_0", "root/case_0.nii"),
        (12, "root/12.nii"),
        ("a/b", "root/a/b.nii"),
        ("a/", "root/a.nii"),
        ("x:#:3", "root/x:#:3.nii"),
        ("..a", "root/..a.nii"),
    ],
)
def test_the_path_of_an_index(index: str | int, expected: str) -> None:
    assert inside("root", index, ".nii").as_posix() == expected


@given(st.text(st.sampled_from("ab./\\: \0C"), max_size=8))
def test_whatever_is_let_through_stays_inside(index: str) -> None:
    root = Path("/data/root")
    try:
        path = inside(root, index, ".x")
    except DataError:
        return
    assert root in Path(os.path.normpath(path)).parents
    assert ".." not in path.parts
