from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_series import make_series, save_series
from PIL import Image
from small_config import write_config

from miscnn_tf import Neural_Network, Preprocessor, UNet_standard
from miscnn_tf.cli import main as cli
from miscnn_tf.cli import prediction_run
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import DICOM_interface, NIFTIslicer_interface
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.model_file import load_model
from miscnn_tf.report.run_page import write_report
from miscnn_tf.runs.run_record import read_run_record


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def scan(experiment: Path, number: int) -> Path:
    return experiment.parent / "data" / f"case_0000{number}" / "imaging.nii.gz"


def predict(*arguments: object) -> int:
    return cli.main(["predict", *map(str, arguments)])


def test_a_file_in_its_own_geometry(trained: Path, experiment: Path, tmp_path: Path) -> None:
    assert predict(trained / "model.keras", scan(experiment, 0), tmp_path / "new" / "seg.nii.gz") == 0
    written, image = nib.load(tmp_path / "new" / "seg.nii.gz"), nib.load(scan(experiment, 0))
    assert written.shape == image.shape
    np.testing.assert_allclose(written.affine, image.affine, atol=1e-4)
    np.testing.assert_array_equal(
        np.asarray(written.dataobj), load_model(trained / "model.keras").predict_file(scan(experiment, 0))
    )
    assert predict(trained, scan(experiment, 0), tmp_path / "p.nii.gz", "--probabilities") == 0
    probabilities = voxels(tmp_path / "p.nii.gz")
    assert probabilities.shape == (*image.shape, 3)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-3)


