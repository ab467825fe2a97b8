"""A cascade through the command line: coarse cross-validation, second stage, predictions, comparison."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from miscnn_tf import PreviousStage, load_fold_models, load_model
from miscnn_tf.cli import main as cli
from miscnn_tf.errors import ConfigurationError, GridError, MissingDataError
from miscnn_tf.neural_network.model_description import read_metadata

NAMES = [f"case_0000{number}" for number in range(4)]


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def scan(experiment: Path, number: int) -> Path:
    return experiment.parent / "data" / NAMES[number] / "imaging.nii.gz"


def changes(**keys: object) -> list[str]:
    return [part for key, value in keys.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]


@pytest.fixture(scope="module")
def cascade(experiment: Path, cross_validated: Path) -> Path:
    """The cross-validation of the second stage, on finer voxels than the first."""
    folder = experiment.parent / "cascade"
    given = changes(
        data__previous_stage=f"'{cross_validated}'",
        preprocessing__spacing=[8, 7, 7],
        network__epochs=1,
        augmentation__enabled="true",
    )
    assert cli.main(["cross-validate", str(experiment), "--output", str(folder), *given]) == 0
    return folder


def test_the_second_stage_sees_the_predictions_of_the_fold_without_the_sample(
    cascade: Path, cross_validated: Path
) -> None:
    metadata = read_metadata(cascade / "fold_0" / "model.keras")
    assert metadata["preprocessor"]["previous_stage"] == str(cross_validated)
    assert metadata["channels"] == 1
    model = load_model(cascade / "fold_0" / "model.keras")
    assert model.model.input_shape[-1] == model.input_channels == 3
    interface = model.preprocessor.data_io.interface
    for number in (0, 1):
        validated = json.loads((cross_validated / f"fold_{number}" / "sample_list.json").read_text())["VALIDATION"]
        folders = {path.parent.parent.name for name in validated for path in cross_validated.rglob(f"{name}.nii.gz")}
        assert folders == {f"fold_{number}"}
    assert interface.classes == 3


def test_the_prediction_of_a_data_set_and_of_files_in_two_stages(
    experiment: Path, cross_validated: Path, cascade: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    data = experiment.parent / "data"
    raw = ["--no-postprocessing"]  # as the second stage was trained
    assert cli.main(["predict", str(cross_validated), str(data), str(first), *raw]) == 0
    assert cli.main(["predict", str(cascade), str(data), str(second)]) == 0
    printed = capsys.readouterr().out
    assert "First stage of the cascade" in printed
    assert "Second stage of the cascade" in printed
    for name in NAMES:
        assert np.array_equal(voxels(first / f"{name}.nii.gz"), voxels(second / "previous_stage" / f"{name}.nii.gz"))

    group = load_fold_models(cascade)
    file = first / f"{NAMES[0]}.nii.gz"
    expected = group.predict_file(scan(experiment, 0), previous_segmentation=file)
    assert np.array_equal(voxels(second / f"{NAMES[0]}.nii.gz"), expected)
    image = nib.load(scan(experiment, 0))
    array = group.predict_array(np.asarray(image.dataobj), image.header.get_zooms(), previous_segmentation=voxels(file))
    assert np.array_equal(array, expected)

    # Files: the first stage again, and its segmentations from a folder.
    (tmp_path / "scans").mkdir()
    shutil.copy(scan(experiment, 0), tmp_path / "scans" / f"{NAMES[0]}.nii.gz")
    files = tmp_path / "files"
    assert cli.main(["predict", str(cascade), str(tmp_path / "scans"), str(files)]) == 0
    assert np.array_equal(voxels(files / f"{NAMES[0]}.nii.gz"), expected)
    given = [str(tmp_path / "scans"), str(tmp_path / "given"), "--previous-stage", str(first)]
    assert cli.main(["predict", str(cascade), *given]) == 0
    assert np.array_equal(voxels(tmp_path / "given" / f"{NAMES[0]}.nii.gz"), expected)
    assert not (tmp_path / "given" / "previous_stage").exists()
    # Predictions by other segmentations of the first stage are not mixed with them.
    assert cli.main(["predict", str(cascade), str(tmp_path / "scans"), str(tmp_path / "given")]) == 1
    assert "holds predictions of another model" in capsys.readouterr().err

    # One file: the first stage's is temporary.
    one = tmp_path / "one" / "result.nii.gz"
    assert cli.main(["predict", str(cascade), str(scan(experiment, 0)), str(one)]) == 0
    assert np.array_equal(voxels(one), expected)
    assert [path.name for path in one.parent.iterdir()] == [one.name]
    # The second stage uses the first one.
    empty = np.zeros(image.shape, np.uint8)
    probabilities = [
        group.predict_file(scan(experiment, 0), activation_output=True, previous_segmentation=labels)
        for labels in (empty, empty + 2)
    ]
    assert np.abs(probabilities[0] - probabilities[1]).max() > 1e-3


def test_a_moved_first_stage_is_an_error_that_says_how_to_name_it(
    experiment: Path, cross_validated: Path, cascade: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(cascade / "fold_0" / "model.keras")
    model.use_previous_stage(tmp_path / "gone")
    model.dump(tmp_path / "model.keras")
    arguments = [str(tmp_path / "model.keras"), str(scan(experiment, 0)), str(tmp_path / "out.nii.gz")]
    assert cli.main(["predict", *arguments]) == 1
    error = capsys.readouterr().err
    assert f"the previous stage of the cascade, {tmp_path / 'gone'}, does not exist" in error
    assert "--previous-stage" in error
    assert cli.main(["predict", *arguments, "--previous-stage", str(cross_validated)]) == 0
    (tmp_path / "labels").mkdir()
    assert cli.main(["predict", *arguments, "--previous-stage", str(tmp_path / "labels"), "--overwrite"]) == 1
    assert "has no segmentation of 'imaging'" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="pass the result as previous_segmentation"):
        model.predict_file(scan(experiment, 0))
    with pytest.raises(MissingDataError, match="does not exist"):
        model.predict_file(scan(experiment, 0), previous_segmentation=tmp_path / "none.nii.gz")
    assert cli.main(["predict", str(cross_validated), *arguments[1:], "--previous-stage", str(cross_validated)]) == 1
    assert "is not the second stage of a cascade" in capsys.readouterr().err


def test_a_segmentation_of_another_image_is_an_error(experiment: Path, cascade: Path, tmp_path: Path) -> None:
    model = load_model(cascade / "fold_0" / "model.keras")
    image = nib.load(scan(experiment, 0))
    shifted = image.affine.copy()
    shifted[0, 3] += 5
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), shifted), tmp_path / "shifted.nii.gz")
    with pytest.raises(GridError, match=r"is not on the grid of the image: first voxel 5 mm apart"):
        model.predict_file(scan(experiment, 0), previous_segmentation=tmp_path / "shifted.nii.gz")
    with pytest.raises(GridError, match="it must be a label map of this image"):
        model.predict_file(scan(experiment, 0), previous_segmentation=np.zeros((3, 3, 3), np.uint8))


def test_models_that_have_seen_a_sample_are_refused(
    experiment: Path, trained: Path, cross_validated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(path: Path) -> str:
        given = changes(data__previous_stage=f"'{path}'")
        assert cli.main(["train", str(experiment), "--output", str(tmp_path / "run"), *given]) == 1
        assert not (tmp_path / "run" / "run.json").exists()
        return capsys.readouterr().err

    assert "by a model that was trained without it. Cross-validate the previous stage" in train(trained)
    predictions = tmp_path / "predictions"
    assert cli.main(["predict", str(cross_validated), str(experiment.parent / "data"), str(predictions)]) == 0
    capsys.readouterr()
    assert "were predicted by a model that was trained on case_00000" in train(predictions)
    (predictions / "predictions.json").unlink()
    (predictions / f"{NAMES[2]}.nii.gz").unlink()
    assert f"has no segmentation of '{NAMES[2]}'" in train(predictions)
    unfinished = tmp_path / "unfinished"
    shutil.copytree(cross_validated, unfinished)
    (unfinished / "fold_1" / "completed.json").unlink()
    assert f"the previous stage of the cascade is not finished: {unfinished / 'fold_1'}" in train(unfinished)
    assert "does not exist. Name the folder of its cross-validation" in train(tmp_path / "gone")


def test_new_segmentations_are_prepared_anew(experiment: Path, cross_validated: Path, tmp_path: Path) -> None:
    from miscnn_tf import NIFTI_interface, Preprocessor
    from miscnn_tf.data_loading.data_io import Data_IO

    data_io = Data_IO(NIFTI_interface(classes=3), str(experiment.parent / "data"), batch_path=str(tmp_path / "batches"))
    folder = tmp_path / "labels"
    shutil.copytree(cross_validated / "fold_0" / "predictions", folder)
    name = next(folder.glob("*.nii.gz")).name.removesuffix(".nii.gz")

    def prepared() -> np.ndarray:
        preprocessor = Preprocessor(
            *(data_io, 2),
            patch_shape=(8, 8, 8),
            prepare_subfunctions=True,
            previous_stage=PreviousStage(folder),
        )
        return np.array(preprocessor.prepare_sample_subfunctions(name).previous_data)

    before, file = prepared(), folder / f"{name}.nii.gz"
    image = nib.load(file)
    nib.save(nib.Nifti1Image(2 - np.asarray(image.dataobj).clip(0, 2), image.affine), file)
    assert np.array_equal(prepared(), 2 - before.clip(0, 2))


def test_compare_takes_a_cascade(cross_validated: Path, cascade: Path, experiment: Path, tmp_path: Path) -> None:
    best = tmp_path / "best"
    assert cli.main(["compare", str(cross_validated), str(cascade), "-o", str(best)]) == 0
    candidates = json.loads((best / "comparison.json").read_text())["candidates"]
    assert list(candidates) == ["small_cross_validation", "cascade", "small_cross_validation + cascade"]
    group = load_fold_models(cascade)
    group.models = [*load_fold_models(cross_validated).models, *group.models]
    group.dump(tmp_path / "both")
    out = tmp_path / "out"
    assert cli.main(["predict", str(tmp_path / "both"), str(scan(experiment, 0)), str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"imaging.nii.gz", "predictions.json", "previous_stage"}
