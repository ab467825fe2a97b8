from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_data import write_cases, write_volume

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.layout_detection import find_interface_despite_errors, usual_classes
from miscnn_tf.data_loading.verification import verify
from miscnn_tf.errors import DataError, MissingDataError


def test_most_samples_decide_where_the_first_is_unlike_the_others(tmp_path: Path) -> None:
    cases = write_cases(tmp_path, 5)
    write_volume(cases[0] / "imaging.nii.gz", np.zeros((12, 10, 6, 2), np.int16))
    (cases[1] / "imaging.nii.gz").write_bytes(b"no image")
    (cases[2] / "segmentation.nii.gz").write_bytes(b"no label map")
    write_volume(cases[3] / "segmentation.nii.gz", np.full((12, 10, 6), 200, np.uint8))
    interface = find_interface_despite_errors(tmp_path)
    assert (interface.channels, interface.classes, interface.three_dim) == (1, 3, True)
    found = verify(Data_IO(interface, tmp_path))
    assert found.bad == ["case_0", "case_1", "case_2", "case_3"]


def test_what_is_given_is_taken(tmp_path: Path) -> None:
    cases = write_cases(tmp_path, 3)
    (cases[0] / "segmentation.nii.gz").write_bytes(b"no label map")
    interface = find_interface_despite_errors(tmp_path, "NIFTI", channels=2, classes=7, pattern="case_[01]")
    assert (interface.channels, interface.classes, interface.pattern) == (2, 7, "case_[01]")
    assert find_interface_despite_errors(tmp_path, "NIFTI_S", labels=False).channels == 1


def test_masks_of_0_and_255_though_some_have_other_values(tmp_path: Path) -> None:
    for number in range(4):
        folder = tmp_path / f"cell_{number}"
        folder.mkdir()
        mask = np.zeros((6, 6), np.uint8)
        mask[2:4] = 254 if number == 3 else 255
        Image.fromarray(mask).save(folder / "imaging.png")
        Image.fromarray(mask).save(folder / "segmentation.png")
    interface = find_interface_despite_errors(tmp_path)
    assert (interface.classes, interface.label_map) == (2, {255: 1})
    assert verify(Data_IO(interface, tmp_path)).of_kind("labels") == ["cell_3"]


def test_where_nothing_can_be_told_the_error_says_so(tmp_path: Path) -> None:
    for case in write_cases(tmp_path, 3):
        write_volume(case / "segmentation.nii.gz", np.full((12, 10, 6), 9, np.uint8))
    with pytest.raises(DataError, match="label_map="):
        find_interface_despite_errors(tmp_path)
    with pytest.raises(MissingDataError, match="does not exist"):
        find_interface_despite_errors(tmp_path / "nowhere")
    with pytest.raises(MissingDataError, match="itself one sample"):
        find_interface_despite_errors(tmp_path / "case_0")


@pytest.mark.parametrize(
    ("values", "label_map", "expected"),
    [
        ([{0, 1, 2}, {0, 1}, {0, 3, 200}], None, (4, None)),
        ([{0, 255}] * 3, {255: 2, 0: 1}, None),
        ([{0, 255}] * 3, {255: 1}, (2, {255: 1})),
        ([{0, 65535}], None, (2, {65535: 1})),
        ([{0}], None, None),
        ([], None, None),
        ([{1, 2}], None, None),
    ],
)
def test_usual_classes(values: list[set[int]], label_map: dict[int, int] | None, expected: object) -> None:
    assert usual_classes(values, label_map) == expected
