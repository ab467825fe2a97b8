"""Bad input meets training and prediction: a clear error that names the file, before any step is computed."""

from __future__ import annotations

import gzip
import re
import shutil
import struct
import warnings
from pathlib import Path

import keras
import nibabel
import numpy as np
import pytest

import miscnn_tf
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.errors import DataError, MiscnnError, StorageError
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.prediction import PatchPredictor
from miscnn_tf.processing.subfunctions import Normalization

CASES = ["case_0", "case_1", "case_2"]
SHAPE = (12, 10, 8)
AFFINE = np.diag([0.8, 0.8, 2.5, 1])


class NoStep(keras.callbacks.Callback):
    """Fails the test as soon as a training step begins; pytest's own exception is caught by no ``except Exception``."""

    def on_train_batch_begin(self, batch, logs=None):
        pytest.fail("a training step began")


def save(path: Path, array: np.ndarray, affine=AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, affine, dtype=array.dtype), path)
    return path


def labels() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[3:9, 2:7, 2:6] = 1
    return array


def image() -> np.ndarray:
    noise = np.random.default_rng(4).normal(0, 20, SHAPE)
    return (noise + 100 * labels()).astype(np.int16)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    for case in CASES:
        (folder / case).mkdir()
        save(folder / case / "imaging.nii.gz", image())
        save(folder / case / "segmentation.nii.gz", labels())
    return folder


@pytest.fixture
def data(whole, tmp_path):
    """A copy of the whole cases, to spoil."""
    return Path(shutil.copytree(whole, tmp_path / "data"))


@pytest.fixture
def case(data):
    """The folder of the case that is spoiled."""
    return data / "case_1"


@pytest.fixture(scope="module")
def built(whole):
    io = miscnn_tf.Data_IO(NIFTI_interface(), whole)
    preprocessor = miscnn_tf.Preprocessor(io, batch_size=2, patch_shape=(8, 8, 8), data_aug=None)
    network = miscnn_tf.Neural_Network(preprocessor, Architecture(n_filters=2, depth=1), precision="float32")
    network.verbose = 0
    return network


@pytest.fixture
def on(built, data, tmp_path):
    """The network on the (spoiled) copy."""

    def make(output_path=tmp_path / "predictions", batch_path=tmp_path / "batches", **arguments):
        io = miscnn_tf.Data_IO(NIFTI_interface(), data, output_path=output_path, batch_path=batch_path)
        arguments = {"subfunctions": [Normalization()], "data_aug": None, "seed": 1, **arguments}
        built.preprocessor = miscnn_tf.Preprocessor(io, batch_size=2, patch_shape=(8, 8, 8), **arguments)
        return built

    return make


@pytest.fixture
def no_windows(monkeypatch):
    def refuse(self, windows):
        pytest.fail("a window was computed")

    monkeypatch.setattr(PatchPredictor, "__call__", refuse)


