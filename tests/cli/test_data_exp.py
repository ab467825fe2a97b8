from __future__ import annotations

from pathlib import Path

import pytest
from small_data import contents_of, write_cases

from miscnn_tf.cli import main as cli


def test_it_says_what_is_there_and_exports_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cases(tmp_path / "data", 3)
    before = contents_of(tmp_path / "data")
    assert cli.main(["data_exp", str(tmp_path / "data"), "--cases", "--export", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "3 cases, 3 with a label map" in text
    assert "Histogram" in text
    assert "case_2" in text
    assert (tmp_path / "out" / "cases.csv").is_file()
    assert (tmp_path / "out" / "histogram.png").is_file()
    assert f"written: {tmp_path / 'out' / 'classes.csv'}" in text
    assert contents_of(tmp_path / "data") == before


def test_bad_samples_are_named_and_the_others_explored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = write_cases(tmp_path, 3)
    (cases[0] / "imaging.nii.gz").write_bytes(b"no image")
    assert cli.main(["data_exp", "--data_dir", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert "2 cases, 2 with a label map" in text
    assert "could not be read: case_0" in text
    assert f"miscnn-tf verify {tmp_path}" in text


def test_images_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case in write_cases(tmp_path, 2):
        (case / "segmentation.nii.gz").unlink()
    assert cli.main(["data_exp", str(tmp_path), "--no-labels"]) == 0
    assert "2 cases, 0 with a label map" in capsys.readouterr().out


def test_real_scans(hippocampus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data_exp", str(hippocampus / "cases")]) == 0
    text = capsys.readouterr().out
    assert "140 cases, 140 with a label map" in text
    assert max(map(len, text.splitlines()[1:])) <= 80
    anterior = next(line.split() for line in text.splitlines() if line.startswith("1 "))
    assert anterior[1:4] == ["140", "238,855", "2.75%"]
