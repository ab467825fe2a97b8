"""The NIfTI slicer: a 2D network on slices of CT volumes, put together again into a volume."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from miscnn_tf.datasets import write_kits_phantoms
from miscnn_tf.evaluation.detailed_validation import compute_dice

SLICES = 20


@pytest.fixture(scope="module")
def slicer(run_use, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slicer")
    write_kits_phantoms(folder / "data", 5, (SLICES, 48, 64), seed=1, tumours=1, progress=False)
    return folder, run_use("nifti_slicer", folder)


def test_every_slice_is_a_sample(slicer):
    _, results = slicer
    assert results["slices"] == 5 * SLICES
    assert results["shape"] == [48, 64, 1]
    assert len(results["dice"]) == SLICES


def test_slices_become_a_volume_that_lies_over_the_scan(slicer):
    folder, results = slicer
    image = sitk.ReadImage(str(folder / "data" / results["test"] / "imaging.nii.gz"))
    volume = sitk.ReadImage(str(folder / "volume.nii.gz"))
    assert volume.GetSize() == image.GetSize()
    for voxel in ((0, 0, 0), (SLICES - 1, 47, 63)):
        np.testing.assert_allclose(
            volume.TransformIndexToPhysicalPoint(voxel), image.TransformIndexToPhysicalPoint(voxel), atol=1e-3
        )
    for number in (0, 9, SLICES - 1):
        piece = sitk.ReadImage(str(folder / "predictions" / f"{results['test']}:#:{number}.nii.gz"))
        assert piece.GetSize() == (1, 48, 64)
        np.testing.assert_allclose(
            piece.TransformIndexToPhysicalPoint((0, 5, 7)),
            image.TransformIndexToPhysicalPoint((number, 5, 7)),
            atol=1e-3,
        )
        # ITK counts the axes from the other end.
        np.testing.assert_array_equal(
            sitk.GetArrayFromImage(piece)[..., 0], sitk.GetArrayFromImage(volume)[..., number]
        )


def test_the_volume_holds_the_kidneys(slicer):
    folder, results = slicer
    volume = np.asarray(nib.load(folder / "volume.nii.gz").dataobj)
    truth = np.asarray(nib.load(folder / "data" / results["test"] / "segmentation.nii.gz").dataobj)
    dice = compute_dice(truth, volume, 3)
    # Chance: kidneys are 1 to 2 % of the voxels.
    assert dice[1] > 0.2, dice


def test_a_class_that_is_neither_there_nor_found_scores_nothing_rather_than_0(slicer):
    _, results = slicer
    # Of tumours, which many slices lack: which slices get a voxel of kidney too many is up to the training.
    assert any(np.isnan(scores[2]) for scores in results["dice"])


def test_folds_on_disk(slicer):
    folder, _ = slicer
    splits = [json.loads((folder / "folds" / f"fold_{fold}" / "sample_list.json").read_text()) for fold in range(2)]
    assert sorted(splits[0]["TRAINING"]) == sorted(splits[1]["VALIDATION"])
    names = {path.name for path in (folder / "folds" / "fold_0").iterdir()}
    assert names >= {"history.tsv", "model.keras", "validation.loss.png"}
    lines = (folder / "detailed" / "detailed_validation.tsv").read_text().splitlines()
    assert lines[0].split("\t")[:4] == ["sample_id", "dice_class-0", "dice_class-1", "dice_class-2"]
    assert len(lines) == 5
