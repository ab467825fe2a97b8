"""Names of files, however their letters are encoded."""

from __future__ import annotations

import os

import pytest

from miscnn_tf.data_loading.file_names import (
    composed,
    distinct,
    find_file,
    folder_entries,
    visible_files,
    without_ending,
)
from miscnn_tf.errors import DataError, RepeatedWarning

ENDINGS = (".nii.gz", ".nii")
COMPOSED, DECOMPOSED = "M\u00fcller", "Mu\u0308ller"


def test_names_are_composed():
    assert composed(DECOMPOSED) == COMPOSED == composed(COMPOSED)


def test_endings_in_any_case_of_letters():
    assert without_ending("a.b.NII.GZ", ENDINGS) == "a.b"
    assert without_ending("A.Nii", ENDINGS) == "A"
    assert without_ending("a.gz", ENDINGS) is None
    # Lower-casing lengthens this name.
    assert without_ending("\u0130.NII", ENDINGS) == "\u0130"


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.NII.GZ", "a.Nii.gz", "a.NII"])
def test_a_file_is_found_in_any_case_of_its_ending(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "._a.nii.gz").write_bytes(b"")
    assert find_file(tmp_path, "a", ENDINGS) == tmp_path / name
    assert find_file(tmp_path, "A", ENDINGS) is None
    assert find_file(tmp_path, "A", ENDINGS, any_case=True) == tmp_path / name


@pytest.mark.parametrize(("on_disk", "asked"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_file_is_found_in_either_unicode_form(tmp_path, on_disk, asked):
    (tmp_path / f"{on_disk}.nii").write_bytes(b"")
    assert find_file(tmp_path, asked, ENDINGS) == tmp_path / f"{on_disk}.nii"


@pytest.mark.parametrize("names", [("a.nii", "a.nii.gz"), ("a.NII", "a.NII.GZ")])
def test_of_nii_and_nii_gz_it_is_said_which_is_read(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.warns(RepeatedWarning, match=rf"holds {names[1]} and {names[0]}; {names[1]} is read"):
        assert find_file(tmp_path, "a", ENDINGS) == tmp_path / names[1]


def test_folders_are_no_files_and_dangling_links_are(tmp_path):
    (tmp_path / "a.nii.gz").mkdir()
    assert find_file(tmp_path, "a", ENDINGS) == tmp_path / "a.nii.gz", "the reader reports that it is a folder"
    (tmp_path / "a.nii").symlink_to(tmp_path / "nowhere")
    assert find_file(tmp_path, "a", ENDINGS) == tmp_path / "a.nii"
    assert visible_files(tmp_path) == [tmp_path / "a.nii"]


@pytest.mark.parametrize("stem", ["a\0b", "a" * 300, "\udcff", ""])
def test_names_that_no_file_can_have(tmp_path, stem):
    assert find_file(tmp_path, stem, ENDINGS) is None
    assert find_file(tmp_path / "none", stem, ENDINGS) is None


def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere cannot be listed \(No such file"):
        folder_entries(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"file cannot be listed \(Not a directory"):
        folder_entries(tmp_path / "file")


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["a", "b"], ["a", "b"]),
        (["Müller", "a"], ["Müller", "a"]),
        ([COMPOSED, DECOMPOSED], [r"'M\xfcller'", r"'Mu\u0308ller'"]),
        (["a", "a "], ["'a'", "'a '"]),
        (["a", "a\u200b"], ["'a'", r"'a\u200b'"]),
        ([os.fsdecode(b"\xff")], [r"'\udcff'"]),
    ],
)
def test_a_message_never_shows_the_same_name_twice(names, shown):
    assert distinct(names) == shown
