"""The comparison of accuracies: the same samples for all, none of them seen before, one score, one table."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from miscnn_tf import MiscnnError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def accuracy():
    """The script as a module."""
    path = [*sys.path]
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("accuracy")
    sys.path[:] = path


@pytest.fixture(scope="module")
def cells(accuracy, tmp_path_factory):
    return accuracy.DATA_SETS["cells"](Path(), tmp_path_factory.mktemp("cells"))


def names_in(folder: Path) -> set[str]:
    return {file.name.split(".")[0].removesuffix("_0000") for file in folder.iterdir()}


def test_a_method_gets_no_validation_sample_and_no_label_of_one(cells, tmp_path):
    settings = cells.write(tmp_path, cells.training, cells.validation)
    raw = Path(settings["raw"])
    assert names_in(raw / "imagesTr") == names_in(raw / "labelsTr") == set(cells.training)
    assert names_in(Path(settings["images"])) == names_in(tmp_path / "truth") == set(cells.validation)
    assert not set(cells.training) & set(cells.validation)
    text = json.dumps(settings) + (raw / "dataset.json").read_text()
    assert "truth" not in text
    assert not any(name in text for name in cells.validation)


def test_the_files_have_the_pixels_and_classes_of_the_data(cells, tmp_path):
    settings = cells.write(tmp_path, cells.training[:2], cells.validation[:1])
    for name in cells.training[:2]:
        case = cells.cases[name]
        image = np.asarray(Image.open(f"{settings['raw']}/imagesTr/{name}_0000.png"))
        np.testing.assert_array_equal(image, np.asarray(Image.open(case.images[0])))
        labels = np.asarray(Image.open(f"{settings['raw']}/labelsTr/{name}.png"))
        np.testing.assert_array_equal(labels, np.asarray(Image.open(case.labels)) != 0)


def test_brats_labels_become_consecutive_classes(accuracy, tmp_path):
    brats = accuracy.DATA_SETS["brats"](Path(), tmp_path / "made")
    settings = brats.write(tmp_path / "run", brats.training[:1], brats.validation[:1])
    (written,) = Path(settings["raw"], "labelsTr").iterdir()
    truth, labels = nib.load(brats.cases[brats.training[0]].labels), nib.load(written)
    np.testing.assert_array_equal(np.asanyarray(truth.dataobj) == 4, np.asanyarray(labels.dataobj) == 3)
    np.testing.assert_array_equal(truth.affine, labels.affine)
    assert len(list(Path(settings["raw"], "imagesTr").iterdir())) == 4


def test_folds_divide_the_training_samples_and_no_group(cells):
    folds = cells.folds(4)
    for training, validation in folds:
        assert not {name[:2] for name in training} & {name[:2] for name in validation}
        assert {*training, *validation} == set(cells.training)
    assert sorted(name for _, validation in folds for name in validation) == sorted(cells.training)
    assert folds == cells.folds(4)


def test_more_folds_than_groups_are_an_error(cells):
    with pytest.raises(ValueError, match="4 groups of training samples; give a number of folds from 2 to 4"):
        cells.folds(5)


def test_scores_are_those_of_the_formula(accuracy, tmp_path, rng):
    truths, predicted = rng.integers(0, 3, (2, 2, 9, 8, 7), np.uint8)
    predicted[1][predicted[1] == 2] = truths[1][truths[1] == 2] = 0  # a class that is in neither label map
    wanted = []
    for number, (truth, labels) in enumerate(zip(truths, predicted, strict=True)):
        for name, array in (("truth", truth), ("labels", labels)):
            (tmp_path / name).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / name / f"{number}.nii.gz")
        present = [label for label in (1, 2) if (truth == label).any()]
        overlaps = [np.sum((truth == label) & (labels == label)) for label in present]
        sizes = [np.sum(truth == label) + np.sum(labels == label) for label in present]
        wanted.append([2 * overlap / size for overlap, size in zip(overlaps, sizes, strict=True)])
    scores = accuracy.score(tmp_path / "truth", tmp_path / "labels", 3)
    means = [(wanted[0][0] + wanted[1][0]) / 2, wanted[0][1]]
    assert scores["cases"]["1"][1] is None
    assert scores["dice"] == pytest.approx(means, abs=1e-5)
    assert scores["mean"] == pytest.approx(sum(means) / 2, abs=1e-5)


def test_a_prediction_that_is_missing_or_on_another_grid_is_an_error(accuracy, tmp_path):
    for name, shape in (("truth", (8, 9)), ("labels", (9, 8)), ("nothing", None)):
        (tmp_path / name).mkdir()
        if shape:
            Image.fromarray(np.ones(shape, np.uint8)).save(tmp_path / name / "a.png")
    with pytest.raises(MiscnnError, match="8"):
        accuracy.score(tmp_path / "truth", tmp_path / "labels", 2)
    with pytest.raises(FileNotFoundError, match=r"a\.png"):
        accuracy.score(tmp_path / "truth", tmp_path / "nothing", 2)


def arguments(tmp_path: Path, **given: Any) -> Namespace:
    defaults = {
        "data": ["cells"], "minutes": 1.0, "seeds": [0, 1], "python": "python", "validate_on_training": None,
        "folds": None, "set": [], "folder": tmp_path, "keep": None, "output": tmp_path / "results.json",
    }  # fmt: skip
    return Namespace(**{**defaults, **given})


def stand_in(turn: Any, data: Any, training: Any, validation: Any, folder: Path, python: str) -> dict[str, Any]:
    """A run with results that follow from the seed."""
    dice = 0.5 + 0.1 * turn.seed
    return {"classes": ["cell"], "steps": 10 + turn.seed, "dice": [dice], "mean": dice, "samples": sorted(training)}


def test_methods_take_turns_and_a_repeated_call_runs_what_is_missing(accuracy, monkeypatch, tmp_path):
    monkeypatch.setattr(accuracy, "run", stand_in)
    options = arguments(tmp_path)
    assert accuracy.run_missing(options, ["miscnn_tf"], accuracy.read_results(options.output)) == 0
    results = accuracy.read_results(options.output)
    assert [(one["method"], one["seed"]) for one in results] == [("miscnn_tf", 0), ("miscnn_tf", 1)]
    accuracy.run_missing(options, ["miscnn_tf", "monai"], results)
    turns = [(one["method"], one["seed"]) for one in accuracy.read_results(options.output)]
    assert turns == [("miscnn_tf", 0), ("miscnn_tf", 1), ("monai", 0), ("monai", 1)]
    *_, ours, monai = accuracy.table(results).splitlines()
    assert "| cells | validation | 1 | miscnn_tf | 2 | 10 | cell 0.550 | 0.5500 ± 0.0707 |" in ours
    assert "MONAI" in monai


def test_folds_leave_the_validation_samples_alone(accuracy, cells, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(accuracy, "run", lambda *given: (seen.append(given), stand_in(*given))[1])
    results: list[dict[str, Any]] = []
    options = arguments(tmp_path, validate_on_training=4, folds=[1, 2], seeds=[0])
    accuracy.run_missing(options, ["miscnn_tf"], results)
    assert [one["fold"] for one in results] == ["1/4", "2/4"]
    for _, _, training, validation, *_ in seen:
        assert {*training, *validation} == set(cells.training)
    assert "| cells | 4 folds of training | 1 | miscnn_tf | 2 |" in accuracy.table(results)


def test_a_failed_run_is_reported_and_not_a_result(accuracy, monkeypatch, tmp_path, capsys):
    def fail(turn: Any, *given: Any) -> dict[str, Any]:
        if turn.method == "monai":
            raise accuracy.RunError("MONAI ended with an error")
        return stand_in(turn, *given)

    monkeypatch.setattr(accuracy, "run", fail)
    options = arguments(tmp_path, seeds=[0])
    assert accuracy.run_missing(options, ["monai", "miscnn_tf"], []) == 1
    assert [one["method"] for one in accuracy.read_results(options.output)] == ["miscnn_tf"]
    assert "MONAI ended with an error" in capsys.readouterr().err


def test_an_ablation_is_a_run_of_its_own_of_ours_alone(accuracy, monkeypatch, tmp_path):
    monkeypatch.setattr(accuracy, "run", stand_in)
    results: list[dict[str, Any]] = []
    accuracy.run_missing(arguments(tmp_path, seeds=[0]), ["miscnn_tf", "monai"], results)
    changed = arguments(tmp_path, seeds=[0], set=["network.learning_rate=0.002"])
    accuracy.run_missing(changed, ["miscnn_tf", "monai"], results)
    assert [(one["method"], one["changes"]) for one in results] == [
        ("miscnn_tf", ""),
        ("monai", ""),
        ("miscnn_tf", "network.learning_rate=0.002"),
    ]
    assert "| miscnn_tf, network.learning_rate=0.002 | 1 |" in accuracy.table(results)


@pytest.mark.slow
def test_ours_trains_and_is_scored(tmp_path):
    command = [sys.executable, "accuracy.py", "--data", "cells", "--rivals", "--minutes", "0.1"]
    command += ["--set", "network.learning_rate=0.002", "-o"]
    done = subprocess.run(
        [*command, str(tmp_path / "results.json")], cwd=BENCHMARKS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (result,) = json.loads((tmp_path / "results.json").read_text())
    assert (result["training"], result["validation"], len(result["cases"])) == (32, 16, 16)
    assert result["steps"] > 0
    assert 0 < result["mean"] <= 1
    assert result["changes"] == "network.learning_rate=0.002"
    assert 6 <= result["seconds"]["training"] < 60
    assert "| cells | validation | 0.1 | miscnn_tf, network.learning_rate=0.002 | 1 |" in done.stdout
