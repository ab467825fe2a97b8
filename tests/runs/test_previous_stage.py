"""The segmentation of each sample is that of the fold which was trained without it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from small_data import AFFINE, write_cases, write_volume

from miscnn_tf import Data_IO, NIFTI_interface, PreviousStage
from miscnn_tf.errors import DataError, GridError, LabelError, MissingDataError
from miscnn_tf.runs.fold import Fold, FoldRecord, write_fold2disk
from miscnn_tf.runs.names import PREDICTION_RECORD_FILE, SAMPLES_FILE, fold_folder
from miscnn_tf.runs.prediction_files import write_prediction_record

NAMES = [f"case_{number}" for number in range(4)]
SHAPE = (12, 10, 6)


@pytest.fixture
def data_io(tmp_path: Path) -> Data_IO:
    write_cases(tmp_path / "data")
    return Data_IO(NIFTI_interface(classes=3, label_map={7: 2}), str(tmp_path / "data"))


def labels_of(fold: int, name: str) -> np.ndarray:
    return np.random.default_rng([fold, int(name[-1])]).choice([0, 1, 7], SHAPE).astype(np.uint8)


def write_fold(folder: Path, training: list[str], validation: list[str], number: int, detailed: bool = True) -> None:
    folder.mkdir(parents=True)
    fold = Fold(tuple(training), tuple(validation))
    write_fold2disk(folder / SAMPLES_FILE, fold.training, fold.validation)
    FoldRecord(fold, {}, {"loss": [1.0]}, detailed).write(folder)
    for name in NAMES:  # a file of every sample, only some of which count
        write_volume(folder / "predictions" / f"{name}.nii.gz", labels_of(number, name))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_fold(fold_folder(tmp_path / "run", 0), NAMES[:2], NAMES[2:], 0)
    write_fold(fold_folder(tmp_path / "run", 1), NAMES[2:], NAMES[:2], 1)
    return tmp_path / "run"


def test_out_of_fold_predictions(run: Path, data_io: Data_IO) -> None:
    stage = PreviousStage(run)
    stage.require(NAMES)
    for name in NAMES:
        found = stage.load(data_io.interface, data_io.sample_loader(name, load_seg=False))
        expected = labels_of(1 if name in NAMES[:2] else 0, name)
        assert np.array_equal(found, np.where(expected == 7, 2, expected))  # values of the files are classes
    assert len({stage.fingerprint(name) for name in NAMES}) == 4


def test_what_is_missing_is_named(run: Path, data_io: Data_IO, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"was not validated on 'case_9'. For new images, predict them"):
        PreviousStage(run).require(["case_9"])
    (fold_folder(run, 0) / "predictions" / "case_3.nii.gz").unlink()
    with pytest.raises(MissingDataError, match="has no prediction of 'case_3'"):
        PreviousStage(run).require(NAMES)
    with pytest.raises(MissingDataError, match="'case_3'"):
        PreviousStage(run).load(data_io.interface, data_io.sample_loader("case_3", load_seg=False))
    write_fold(fold_folder(run, 2), NAMES, [], 2, detailed=False)
    with pytest.raises(MissingDataError, match=r"the previous stage of the cascade is not finished: .*fold_2"):
        PreviousStage(run).require(NAMES)
    with pytest.raises(MissingDataError, match=r"does not exist\. Name the folder of its cross-validation"):
        PreviousStage(tmp_path / "none").require(NAMES)


def test_a_training_has_predictions_of_its_validation_alone(tmp_path: Path) -> None:
    write_fold(tmp_path / "training", NAMES[:2], NAMES[2:], 0)
    PreviousStage(tmp_path / "training").require(NAMES[2:])
    with pytest.raises(MissingDataError, match=r"by a model that was trained without it\. Cross-validate"):
        PreviousStage(tmp_path / "training").require(NAMES)


def test_predictions_of_a_model_that_was_trained_on_the_samples(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    for name in NAMES:
        write_volume(folder / f"{name}.nii.gz", labels_of(0, name))
    PreviousStage(folder).require(NAMES)
    record = {"fingerprint": "", "probabilities": False}
    for model in (run, fold_folder(run, 0)):
        write_prediction_record(folder, {"model": str(model), **record})
        with pytest.raises(DataError, match=r"predicted by a model that was trained on case_0, case_1"):
            PreviousStage(folder).require(NAMES)
    PreviousStage(folder).require(NAMES[2:])  # of fold 0 alone
    (folder / PREDICTION_RECORD_FILE).unlink()
    PreviousStage(folder).require(NAMES)


def test_a_segmentation_of_another_image(data_io: Data_IO, tmp_path: Path) -> None:
    folder, sample = tmp_path / "labels", data_io.sample_loader("case_0", load_seg=False)
    turned = nib.orientations.apply_orientation
    flipped = turned(labels_of(0, "case_0"), [[0, -1], [1, 1], [2, 1]])
    affine = AFFINE @ nib.orientations.inv_ornt_aff([[0, -1], [1, 1], [2, 1]], SHAPE)
    write_volume(folder / "case_0.nii.gz", flipped, affine)  # the same voxels in space, in another order
    with pytest.raises(GridError, match=r"is not on the grid of the image: axes pointing LAS against RAS"):
        PreviousStage(folder).load(data_io.interface, sample)
    write_volume(folder / "case_0.nii.gz", np.full(SHAPE, 5, np.uint8))
    with pytest.raises(LabelError, match="5"):
        PreviousStage(folder).load(data_io.interface, sample)
    write_volume(folder / "case_0.nii.gz", labels_of(0, "case_0"))
    assert PreviousStage(folder).load(data_io.interface, sample).shape == SHAPE
