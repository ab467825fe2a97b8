"""KiTS19: clipping, resampling, z-score, patches of CT volumes, 3-fold cross-validation, weights as .hdf5."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

from miscnn_tf.datasets import write_kits_phantoms


@pytest.fixture(scope="module")
def kits(run_use, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kits19")
    write_kits_phantoms(folder / "data", 8, (24, 48, 64), seed=1, tumours=1, progress=False)
    return folder, run_use("kits19", folder)


def test_the_kidney_is_found_and_the_weights_survive_the_file(kits):
    _, results = kits
    assert sorted(results["dice"]) == ["case_00006", "case_00007"]
    for background, kidney, _ in results["dice"].values():
        # Chance: a kidney is 1 to 2 % of these voxels.
        assert background > 0.97
        assert kidney > 0.3
    assert results["same"]


def test_every_fold_leaves_what_the_documentation_names(kits):
    folder, _ = kits
    validated = []
    for fold in range(3):
        path = folder / "evaluation" / f"fold_{fold}"
        names = {file.name for file in path.iterdir()}
        assert names >= {
            "history.tsv",
            "sample_list.json",
            "model.keras",
            "detailed_validation.tsv",
            "validation.loss.png",
            "validation.dice_soft.png",
            "validation.dice_crossentropy.png",
        }
        with open(path / "history.tsv", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        assert [row["epoch"] for row in rows] == ["1", "2"]
        assert {"loss", "val_loss", "dice_soft", "val_dice_soft", "dice_crossentropy"} <= set(rows[0])
        assert all(np.isfinite(float(row["val_loss"])) for row in rows)
        samples = json.loads((path / "sample_list.json").read_text())
        assert len(samples["TRAINING"]) == 4
        assert not set(samples["TRAINING"]) & set(samples["VALIDATION"])
        with open(path / "detailed_validation.tsv", newline="") as file:
            scores = list(csv.DictReader(file, delimiter="\t"))
        assert sorted(row["sample_id"] for row in scores) == sorted(samples["VALIDATION"])
        assert all(0 <= float(row["dice_class-0"]) <= 1 for row in scores)
        validated += samples["VALIDATION"]
    assert sorted(validated) == [f"case_0000{number}" for number in range(6)]


def test_predictions_lie_over_their_scans(kits):
    folder, _ = kits
    assert sorted(path.name for path in (folder / "predictions").iterdir()) == [
        "case_00006.nii.gz",
        "case_00007.nii.gz",
    ]
    for case in ("case_00006", "case_00007"):
        image = sitk.ReadImage(str(folder / "data" / case / "imaging.nii.gz"))
        labels = sitk.ReadImage(str(folder / "predictions" / f"{case}.nii.gz"))
        assert labels.GetPixelID() == sitk.sitkUInt8
        assert labels.GetSize() == image.GetSize()
        np.testing.assert_allclose(labels.GetOrigin(), image.GetOrigin(), atol=1e-3)
        np.testing.assert_allclose(labels.GetSpacing(), image.GetSpacing(), atol=1e-4)
        np.testing.assert_allclose(labels.GetDirection(), image.GetDirection(), atol=1e-4)


def test_curves_are_pictures_and_what_was_prepared_stays_for_the_next_run(kits):
    folder, _ = kits
    for figure in folder.glob("evaluation/fold_*/*.png"):
        assert figure.read_bytes().startswith(b"\x89PNG")
        assert figure.stat().st_size > 5_000
    assert len(list((folder / "batches" / "prepared").iterdir())) == 8
