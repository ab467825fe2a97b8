"""The folder of one sample is one image, in the layout that the model was trained with."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import downloaded_data
import nibabel as nib
import numpy as np
import pytest
from layout_data import image_of, save_nifti
from small_network import SmallNetwork

from miscnn_tf import Neural_Network, Preprocessor
from miscnn_tf.cli import main as cli
from miscnn_tf.cli.input_images import find_images
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import BraTS_interface, Image_interface, SplitFolders_interface
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.interfaces.description import build_interface, describe_interface
from miscnn_tf.data_loading.layout_detection import find_interface
from miscnn_tf.errors import DataError
from miscnn_tf.neural_network.model_file import load_model


def trained_on(root: Path) -> Abstract_IO:
    """Return the interface of a data set as a model file holds it: rebuilt without the data."""
    interface = find_interface(root)
    interface.initialize(str(root))
    rebuilt = build_interface(describe_interface(interface))
    assert rebuilt is not None
    return rebuilt


@pytest.mark.parametrize(
    ("write", "sample"),
    [
        (downloaded_data.brats, "BraTS20_Training_002"),
        (downloaded_data.brats_2018, "HGG/Brats18_2013_2_1"),
        (downloaded_data.brats_2023, "BraTS-GLI-00002-000"),
        (downloaded_data.kits19, "case_00001"),
        (downloaded_data.kits21, "case_00001"),
        (downloaded_data.kits23, "case_00001"),
        (downloaded_data.totalsegmentator, "s0001"),
        (downloaded_data.bowl, "003cee89357d"),
    ],
)
def test_the_folder_of_a_sample_is_read_as_the_sample(tmp_path: Path, write, sample: str) -> None:
    root = write(tmp_path / "data")
    new = tmp_path / "new" / Path(sample).name
    shutil.copytree(root / sample, new)
    trained = trained_on(root)
    sources = find_images(new, trained.channels, trained)
    assert sources is not None
    assert [source.name for source in sources] == [new.name]
    whole = find_interface(root)
    whole.initialize(str(root))
    expected = whole.load_image(new.name)[0]
    np.testing.assert_array_equal(trained.read_file(sources[0].source)[0], expected)
    np.testing.assert_array_equal(trained.read_file(new)[0], expected)  # as predict_file does


def test_the_frames_of_a_patient_are_images_without_the_label_maps(tmp_path: Path) -> None:
    root = downloaded_data.acdc(tmp_path)
    trained = trained_on(root)
    sources = find_images(root / "patient002", 1, trained)
    assert sources is not None
    assert [source.name for source in sources] == ["patient002_frame01", "patient002_frame12"]
    np.testing.assert_array_equal(trained.read_file(sources[1].source)[0], image_of("patient002_frame12"))
    with pytest.raises(DataError, match=r"patient002 holds 2 samples .*give the file of one, .*frame01.nii.gz"):
        trained.read_file(root / "patient002")


def test_a_case_in_a_folder_of_another_name(tmp_path: Path) -> None:
    root = downloaded_data.brats(tmp_path / "data")
    trained = trained_on(root)
    shutil.copytree(root / "BraTS20_Training_001", tmp_path / "patient 7")
    (source,) = find_images(tmp_path / "patient 7", 4, trained) or []
    assert source.name == "patient 7"
    assert [path.name.rpartition("_")[2] for path in source.paths] == [
        "t1.nii.gz",
        "t1ce.nii.gz",
        "t2.nii.gz",
        "flair.nii.gz",
    ]


def test_a_case_of_training_and_validation_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The model file does not list the sequences, so their order is reported."""
    root = downloaded_data.brats(tmp_path / "train").parent
    downloaded_data.brats(tmp_path / "val", ("BraTS20_Training_009",))
    trained = trained_on(root)
    assert isinstance(trained, SplitFolders_interface)
    case = root / "val" / "BraTS20_Training_009"
    with caplog.at_level(logging.WARNING):
        (source,) = find_images(case, 4, trained) or []
    assert source.name == "BraTS20_Training_009"
    assert len(source.paths) == 4
    assert "the channels are t1, t1ce, t2, flair" in caplog.text
    (case / "BraTS20_Training_009_t2.nii.gz").unlink()
    with pytest.raises(DataError, match=r"has 3 sequences \(t1, t1ce, flair\), but the interface reads 4 channels"):
        find_images(case, 4, trained)


