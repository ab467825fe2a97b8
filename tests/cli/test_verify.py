from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from small_data import AFFINE, contents_of, files_below, write_cases, write_volume

from miscnn_tf.cli import main as cli


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = cli.main(["verify", *map(str, arguments)])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return code, printed.out


def test_good_data_are_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cases(tmp_path, 3)
    code, text = run(capsys, tmp_path)
    assert code == 0
    assert "3 samples" in text
    assert ["bad", "0"] in [line.split() for line in text.splitlines()]
    assert "BAD" not in text
    assert run(capsys, tmp_path, "--quick")[0] == 0


def test_image_and_label_grids_that_disagree_are_all_listed_with_tolerances_and_can_be_resampled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    cases = write_cases(data, 5)
    labels = np.asarray(nib.load(cases[1] / "segmentation.nii.gz").dataobj)
    write_volume(cases[1] / "segmentation.nii.gz", labels[::2], AFFINE @ np.diag([2, 1, 1, 1]))
    shifted = AFFINE.copy()
    shifted[0, 3] += 0.3
    write_volume(cases[3] / "segmentation.nii.gz", labels, shifted)
    within = AFFINE.copy()
    within[0, 3] += 0.05  # less than a tenth of a voxel
    write_volume(cases[4] / "segmentation.nii.gz", labels, within)
    before = contents_of(data)

    code, text = run(capsys, data)
    assert code == 1
    assert [line.split()[1] for line in text.splitlines() if line.startswith("BAD")] == ["case_1", "case_3"]
    flat = " ".join(text.split())
    assert "shape (12, 10, 6) against (6, 10, 6)" in flat
    assert "first voxel 0.3 mm apart" in flat
    assert "0.1 of the smallest voxel size" in flat
    assert f"miscnn-tf verify {data} --fix-grids OUT_FOLDER" in flat
    assert all(len(line) <= 80 or str(tmp_path) in line for line in text.splitlines())

    code, text = run(capsys, data, "--fix-grids", out)
    assert code == 1  # the data are as they were
    assert contents_of(data) == before
    assert files_below(out) == {"case_1/segmentation.nii.gz", "case_3/segmentation.nii.gz"}
    assert "2 label maps resampled" in text
    for name in files_below(out):
        (data / name).write_bytes((out / name).read_bytes())
    assert run(capsys, data)[0] == 0
    code, text = run(capsys, data, "--fix-grids", tmp_path / "again")
    assert code == 0
    assert "No label map needs resampling" in text
    assert not (tmp_path / "again").exists()


def test_masks_with_0_and_255_are_named_with_file_and_value_and_can_be_declared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        folder = tmp_path / f"cell_{number}"
        folder.mkdir()
        mask = np.zeros((8, 8), np.uint8)
        mask[2:5, 2:5] = 255
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) + number).save(folder / "imaging.png")
        Image.fromarray(mask).save(folder / "segmentation.png")
    code, text = run(capsys, tmp_path, "--classes", "2")
    assert code == 1
    flat = " ".join(text.split())
    for number in range(3):
        assert f"{tmp_path / f'cell_{number}' / 'segmentation.png'}: the label map holds 255 (9 voxels)" in flat
    assert "--label-map 255=1" in flat
    assert run(capsys, tmp_path, "--classes", "2", "--label-map", "255=1")[0] == 0
    # Where nothing is said, such masks mean what they always mean.
    assert run(capsys, tmp_path)[0] == 0


def test_labels_from_1_to_n(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case in write_cases(tmp_path, 2):
        labels = np.asarray(nib.load(case / "segmentation.nii.gz").dataobj)
        write_volume(case / "segmentation.nii.gz", labels + 1)
    code, text = run(capsys, tmp_path, "--classes", "3")
    assert code == 1
    assert "the label map holds 3 (18 voxels), but with classes=3" in " ".join(text.split())
    assert run(capsys, tmp_path, "--label-map", "1=0", "2=1", "3=2")[0] == 0


def test_missing_folders_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(tmp_path / "nowhere")]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("miscnn-tf: error: the data folder")
    assert printed.err.count("\n") == 1


def test_the_folder_for_copies_must_not_be_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (case,) = write_cases(tmp_path, 1)
    write_volume(case / "segmentation.nii.gz", np.ones((3, 3, 3), np.uint8))
    before = contents_of(tmp_path)
    assert cli.main(["verify", str(tmp_path), "--classes", "2", "--fix-grids", str(tmp_path)]) == 1
    assert "lies in the data" in capsys.readouterr().err
    assert contents_of(tmp_path) == before


def test_images_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case in write_cases(tmp_path, 2):
        (case / "segmentation.nii.gz").unlink()
    assert run(capsys, tmp_path, "--no-labels")[0] == 0
    assert run(capsys, tmp_path, "--classes", "2")[0] == 1


def test_python_m_miscnn_tf_verify(tmp_path: Path) -> None:
    cases = write_cases(tmp_path, 3)
    (cases[1] / "imaging.nii.gz").write_bytes(b"no image")
    command = [sys.executable, "-m", "miscnn_tf", "verify", "--data_dir", str(tmp_path), "-t", "NIFTI"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "BAD  case_1" in done.stdout
    assert "Traceback" not in done.stderr
