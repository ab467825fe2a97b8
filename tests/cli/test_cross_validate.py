from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from miscnn_tf.cli import main as cli
from miscnn_tf.evaluation import fold_run
from miscnn_tf.neural_network.keras_file import store_postprocessing
from miscnn_tf.neural_network.model_description import read_metadata
from miscnn_tf.processing.components import KEEP_LARGEST, ComponentStep
from miscnn_tf.runs.run_record import read_run_record


def test_each_case_validates_once(cross_validated: Path) -> None:
    names = {path.name for path in cross_validated.iterdir()}
    assert {"fold_0", "fold_1", "scores.csv", "summary.json", "run.json", "cross_validation.toml"} <= names
    validating = [
        name
        for fold in ("fold_0", "fold_1")
        for name in json.loads((cross_validated / fold / "sample_list.json").read_text())["VALIDATION"]
    ]
    assert sorted(validating) == [f"case_0000{number}" for number in range(4)]
    assert json.loads((cross_validated / "summary.json").read_text())["cases"] == 4
    for fold in ("fold_0", "fold_1"):
        assert (cross_validated / fold / "model.keras").is_file()
    assert read_run_record(cross_validated)["kind"] == "cross-validation"
    assert (cross_validated / "report.html").is_file()


def test_it_chooses_the_postprocessing_and_predict_applies_it(
    cross_validated: Path, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((cross_validated / "postprocessing.json").read_text())
    assert (content["folds"], content["samples"]) == (2, 4)
    assert set(content["dice"]) == {"kidney", "tumour"}
    files = [cross_validated / f"fold_{number}" / "model.keras" for number in (0, 1)]
    assert [read_metadata(file).get("postprocessing") or [] for file in files] == [content["steps"]] * 2
    folder = tmp_path / "folds"
    shutil.copytree(cross_validated, folder)
    step = ComponentStep(KEEP_LARGEST, "all foreground", (1, 2), 1)
    for number in (0, 1):
        store_postprocessing(folder / f"fold_{number}" / "model.keras", [step])
    image = str(next((experiment.parent / "data").glob("case_00000/imaging.nii.gz")))
    made = {}
    for name, options in (("with", []), ("without", ["--no-postprocessing"])):
        output = tmp_path / f"{name}.nii.gz"
        assert cli.main(["predict", str(folder), image, str(output), *options]) == 0
        printed = "Postprocessing, chosen by the cross-validation: largest component: all foreground"
        assert (printed in capsys.readouterr().out) is (not options)
        made[name] = np.asarray(nib.load(output).dataobj)
    np.testing.assert_array_equal(made["with"], step.apply(made["without"]))
    assert not np.array_equal(made["with"], made["without"])
    # The same command chooses again, from the predictions without postprocessing.
    capsys.readouterr()
    assert cli.main(["cross-validate", str(experiment), "-o", str(folder), "--set", "network.epochs=1"]) == 0
    assert "Postprocessing, decided on 4 samples" in capsys.readouterr().out
    assert json.loads((folder / "postprocessing.json").read_text()) == content
    assert (read_metadata(folder / "fold_0" / "model.keras").get("postprocessing") or []) == content["steps"]


def test_an_interrupted_one_goes_on_with_the_fold_that_is_left(
    cross_validated: Path, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folds"
    shutil.copytree(cross_validated, folder)
    fold_run.remove_results(folder / "fold_1")
    finished = (folder / "fold_0" / "model.keras").stat()
    arguments = ["cross-validate", str(experiment), "-o", str(folder), "--set", "network.epochs=1"]
    assert cli.main(arguments) == 0
    kept = (folder / "fold_0" / "model.keras").stat()
    assert (kept.st_ino, kept.st_mtime_ns) == (finished.st_ino, finished.st_mtime_ns)
    assert (folder / "fold_1" / "model.keras").is_file()
    assert cli.main([*arguments, "--set", "cross_validation.k_fold=3"]) == 1
    assert "cross_validation.k_fold was 2, now 3" in capsys.readouterr().err


def test_groups_stay_together(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["cross-validate", str(experiment), "-o", str(tmp_path / "none")]
    assert cli.main([*arguments, "--set", "split.groups='(case)_.*'"]) == 1
    assert "more than the number of groups (1)" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
