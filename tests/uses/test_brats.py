"""BraTS: four contrasts per patient, files named after the case, labels 0, 1, 2 and 4."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from miscnn_tf.datasets import write_brats_phantoms


@pytest.fixture(scope="module")
def with_interface(run_use, tmp_path_factory):
    folder = tmp_path_factory.mktemp("brats_interface")
    write_brats_phantoms(folder / "data", 10, progress=False)
    return folder, run_use("brats_interface", folder)


@pytest.fixture(scope="module")
def with_files(run_use, tmp_path_factory):
    folder = tmp_path_factory.mktemp("brats_files")
    write_brats_phantoms(folder / "brats", 4, progress=False)
    return folder, run_use("brats_files", folder)


def test_an_interface_of_ones_own_finds_the_whole_tumour(with_interface):
    _, results = with_interface
    # Chance: the tumour is 1 to 2 % of the voxels.
    assert np.mean(results["dice"]["whole"]) > 0.4, results["dice"]
    # Only the contrast after contrast agent shows it: the channels are in their places.
    assert np.mean(results["dice"]["enhancing"]) > 0.1, results["dice"]
    assert set(results["dice"]) == {"whole", "core", "enhancing"}


def test_probabilities_and_flips_have_the_shape_of_the_image(with_interface):
    _, results = with_interface
    assert results["probabilities"] == [40, 40, 26, 4]
    assert results["sums"] == pytest.approx([1, 1], abs=1e-4)
    assert results["flipped"] == [[40, 40, 26, 4]] * 3
    assert results["history"] == ["data_wait", "dice_soft", "learning_rate", "loss", "val_dice_soft", "val_loss"]


def test_predictions_are_written_by_the_users_interface_with_its_labels(with_interface):
    folder, _ = with_interface
    cases = ["BraTS20_Training_009", "BraTS20_Training_010"]
    assert sorted(path.name for path in (folder / "predictions").iterdir()) == [f"{case}.nii.gz" for case in cases]
    for case in cases:
        image = sitk.ReadImage(str(folder / "data" / case / f"{case}_t1.nii.gz"))
        labels = sitk.ReadImage(str(folder / "predictions" / f"{case}.nii.gz"))
        assert labels.GetSize() == image.GetSize() == (40, 40, 26)
        np.testing.assert_allclose(labels.GetDirection(), image.GetDirection(), atol=1e-5)
        np.testing.assert_allclose(labels.GetOrigin(), image.GetOrigin(), atol=1e-3)
        assert set(np.unique(sitk.GetArrayFromImage(labels))) <= {0, 1, 2, 4}


def test_split_validation_saves_the_split_the_model_and_the_curves(with_interface):
    folder, _ = with_interface
    names = {path.name for path in (folder / "evaluation").iterdir()}
    assert names >= {
        "history.tsv",
        "sample_list.json",
        "model.keras",
        "validation.loss.png",
        "validation.dice_soft.png",
    }
    split = json.loads((folder / "evaluation" / "sample_list.json").read_text())
    assert (len(split["TRAINING"]), len(split["VALIDATION"])) == (6, 2)


@pytest.mark.slow
def test_four_files_are_four_channels_and_label_4_is_declared_3(with_files):
    folder, results = with_files
    assert results["shape"] == [40, 40, 26, 4]
    assert results["loss"][-1] < results["loss"][0]
    from miscnn_tf.data_loading.interfaces import NIFTI_interface

    interface = NIFTI_interface(channels=4, classes=4, label_map={4: 3})
    interface.initialize(folder / "data")
    case = results["last"]
    image, _ = interface.load_image(case)
    labels = interface.load_segmentation(case)
    for channel, modality in enumerate(("t1", "t1ce", "t2", "flair")):
        source = np.asarray(nib.load(folder / "brats" / case / f"{case}_{modality}.nii.gz").dataobj)
        np.testing.assert_array_equal(image[..., channel], source)
    truth = np.asarray(nib.load(folder / "brats" / case / f"{case}_seg.nii.gz").dataobj)
    np.testing.assert_array_equal(labels == 3, truth == 4)
    np.testing.assert_array_equal(labels == 2, truth == 2)
    written = nib.load(folder / "predictions" / f"{case}.nii.gz")
    np.testing.assert_allclose(
        written.affine, nib.load(folder / "brats" / case / f"{case}_t2.nii.gz").affine, atol=1e-5
    )
