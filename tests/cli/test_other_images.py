"""Images that do not fit the model: the message describes the training and the file."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from layout_data import save_image, save_nifti
from small_network import SmallNetwork

from miscnn_tf import Neural_Network, Preprocessor
from miscnn_tf.cli import main as cli
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import Dictionary_interface
from miscnn_tf.data_loading.labels import AxesError, check_axes
from miscnn_tf.errors import DataError
from miscnn_tf.multi_model import Model_Group
from miscnn_tf.neural_network.model_file import load_model

SHAPES = {"2D": (12, 10), "3D": (12, 10, 8)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    """Models by dimension and number of channels."""
    folder, files = tmp_path_factory.mktemp("models"), {}
    for dimension, channels in (("2D", 1), ("3D", 1), ("3D", 4)):
        shape = SHAPES[dimension]
        arrays = {"a": (np.ones((*shape, channels), np.float32), np.zeros(shape, np.uint8))}
        interface = Dictionary_interface(arrays, channels=channels, three_dim=dimension == "3D")
        data_io = Data_IO(interface, "", batch_path=str(folder / "batches"))
        network = Neural_Network(Preprocessor(data_io, 1, analysis="fullimage"), SmallNetwork())
        files[dimension, channels] = folder / f"{dimension}_{channels}.keras"
        network.dump(files[dimension, channels])
    return files


@pytest.mark.parametrize(
    ("model", "name", "shape", "message"),
    [
        (
            ("2D", 1),
            "scan.nii.gz",
            (12, 10, 8),
            "has 8 slices or channels (shape (12, 10, 8)), but the model was trained on 2D images with 1 channel;",
        ),
        (
            ("3D", 1),
            "scan.nii.gz",
            (12, 10, 8, 4),
            "has 4 channels (shape (12, 10, 8, 4)), but the model was trained on 3D images with 1 channel;",
        ),
        (
            ("3D", 4),
            "scan.nii.gz",
            (12, 10, 8),
            "has 1 channel (shape (12, 10, 8)), but the model was trained on 3D images with 4 channels; give images "
            "like those of the training, or another model; if each channel is in a file of its own, name them case_",
        ),
        (
            ("3D", 1),
            "cell.png",
            (12, 10),
            "has 2 axes (shape (12, 10)), but the model was trained on 3D images with 1 channel;",
        ),
    ],
)
def test_a_file(models, tmp_path: Path, capsys, model, name: str, shape: tuple[int, ...], message: str) -> None:
    path = tmp_path / "images" / name
    array = (np.arange(np.prod(shape)) % 200).astype(np.uint8).reshape(shape)
    (save_image if name.endswith(".png") else save_nifti)(path, array)
    loaded = load_model(models[model])
    for segmenter in (loaded, Model_Group([loaded], loaded.preprocessor)):
        with pytest.raises(DataError) as caught:
            segmenter.predict_file(path)
        assert f"{path} {message}" in str(caught.value)
    for images in (path, path.parent):
        assert cli.main(["predict", str(models[model]), str(images), str(tmp_path / "out")]) == 1
        error = capsys.readouterr().err
        assert f"{path} {message}" in error
        assert "three_dim" not in error
        assert "repair" not in error


def test_a_data_set(models, tmp_path: Path, capsys) -> None:
    for name in ("a", "b"):
        save_nifti(tmp_path / "data" / name / "imaging.nii.gz", np.ones((12, 10, 8), np.uint8))
        save_image(tmp_path / "cells" / "images" / f"{name}.png", np.ones((12, 10), np.uint8))
        save_image(tmp_path / "cells" / "masks" / f"{name}.png", np.ones((12, 10), np.uint8))
    out = str(tmp_path / "out")
    assert cli.main(["predict", str(models["2D", 1]), str(tmp_path / "data"), out]) == 1
    error = capsys.readouterr().err
    assert (
        "has 8 slices or channels (shape (12, 10, 8)), but the model was trained on 2D images with 1 channel" in error
    )
    assert "three_dim" not in error
    assert cli.main(["predict", str(models["3D", 1]), str(tmp_path / "cells"), out]) == 1
    error = capsys.readouterr().err
    assert f"{tmp_path / 'cells'} holds 2D images with 1 channel, but the model was trained on 3D images" in error


def test_the_error_comes_back_from_another_process() -> None:
    with pytest.raises(AxesError) as caught:
        check_axes((4, 5), True, 1, "x.nii")
    copied = pickle.loads(pickle.dumps(caught.value))
    assert str(copied) == str(caught.value)
    assert str(copied.for_model(1, True)) == str(caught.value.for_model(1, True))
