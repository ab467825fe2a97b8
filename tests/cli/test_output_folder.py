from __future__ import annotations

from pathlib import Path

import pytest

from miscnn_tf.cli.output_folder import check_folder, claim, run_folder
from miscnn_tf.errors import ConfigurationError, StorageError
from miscnn_tf.experiment.schema import Experiment
from miscnn_tf.experiment.toml_file import check_experiment


def experiment(**tables) -> Experiment:
    return check_experiment({"data": {"path": "/data"}, "preprocessing": {"patch_shape": [8, 8]}, **tables}, "a.toml")


def test_where_results_land() -> None:
    assert run_folder(experiment(), "runs/kits.toml", "training", None) == Path("runs/kits_training")
    assert run_folder(experiment(), "kits.toml", "cross-validation", None) == Path("kits_cross_validation")
    said = experiment(output={"folder": "/there"})
    assert run_folder(said, "kits.toml", "training", None) == Path("/there")
    assert run_folder(said, "kits.toml", "training", "here") == Path("here")


def test_the_same_run_may_go_on_and_no_other(tmp_path: Path) -> None:
    folder, one = tmp_path / "run", experiment(network={"epochs": 3})
    check_folder(folder, one, "training", fresh=False)
    claim(folder, one, "training")
    check_folder(folder, one, "training", fresh=False)
    # What changes nothing about the result may change.
    check_folder(
        folder,
        experiment(network={"epochs": 3, "workers": 2}, output={"figures": False}),
        "training",
        fresh=False,
    )
    other = experiment(network={"epochs": 2})
    with pytest.raises(ConfigurationError, match=r"network\.epochs was 3, now 2.*--output.*--fresh"):
        check_folder(folder, other, "training", fresh=False)
    check_folder(folder, other, "training", fresh=True)
    with pytest.raises(ConfigurationError, match="holds a training; choose another folder for this cross-validation"):
        check_folder(folder, one, "cross-validation", fresh=True)


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").touch()
    for fresh in (True, False):
        with pytest.raises(StorageError, match="no training wrote"):
            check_folder(tmp_path, experiment(), "training", fresh)
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty", experiment(), "training", fresh=False)


def test_archive_moves_another_run_and_lets_the_same_go_on(tmp_path: Path) -> None:
    folder, one, other = tmp_path / "run", experiment(network={"epochs": 3}), experiment(network={"epochs": 2})
    check_folder(folder / ".." / "run", one, "training", fresh=False)
    claim(folder, one, "training")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"epochs was 3, now 2.*--archive"):
        check_folder(folder, other, "training", fresh=False)
    check_folder(folder, one, "training", fresh=False, archive=True)
    assert (folder / "notes.txt").exists()
    check_folder(folder, other, "training", fresh=False, archive=True)
    (moved,) = tmp_path.glob("run_20*")
    assert sorted(path.name for path in moved.iterdir()) == ["notes.txt", "training.toml"]
    claim(folder, other, "training")
    # The results of the same run, and those of another kind.
    check_folder(folder, other, "training", fresh=True, archive=True)
    claim(folder, other, "training")
    with pytest.raises(ConfigurationError, match="--archive"):
        check_folder(folder, other, "cross-validation", fresh=False)
    check_folder(folder, other, "cross-validation", fresh=False, archive=True)
    assert len(list(tmp_path.glob("run_20*"))) == 3
    # A folder of others is left alone.
    folder.mkdir(exist_ok=True)
    (folder / "thesis.docx").touch()
    with pytest.raises(StorageError, match="no training wrote"):
        check_folder(folder, one, "training", fresh=False, archive=True)
    assert [path.name for path in folder.iterdir()] == ["thesis.docx"]
