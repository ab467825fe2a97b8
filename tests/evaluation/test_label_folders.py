from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from miscnn_tf.data_loading.interfaces import Paired_interface
from miscnn_tf.errors import DataError, MissingDataError
from miscnn_tf.evaluation.label_folders import check_pairs, evaluate_label_maps, find_label_maps, pair


def nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


BOX = np.pad(np.ones((2, 3, 4), np.uint8), 2)


def test_a_slice_has_two_axes_however_it_is_stored(tmp_path: Path) -> None:
    nifti(tmp_path / "a" / "x.nii.gz", BOX[3][..., np.newaxis])
    nifti(tmp_path / "b" / "x.nii.gz", BOX[3])
    pairs = pair(find_label_maps(tmp_path / "a"), find_label_maps(tmp_path / "b"))
    assert check_pairs(pairs)["x"].shape == BOX[3].shape
    summary = evaluate_label_maps(find_label_maps(tmp_path / "a"), find_label_maps(tmp_path / "b"))
    assert summary["classes"]["1"]["dice"]["mean"] == 1


def test_images_beside_masks_are_a_data_set(tmp_path: Path) -> None:
    png(tmp_path / "data" / "x.png", np.arange(30, dtype=np.uint8).reshape(5, 6))
    png(tmp_path / "data" / "x_mask.png", 255 * np.eye(5, 6, dtype=np.uint8))
    png(tmp_path / "pred" / "x.png", np.eye(5, 6, dtype=np.uint8))
    truth = find_label_maps(tmp_path / "data")
    assert list(truth.maps) == ["x"]
    assert truth.data_io is not None
    assert isinstance(truth.data_io.interface, Paired_interface)
    summary = evaluate_label_maps(find_label_maps(tmp_path / "pred"), truth)
    assert summary["classes"]["1"]["dice"]["mean"] == 1
    assert summary["classes"]["1"]["hd95_pixels"]["mean"] == 0


def test_pairs_are_made_by_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        nifti(tmp_path / "pred" / f"{name}.nii.gz", BOX)
        nifti(tmp_path / "truth" / f"{name}_seg.nii", BOX)
    pairs = pair(find_label_maps(tmp_path / "pred"), find_label_maps(tmp_path / "truth"))
    assert {name: str(both[1]) for name, both in pairs.items()} == {
        name: str(tmp_path / "truth" / f"{name}_seg.nii") for name in ("a", "b")
    }
    nifti(tmp_path / "pred" / "a.nii", BOX)
    with pytest.raises(DataError, match="several files of the names a"):
        find_label_maps(tmp_path / "pred")


def test_a_turned_or_damaged_file_is_named(tmp_path: Path) -> None:
    nifti(tmp_path / "truth" / "a.nii.gz", BOX)
    nifti(tmp_path / "truth" / "b.nii.gz", BOX)
    nifti(tmp_path / "pred" / "a.nii.gz", BOX, np.diag([-1, 1, 1, 1]))
    (tmp_path / "pred" / "b.nii.gz").write_bytes(b"nothing")
    pairs = pair(find_label_maps(tmp_path / "pred"), find_label_maps(tmp_path / "truth"))
    with pytest.raises(DataError, match="2 of 2 cases cannot be compared") as caught:
        check_pairs(pairs)
    assert "axes pointing RAS against LAS" in str(caught.value)
    assert "b.nii.gz" in str(caught.value)
    with pytest.raises(MissingDataError):
        find_label_maps(tmp_path / "none")


