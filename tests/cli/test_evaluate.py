from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from miscnn_tf.cli import main as cli
from miscnn_tf.evaluation.run_record import read_run_record
from miscnn_tf.evaluation.score_table import read_scores
from miscnn_tf.evaluation.scores import score_label_maps
from miscnn_tf.report.run_page import write_report


def label_map(path: Path, labels: np.ndarray, spacing: float = 2.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, np.diag([spacing, 1.0, 1.0, 1.0])), path)


@pytest.fixture
def cases(tmp_path: Path, rng: np.random.Generator) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Three cases as flat folders ``pred`` and ``truth``, the truth with one case more."""
    made = {}
    for name in "abc":
        truth, pred = rng.integers(0, 3, (2, 6, 7, 8)).astype(np.uint8)
        made[name] = (pred, truth)
        label_map(tmp_path / "pred" / f"{name}.nii.gz", pred)
        label_map(tmp_path / "truth" / f"{name}.nii.gz", truth)
    label_map(tmp_path / "truth" / "d.nii.gz", truth)
    return made


def evaluate(*arguments: object) -> int:
    return cli.main(["evaluate", *map(str, arguments)])


def test_scores_are_those_of_the_arrays(cases, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", out, "--tolerance", 2) == 0
    rows = read_scores(out / "scores.csv")
    for name, (pred, truth) in cases.items():
        expected = score_label_maps(truth, pred, 3, (2.0, 1.0, 1.0), tolerance_mm=2)
        for row, wanted in zip([row for row in rows if row["sample_id"] == name], expected, strict=True):
            assert {key: value for key, value in row.items() if key != "sample_id"} == pytest.approx(wanted)
    assert json.loads((out / "summary.json").read_text())["cases"] == 3
    record = read_run_record(out)
    assert record["kind"] == "evaluation"
    assert record["settings"]["tolerance_mm"] == 2
    said = capsys.readouterr().out
    assert "3 cases; 1 more of the truth have no prediction" in said
    assert "hd95_mm" in said
    assert "nsd_2mm" in said


def test_a_data_set_is_the_truth(cases, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, (_, truth) in cases.items():
        label_map(tmp_path / "data" / name / "segmentation.nii.gz", truth)
        label_map(tmp_path / "data" / name / "imaging.nii.gz", truth)
    assert evaluate(tmp_path / "pred", tmp_path / "data", "-o", tmp_path / "out") == 0
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "flat") == 0
    assert (tmp_path / "out" / "scores.csv").read_text() == (tmp_path / "flat" / "scores.csv").read_text()
    assert read_run_record(tmp_path / "out")["data"]["input_path"] == str(tmp_path / "data")


def test_a_folder_of_labels_in_a_data_set_knows_images_and_names(cases, tmp_path: Path, capsys, rng) -> None:
    root = tmp_path / "Dataset001_Box"
    for name, (_, truth) in cases.items():
        label_map(root / "imagesTs" / f"{name}_0000.nii.gz", rng.normal(size=truth.shape).astype(np.float32))
        label_map(root / "labelsTs" / f"{name}.nii.gz", truth)
    labels = {"background": 0, "box": 1, "lid": 2}
    description = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 0, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(description))
    assert evaluate(tmp_path / "pred", root / "labelsTs") == 0
    assert "lid" not in capsys.readouterr().out  # no data set yet: it has no training cases
    label_map(root / "imagesTr" / "t_0000.nii.gz", truth)
    label_map(root / "labelsTr" / "t.nii.gz", truth)
    assert evaluate(tmp_path / "pred", root / "labelsTs", "-o", tmp_path / "out") == 0
    assert "lid" in capsys.readouterr().out
    page = write_report(tmp_path / "out").read_text(encoding="utf-8")
    assert "data:image/webp" in page
    assert "lid" in page


def test_two_files_whatever_they_are_called(cases, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(tmp_path / "truth" / "a.nii.gz", tmp_path / "gold.nii.gz")
    assert evaluate(tmp_path / "pred" / "a.nii.gz", tmp_path / "gold.nii.gz") == 0
    dice = score_label_maps(cases["a"][1], cases["a"][0], 3)[1]["dice"]
    assert f"{dice:.4g}" in capsys.readouterr().out


def test_masks_of_0_and_255(tmp_path: Path, rng: np.random.Generator, capsys) -> None:
    for name in "ab":
        pred, truth = rng.integers(0, 2, (2, 9, 9)).astype(np.uint8)
        for folder, array in (("pred", pred), ("truth", truth * 255)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / folder / f"{name}{'_mask' if folder == 'truth' else ''}.png")
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "out") == 0
    assert {row["class"] for row in read_scores(tmp_path / "out" / "scores.csv")} == {0, 1}
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "said", "--label-map", "255=1") == 0
    assert (tmp_path / "said" / "scores.csv").read_text() == (tmp_path / "out" / "scores.csv").read_text()


def test_all_cases_that_do_not_fit_are_listed_and_nothing_is_written(cases, tmp_path: Path, capsys) -> None:
    label_map(tmp_path / "pred" / "a.nii.gz", cases["a"][0], spacing=3.0)
    label_map(tmp_path / "pred" / "c.nii.gz", cases["c"][0][:-1])
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "2 of 3 cases cannot be compared" in error
    assert "a.nii.gz does not lie on the grid" in error
    assert "spacing (2, 1, 1) mm against (3, 1, 1) mm" in error
    assert "shape (6, 7, 8) against (5, 7, 8)" in error
    assert not (tmp_path / "out" / "scores.csv").exists()


def test_predictions_without_truth(cases, tmp_path: Path, capsys) -> None:
    label_map(tmp_path / "pred" / "z.nii.gz", cases["a"][0])
    assert evaluate(tmp_path / "pred", tmp_path / "truth") == 1
    assert "1 of 4 predictions have no truth of the same name: z; the truth has a, b, c, d" in capsys.readouterr().err
    assert evaluate(tmp_path / "none", tmp_path / "truth") == 1
    assert "there are no label maps" in capsys.readouterr().err
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "--classes", 1) == 2
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "--label-map", "255") == 2


def test_labels_beyond_the_classes_name_the_file(cases, tmp_path: Path, capsys) -> None:
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "--classes", 2) == 1
    assert "a.nii.gz: the label map holds 2" in capsys.readouterr().err


def test_no_tensorflow_is_needed(cases, tmp_path: Path) -> None:
    code = (
        "import sys; from miscnn_tf.cli.main import main\n"
        f"code = main(['evaluate', {str(tmp_path / 'pred')!r}, {str(tmp_path / 'truth')!r}])\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mark", ["completed.json", "history.tsv", "fold_0/completed.json"])
def test_the_scores_of_a_training_are_not_replaced(cases, tmp_path: Path, capsys, mark: str) -> None:
    run = tmp_path / "run"
    (run / mark).parent.mkdir(parents=True)
    for path in (run / mark, run / "scores.csv", run / "run.json"):
        path.write_text("of the training")
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", run) == 1
    assert "choose another folder with --output" in capsys.readouterr().err
    assert {path.read_text() for path in run.rglob("*") if path.is_file()} == {"of the training"}
