from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from small_data import files_below, write_cases

from miscnn_tf.cli import main as cli
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.runs.fold import write_fold2disk


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a run was started: its batches, evaluation and predictions, and a note of the user's in each."""
    monkeypatch.chdir(tmp_path)
    write_cases(tmp_path / "data", 2)
    data_io = Data_IO(NIFTI_interface(classes=3), "data")
    data_io.backup_batches(np.zeros((1, 4, 4, 1)), None, 0)
    sample = data_io.sample_loader("case_0")
    assert sample.seg_data is not None
    sample.add_prediction(sample.seg_data)
    data_io.save_prediction(sample)
    write_fold2disk(tmp_path / "evaluation" / "fold_0" / "sample_list.json", ["a"], ["b"])
    for name in ("batches", "evaluation", "predictions"):
        (tmp_path / name / "mine.txt").write_text("mine")
    return tmp_path


def left(folder: Path) -> set[str]:
    return {name for name in files_below(folder) if not name.startswith("data/")}


MINE = {"batches/mine.txt", "evaluation/mine.txt", "predictions/mine.txt"}


def test_what_is_ours_goes_and_what_is_not_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_below(folder / "data")
    assert cli.main(["cleanup", "--yes"]) == 0
    text = capsys.readouterr().out
    assert left(folder) == MINE
    assert files_below(folder / "data") == before
    assert text.count("stays   mine.txt") == 3
    assert "remove  case_0.nii.gz" in text
    assert "3 files removed." in text
    assert cli.main(["cleanup", "--yes"]) == 0
    assert "There is nothing to remove." in capsys.readouterr().out


def test_a_dry_run_removes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_below(folder)
    assert cli.main(["cleanup", "--dry-run", "--yes"]) == 0
    assert "3 files" in capsys.readouterr().out
    assert files_below(folder) == before


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("Yes", 0), ("n", 1), ("", 1), ("maybe", 1)])
def test_it_asks(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, code: int
) -> None:
    asked: list[str] = []
    before = files_below(folder)

    def read(question: str) -> str:
        asked.append(question)
        return answer

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", read)
    assert cli.main(["cleanup"]) == code
    assert asked[0].startswith("Remove 3 files, ")
    assert (files_below(folder) == before) == (code == 1)


def test_without_anybody_to_ask_nothing_goes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_below(folder)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert cli.main(["cleanup"]) == 1
    assert "add --yes" in capsys.readouterr().out
    assert files_below(folder) == before


def test_one_kind_and_other_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "predictions").rename(folder / "results")
    assert cli.main(["cleanup", "--only", "predictions", "--predictions", "results", "--yes"]) == 0
    assert left(folder) == {
        *MINE - {"predictions/mine.txt"},
        "results/mine.txt",
        "evaluation/fold_0/sample_list.json",
        *(name for name in left(folder) if "batch_img" in name),
    }
    assert any("batch_img" in name for name in left(folder))


def test_another_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir("/")
    assert cli.main(["cleanup", str(tmp_path), "--yes"]) == 0
    assert left(folder) == MINE


def test_names_that_are_wrong_are_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_below(folder)
    assert cli.main(["cleanup", "nowhere", "--yes"]) == 1
    assert cli.main(["cleanup", "--evaluation", "nowhere", "--yes"]) == 1
    assert capsys.readouterr().err.count("nowhere") == 2
    assert cli.main(["cleanup", "--only", "models"]) == 2
    assert files_below(folder) == before


def test_miscnns_options_are_taken_and_the_data_are_left(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_below(folder / "data")
    assert cli.main(["cleanup", "--data_dir", "data", "-t", "NIFTI", "--yes"]) == 0
    assert "The data are not touched" in capsys.readouterr().out
    assert files_below(folder / "data") == before


def test_what_cannot_be_removed_is_1_and_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == "case_0.nii.gz":
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    assert cli.main(["cleanup", "--yes"]) == 1
    text = capsys.readouterr().out
    assert "could not be removed: predictions/case_0.nii.gz: Permission denied" in text
    assert "2 files removed." in text


def test_work_of_a_moment_ago_is_pointed_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cleanup", "--dry-run"]) == 0
    assert "make sure that no training is running" in capsys.readouterr().out