def test_a_class_that_no_case_has_keeps_the_numbers_of_the_others(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii.gz", BOX * 3)
    summary = evaluate_label_maps(find_label_maps(tmp_path / "a.nii.gz"), find_label_maps(tmp_path / "a.nii.gz"))
    assert list(summary["classes"]) == ["0", "1", "2", "3"]
    assert summary["classes"]["3"]["dice"]["mean"] == 1
    assert summary["classes"]["1"]["dice"]["undefined"] == 1


def test_an_image_is_no_label_map(tmp_path: Path, rng: np.random.Generator) -> None:
    nifti(tmp_path / "a.nii.gz", rng.normal(size=(5, 5, 5)))
    nifti(tmp_path / "b.nii.gz", np.zeros((5, 5, 5), np.uint8))
    with pytest.raises(DataError, match=r"a\.nii\.gz"):
        evaluate_label_maps(find_label_maps(tmp_path / "a.nii.gz"), find_label_maps(tmp_path / "b.nii.gz"))


def test_pairs_are_made_by_name_in_either_unicode_form(tmp_path: Path) -> None:
    nifti(tmp_path / "pred" / "M\u00fcller.nii.gz", BOX)
    nifti(tmp_path / "pred" / "b.nii.gz", BOX)
    nifti(tmp_path / "truth" / "Mu\u0308ller.nii.gz", BOX)
    nifti(tmp_path / "truth" / "b.nii.gz", BOX)
    pairs = pair(find_label_maps(tmp_path / "pred"), find_label_maps(tmp_path / "truth"))
    assert sorted(pairs) == ["M\u00fcller", "b"]


def test_a_truth_of_two_annotators_is_not_chosen_by_chance(tmp_path: Path) -> None:
    mask = np.eye(6, 9, dtype=np.uint8)
    png(tmp_path / "pred" / "a.png", mask)
    for name in ("a_1stHO", "a_2ndHO"):
        png(tmp_path / "truth" / f"{name}.png", mask)
    predictions, truth = find_label_maps(tmp_path / "pred"), find_label_maps(tmp_path / "truth")
    with pytest.raises(DataError, match="prediction 'a' could belong to the truths a_1stHO, a_2ndHO; leave one"):
        pair(predictions, truth)
    png(tmp_path / "truth" / "a.png", mask)
    assert pair(predictions, find_label_maps(tmp_path / "truth")).keys() == {"a"}


def nnunet_data(folder: Path, labels: dict, truth: np.ndarray, **more) -> None:
    nifti(folder / "imagesTr" / "a_0000.nii.gz", np.zeros(truth.shape, np.float32))
    nifti(folder / "labelsTr" / "a.nii.gz", truth)
    content = {"channel_names": {"0": "MR"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz", **more}
    (folder / "dataset.json").write_text(json.dumps(content))


@pytest.mark.parametrize("of_data_set", [True, False])
def test_regions_and_the_ignore_label_of_a_data_set(tmp_path: Path, of_data_set: bool) -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, (6, 7, 8)).astype(np.uint8), rng.integers(0, 3, (6, 7, 8)).astype(np.uint8)
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    nnunet_data(tmp_path / "data", labels, truth, regions_class_order=[1, 2])
    nifti(tmp_path / "pred" / "a.nii.gz", predicted)
    maps = find_label_maps(tmp_path / "data" if of_data_set else tmp_path / "data" / "labelsTr")
    images = None if of_data_set else find_label_maps(tmp_path / "data").data_io
    summary = evaluate_label_maps(find_label_maps(tmp_path / "pred"), maps, images=images)
    assert summary["class_names"] == ["background", "whole", "core"]
    for number, members in enumerate(([0], [1, 2], [2])):
        one, other = (np.isin(array, members)[truth != 3] for array in (truth, predicted))
        dice = 2 * (one & other).sum() / (one.sum() + other.sum())
        assert summary["classes"][str(number)]["dice"]["mean"] == pytest.approx(dice)


def test_values_to_ignore_in_a_label_map(tmp_path: Path) -> None:
    truth = BOX.copy()
    truth[3] = 200
    nifti(tmp_path / "truth" / "a.nii.gz", truth)
    nifti(tmp_path / "pred" / "a.nii.gz", BOX)
    predictions, maps = find_label_maps(tmp_path / "pred"), find_label_maps(tmp_path / "truth")
    summary = evaluate_label_maps(predictions, maps, label_map={200: "ignore"})
    assert summary["classes"]["1"]["dice"]["mean"] == 1
    assert summary["ignored_values"] == [200]