def test_images_beside_the_sample_are_segmented_too(tmp_path: Path) -> None:
    """A folder of several images is not one sample because one of them has the name of a sample's image."""
    for name in ("imaging", "other"):
        (tmp_path / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    trained = Image_interface(classes=2)
    assert [source.name for source in find_images(tmp_path, 1, trained) or []] == ["imaging", "other"]
    (tmp_path / "other.png").rename(tmp_path / "segmentation.png")
    assert [source.name for source in find_images(tmp_path, 1, trained) or []] == [tmp_path.name]


@pytest.fixture(scope="module")
def of_brats(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model for BraTS data, and the data."""
    folder = tmp_path_factory.mktemp("brats")
    data = downloaded_data.brats(folder / "data")
    data_io = Data_IO(find_interface(data), str(data), batch_path=str(folder / "batches"))
    network = Neural_Network(Preprocessor(data_io, 1, analysis="fullimage"), SmallNetwork())
    network.dump(folder / "model.keras")
    return folder / "model.keras", data


def test_one_case_is_predicted_by_command_and_in_python(of_brats: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    model, data = of_brats
    case = data / "BraTS20_Training_002"
    out = tmp_path / "out"
    assert cli.main(["predict", str(model), str(data), str(tmp_path / "all")]) == 0
    assert cli.main(["predict", str(model), str(case), str(out)]) == 0
    assert "1 image, into" in capsys.readouterr().out
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["BraTS20_Training_002.nii.gz"]
    written = np.asarray(nib.load(out / "BraTS20_Training_002.nii.gz").dataobj)
    of_all = np.asarray(nib.load(tmp_path / "all" / "BraTS20_Training_002.nii.gz").dataobj)
    np.testing.assert_array_equal(written, of_all)
    np.testing.assert_array_equal(load_model(model).predict_file(case), np.where(of_all == 4, 3, of_all))


def test_a_missing_sequence_is_named(of_brats: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    model, data = of_brats
    case = tmp_path / "BraTS20_Training_002"
    shutil.copytree(data / case.name, case)
    (case / f"{case.name}_t2.nii.gz").unlink()
    assert cli.main(["predict", str(model), str(case), str(tmp_path / "out")]) == 1
    assert f"{case.name}_t2.nii.gz" in capsys.readouterr().err


def test_the_folder_may_be_given_as_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_nifti(tmp_path / "c1" / "c1_t1.nii.gz", image_of("c1"))
    monkeypatch.chdir(tmp_path / "c1")
    trained = BraTS_interface(1, 2, True, modalities=("t1",))
    assert [source.name for source in find_images(".", 1, trained) or []] == ["c1"]


def test_a_data_set_one_level_deeper_keeps_the_order_of_the_channels(of_brats, tmp_path: Path, capsys) -> None:
    """It is read in the layout of the training, not detected anew: one more sequence changes nothing."""
    model, data = of_brats
    inner = tmp_path / "download" / "MICCAI"
    shutil.copytree(data, inner)
    for case in inner.iterdir():
        save_nifti(case / f"{case.name}_dwi.nii.gz", image_of("dwi"))
    assert cli.main(["predict", str(model), str(tmp_path / "download"), str(tmp_path / "out")]) == 0
    assert f"{tmp_path / 'download'} holds the data in {inner}, which is used" in capsys.readouterr().out
    assert cli.main(["predict", str(model), str(data), str(tmp_path / "expected")]) == 0
    for expected in (tmp_path / "expected").glob("*.nii.gz"):
        written = np.asarray(nib.load(tmp_path / "out" / expected.name).dataobj)
        np.testing.assert_array_equal(written, np.asarray(nib.load(expected).dataobj))
