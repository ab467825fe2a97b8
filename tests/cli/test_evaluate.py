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
from miscnn_tf.evaluation.scores import score_label_maps
from miscnn_tf.report.run_page import write_report
from miscnn_tf.runs.run_record import read_run_record
from miscnn_tf.runs.score_summary import read_summary
from miscnn_tf.runs.score_table import read_scores


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
    assert "a.nii.gz is not on the grid" in error
    assert "spacing (2, 1, 1) mm against (3, 1, 1) mm" in error
    assert "shape (6, 7, 8) against (5, 7, 8)" in error
    assert not (tmp_path / "out" / "scores.csv").exists()


def test_predictions_without_truth(cases, tmp_path: Path, capsys) -> None:
    label_map(tmp_path / "pred" / "z.nii.gz", cases["a"][0])
    assert evaluate(tmp_path / "pred", tmp_path / "truth") == 1
    assert "1 of 4 predictions have no truth of the same name: z; the truth has a, b, c, d" in capsys.readouterr().err
    assert evaluate(tmp_path / "none", tmp_path / "truth") == 1
    assert "does not exist; give a file or a folder with label maps" in capsys.readouterr().err
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


def masks(folder: Path, values: dict[int, int], names: str = "ab", extra: dict[int, int] | None = None) -> None:
    """Label maps of the same squares, in other values."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        labels = np.zeros((12, 12), np.uint16)
        labels[1:5, 1 + number : 6] = 1
        labels[6:9, 6:11] = 2
        labels[10:, :4] = 3
        written = np.zeros_like(labels)
        for label, value in {**values, **(extra or {})}.items():
            written[labels == label] = value
        Image.fromarray(written if written.max() > 255 else written.astype(np.uint8)).save(folder / f"{name}.png")


def dice_of(folder: Path) -> dict[int, float]:
    summary = json.loads((folder / "summary.json").read_text())
    return {int(label): scores["dice"]["mean"] for label, scores in summary["classes"].items()}


@pytest.mark.parametrize("high", [255, 65535])
def test_a_prediction_of_0_and_255_against_a_truth_of_0_and_1(tmp_path: Path, capsys, high: int) -> None:
    masks(tmp_path / "pred", {1: high})
    masks(tmp_path / "truth", {1: 1})
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert f"the predictions hold the values 0, {high}, the truth 0, 1" in said
    assert f"--label-map {high}=1" in said
    assert "--classes" not in said  # 255 is never proposed as a class
    assert not (tmp_path / "out" / "scores.csv").exists()
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "out", "--label-map", f"{high}=1") == 0
    assert dice_of(tmp_path / "out") == {0: 1, 1: 1}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["label_map"] == {str(high): 1}


@pytest.mark.parametrize("predicted", [1, 255])
def test_a_truth_of_0_and_255_is_understood_whichever_value_predictions_have(tmp_path: Path, predicted: int) -> None:
    masks(tmp_path / "pred", {1: predicted})
    masks(tmp_path / "truth", {1: 255})
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "out") == 0
    assert dice_of(tmp_path / "out") == {0: 1, 1: 1}


def test_255_in_the_truth_is_left_out_with_ignore_and_never_256_classes(tmp_path: Path, capsys) -> None:
    masks(tmp_path / "pred", {1: 1, 2: 2, 3: 1})  # where the truth is to be ignored it says anything
    masks(tmp_path / "truth", {1: 1, 2: 2, 3: 255})
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "0, 1, 2, 255" in said
    assert "--ignore 255" in said
    assert "256" not in said
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "out", "--ignore", 255) == 0
    assert dice_of(tmp_path / "out") == {0: 1, 1: 1, 2: 1}
    rows = read_scores(tmp_path / "out" / "scores.csv")
    assert sum(row["area_truth_pixels"] for row in rows if row["sample_id"] == "a") == 144 - 8  # without the 2 x 4
    assert all(row["specificity"] == 1 for row in rows)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["ignored_values"] == [255]
    assert read_run_record(tmp_path / "out")["settings"]["ignored_values"] == [255]
    # Counted as background they are wrong.
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "as_0", "--label-map", "255=0") == 0
    assert dice_of(tmp_path / "as_0")[1] < 1


def test_label_maps_inside_a_data_set_have_its_regions_and_ignore_label(tmp_path: Path, rng) -> None:
    truth, pred = rng.integers(0, 4, (6, 7, 8)).astype(np.uint8), rng.integers(0, 3, (6, 7, 8)).astype(np.uint8)
    label_map(tmp_path / "data" / "imagesTr" / "a_0000.nii.gz", np.zeros(truth.shape, np.float32))
    label_map(tmp_path / "data" / "labelsTr" / "a.nii.gz", truth)
    label_map(tmp_path / "pred" / "a.nii.gz", pred)
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    content = {"channel_names": {"0": "MR"}, "labels": labels, "regions_class_order": [1, 2], "file_ending": ".nii.gz"}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({**content, "numTraining": 1}))
    assert evaluate(tmp_path / "pred", tmp_path / "data" / "labelsTr", "-o", tmp_path / "out") == 0
    summary = read_summary(tmp_path / "out" / "summary.json")
    assert summary["class_names"] == ["background", "whole", "core"]
    found = dice_of(tmp_path / "out")
    for number, members in enumerate(([0], [1, 2], [2])):
        one, other = (np.isin(array, members)[truth != 3] for array in (truth, pred))
        assert found[number] == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_classes_that_are_given_do_not_hide_that_255_means_ignore(tmp_path: Path, capsys) -> None:
    masks(tmp_path / "pred", {1: 1, 2: 2})
    masks(tmp_path / "truth", {1: 1, 2: 2, 3: 255})
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "--classes", 3) == 1
    said = capsys.readouterr().err
    assert "a.png: the label map holds 255" in said
    assert "--ignore 255" in said


@pytest.mark.parametrize(
    ("predicted", "true", "advice"),
    [
        (
            {1: 1, 2: 3},
            {1: 1, 2: 4},
            "--label-map 3=4; or, if it is a class that none of these cases has, give --classes 4",
        ),
        ({1: 1, 2: 2}, {1: 1}, "--classes 3"),
        ({1: 1, 2: 2, 3: 255}, {1: 1, 2: 2}, "--label-map 255=0"),
        ({1: 1}, {}, "--classes 2"),
        ({1: 1, 3: 255}, {1: 255}, "--label-map 255="),
    ],
)
def test_values_that_only_predictions_hold_are_an_error_with_advice(tmp_path, capsys, predicted, true, advice) -> None:
    masks(tmp_path / "pred", predicted)
    masks(tmp_path / "truth", true)
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "out") == 1
    assert advice in capsys.readouterr().err
    assert not (tmp_path / "out" / "summary.json").exists()


def test_a_prediction_may_lack_a_class(tmp_path: Path) -> None:
    masks(tmp_path / "pred", {1: 1})
    masks(tmp_path / "truth", {1: 1, 2: 2})
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "out") == 0
    assert dice_of(tmp_path / "out")[2] == 0


def test_values_far_apart_are_not_hundreds_of_classes(tmp_path: Path, capsys) -> None:
    for folder in ("pred", "truth"):
        masks(tmp_path / folder, {1: 100, 2: 200})
    assert evaluate(tmp_path / "pred", tmp_path / "truth") == 1
    assert "would be 201 classes, most of them empty" in (said := capsys.readouterr().err)
    assert "--label-map 200=1" in said
    given = ("--label-map", "100=1", "--label-map", "200=2")
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "out", *given) == 0
    assert dice_of(tmp_path / "out") == {0: 1, 1: 1, 2: 1}
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "all", "--classes", 201) == 0
    assert dice_of(tmp_path / "all")[200] == 1


def test_predictions_in_the_values_of_a_data_set_and_as_class_numbers(tmp_path: Path, capsys) -> None:
    root = tmp_path / "cells"
    masks(root / "masks", {1: 255})
    masks(root / "images", {1: 90, 2: 40})
    masks(tmp_path / "values", {1: 255})
    masks(tmp_path / "numbers", {1: 1})
    for folder in ("values", "numbers"):
        assert evaluate(tmp_path / folder, root, "-o", tmp_path / f"of_{folder}") == 0
        assert dice_of(tmp_path / f"of_{folder}") == {0: 1, 1: 1}
        assert "data:image/webp" in write_report(tmp_path / f"of_{folder}").read_text(encoding="utf-8")
    masks(tmp_path / "wrong", {1: 7})
    assert evaluate(tmp_path / "wrong", root) == 1
    assert "holds 7 (predictions), but with classes=2" in capsys.readouterr().err


def test_predictions_that_are_missing_are_counted_in_the_summary_and_on_the_page(cases, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", out) == 0
    assert json.loads((out / "summary.json").read_text())["cases_without_prediction"] == {"number": 1, "names": ["d"]}
    page = write_report(out).read_text(encoding="utf-8")
    assert "1 of 4 cases of the truth have no prediction and no scores: d." in page
    assert "1 more without a prediction" in page
    (tmp_path / "truth" / "d.nii.gz").unlink()
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", out) == 0
    assert json.loads((out / "summary.json").read_text())["cases_without_prediction"] == {"number": 0, "names": []}
    assert "prediction and no scores" not in write_report(out).read_text(encoding="utf-8")


def test_names_reach_the_table_the_summary_the_figure_and_the_page(cases, tmp_path: Path, capsys) -> None:
    names = ["background", "box", "lid"]
    plain, named = tmp_path / "plain", tmp_path / "named"
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", plain) == 0
    assert "lid" not in capsys.readouterr().out
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", named, "--names", *names) == 0
    assert "lid" in capsys.readouterr().out
    assert read_summary(named / "summary.json")["class_names"] == names
    assert (named / "scores.csv").read_text() == (plain / "scores.csv").read_text()
    assert (named / "scores.png").read_bytes() != (plain / "scores.png").read_bytes()
    assert "lid" in write_report(named).read_text(encoding="utf-8")


def test_names_must_be_as_many_as_the_classes(cases, tmp_path: Path, capsys) -> None:
    command = [tmp_path / "pred", tmp_path / "truth", "--classes", 3, "--names", "background", "box"]
    assert evaluate(*command) == 1
    assert "are 2 names, but there are 3 classes" in " ".join(capsys.readouterr().err.split())
    # Without --classes, the names are the classes: the label 2 has none.
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "--names", "background", "box") == 1


def test_names_and_images_of_a_model(experiment: Path, trained: Path, tmp_path: Path, capsys) -> None:
    data = experiment.parent / "data"
    for folder in sorted(data.iterdir()):
        for kind in ("pred", "truth"):
            (tmp_path / kind).mkdir(exist_ok=True)
            shutil.copy(folder / "segmentation.nii.gz", tmp_path / kind / f"{folder.name}.nii.gz")
    out = tmp_path / "out"
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", out, "--model", trained, "--images", data) == 0
    assert "tumour" in capsys.readouterr().out
    assert read_summary(out / "summary.json")["class_names"] == ["background", "kidney", "tumour"]
    assert read_run_record(out)["data"]["input_path"] == str(data)
    page = write_report(out).read_text(encoding="utf-8")
    assert "data:image/webp" in page


def test_images_give_masks_their_voxel_size(tmp_path: Path, rng: np.random.Generator, capsys) -> None:
    (tmp_path / "images").mkdir()
    for name in "ab":
        for folder in ("pred", "truth"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 2, (9, 9)).astype(np.uint8)).save(tmp_path / folder / f"{name}.png")
        image = nib.Nifti1Image(rng.normal(size=(9, 9)).astype(np.float32), np.diag([0.5, 0.5, 1, 1]))
        nib.save(image, tmp_path / "images" / f"{name}.nii.gz")
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "voxels") == 0
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "-o", tmp_path / "mm", "--images", tmp_path / "images") == 0
    voxels, mm = (read_scores(tmp_path / name / "scores.csv") for name in ("voxels", "mm"))
    pairs = [(one["hd95_mm"], other["hd95_pixels"]) for one, other in zip(mm, voxels, strict=True) if one["class"]]
    assert len(pairs) == 2
    assert [in_mm for in_mm, _ in pairs] == pytest.approx([0.5 * in_pixels for _, in_pixels in pairs])
    (tmp_path / "images" / "b.nii.gz").unlink()
    assert evaluate(tmp_path / "pred", tmp_path / "truth", "--images", tmp_path / "images") == 1
    assert "no image of the case b" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("hidden", [False, True])
def test_dicom_annotations_get_advice_and_hidden_files_do_not_matter(tmp_path: Path, hidden: bool, capsys) -> None:
    """Defect: a folder of RTSTRUCT files was called one sample. One with .DS_Store alone does not hold any."""
    folder = tmp_path / "predictions"
    folder.mkdir()
    (folder / ".DS_Store").touch()
    if not hidden:
        (folder / "p1.dcm").touch()
    assert cli.main(["evaluate", str(folder), str(folder)]) == 1
    assert ("Predict again with --format nifti" in capsys.readouterr().err) is not hidden