def test_a_folder_of_files_goes_on_where_it_stopped(
    trained: Path, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scans").mkdir()
    for number in range(3):
        shutil.copy(scan(experiment, number), tmp_path / "scans" / f"patient_{number}.nii.gz")
    out = tmp_path / "out"
    assert predict(trained, tmp_path / "scans", out) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {"patient_0.nii.gz", "patient_1.nii.gz", "patient_2.nii.gz", "predictions.json"}
    (out / "patient_1.nii.gz").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    capsys.readouterr()
    assert predict(trained, tmp_path / "scans", out) == 0
    assert "3 images" in (said := capsys.readouterr().out)
    assert "2 are there already" in said
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    assert (out / "patient_1.nii.gz").is_file()
    assert predict(trained, tmp_path / "scans", out, "--overwrite") == 0
    assert (out / "patient_0.nii.gz").stat().st_mtime_ns > before["patient_0.nii.gz"]
    # Nothing of it stays: the note of the model that made them would refuse another one.
    assert cli.main(["cleanup", str(tmp_path), "--only", "predictions", "--predictions", str(out), "--yes"]) == 0
    assert not out.exists()


def test_two_predictions_into_one_folder(
    trained: Path, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --overwrite and another model, the folder held predictions of both under the name of one."""
    out = tmp_path / "out"
    code = (
        "import sys; from miscnn_tf.runs.folder_lock import *\n"
        "with locked_folder(sys.argv[1]): print(flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        for images in (experiment.parent / "data", scan(experiment, 0)):
            assert predict(trained, images, out, "--overwrite") == 1
            assert f"the folder {out} is in use by process {other.pid} on " in capsys.readouterr().err
        # A file of one's own beside it is nobody else's business.
        assert predict(trained, scan(experiment, 0), out / "one.nii.gz") == 0
        assert sorted(path.name for path in out.iterdir()) == [".miscnn_tf.lock", "one.nii.gz"]
        other.communicate("\n")
    assert predict(trained, scan(experiment, 0), out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["imaging.nii.gz", "one.nii.gz", "predictions.json"]


def test_a_data_set_and_predictions_of_another_kind(
    trained: Path, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(experiment.parent / "data", tmp_path / "data")
    (tmp_path / "data" / "case_00001" / "segmentation.nii.gz").unlink()  # new scans have none
    out = tmp_path / "out"
    assert predict(trained, tmp_path / "data", out) == 0
    assert {path.name for path in out.glob("*.nii.gz")} == {f"case_0000{number}.nii.gz" for number in range(4)}
    capsys.readouterr()
    assert predict(trained, tmp_path / "data", out) == 0
    assert "4 are there already" in capsys.readouterr().out
    assert predict(trained, tmp_path / "data", out, "--probabilities") == 1
    assert "--overwrite" in capsys.readouterr().err
    assert voxels(out / "case_00000.nii.gz").ndim == 3
    assert predict(trained, tmp_path / "data", out, "--probabilities", "--overwrite") == 0
    assert voxels(out / "case_00000.nii.gz").ndim == 4


def test_predictions_of_another_model_do_not_pass_for_those_of_this_one(
    trained: Path, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """Also not when replacing them was interrupted: what is left of the old ones would be taken for done."""
    shutil.copy(trained / "model.keras", tmp_path / "other.keras")
    (tmp_path / "scans").mkdir()
    for number in range(2):
        shutil.copy(scan(experiment, number), tmp_path / "scans")
        (tmp_path / "scans" / "imaging.nii.gz").rename(tmp_path / "scans" / f"{number}.nii.gz")
    assert predict(trained, tmp_path / "scans", tmp_path / "out") == 0
    assert predict(tmp_path / "other.keras", tmp_path / "scans", tmp_path / "out") == 1
    assert "holds predictions of another model" in capsys.readouterr().err

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction_run, "_each", interrupted)
    assert predict(tmp_path / "other.keras", tmp_path / "scans", tmp_path / "out", "--overwrite") == 130
    assert list((tmp_path / "out").glob("*.nii.gz")) == []


def test_a_bad_image_does_not_keep_the_others_from_being_done(
    trained: Path, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scans").mkdir()
    shutil.copy(scan(experiment, 0), tmp_path / "scans" / "b.nii.gz")
    (tmp_path / "scans" / "a.nii.gz").write_bytes(b"no image")
    assert predict(trained, tmp_path / "scans", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "1 of 2 images could not be segmented; the others are done" in error
    assert "a.nii.gz" in error
    assert (tmp_path / "out" / "b.nii.gz").is_file()


def test_the_models_of_a_cross_validation_are_averaged(cross_validated: Path, experiment: Path, tmp_path: Path) -> None:
    assert predict(cross_validated, scan(experiment, 0), tmp_path / "p.nii.gz", "--probabilities") == 0
    each = [
        load_model(cross_validated / f"fold_{number}" / "model.keras").predict_file(
            scan(experiment, 0), activation_output=True
        )
        for number in range(2)
    ]
    np.testing.assert_allclose(voxels(tmp_path / "p.nii.gz"), (each[0] + each[1]) / 2, atol=1e-5)
    assert predict(cross_validated, experiment.parent / "data", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 4


def test_a_model_of_slices_segments_volumes(experiment: Path, tmp_path: Path, trained: Path) -> None:
    """The same from a data set of volumes and from a single file; the volume's own geometry."""
    from miscnn_tf import Neural_Network, Preprocessor
    from miscnn_tf.neural_network.architecture.unet.standard import Architecture

    interface = NIFTIslicer_interface(slice_axis=2, classes=3, pattern="case_00000")
    data_io = Data_IO(interface, experiment.parent / "data")
    Neural_Network(
        Preprocessor(data_io, batch_size=1, patch_shape=(8, 8), data_aug=None), Architecture(n_filters=1, depth=1)
    ).dump(tmp_path / "slices.keras")
    data = tmp_path / "data"
    shutil.copytree(experiment.parent / "data" / "case_00001", data / "case_00001")
    assert predict(tmp_path / "slices.keras", data, tmp_path / "out") == 0
    assert predict(tmp_path / "slices.keras", scan(experiment, 1), tmp_path / "one.nii.gz") == 0
    image = nib.load(scan(experiment, 1))
    for path in (tmp_path / "out" / "case_00001.nii.gz", tmp_path / "one.nii.gz"):
        written = nib.load(path)
        assert written.shape == image.shape
        np.testing.assert_allclose(written.affine, image.affine, atol=1e-4)
    np.testing.assert_array_equal(voxels(tmp_path / "out" / "case_00001.nii.gz"), voxels(tmp_path / "one.nii.gz"))


@pytest.mark.parametrize(
    ("model", "images", "output", "said"),
    [
        ("none.keras", "data", "out", "none.keras does not exist"),
        ("small.toml", "data", "out", "is not a model file; its name must end in .keras"),
        ("data", "data", "out", "does not have a model"),
        ("small_training", "none.nii.gz", "out", "none.nii.gz does not exist"),
        ("small_training", "data/case_00000/imaging.nii.gz", "out.png", "give the result the ending of its image"),
    ],
)
def test_what_cannot_be_is_said(
    trained: Path, experiment: Path, tmp_path: Path, capsys, model: str, images: str, output: str, said: str
) -> None:
    here = experiment.parent
    assert predict(here / model, here / images, tmp_path / output) == 1
    assert said in capsys.readouterr().err


def test_many_images_need_a_folder(trained: Path, experiment: Path, tmp_path: Path, capsys) -> None:
    for number in range(2):
        shutil.copy(scan(experiment, number), tmp_path / f"{number}.nii.gz")
    assert predict(trained, tmp_path, tmp_path / "seg.nii.gz") == 1
    assert "holds 2 images; name a folder" in capsys.readouterr().err


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_a_prediction_never_takes_the_place_of_an_image(
    trained: Path, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    """Nor does an image pass for its own prediction."""
    scans, paired = tmp_path / "scans", tmp_path / "paired"
    for folder in (scans, paired / "images", paired / "masks"):
        folder.mkdir(parents=True)
    image = shutil.copy(scan(experiment, 0), scans / "a.nii.gz")
    inside = shutil.copy(scan(experiment, 0), paired / "images" / "a.nii.gz")
    shutil.copy(scan(experiment, 0).with_name("segmentation.nii.gz"), paired / "masks" / "a.nii.gz")
    before = image.read_bytes()
    assert predict(trained, image, image, *more) == 1
    assert predict(trained, scans, scans, *more) == 1
    assert capsys.readouterr().err.count("is the image to be segmented") == 2
    assert predict(trained, image, scans, *more) == 1
    assert predict(trained, paired, paired / "images", *more) == 1
    assert predict(trained, paired, paired / "masks", *more) == 1
    assert capsys.readouterr().err.count("would replace files of the data") == 3
    assert image.read_bytes() == inside.read_bytes() == before
    assert [path.name for path in scans.iterdir()] == ["a.nii.gz"]


def test_a_prediction_never_takes_the_place_of_another_one(
    trained: Path, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scans").mkdir()
    shutil.copy(scan(experiment, 0), tmp_path / "scans" / "a.nii.gz")
    nib.save(nib.load(scan(experiment, 1)), tmp_path / "scans" / "a.nii")
    assert predict(trained, tmp_path / "scans", tmp_path / "out") == 1
    assert "would all be called a.nii.gz" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_files_of_others_do_not_pass_for_predictions(
    trained: Path, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("scans", "truth"):
        (tmp_path / folder).mkdir()
    shutil.copy(scan(experiment, 0), tmp_path / "scans" / "a.nii.gz")
    truth = shutil.copy(scan(experiment, 0).with_name("segmentation.nii.gz"), tmp_path / "truth" / "a.nii.gz")
    before = truth.read_bytes()
    assert predict(trained, tmp_path / "scans", tmp_path / "truth") == 1
    assert (
        "contains files with the names of the predictions that 'miscnn-tf predict' did not write: a.nii.gz"
        in capsys.readouterr().err
    )
    assert truth.read_bytes() == before


def test_a_budget_of_memory(
    trained: Path, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(trained, scan(experiment, 0), tmp_path / "a.nii.gz", "--memory", "1000") == 0
    assert predict(trained, scan(experiment, 0), tmp_path / "b.nii.gz") == 0
    np.testing.assert_array_equal(voxels(tmp_path / "a.nii.gz"), voxels(tmp_path / "b.nii.gz"))
    assert predict(trained, scan(experiment, 0), tmp_path / "c.nii.gz", "--memory", "0.001") != 0
    assert "does not suffice" in capsys.readouterr().err
    assert not (tmp_path / "c.nii.gz").exists()


@pytest.mark.parametrize("layout", ["NIFTI", "NIFTI_S"])
def test_the_values_of_predictions_are_printed_and_recorded(tmp_path: Path, capsys, layout: str) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        labels = np.zeros((16, 16, 8), np.uint8)
        labels[4:12, 4:12, 2:6] = 200
        image = labels + rng.normal(0, 5, labels.shape)
        nib.save(nib.Nifti1Image(image.astype(np.float32), np.eye(4)), folder / "imaging.nii.gz")
        nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / "segmentation.nii.gz")
    three_dim = layout == "NIFTI"
    (tmp_path / "small.toml").write_text(f"""\
[data]
path = "data"
layout = "{layout}"
classes = 2
label_map = {{200 = 1}}
class_names = ["background", "kidney"]
{"" if three_dim else "settings = {slice_axis = 2}"}

[preprocessing]
normalization = "z-score"
patch_shape = {[8, 8, 8] if three_dim else [8, 8]}

[network]
architecture = {{name = "unet_standard", n_filters = 2, depth = 1}}
epochs = 1
iterations = 1
seed = 1
precision = "float32"

[output]
figures = false
""")
    assert cli.main(["train", str(tmp_path / "small.toml")]) == 0
    trained = tmp_path / "small_training"
    assert read_run_record(trained)["data"]["label_values"] == [0, 200]
    assert json.loads((trained / "summary.json").read_text())["label_values"] == [0, 200]
    page = write_report(trained).read_text(encoding="utf-8")
    assert "0: background, 200: kidney" in page
    capsys.readouterr()
    image = tmp_path / "data" / "a" / "imaging.nii.gz"
    assert predict(trained, image, tmp_path / "one.nii.gz") == 0
    assert "Values in the label maps: 0 (background), 200 (kidney)" in capsys.readouterr().out
    assert set(np.unique(voxels(tmp_path / "one.nii.gz"))) <= {0, 200}
    assert predict(trained, tmp_path / "data", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["label_values"] == [0, 200]
    np.testing.assert_array_equal(voxels(tmp_path / "out" / "a.nii.gz"), voxels(tmp_path / "one.nii.gz"))


def test_predictions_of_class_numbers_are_not_continued_in_other_values(
    trained: Path, experiment: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scans").mkdir()
    shutil.copy(scan(experiment, 0), tmp_path / "scans" / "a.nii.gz")
    assert predict(trained, tmp_path / "scans", tmp_path / "out") == 0
    monkeypatch.setattr(prediction_run, "label_values_of", lambda interface: [0, 1, 4])
    assert predict(trained, tmp_path / "scans", tmp_path / "out") == 1
    assert "other values for the classes" in capsys.readouterr().err


# ---------------------------------------------------------------- format, threshold, values, overlay


def test_a_threshold_moves_the_border_of_the_foreground(trained: Path, experiment: Path, tmp_path: Path) -> None:
    """With three classes: the background is weighted by T, all others by 1 - T."""
    model = load_model(trained / "model.keras")
    probabilities = model.predict_file(scan(experiment, 0), activation_output=True)
    for threshold in (0.2, 0.5, 0.9):
        path = tmp_path / f"{threshold}.nii.gz"
        assert predict(trained, scan(experiment, 0), path, "--threshold", threshold) == 0
        weighted = probabilities * np.array([threshold, 1 - threshold, 1 - threshold])
        ordered = np.sort(weighted, axis=-1)
        decided = ordered[..., -1] - ordered[..., -2] > 1e-4  # rounding decides the others
        assert decided.mean() > 0.9
        np.testing.assert_array_equal(voxels(path)[decided], weighted.argmax(-1)[decided])
    usual = model.predict_file(scan(experiment, 0))
    np.testing.assert_array_equal(voxels(tmp_path / "0.5.nii.gz"), usual)
    foreground = [(voxels(tmp_path / f"{one}.nii.gz") > 0).sum() for one in (0.2, 0.5, 0.9)]
    assert foreground[0] > foreground[1] > foreground[2]


def test_a_threshold_of_averaged_models(cross_validated: Path, experiment: Path, tmp_path: Path) -> None:
    assert predict(cross_validated, scan(experiment, 0), tmp_path / "p.nii.gz", "--probabilities") == 0
    assert (
        predict(cross_validated, scan(experiment, 0), tmp_path / "t.nii.gz", "--threshold", 0.2, "--no-postprocessing")
        == 0
    )
    weighted = voxels(tmp_path / "p.nii.gz") * np.array([0.2, 0.8, 0.8])
    ordered = np.sort(weighted, axis=-1)
    decided = ordered[..., -1] - ordered[..., -2] > 1e-4
    assert decided.mean() > 0.9
    np.testing.assert_array_equal(voxels(tmp_path / "t.nii.gz")[decided], weighted.argmax(-1)[decided])


@pytest.mark.parametrize("wrong", ["0", "1", "1.5", "nan", "half"])
def test_a_threshold_is_between_0_and_1(wrong: str, trained: Path, tmp_path: Path, capsys) -> None:
    assert predict(trained, "scan.nii.gz", tmp_path / "a.nii.gz", "--threshold", wrong) == 2
    assert "number between 0 and 1" in capsys.readouterr().err
    assert predict(trained, "scan.nii.gz", tmp_path / "a.nii.gz", "--threshold", "0.5", "--probabilities") == 2
    assert "not allowed with" in capsys.readouterr().err


def test_an_overlay_beside_each_result(trained: Path, experiment: Path, tmp_path: Path) -> None:
    assert predict(trained, scan(experiment, 0), tmp_path / "seg.nii.gz", "--overlay") == 0
    assert predict(trained, experiment.parent / "data", tmp_path / "out", "--overlay", "--probabilities") == 0
    pictures = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    names = [f"case_0000{number}" for number in range(4)]
    assert pictures == [*(f"out/overlays/{name}.png" for name in names), "overlays/seg.png"]
    with Image.open(tmp_path / "overlays" / "seg.png") as one:
        assert min(one.size) > 100
    # The pictures do not stop the other commands on this folder.
    assert predict(trained, experiment.parent / "data", tmp_path / "out", "--overlay", "--probabilities") == 0
    assert predict(trained, experiment.parent / "data", tmp_path / "labels", "--overlay") == 0
    assert cli.main(["evaluate", str(tmp_path / "labels"), str(experiment.parent / "data")]) == 0


@pytest.fixture(scope="module")
def of_cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training on PNG files in folders of images and masks, beside them."""
    folder = tmp_path_factory.mktemp("cells")
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / "data" / name).mkdir(parents=True)
    for number in range(4):
        mask = np.zeros((24, 18), np.uint8)
        mask[4:12, 3:15] = 255
        image = np.clip(mask * 0.6 + rng.normal(60, 20, mask.shape), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "data" / "images" / f"c{number}.png")
        Image.fromarray(mask).save(folder / "data" / "masks" / f"c{number}.png")
    write_config(
        folder / "small.toml",
        data={"path": "data", "classes": 2, "class_names": ["background", "cell"], "label_map": {"255": 1}},
        preprocessing={"patch_shape": [8, 8]},
    )
    assert cli.main(["train", str(folder / "small.toml")]) == 0
    return folder / "small_training"


def test_probabilities_of_png_files(of_cells: Path, tmp_path: Path, capsys) -> None:
    """Defect: .npy was refused, and .png as well."""
    image = of_cells.parent / "data" / "images" / "c0.png"
    model = load_model(of_cells / "model.keras")
    probabilities = model.predict_file(image, activation_output=True)
    for name in ("a.npy", "a.nii.gz"):
        assert predict(of_cells, image, tmp_path / name, "--probabilities") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), probabilities)
    np.testing.assert_array_equal(voxels(tmp_path / "a.nii.gz")[:, :, 0].swapaxes(0, 1), probabilities)
    assert predict(of_cells, image, tmp_path / "a.png", "--probabilities") == 1
    assert "name the file .npy or .nii.gz" in capsys.readouterr().err
    for more in ([], ["--format", "nifti"]):
        out = tmp_path / f"out{len(more)}"
        assert predict(of_cells, of_cells.parent / "data", out, "--probabilities", *more) == 0
        assert len(list(out.glob("c?.nii.gz" if more else "c?.npy"))) == 4


@pytest.mark.parametrize("source", ["data", "data/images"])
def test_values_and_formats_of_a_folder(of_cells: Path, tmp_path: Path, source: str, capsys) -> None:
    """A folder of files and a data set give the same; what is there already is not made again."""
    images, out = of_cells.parent / source, tmp_path / "out"
    held = {}
    for values, name in (("mask", "png"), ("index", "png"), ("index", "nifti")):
        given = ["--format", name, "--values", values]
        assert predict(of_cells, images, out, *given, *(["--overwrite"] if held else [])) == 0
        assert predict(of_cells, images, out, *given) == 0
        assert "4 are there already" in capsys.readouterr().out
        path = out / f"c0.{'png' if name == 'png' else 'nii.gz'}"
        held[values, name] = np.asarray(Image.open(path)) if name == "png" else voxels(path).T
        assert {one.suffix for one in out.glob("c*")} == {path.suffix}  # none of the format before
    assert set(np.unique(held["mask", "png"])) <= {0, 255}
    np.testing.assert_array_equal(held["mask", "png"] // 255, held["index", "png"])
    np.testing.assert_array_equal(held["index", "nifti"], held["index", "png"])
    assert predict(of_cells, images, out, "--values", "mask") == 1
    assert "with other values for the classes" in capsys.readouterr().err


def test_a_threshold_of_two_classes_is_a_probability(of_cells: Path, tmp_path: Path) -> None:
    image = of_cells.parent / "data" / "images" / "c0.png"
    model = load_model(of_cells / "model.keras")
    foreground = model.predict_file(image, activation_output=True)[..., 1]
    threshold = float(np.quantile(foreground, 0.3))
    clear = np.abs(foreground - threshold) > 1e-5
    labels = model.predict_file(image, threshold=threshold)
    np.testing.assert_array_equal(labels[clear], (foreground > threshold)[clear])
    assert 0.6 < labels.mean() < 0.8
    with pytest.raises(ConfigurationError, match=r"threshold=0\.3 decides labels"):
        model.predict_file(image, activation_output=True, threshold=0.3)
    with pytest.raises(ConfigurationError, match="threshold=2 must be between 0 and 1"):
        model.predict_array(np.zeros((24, 18)), threshold=2)


def test_formats_need_fitting_images(trained: Path, experiment: Path, tmp_path: Path, capsys) -> None:
    for name, said in (
        ("seg", "a DICOM SEG refers to the images of a DICOM series, but "),
        ("rtstruct", "Segment the folder of the DICOM series instead"),
        ("png", "these hold one image of two dimensions"),
    ):
        for images in (scan(experiment, 0), experiment.parent / "data"):
            assert predict(trained, images, tmp_path / name, "--format", name) == 1
            assert said in capsys.readouterr().err
        assert list((tmp_path / name).rglob("*.dcm")) == list((tmp_path / name).rglob("*.png")) == []


def test_the_series_of_a_patient_is_chosen(tmp_path: Path, capsys) -> None:
    """A model of DICOM; RTSTRUCT and SEG of the same, with the names of the classes."""
    rng = np.random.default_rng(0)
    for modality in ("CT", "MR"):
        series = make_series(rng.integers(0, 1000, (5, 12, 10)), Modality=modality, SeriesDescription=modality)
        save_series(tmp_path / "patient" / modality, series)
    interface = DICOM_interface(classes=3, structure_dict={"heart": 1, "lung": 2}, modality="CT")
    data_io = Data_IO(interface, tmp_path)
    preprocessor = Preprocessor(data_io, batch_size=1, subfunctions=[], patch_shape=(4, 8, 8), data_aug=None)
    Neural_Network(preprocessor, UNet_standard(n_filters=1, depth=1), precision="float32").dump(tmp_path / "a.keras")
    out = tmp_path / "out"
    for name, made in (("seg", "SEG"), ("rtstruct", "RTSTRUCT")):
        assert predict(tmp_path / "a.keras", tmp_path / "patient", out / f"{name}.dcm", "--format", name) == 0
        assert pydicom.dcmread(out / f"{name}.dcm").Modality == made
    assert [one.SegmentLabel for one in pydicom.dcmread(out / "seg.dcm").SegmentSequence] == ["heart", "lung"]
    assert [one.ROIName for one in pydicom.dcmread(out / "rtstruct.dcm").StructureSetROISequence] == ["heart", "lung"]
    given = ["--format", "seg", "--modality", "MR"]
    assert predict(tmp_path / "a.keras", tmp_path / "patient", out / "mr.dcm", *given) == 0
    uid = pydicom.dcmread(out / "mr.dcm").ReferencedSeriesSequence[0].SeriesInstanceUID
    assert uid == pydicom.dcmread(next((tmp_path / "patient" / "MR").iterdir())).SeriesInstanceUID
    assert predict(tmp_path / "a.keras", tmp_path / "patient", out / "a.dcm", "--modality", "PT") == 1
    assert "matches --modality PT" in capsys.readouterr().err


def test_a_model_of_slices_writes_volumes_only(
    trained: Path, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interface = NIFTIslicer_interface(slice_axis=2, classes=3, pattern="case_0000[01]", label_map={9: 2})
    data_io = Data_IO(interface, experiment.parent / "data")
    preprocessor = Preprocessor(data_io, batch_size=1, subfunctions=[], patch_shape=(8, 8), data_aug=None)
    Neural_Network(preprocessor, UNet_standard(n_filters=1, depth=1)).dump(tmp_path / "slices.keras")
    shutil.copytree(experiment.parent / "data" / "case_00001", tmp_path / "data" / "case_00001")
    given = ["--overlay", "--values", "index", "--threshold", "0.3"]
    assert predict(tmp_path / "slices.keras", tmp_path / "data", tmp_path / "out", *given) == 0
    assert predict(tmp_path / "slices.keras", scan(experiment, 1), tmp_path / "one.nii.gz", *given) == 0
    whole = voxels(tmp_path / "out" / "case_00001.nii.gz")
    np.testing.assert_array_equal(whole, voxels(tmp_path / "one.nii.gz"))
    assert set(np.unique(whole)) <= {0, 1, 2}
    assert (tmp_path / "out" / "overlays" / "case_00001.png").is_file()
    assert (tmp_path / "overlays" / "one.png").is_file()
    assert predict(tmp_path / "slices.keras", tmp_path / "data", tmp_path / "png", "--format", "png") == 1
    assert "--format png: predictions of slices are put together to volumes" in capsys.readouterr().err
