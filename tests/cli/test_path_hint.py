"""A misspelt path gets the suggestion of the existing one."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from miscnn_tf.cli import main as cli
from miscnn_tf.cli.path_hint import nearest_path, path_hint


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data" / "case_01").mkdir(parents=True)
    (tmp_path / "training").mkdir()
    for name in ("model.keras", "other.keras", "scan.nii.gz", "training/model.keras", "experiment.toml"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("Data", "data"),
        ("modl.keras", "model.keras"),
        ("Model.Keras", "model.keras"),
        ("trianing/modle.keras", "training/model.keras"),
        ("Data/Case_01", "data/case_01"),
        ("scna.nii.gz", "scan.nii.gz"),
        ("../{}/Data", "../{}/data"),
        ("quite different", None),
        ("x.keras", None),
        ("scan.nii.gz/inside", None),
        ("nothing/data", None),
    ],
)
def test_the_nearest_path(folder: Path, given: str, meant: str | None) -> None:
    expected = None if meant is None else Path(meant.format(folder.name))
    assert nearest_path(Path(given.format(folder.name))) == expected
    assert nearest_path(folder / given.format(folder.name)) == (None if expected is None else folder / expected)


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("look Data", "data"),
        ("verify dta", "data"),
        ("init Data -o new.toml", "data"),
        ("run Data", "data"),
        ("run data Scan.nii.gz", "scan.nii.gz"),
        ("train experimnet.toml", "experiment.toml"),
        ("predict modl.keras scan.nii.gz out", "model.keras"),
        ("predict Training scan.nii.gz out", "training"),
        ("report Training", "training"),
        ("evaluate Data data", "data"),
        ("evaluate scan.nii.gz Data", "data"),
    ],
)
def test_commands_suggest_it(folder: Path, command: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(command.split()) == 1
    assert capsys.readouterr().err.endswith(f". Did you mean {meant}?\n")


def test_only_missing_inputs_get_a_suggestion(folder: Path) -> None:
    arguments = argparse.Namespace(model="model.keras", images="Data", output="Data", classes=3)
    assert path_hint("the image Data does not exist", arguments) == ". Did you mean data?"
    assert path_hint("the image Data is damaged", arguments) == ""
    assert path_hint("MyData does not exist", arguments) == ""
    assert path_hint("model.keras does not exist", arguments) == ""
    assert path_hint("Data does not exist", argparse.Namespace(output="Data")) == ""


def test_a_misspelt_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["Predict", "model.keras"]) == 2
    assert "invalid choice: 'Predict'. Did you mean 'predict'?" in capsys.readouterr().err
    assert cli.main(["evalute"]) == 2
    assert "Did you mean 'evaluate'?" in capsys.readouterr().err
