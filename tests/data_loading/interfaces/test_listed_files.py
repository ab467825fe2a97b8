"""What interfaces for listed files share; how they read and write is tested with each of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from layout_data import image_of, save_image, save_nifti

from miscnn_tf.data_loading.interfaces.listed_files import (
    FoundFiles,
    ListedFiles_interface,
    SampleFiles,
    any_coloured,
    first_answer,
    nifti_form,
    visible_files,
    without_ending,
)
from miscnn_tf.errors import DataError, MissingDataError

GREY = np.zeros((4, 5), np.uint8)
COLOURS = np.stack([GREY, GREY, GREY + 1], axis=-1)


@pytest.mark.parametrize(
    ("shape", "files", "form"),
    [
        ((5, 6, 7), 1, (1, True)),
        ((5, 6, 7), 3, (3, True)),
        ((5, 6, 7, 4), 1, (4, True)),
        ((5, 6), 1, (1, False)),
        ((5, 6, 1), 1, (1, False)),
        ((5, 6, 1), 2, (2, False)),
        ((5, 6, 1, 3), 1, (3, False)),
    ],
)
def test_channels_and_dimension_of_nifti_files(tmp_path, shape, files, form):
    path = save_nifti(tmp_path / "a.nii.gz", image_of("a", shape=shape))
    assert nifti_form([path] * files) == form


def test_one_image_in_colours_is_enough(tmp_path):
    grey, colours = save_image(tmp_path / "a.png", GREY), save_image(tmp_path / "b.png", COLOURS)
    (tmp_path / "bad.png").write_bytes(b"x")
    assert any_coloured([grey, tmp_path / "bad.png", tmp_path / "none.png", colours])
    assert not any_coloured([grey, tmp_path / "bad.png"])


def test_the_first_file_that_can_be_read_answers():
    def question(number: int) -> int:
        if number < 3:
            raise DataError(f"{number} is bad")
        return number

    assert first_answer(question, [1, 2, 3, 4]) == 3
    with pytest.raises(DataError, match="1 is bad"):
        first_answer(question, [1, 2])
    with pytest.raises(MissingDataError, match="no samples"):
        first_answer(question, [])


def test_names_and_hidden_files(tmp_path):
    assert without_ending("a.b.NII.GZ", (".nii.gz", ".nii")) == "a.b"
    assert without_ending("a.gz", (".nii.gz", ".nii")) is None
    for name in ("b", "a", "._a", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder").mkdir()
    assert [path.name for path in visible_files(tmp_path)] == ["a", "b"]


class EverySecond(ListedFiles_interface):
    """A layout of one's own: a flat folder, image and segmentation in turn."""

    def __init__(self, channels=None, classes=None, three_dim=None, pattern=None):
        super().__init__(channels, classes, three_dim, pattern, "training", None, None, None)

    def find_files(self, root: Path) -> FoundFiles:
        files = visible_files(root)
        pairs = zip(files[::2], files[1::2], strict=True)
        return FoundFiles(
            {image.stem: SampleFiles((image,), mask) for image, mask in pairs}, ".png", 1, ("none", "all")
        )


def test_a_subclass_only_says_which_files_make_a_sample(tmp_path):
    for name in "abcd":
        save_image(tmp_path / f"{name}.png", GREY if name in "ac" else GREY + 1)
    interface = EverySecond()
    assert interface.initialize(tmp_path) == ["a", "c"]
    assert (interface.channels, interface.classes, interface.three_dim) == (1, 2, False)
    assert interface.names_of_classes() == ("none", "all")
    interface.check("c")
    assert interface.load_segmentation("c").all()
    assert interface.load_details("c") is None
