"""Predictions of DICOM series have the format of the label maps that the model was trained with."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_series import make_picture, make_rtstruct, make_series, save_series, square
from small_network import SmallNetwork

from miscnn_tf import Neural_Network, Preprocessor
from miscnn_tf.cli import main as cli
from miscnn_tf.cli.prediction_run import find_model, run_prediction
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.dicom import write_rtstruct, write_seg
from miscnn_tf.data_loading.interfaces import DICOM_interface

NAMES = ("P-001", "P-002")


def write_patients(root: Path, annotations: dict[str, str]) -> Path:
    """Write a series per patient, with an RTSTRUCT or SEG of the heart if asked."""
    rng = np.random.default_rng(3)
    for name in NAMES:
        series = make_series(rng.integers(0, 900, (4, 10, 9)), Modality="CT", PatientID=name)
        files = save_series(root / name / "ct", series)
        kind = annotations.get(name)
        if kind == "rtstruct":
            contours = [(number, square(2, 6)) for number in (1, 2)]
            make_rtstruct(series, {"heart": contours}).save_as(root / name / "rs.dcm", enforce_file_format=True)
        elif kind == "seg":
            labels = np.zeros((4, 10, 9), np.uint8)
            labels[1:3, 2:6, 2:6] = 1
            write_seg(root / name / "seg.dcm", labels, files, {1: "heart"})
    return root


def model_of(root: Path, folder: Path, read: bool = True, **arguments: object) -> Path:
    """Return a model file, written after the label maps were read."""
    interface = DICOM_interface(classes=2, structure_dict={"heart": 1}, **arguments)
    data_io = Data_IO(interface, str(root), batch_path=str(folder / "batches"))
    for name in data_io.get_indiceslist() if read else ():
        data_io.sample_loader(name)
    network = Neural_Network(Preprocessor(data_io, 1, analysis="fullimage"), SmallNetwork())
    network.dump(folder / "model.keras")
    return folder / "model.keras"


@pytest.mark.parametrize(
    ("annotations", "modality", "shown"),
    [
        (dict.fromkeys(NAMES, "rtstruct"), "RTSTRUCT", "RTSTRUCT"),
        (dict.fromkeys(NAMES, "seg"), "SEG", "DICOM SEG"),
        ({"P-001": "seg", "P-002": "rtstruct"}, "SEG", "DICOM SEG"),
        ({"P-001": "rtstruct", "P-002": "seg"}, "SEG", "DICOM SEG"),
        ({}, "SEG", "DICOM SEG"),
    ],
)
def test_the_format_is_that_of_the_training(tmp_path: Path, capsys, annotations, modality: str, shown: str) -> None:
    root = write_patients(tmp_path / "data", annotations)
    model = model_of(root, tmp_path, read=bool(annotations))
    series = root / "P-001" / "ct"
    for images, count in ((root, 2), (series, 1), (sorted(series.iterdir())[0], 1)):
        out = tmp_path / f"out {images.stem}"
        assert cli.main(["predict", str(model), str(images), str(out)]) == 0
        files = sorted(out.glob("*.dcm"))
        assert len(files) == count
        assert not list(out.glob("*.nii.gz"))
        assert {pydicom.dcmread(file).Modality for file in files} == {modality}
        wrote = f"Wrote {count} {shown} file{'s' if count > 1 else ''} to {out}: "
        assert wrote + ", ".join(file.name for file in files) in capsys.readouterr().out
    # A file of that ending, for the patient whose series is in a folder below.
    assert cli.main(["predict", str(model), str(root / "P-001"), str(tmp_path / "one.dcm")]) == 0
    assert pydicom.dcmread(tmp_path / "one.dcm").Modality == modality


@pytest.fixture(scope="module")
def of_contours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("contours")
    root = write_patients(folder / "data", dict.fromkeys(NAMES, "rtstruct"))
    return model_of(root, folder), root


def test_the_format_can_be_chosen(of_contours: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    model, root = of_contours
    assert find_model(model).interface().annotation_format == "rtstruct"
    for images in (root, root / "P-001" / "ct"):
        out = tmp_path / images.name
        assert cli.main(["predict", str(model), str(images), str(out), "--format", "nifti"]) == 0
        assert list(out.glob("*.nii.gz"))
        assert not list(out.glob("*.dcm"))
        assert "NIfTI file" in capsys.readouterr().out
    assert cli.main(["predict", str(model), str(root / "P-001" / "ct"), str(tmp_path / "a.nii.gz")]) == 0
    assert (tmp_path / "a.nii.gz").is_file()
    assert f"Wrote 1 NIfTI file to {tmp_path}: a.nii.gz" in capsys.readouterr().out
    assert cli.main(["predict", str(model), str(root), str(tmp_path / "p"), "--probabilities"]) == 0
    assert [path.name for path in sorted((tmp_path / "p").glob("*.nii.gz"))] == ["P-001.nii.gz", "P-002.nii.gz"]


def test_a_repeated_command_goes_on(of_contours: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    model, root = of_contours
    assert [path.name for path in run_prediction(model, root, tmp_path)] == ["P-001.dcm", "P-002.dcm"]
    (tmp_path / "P-002.dcm").unlink()
    capsys.readouterr()
    assert [path.name for path in run_prediction(model, root, tmp_path)] == ["P-002.dcm"]
    assert run_prediction(model, root, tmp_path) == []
    assert capsys.readouterr().out.count("Wrote ") == 1


def test_the_format_of_the_interface_comes_first(tmp_path: Path) -> None:
    root = write_patients(tmp_path / "data", dict.fromkeys(NAMES, "rtstruct"))
    model = model_of(root, tmp_path, prediction_format="seg")
    (written,) = run_prediction(model, root / "P-001" / "ct", tmp_path / "out")
    assert pydicom.dcmread(written).Modality == "SEG"


def test_radiographs_are_written_as_nifti(tmp_path: Path) -> None:
    save_series(tmp_path / "data" / "a", [make_picture(np.arange(90).reshape(10, 9))])
    model = model_of(tmp_path / "data", tmp_path, read=False, three_dim=False)
    (written,) = run_prediction(model, tmp_path / "data" / "a", tmp_path / "out")
    assert written.name == "a.nii.gz"


def write_labels(root: Path, labels: dict[str, np.ndarray], folder: Path, kind: str, names: dict[int, str]) -> Path:
    """Write predictions of patients by the functions of the package, without a network."""
    folder.mkdir()
    for name, array in labels.items():
        files = sorted((root / name / "ct").iterdir(), key=lambda file: pydicom.dcmread(file).ImagePositionPatient[2])
        {"seg": write_seg, "rtstruct": write_rtstruct}[kind](folder / f"{name}.dcm", array, files, names)
    (folder / "predictions.json").write_text("{}")
    return folder


@pytest.fixture
def truth(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    root = write_patients(tmp_path / "data", dict.fromkeys(NAMES, "rtstruct"))
    data_io = Data_IO(DICOM_interface(classes=2, structure_dict={"heart": 1}), str(root))
    return root, {name: data_io.sample_loader(name).seg_data[..., 0] for name in NAMES}


@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
def test_annotations_are_evaluated(truth, tmp_path: Path, kind: str) -> None:
    """The Dice is that of the arrays, by its definition."""
    root, labels = truth
    predicted = {name: array.copy() for name, array in labels.items()}
    predicted["P-002"][1] = 0
    folder = write_labels(root, predicted, tmp_path / "out", kind, {1: "heart"})
    assert cli.main(["evaluate", str(folder), str(root), "-o", str(tmp_path / "scores")]) == 0
    with (tmp_path / "scores" / "scores.csv").open() as file:
        dice = {row["sample_id"]: float(row["dice"]) for row in csv.DictReader(file) if row["class"] == "1"}
    true, found = labels["P-002"] == 1, predicted["P-002"] == 1
    expected = 2 * np.sum(true & found) / (np.sum(true) + np.sum(found))
    assert 0 < expected < 1
    assert dice == pytest.approx({"P-001": 1.0, "P-002": expected})


def test_annotations_that_do_not_fit_are_errors(truth, tmp_path: Path, capsys) -> None:
    root, labels = truth
    other = write_labels(root, labels, tmp_path / "other names", "seg", {1: "lung"})
    assert cli.main(["evaluate", str(other), str(root)]) == 1
    assert "P-001.dcm holds the structures lung, but the classes are heart" in capsys.readouterr().err
    swapped = write_labels(root, labels, tmp_path / "swapped", "seg", {1: "heart"})
    (swapped / "P-001.dcm").rename(swapped / "x.dcm")
    (swapped / "P-002.dcm").rename(swapped / "P-001.dcm")
    assert cli.main(["evaluate", str(swapped), str(root)]) == 1
    assert "no truth of the same name: x" in capsys.readouterr().err
    (swapped / "x.dcm").rename(swapped / "P-002.dcm")
    assert cli.main(["evaluate", str(swapped), str(root)]) == 1
    assert "refers to another series" in capsys.readouterr().err
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4)), tmp_path / "truth.nii.gz")
    assert cli.main(["evaluate", str(swapped), str(tmp_path / "truth.nii.gz")]) == 1
    assert "only with a data set that holds their series" in capsys.readouterr().err
