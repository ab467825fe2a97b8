"""Paths in lists that other programs wrote."""

from __future__ import annotations

import os
import re

import pytest

from miscnn_tf.data_loading._discovery.dataset_json import ListedPathError, relative_to_folder

NAME = "imagesTr/a.nii.gz"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Task04" / "imagesTr").mkdir(parents=True)
    (tmp_path / "Task04" / NAME).write_bytes(b"")
    return tmp_path / "Task04"


@pytest.mark.parametrize(
    "entry",
    [
        *(NAME, f"./{NAME}", "imagesTr//a.nii.gz", "imagesTr/./a.nii.gz", "imagesTr/../imagesTr/a.nii.gz"),
        *("imagesTr\\a.nii.gz", ".\\imagesTr\\a.nii.gz", f"../Task04/{NAME}"),
        *("{folder}/imagesTr/a.nii.gz", "/{folder}/imagesTr/a.nii.gz", "{folder}/imagesTr/../imagesTr/a.nii.gz"),
    ],
)
def test_a_path_inside_the_folder(folder, entry):
    assert relative_to_folder(entry.format(folder=folder), folder) == (NAME, False)


def test_an_absolute_path_where_the_folder_is_given_by_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert relative_to_folder(str(folder / NAME), tmp_path / "link") == (NAME, False)
    assert relative_to_folder(str(tmp_path / "link" / NAME), folder) == (NAME, False)


def test_an_absolute_path_where_the_folder_is_given_relative(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert relative_to_folder(str(folder / NAME), type(folder)("Task04")) == (NAME, False)


@pytest.mark.parametrize(
    "entry",
    [f"/home/other/Task04/{NAME}", f"/{NAME}", "C:\\data\\Task04\\imagesTr\\a.nii.gz", f"D:/{NAME}"]
    + ["\\\\server\\share\\imagesTr\\a.nii.gz"],
)
def test_the_path_of_another_place_after_the_folder_was_moved(folder, entry):
    assert relative_to_folder(entry, folder) == (NAME, True)


def test_a_file_that_is_outside_is_not_replaced_by_one_of_its_name(folder, tmp_path):
    (tmp_path / "other" / "imagesTr").mkdir(parents=True)
    (tmp_path / "other" / NAME).write_bytes(b"")
    with pytest.raises(ListedPathError, match=f"is outside {re.escape(str(folder))}, and only files inside are read"):
        relative_to_folder(str(tmp_path / "other" / NAME), folder)


@pytest.mark.parametrize(
    "entry", ["/etc/passwd", "../a.nii.gz", "imagesTr/../../a", "..\\a", "C:/a.nii.gz", "/a.nii.gz"]
)
def test_a_path_outside_the_folder(folder, entry):
    (folder / "a.nii.gz").write_bytes(b"")  # of the name alone nothing follows
    with pytest.raises(ListedPathError, match=r"is outside .*, and only files inside are read. Copy or link"):
        relative_to_folder(entry, folder)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [("", "is not a path"), (" ", "is not a path"), ("a\0b", "is not a path"), ("\ud800", "is not a path")]
    + [("a/" * 10_000, "is not a path"), (".", "is the folder itself"), ("imagesTr/..", "is the folder itself")],
)
def test_what_is_no_path_of_a_file(folder, entry, reason):
    with pytest.raises(ListedPathError, match=reason):
        relative_to_folder(entry, folder)


def test_names_that_are_not_utf_8(folder):
    name = os.fsdecode(b"imagesTr/\xff.nii.gz")
    assert relative_to_folder(name, folder) == (name, False)