def refused_training(network, *expected: object, error: type[MiscnnError] = DataError, samples=CASES) -> str:
    weights = network.model.get_weights()
    with pytest.raises(error) as caught:
        network.train(list(samples), epochs=1, callbacks=[NoStep()])
    message = str(caught.value)
    for text in expected:
        assert str(text) in message
    for before, after in zip(weights, network.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    return message


def refused_prediction(network, *expected: object, error: type[MiscnnError] = DataError, samples=CASES) -> str:
    with pytest.raises(error) as caught:
        network.predict(list(samples))
    message = str(caught.value)
    for text in expected:
        assert str(text) in message
    output = Path(network.preprocessor.data_io.output_path)
    assert not output.is_dir() or not list(output.iterdir())
    return message


def test_the_guards_of_these_tests_do_see_a_step_and_a_window(on, no_windows):
    with pytest.raises(pytest.fail.Exception, match="a training step began"):
        on().train(CASES, epochs=1, callbacks=[NoStep()])
    with pytest.raises(pytest.fail.Exception, match="a window was computed"):
        on().predict(CASES)


# ---------------------------------------------------------------- what headers tell, for images


def truncated(case: Path) -> str:
    path = case / "imaging.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])
    return "truncated"


def cut_within_the_trailer(case: Path) -> str:
    path = case / "imaging.nii.gz"
    path.write_bytes(path.read_bytes()[:-3])
    return ""


def not_gzip(case: Path) -> str:
    path = case / "imaging.nii.gz"
    path.write_bytes(gzip.decompress(path.read_bytes()))
    return "not gzip"


def no_nifti(case: Path) -> str:
    (case / "imaging.nii.gz").write_bytes(gzip.compress(b"<html>404 not found</html>" * 50))
    return "not a NIfTI file"


def empty(case: Path) -> str:
    (case / "imaging.nii.gz").write_bytes(b"")
    return "empty"


def claiming(packed: bool):
    def claims_terabytes(case: Path) -> str:
        path = case / "imaging.nii.gz"
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[40:56] = struct.pack("<8h", 3, 30000, 30000, 30000, 1, 1, 1, 1)
        path.unlink()
        if packed:
            path.write_bytes(gzip.compress(bytes(content)))
        else:
            path = case / "imaging.nii"
            path.write_bytes(content)
        return f"{path}: the header declares more data than the file holds"

    claims_terabytes.__name__ += "" if packed else "_uncompressed"
    return claims_terabytes


def claims_one_slice_more(case: Path) -> str:
    path = case / "imaging.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[40:56] = struct.pack("<8h", 3, *SHAPE[:2], SHAPE[2] + 1, 1, 1, 1, 1)
    path.write_bytes(gzip.compress(bytes(content)))
    return "the header declares more data than the file holds"


def two_channels(case: Path) -> str:
    save(case / "imaging.nii.gz", np.stack([image()] * 2, axis=-1))
    return "2 channel"


def flat(case: Path) -> str:
    save(case / "imaging.nii.gz", image()[:, :, 0])
    save(case / "segmentation.nii.gz", labels()[:, :, 0])
    return "(12, 10)"


IMAGE_FAULTS = [
    truncated,
    cut_within_the_trailer,
    not_gzip,
    no_nifti,
    empty,
    claiming(packed=True),
    claiming(packed=False),
    claims_one_slice_more,
    two_channels,
    flat,
]


@pytest.mark.parametrize("spoil", IMAGE_FAULTS, ids=lambda fault: fault.__name__)
def test_a_bad_image_is_named_before_the_first_step_and_the_first_window(on, case, no_windows, spoil):
    network = on()
    message = spoil(case)
    assert network.preprocessor.data_io.get_indiceslist() == CASES
    name = case / "imaging.nii"
    told = refused_training(network, name, message, "case_1")
    assert "case_0" not in told
    assert "case_2" not in told
    refused_prediction(network, name, message, "case_1")


@pytest.mark.parametrize("spoil", [truncated, two_channels], ids=lambda fault: fault.__name__)
def test_a_bad_validation_image_is_named_before_the_first_step(on, case, spoil):
    message = spoil(case)
    with pytest.raises(DataError, match=rf"{re.escape(str(case))}.*{message}"):
        on().evaluate(["case_0", "case_2"], ["case_1"], epochs=1, callbacks=[NoStep()])


def test_all_bad_cases_are_named_at_once(on, data):
    truncated(data / "case_0")
    two_channels(data / "case_2")
    for refused in (refused_training, refused_prediction):
        message = refused(on(), "2 of 3 samples", data / "case_0" / "imaging", data / "case_2" / "imaging")
        assert "case_1" not in message


# ---------------------------------------------------------------- what headers tell, for segmentations


def missing(case: Path) -> str:
    (case / "segmentation.nii.gz").unlink()
    return "holds no segmentation.nii.gz (found: imaging.nii.gz)"


def other_shape(case: Path) -> str:
    save(case / "segmentation.nii.gz", labels()[:, :-1])
    return "(12, 10, 8) against (12, 9, 8)"


def other_position(case: Path) -> str:
    affine = AFFINE.copy()
    affine[:3, 3] = (0, 5, 0)
    save(case / "segmentation.nii.gz", labels(), affine)
    return "first voxel 5 mm apart"


def flipped_axis(case: Path) -> str:
    save(case / "segmentation.nii.gz", labels(), AFFINE @ np.diag([-1, 1, 1, 1]))
    return "axes pointing RAS against LAS"


def truncated_labels(case: Path) -> str:
    path = case / "segmentation.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])
    return ""


# ---------------------------------------------------------------- what only the voxels tell


def other_values(*values: float, dtype: type = np.int16):
    def spoil(case: Path) -> str:
        array = labels().astype(dtype)
        array.flat[: len(values)] = values
        save(case / "segmentation.nii.gz", array)
        return f"the label map holds {', '.join(f'{value:g}' for value in values)} ({len(values)} voxels)"

    spoil.__name__ = f"labels_{values}"
    return spoil


def damaged_within(case: Path) -> str:
    path = case / "segmentation.nii.gz"
    content = bytearray(path.read_bytes())
    content[-8] ^= 0xFF  # the checksum; the size after it still is right
    path.write_bytes(content)
    return "truncated or damaged"


LABEL_FAULTS = [
    missing,
    other_shape,
    other_position,
    flipped_axis,
    truncated_labels,
    other_values(7),
    other_values(-1),
    other_values(0.25, 0.5, dtype=np.float32),
    damaged_within,
]


@pytest.mark.parametrize("spoil", LABEL_FAULTS, ids=lambda fault: fault.__name__)
def test_a_bad_segmentation_is_named_before_the_first_step(on, case, spoil):
    message = spoil(case)
    name = case if spoil is missing else case / "segmentation.nii.gz"
    told = refused_training(on(), name, message)
    assert "case_0" not in told
    assert "case_2" not in told


@pytest.mark.parametrize("spoil", [missing, other_values(7)], ids=lambda fault: fault.__name__)
def test_prediction_does_not_care_for_the_segmentation(on, case, spoil, tmp_path):
    spoil(case)
    on().predict(CASES)
    assert sorted(path.name for path in (tmp_path / "predictions").iterdir()) == [f"{case}.nii.gz" for case in CASES]


# ---------------------------------------------------------------- voxels that are no numbers


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_warned_of_by_the_files_name(on, case, value):
    array = image().astype(np.float32)
    array[:2, 3, 4] = value
    path = save(case / "imaging.nii.gz", array)
    told = f"{re.escape(str(path))}: 2 of {array.size} voxels are NaN or infinite"
    network = on()
    with pytest.warns(UserWarning, match=told):
        history = network.train(CASES, epochs=1)
    assert np.isfinite(history.history["loss"]).all()
    with pytest.warns(UserWarning, match=told):
        probabilities = on().predict("case_1", return_output=True, activation_output=True)[0]
    assert np.isfinite(probabilities).all()


def test_whole_data_give_no_warning(on):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        on().train(CASES, epochs=1)
        on().predict("case_1", return_output=True)


# ---------------------------------------------------------------- where nothing can be written


@pytest.mark.parametrize("below", ["", "of/this/run"])
def test_an_output_folder_that_cannot_be_is_told_before_the_first_window(on, tmp_path, no_windows, below):
    place = tmp_path / "taken"
    place.write_text("a file in the folder's place")
    network = on(output_path=place / below)
    refused_prediction(network, place / below, error=StorageError)
    assert place.read_text() == "a file in the folder's place"


def test_a_batch_folder_that_cannot_be_is_told_before_the_first_step(on, tmp_path):
    place = tmp_path / "taken"
    place.write_text("a file in the folder's place")
    refused_training(on(batch_path=place, prepare_subfunctions=True), place, error=StorageError)


# ---------------------------------------------------------------- names that lead elsewhere


@pytest.mark.parametrize("kind", ["parent", "absolute", "hidden parent"])
def test_a_name_that_leads_out_of_the_folder_is_refused(on, data, whole, no_windows, tmp_path, kind):
    # There is a good case where the name leads.
    shutil.copytree(whole / "case_0", data.parent / "x")
    name = {"parent": "../x", "absolute": str(data.parent / "x"), "hidden parent": "case_0/../../x"}[kind]
    before = sorted(tmp_path.rglob("*"))
    for refused in (refused_training, refused_prediction):
        refused(on(), "1 of 2 samples", repr(name), "'..'", samples=["case_0", name])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_that_is_not_there_is_refused(on, no_windows):
    for refused in (refused_training, refused_prediction):
        refused(on(), "1 of 2 samples", "case_11", samples=["case_0", "case_11"])
