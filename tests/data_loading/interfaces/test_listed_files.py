"""What interfaces for listed files share; how they read and write is tested with each of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from layout_data import save_image

from miscnn_tf.data_loading.file_names import visible_files
from miscnn_tf.data_loading.interfaces.listed_files import FoundFiles, ListedFiles_interface, SampleFiles
from miscnn_tf.errors import DataError

GREY = np.zeros((4, 5), np.uint8)


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


def test_names_are_composed_and_found_in_either_unicode_form(tmp_path):
    for name in ("e\u0301", "f"):
        save_image(tmp_path / f"{name}.png", GREY)
    interface = EverySecond()
    assert interface.initialize(tmp_path) == ["\u00e9"]
    for name in ("\u00e9", "e\u0301"):
        assert interface.load_image(name)[0].shape == (4, 5)


def test_two_samples_of_one_name_in_two_unicode_forms(tmp_path):
    for name in ("e\u0301", "f", "\u00e9", "\u00ea"):
        save_image(tmp_path / f"{name}.png", GREY)
    with pytest.raises(DataError, match=r"more than one sample is named .* composed or decomposed Unicode"):
        EverySecond().initialize(tmp_path)
