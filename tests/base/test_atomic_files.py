from __future__ import annotations

import errno
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miscnn_tf._base.files import (
    atomic_path,
    inside,
    is_abandoned,
    make_folder,
    put_in_place,
    temporary_beside,
    watched_writes,
)
from miscnn_tf._base.holder import this_process
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
    monkeypatch.setattr("miscnn_tf._base.files.os.access", lambda *_: False)
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


def test_the_first_file_in_a_folder_removes_what_killed_processes_left_there(tmp_path: Path) -> None:
    """Defect: hidden temporary files stayed in finished folders for a day."""
    own = this_process()
    dead = tmp_path / f".{replace(own, process=2**22 - 1).text}00000.scores.csv"
    rebooted = tmp_path / f".{replace(own, boot='ffff').text}00000.scores.csv"
    living = temporary_beside(tmp_path / "x", "scores.csv")
    users = tmp_path / f".{'d41d8cd98f00b204e9800998ecf8427e'}.png"
    for path in (dead, rebooted, living, users):
        path.write_text("half")
    os.utime(users, (0, 0))
    with atomic_path(tmp_path / "scores.csv") as temporary:
        temporary.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"scores.csv", living.name, users.name}


def test_what_is_abandoned(tmp_path: Path) -> None:
    own = this_process()
    yesterday = time.time() - 2 * 24 * 3600
    expected = {
        (temporary_beside(tmp_path / "x").name, False): False,
        (temporary_beside(tmp_path / "x").name, True): False,  # a process that was stopped for a day
        (f".{replace(own, process=2**22 - 1).text}00000.x", False): True,
        (f".{replace(own, machine='0' * 8).text}00000.x", False): False,
        (f".{replace(own, machine='0' * 8).text}00001.x", True): True,
        ("notes.unfinished", True): False,
    }
    for (name, old), abandoned in expected.items():
        path = tmp_path / name
        path.write_text("")
        if old:
            os.utime(path, (yesterday, yesterday))
        assert is_abandoned(path) is abandoned, name


def test_temporary_names_are_all_different(tmp_path: Path) -> None:
    assert len({temporary_beside(tmp_path / "x") for _ in range(1000)}) == 1000


def test_a_disk_that_fails_to_synchronize_is_an_error_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    target = tmp_path / "x.txt"
    target.write_text("old")
    monkeypatch.setattr("miscnn_tf._base.files.os.fsync", fail)
    with pytest.raises(StorageError, match="Input/output error"), atomic_path(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_file_systems_that_cannot_synchronize_are_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def cannot(descriptor: int) -> None:
        raise OSError(number, "not supported")

    monkeypatch.setattr("miscnn_tf._base.files.os.fsync", cannot)
    with atomic_path(tmp_path / "x.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "x.txt").read_text() == "new"


def test_a_watcher_sees_the_complete_file_before_it_has_its_name(tmp_path: Path) -> None:
    seen = []

    def watch(temporary: Path, path: Path) -> None:
        seen.append((temporary.read_text(), path, path.exists()))

    with watched_writes(watch), atomic_path(tmp_path / "x.txt") as temporary:
        temporary.write_text("whole")
    with atomic_path(tmp_path / "y.txt") as temporary:
        temporary.write_text("unseen")
    assert seen == [("whole", tmp_path / "x.txt", False)]


def test_a_folder_does_not_replace_another_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(name)
    with pytest.raises(OSError, match="not empty"):
        put_in_place(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "x").read_text() == "b"
