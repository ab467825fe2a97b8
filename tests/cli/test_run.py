"""``miscnn-tf run`` and `miscnn_tf.plan`: from a folder to a trained network, predictions and a page."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

import miscnn_tf
from miscnn_tf.cli import main as cli
from miscnn_tf.cli.planned_run import PlannedRun, plan
from miscnn_tf.datasets import write_kits_phantoms
from miscnn_tf.errors import ConfigurationError, MissingDataError

SMALL = {
    "network.architecture": {"name": "unet_standard", "n_filters": 2, "depth": 1},
    "network.iterations": 2,
    "network.epochs": 2,
    "preprocessing.patch_shape": [8, 16, 16],
    "preprocessing.spacing": [11, 9, 9],
    "network.precision": "float32",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "scans"
    write_kits_phantoms(folder, cases=3, shape=(16, 32, 40), progress=False)
    return folder


@pytest.fixture(scope="module")
def options() -> list[str]:
    texts = {key: value for key, value in SMALL.items() if key != "network.architecture"}
    architecture = "network.architecture={name='unet_standard',n_filters=2,depth=1}"
    pairs = [architecture, *(f"{key}={value}" for key, value in texts.items())]
    return [part for pair in pairs for part in ("--set", pair)]


def test_one_command_trains_scores_and_predicts(data: Path, options, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(data / "case_00000" / "imaging.nii.gz", new / "patient.nii.gz")
    command = ["run", str(data), str(new), "--minutes", "5", *options]
    assert cli.main(command) == 0
    shown = capsys.readouterr().out
    folder = tmp_path / "scans_run"
    page = folder / "training" / "report.html"
    assert "3 samples, layout NIFTI" in shown
    assert shown.index("ends after 5 minutes") < shown.index("Training on")
    assert shown.rstrip().endswith(page.as_uri())
    assert page.stat().st_size > 10_000
    assert (folder / "predictions" / "overlays" / "patient.png").stat().st_size > 1000
    text = page.read_text(encoding="utf-8")
    assert 'id="new"' in text
    assert text.count('alt="patient with the outlines of its prediction"') == 1
    assert str(folder / "predictions" / "patient.nii.gz") in text
    segmented = nibabel.load(folder / "predictions" / "patient.nii.gz")
    scan = nibabel.load(new / "patient.nii.gz")
    assert segmented.shape == scan.shape
    np.testing.assert_array_equal(segmented.affine, scan.affine)

    voxel = abs(np.linalg.det(scan.affine[:3, :3])) / 1000
    for name, value in (("1", 1), ("2", 2)):
        volume = np.count_nonzero(np.asarray(segmented.dataobj) == value) * voxel
        assert f"<li>{name}: {volume:.4g} ml</li>" in text
    assert cli.main(["report", str(folder / "training")]) == 0
    assert "patient with the outlines" in page.read_text(encoding="utf-8")
    capsys.readouterr()

    weights = (folder / "training" / "model.keras").read_bytes()
    record = (folder / "training" / "run.json").read_bytes()
    assert cli.main(command) == 0  # goes on where it ended: nothing is done again
    again = capsys.readouterr().out
    assert "Using the plan" in again
    assert "is finished; it is not trained again" in again
    assert "Training on" not in again
    assert (folder / "training" / "run.json").read_bytes() == record
    assert "1 is there already" in again
    assert (folder / "training" / "model.keras").read_bytes() == weights


def test_another_plan_in_the_folder_is_not_used_silently(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    plan(data, 5, folder, settings=SMALL)
    plan(data, None, folder)  # without a limit, that of the plan
    for arguments, message in [
        ({"minutes": 6}, "its time limit is 5.0, not 6 minutes"),
        ({"layout": "DICOM"}, "its layout is NIFTI, not DICOM"),
        ({"settings": {"network.epochs": 3}}, "another value than network.epochs=3"),
    ]:
        with pytest.raises(ConfigurationError, match=message):
            plan(data, output=folder, **arguments)
    assert plan(data, 6, folder, settings=SMALL, fresh=True).experiment.network.minutes == 6
    with pytest.raises(ConfigurationError, match="its data are"):
        plan(tmp_path, output=folder)


def test_the_same_command_again_uses_the_plan(data: Path, tmp_path: Path) -> None:
    """Defects: a folder around the data, and a label map that init completes, were taken for another plan."""
    outer = tmp_path / "download"
    shutil.copytree(data, outer / "data")
    changed = {**SMALL, "data.label_map": {"2": 1}}
    first = plan(outer, 5, tmp_path / "out", settings=changed)
    assert first.experiment.data.label_map == {"1": 1, "2": 1}
    assert plan(outer, 5, tmp_path / "out", settings=changed).experiment == first.experiment
    with pytest.raises(ConfigurationError, match=r"another value than data\.label_map"):
        plan(outer, 5, tmp_path / "out", settings={"data.label_map": {"2": 2}})


def test_mistakes_are_found_before_the_training(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", str(data), "missing"]) == 1
    assert "NEW_IMAGES missing does not exist" in capsys.readouterr().err
    assert cli.main(["run", "nothing"]) == 1
    assert "nothing is not a folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MissingDataError, match="train the plan first"):
        plan(data, 5, tmp_path / "out", settings=SMALL).predict(data)
    with pytest.raises(ConfigurationError, match="minutes must be a positive number"):
        plan(data, 0)


def test_a_plan_prints_its_reasons(data: Path, tmp_path: Path) -> None:
    run = miscnn_tf.plan(data, 20, tmp_path / "out")
    assert "# time limit; the training ends by it" in str(run)
    assert "minutes = 20.0\n" in str(run)
    assert "CT in Hounsfield units" in str(run)
    assert "not trained yet" in repr(run)
    page = run._repr_html_()
    assert page.count("<table>") == page.count("</table>") == 6
    assert '<td style="text-align:left">minutes</td>' in page
    assert "time limit" in page
    text = run.configuration.read_text().replace("seed = 0", "seed = 7")
    run.configuration.write_text(text)
    assert PlannedRun(run.folder).experiment.network.seed == 7  # the file decides


def test_an_interrupted_training_goes_on(data: Path, tmp_path: Path) -> None:
    run = miscnn_tf.plan(data, 5, tmp_path / "out", settings=SMALL)
    assert run.train() is run
    assert run.is_trained
    assert run.report() == run.report_file


def test_training_longer_is_one_option(data: Path, options, tmp_path: Path, capsys) -> None:
    """Defect: another --minutes was refused, and so was the changed plan."""
    command = ["run", str(data), "-o", str(tmp_path / "out"), *options]
    assert cli.main([*command, "--minutes", "3"]) == 0
    assert cli.main([*command, "--minutes", "4"]) == 1
    assert (
        "not 4 minutes. Plan and train again with --fresh, or choose another folder with --output"
        in capsys.readouterr().err
    )
    assert cli.main([*command, "--minutes", "4", "--fresh"]) == 0
    assert "Training on" in capsys.readouterr().out


def test_slices_of_volumes_are_planned_trained_and_predicted(data: Path, tmp_path: Path) -> None:
    """A 2D network, of which the predictions are volumes."""
    small = {
        "network.architecture": {
            "name": "nnunet_plain",
            "features": [4, 8],
            "strides": [[1, 1, 1], [1, 2, 2]],
            "kernel_sizes": [[1, 3, 3], [1, 3, 3]],
            "convolutions": [1, 1],
            "decoder_convolutions": [1],
        },
        **{key: value for key, value in SMALL.items() if key.startswith("network.") and key != "network.architecture"},
    }
    run = miscnn_tf.plan(data, 5, tmp_path / "out", settings=small, configuration="2d")
    assert run.experiment.preprocessing.patch_shape is not None
    axis = run.experiment.preprocessing.patch_shape.index(1)
    assert f"nothing is filtered across the slices, axis {axis}" not in str(run)  # the architecture was given
    image = data / "case_00000" / "imaging.nii.gz"
    [written] = run.train().predict(image)
    assert nibabel.load(written).shape == nibabel.load(image).shape
    assert miscnn_tf.plan(data, 5, tmp_path / "out", settings=small, configuration="2d").is_trained
    with pytest.raises(ConfigurationError, match="its configuration is not 3d_fullres"):
        miscnn_tf.plan(data, 5, tmp_path / "out", settings=small, configuration="3d_fullres")
