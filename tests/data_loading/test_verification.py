from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from small_data import AFFINE, contents_of, write_case, write_cases, write_volume

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import (
    Dictionary_interface,
    Image_interface,
    NIFTI_interface,
    NIFTIslicer_interface,
)
from miscnn_tf.data_loading.verification import BAD, SUSPICIOUS, Verification, verify


def verify_folder(root: Path, quick: bool = False, labels: bool = True, **settings: Any) -> Verification:
    interface = NIFTI_interface(**{"channels": 1, "classes": 3, **settings})
    return verify(Data_IO(interface, root), quick=quick, labels=labels)


def told(found: Verification) -> list[tuple[Any, str]]:
    return [(finding.index, finding.kind) for finding in found.findings]


@pytest.mark.parametrize("quick", [False, True])
def test_good_samples_have_no_findings(tmp_path: Path, quick: bool) -> None:
    write_cases(tmp_path)
    before = contents_of(tmp_path)
    found = verify_folder(tmp_path, quick)
    assert found.findings == []
    assert found.bad == []
    assert found.samples == ["case_0", "case_1", "case_2", "case_3"]
    assert contents_of(tmp_path) == before


def test_every_bad_sample_is_listed_with_its_file_and_what_is_wrong(tmp_path: Path) -> None:
    cases = write_cases(tmp_path, 9)
    (cases[0] / "imaging.nii.gz").unlink()
    (cases[1] / "segmentation.nii.gz").unlink()
    packed = (cases[2] / "imaging.nii.gz").read_bytes()
    (cases[2] / "imaging.nii.gz").write_bytes(packed[: len(packed) // 2])
    labels = np.asarray(nib.load(cases[3] / "segmentation.nii.gz").dataobj).copy()
    labels[0, 0, 0], labels[1, 0, 0] = 7, 255
    write_volume(cases[3] / "segmentation.nii.gz", labels)
    write_volume(cases[4] / "segmentation.nii.gz", np.minimum(labels, 2)[::2], AFFINE @ np.diag([2, 1, 1, 1]))
    image = np.asarray(nib.load(cases[5] / "imaging.nii.gz").dataobj).astype(np.float32)
    image[1, 2, 3] = np.nan
    write_volume(cases[5] / "imaging.nii.gz", image)
    write_volume(cases[6] / "imaging.nii.gz", np.stack([image, image], axis=-1))

    found = verify_folder(tmp_path)
    by_case = {finding.index: finding for finding in found.findings}
    assert {index: finding.kind for index, finding in by_case.items()} == {
        "case_0": "missing",
        "case_1": "missing",
        "case_2": "unreadable",
        "case_3": "labels",
        "case_4": "grid",
        "case_5": "not finite",
        "case_6": "unreadable",
    }
    assert len(found.findings) == len(by_case)  # nothing is told twice
    assert found.bad == [f"case_{number}" for number in range(7)]
    for index, finding in by_case.items():
        assert index in finding.message  # the file or folder is named
    assert "imaging.nii.gz" not in {path.name for path in cases[0].iterdir()}
    assert "found: segmentation.nii.gz" in by_case["case_0"].message
    assert "7, 255 (2 voxels)" in by_case["case_3"].message
    assert "shape (12, 10, 6) against (6, 10, 6)" in by_case["case_4"].message
    assert "spacing (0.8, 0.8, 2.5) mm against (1.6, 0.8, 2.5) mm" in by_case["case_4"].message
    assert "1 of 720 voxels are NaN" in by_case["case_5"].message
    assert "2 channel(s)" in by_case["case_6"].message


def test_a_sample_may_have_several_things_wrong(tmp_path: Path) -> None:
    case = write_case(tmp_path / "case_0", 0)
    write_case(tmp_path / "case_1", 1)
    image = np.full((12, 10, 6), np.inf, np.float32)
    image[0] = 1
    write_volume(case / "imaging.nii.gz", image)
    write_volume(case / "segmentation.nii.gz", np.full((12, 10, 6), 9, np.uint8), AFFINE + 3 * np.eye(4)[:, [3]].T)
    assert {kind for index, kind in told(verify_folder(tmp_path)) if index == "case_0"} == {
        "grid",
        "labels",
        "not finite",
    }


def test_quick_reads_headers_only(tmp_path: Path) -> None:
    cases = write_cases(tmp_path, 3)
    image = np.full((12, 10, 6), np.nan, np.float32)
    write_volume(cases[0] / "imaging.nii.gz", image)
    write_volume(cases[1] / "segmentation.nii.gz", np.zeros((12, 10, 5), np.uint8))
    assert told(verify_folder(tmp_path, quick=True)) == [("case_1", "grid")]
    assert told(verify_folder(tmp_path)) == [("case_0", "not finite"), ("case_1", "grid")]


def test_what_may_be_meant_is_suspicious_and_not_bad(tmp_path: Path) -> None:
    cases = write_cases(tmp_path, 6)
    write_case(cases[1], 1, affine=AFFINE @ np.diag([1, 1, 2, 1]))
    write_volume(cases[2] / "segmentation.nii.gz", np.zeros((12, 10, 6), np.uint8))
    (cases[3] / "imaging.nii.gz").write_bytes((cases[4] / "imaging.nii.gz").read_bytes())
    write_volume(cases[5] / "imaging.nii.gz", np.full((12, 10, 6), 3, np.int16))
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "convert.py").write_text("")
    found = verify_folder(tmp_path)
    assert set(told(found)) == {
        ("case_1", "spacing"),
        ("case_2", "empty"),
        ("case_4", "duplicate"),
        ("case_5", "constant"),
        ("scripts", "left out"),
    }
    assert found.bad == []
    messages = {finding.kind: finding.message for finding in found.findings}
    assert "0.8 × 0.8 × 5 mm" in messages["spacing"]
    assert "5 of 6 samples have 0.8 × 0.8 × 2.5 mm" in messages["spacing"]
    assert "'case_3'" in messages["duplicate"]


def test_a_data_set_of_many_voxel_sizes_has_no_rule_that_one_could_break(tmp_path: Path) -> None:
    for number in range(6):
        write_case(tmp_path / f"case_{number}", number, affine=AFFINE @ np.diag([1, 1, 1 + number / 4, 1]))
    assert verify_folder(tmp_path).findings == []
    write_case(tmp_path / "case_6", 6, affine=AFFINE @ np.diag([10, 10, 10, 1]))
    assert told(verify_folder(tmp_path)) == [("case_6", "spacing")]


def test_the_same_voxels_in_another_order_or_type_are_no_duplicate() -> None:
    image = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    data = {
        "a": (image, np.ones((2, 3, 4), int)),
        "b": (np.asfortranarray(image), np.ones((2, 3, 4), int)),
        "c": (image.reshape(4, 3, 2), np.ones((4, 3, 2), int)),
        "d": (image.astype(np.uint8), np.ones((2, 3, 4), int)),
        "e": (image.T.copy().T, np.ones((2, 3, 4), int)),
    }
    found = verify(Data_IO(Dictionary_interface(data), ""))
    assert ("c", "duplicate") not in told(found)
    assert ("d", "duplicate") not in told(found)
    assert ("e", "duplicate") in told(found)


def test_classes_that_no_sample_has_are_told_once(tmp_path: Path) -> None:
    write_cases(tmp_path, 3)
    found = verify_folder(tmp_path, classes=5)
    assert told(found) == [(None, "class")]
    assert "class 3, 4" in found.findings[0].message


def test_images_alone(tmp_path: Path) -> None:
    for case in write_cases(tmp_path, 3):
        (case / "segmentation.nii.gz").unlink()
    assert verify_folder(tmp_path, labels=False).findings == []
    assert [kind for _, kind in told(verify_folder(tmp_path))] == ["missing"] * 3


def test_slices_without_foreground_are_no_news(tmp_path: Path) -> None:
    write_cases(tmp_path, 2)
    interface = NIFTIslicer_interface(slice_axis=2, classes=3)
    assert verify(Data_IO(interface, tmp_path)).findings == []


def test_png_images(tmp_path: Path, rng: np.random.Generator) -> None:
    from PIL import Image

    for number in range(3):
        folder = tmp_path / f"cell_{number}"
        folder.mkdir()
        size = (8, 9) if number == 1 else (8, 8)
        Image.fromarray(rng.integers(0, 255, (8, 8)).astype(np.uint8)).save(folder / "imaging.png")
        Image.fromarray(np.ones(size, np.uint8)).save(folder / "segmentation.png")
    found = verify(Data_IO(Image_interface(classes=2), tmp_path))
    assert told(found) == [("cell_1", "grid")]
    # Without the headers' check, too: whatever a user's own interface compares.
    interface = Image_interface(classes=2)
    interface.check = lambda index, load_seg=True: None  # type: ignore[method-assign]
    assert told(verify(Data_IO(interface, tmp_path))) == [("cell_1", "grid")]


def test_warnings_and_errors_of_a_users_interface_are_findings(toy_io: Any) -> None:
    data_io = toy_io(cases=4)
    load = data_io.interface.load_image

    def load_image(index: str) -> Any:
        if index == "case_1":
            warnings.warn("a slice is missing", UserWarning, stacklevel=1)
        if index == "case_2":
            raise RuntimeError("no such series")
        return load(index)

    data_io.interface.load_image = load_image
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = verify(data_io)
    assert told(found) == [("case_1", "warning"), ("case_2", "unreadable")]
    assert found.findings[0].message == "a slice is missing"
    assert found.findings[1].message == "RuntimeError: no such series"
    assert found.bad == ["case_2"]


def test_one_sample_is_in_memory_at_a_time(toy_io: Any) -> None:
    data_io = toy_io(cases=5)
    alive: list[Any] = []
    load = data_io.interface.load_image

    def load_image(index: str) -> Any:
        import weakref

        image, facts = load(index)
        assert not any(reference() is not None for reference in alive)
        alive.append(weakref.ref(image))
        return image, facts

    data_io.interface.load_image = load_image
    assert verify(data_io).bad == []
    assert len(alive) == 5


def test_kinds_are_either_bad_or_suspicious() -> None:
    assert not BAD.keys() & SUSPICIOUS.keys()


def test_real_scans_are_fine(hippocampus: Path) -> None:
    found = verify_folder(hippocampus / "cases")
    assert len(found.samples) == 140
    assert found.findings == []
