"""Single files: what `predict_file` returns and writes is what `predict` makes of the same data by name."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import highdicom as hd
import keras
import nibabel
import numpy as np
import pytest
from dicom_series import make_series, save_series
from PIL import Image

import miscnn_tf
from miscnn_tf._base.files import atomic_path
from miscnn_tf.data_loading.dicom.series import grid_of_files
from miscnn_tf.data_loading.interfaces import DICOM_interface, Dictionary_interface, Image_interface, NIFTI_interface
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.errors import ConfigurationError, DataError, MiscnnError, MissingDataError
from miscnn_tf.multi_model import Model_Group
from miscnn_tf.neural_network import model_file
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.neural_network.prediction import PatchPredictor
from miscnn_tf.processing.subfunctions import Normalization, Resampling

SHAPE = (14, 11, 9)
AFFINE = np.array([[0, 1.1, 0, 5], [-0.9, 0, 0, 3], [0, 0, 2, -7], [0, 0, 0, 1.0]])


class Shallow(Abstract_Architecture):
    """One layer of random weights: on normalised noise both classes occur, and no axis or channel is like another."""

    def create_model(self, input_shape, n_labels=2):
        image = keras.Input(input_shape)
        layer = keras.layers.Conv3D if len(input_shape) == 4 else keras.layers.Conv2D
        return keras.Model(image, layer(n_labels, 3, padding="same", activation="softmax")(image))


def noise(number: int, shape=SHAPE, dtype=np.int16) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 250, shape).astype(dtype)


def save_nifti(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE, dtype=array.dtype), path)
    return path


def make_network(interface: Abstract_IO, data, folder: Path, steps=None) -> miscnn_tf.Neural_Network:
    three_dim = interface.three_dim
    steps = steps or ([Resampling((1.0, 1.0, 1.5)), Normalization()] if three_dim else [Normalization()])
    io = miscnn_tf.Data_IO(interface, data, folder / "predictions", folder / "batches")
    patch = (8, 8, 8)[: 3 if three_dim else 2]
    preprocessor = miscnn_tf.Preprocessor(io, batch_size=2, subfunctions=steps, patch_shape=patch, seed=2)
    preprocessor.patchwise_overlap = (4, 4, 4)[: len(patch)]
    network = miscnn_tf.Neural_Network(preprocessor, Shallow(), precision="float32")
    network.verbose = 0
    return network


def by_name(network: miscnn_tf.Neural_Network, index: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of a sample, known not to be constant."""
    labels = network.predict(index, return_output=True)[0]
    probabilities = network.predict(index, return_output=True, activation_output=True)[0]
    assert 0.05 < np.mean(labels == 1) < 0.95
    assert probabilities.std() > 0.05
    return labels, probabilities


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


# ---------------------------------------------------------------- NIfTI


@pytest.fixture(scope="module")
def one_channel(tmp_path_factory):
    """A network on volumes of one channel, a file of them outside its data, and what it predicts by name."""
    folder = tmp_path_factory.mktemp("one_channel")
    save_nifti(folder / "data" / "case_0" / "imaging.nii.gz", noise(0))
    network = make_network(NIFTI_interface(), folder / "data", folder)
    return network, folder, by_name(network, "case_0")


@pytest.mark.parametrize("read", [".nii", ".nii.gz"])
@pytest.mark.parametrize("write", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_nifti_file_is_segmented_as_the_sample_with_the_same_voxels(one_channel, tmp_path, read, write, kind):
    network, _, (labels, _) = one_channel
    scan = save_nifti(tmp_path / f"some scan.v2{read}", noise(0))
    output = tmp_path / f"seg{write}"
    returned = network.predict_file(kind(scan), kind(output))
    np.testing.assert_array_equal(returned, labels)
    np.testing.assert_array_equal(voxels(output), labels)
    assert nibabel.load(output).get_data_dtype() == np.uint8
    np.testing.assert_allclose(nibabel.load(output).affine, AFFINE, atol=1e-6)
    assert (output.read_bytes()[:2] == b"\x1f\x8b") == (write == ".nii.gz")


def test_other_voxels_give_another_prediction(one_channel, tmp_path):
    network, _, (labels, _) = one_channel
    other = network.predict_file(save_nifti(tmp_path / "scan.nii", noise(1)))
    assert other.shape == labels.shape
    assert (other != labels).mean() > 0.1


def test_without_an_output_path_nothing_is_written(one_channel, tmp_path):
    network, _, (labels, _) = one_channel
    scan = save_nifti(tmp_path / "scan.nii.gz", noise(0))
    np.testing.assert_array_equal(network.predict_file(scan), labels)
    assert list(tmp_path.iterdir()) == [scan]


def test_probabilities_are_written_as_four_axes_of_float32(one_channel, tmp_path):
    network, _, (_, probabilities) = one_channel
    scan = save_nifti(tmp_path / "scan.nii.gz", noise(0))
    returned = network.predict_file(scan, tmp_path / "seg.nii.gz", activation_output=True)
    written = nibabel.load(tmp_path / "seg.nii.gz")
    assert written.shape == (*SHAPE, 2)
    assert written.get_data_dtype() == np.float32
    np.testing.assert_array_equal(returned, probabilities)
    np.testing.assert_array_equal(np.asarray(written.dataobj), probabilities)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-6)


def test_the_folder_of_the_output_is_made(one_channel, tmp_path):
    network, folder, (labels, _) = one_channel
    output = tmp_path / "of" / "this run" / "seg.nii.gz"
    network.predict_file(folder / "data" / "case_0" / "imaging.nii.gz", output)
    np.testing.assert_array_equal(voxels(output), labels)
    assert list(output.parent.iterdir()) == [output]


def test_a_folder_with_one_image_is_read(one_channel):
    network, folder, (labels, _) = one_channel
    np.testing.assert_array_equal(network.predict_file(folder / "data" / "case_0"), labels)


def test_files_that_cannot_be_read_are_named(one_channel, tmp_path):
    network, _, _ = one_channel
    with pytest.raises(MissingDataError, match=r"nowhere\.nii\.gz"):
        network.predict_file(tmp_path / "nowhere.nii.gz", tmp_path / "seg.nii.gz")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(MissingDataError, match=r"nothing holds no imaging\.nii\.gz"):
        network.predict_file(tmp_path / "nothing", tmp_path / "seg.nii.gz")
    two = save_nifti(tmp_path / "two.nii.gz", noise(0, (*SHAPE, 2)))
    with pytest.raises(DataError, match=r"two\.nii\.gz.*2 channel"):
        network.predict_file(two, tmp_path / "seg.nii.gz")
    assert not (tmp_path / "seg.nii.gz").exists()


@pytest.mark.parametrize("name", ["scan.xyz", "scan", "scan.gz"])
def test_an_unknown_ending_of_the_image_is_told(one_channel, tmp_path, name):
    network, _, _ = one_channel
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(ConfigurationError, match=rf"no interface reads .*{name}.*ending"):
        network.predict_file(tmp_path / name, tmp_path / "seg.nii.gz")


@pytest.mark.parametrize("name", ["seg.xyz", "seg", "seg.png"])
def test_an_unknown_ending_of_the_output_is_told(one_channel, tmp_path, name):
    network, _, _ = one_channel
    scan = save_nifti(tmp_path / "scan.nii.gz", noise(0))
    with pytest.raises(ConfigurationError, match=rf"{name}.*writes no files that end in"):
        network.predict_file(scan, tmp_path / name)
    assert list(tmp_path.iterdir()) == [scan]


# ---------------------------------------------------------------- channels in a file each


@pytest.fixture(scope="module")
def four_channels(tmp_path_factory):
    """A network on four channels, which lie in a file each, and what it predicts of them by name."""
    folder = tmp_path_factory.mktemp("four_channels")
    for channel in range(4):
        save_nifti(folder / "data" / "case_0" / f"imaging_{channel:04d}.nii.gz", noise(channel))
    network = make_network(NIFTI_interface(channels=4), folder / "data", folder)
    files = sorted((folder / "data" / "case_0").iterdir())
    return network, files, by_name(network, "case_0")


@pytest.mark.parametrize("form", ["list", "tuple of text", "file of four axes", "folder"])
def test_four_channels_are_the_same_however_they_are_given(four_channels, tmp_path, form):
    network, files, (labels, probabilities) = four_channels
    given = {
        "list": lambda: files,
        "tuple of text": lambda: tuple(map(str, files)),
        "file of four axes": lambda: save_nifti(tmp_path / "scan.nii", np.stack([voxels(file) for file in files], -1)),
        "folder": lambda: files[0].parent,
    }[form]()
    np.testing.assert_array_equal(network.predict_file(given, activation_output=True), probabilities)
    network.predict_file(given, tmp_path / "seg.nii.gz")
    np.testing.assert_array_equal(voxels(tmp_path / "seg.nii.gz"), labels)
    np.testing.assert_allclose(nibabel.load(tmp_path / "seg.nii.gz").affine, AFFINE, atol=1e-6)


def test_the_order_of_the_channel_files_counts(four_channels):
    network, files, (_, probabilities) = four_channels
    other = network.predict_file(files[::-1], activation_output=True)
    assert np.abs(other - probabilities).mean() > 0.05


def test_channels_that_are_missing_or_lie_elsewhere_are_told(four_channels, tmp_path):
    network, files, _ = four_channels
    with pytest.raises(DataError, match=r"3 channel.*4 channels"):
        network.predict_file(files[:3])
    with pytest.raises(DataError, match=r"imaging_0000\.nii\.gz.*1 channel"):
        network.predict_file(files[0])
    other = save_nifti(tmp_path / "other.nii.gz", noise(3, (14, 11, 8)))
    with pytest.raises(DataError, match=r"other\.nii\.gz is not on the grid"):
        network.predict_file([*files[:3], other])


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("img_type", ["grayscale", "rgb"])
def test_a_picture_is_segmented_as_the_sample_with_the_same_pixels(tmp_path, img_type):
    pixels = noise(5, (21, 15) if img_type == "grayscale" else (21, 15, 3), np.uint8)
    (tmp_path / "data" / "case_0").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "data" / "case_0" / "imaging.png")
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    network = make_network(Image_interface(img_type=img_type), tmp_path / "data", tmp_path)
    labels, probabilities = by_name(network, "case_0")
    np.testing.assert_array_equal(network.predict_file(tmp_path / "picture.png", tmp_path / "new" / "seg.png"), labels)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "seg.png")), labels)
    network.predict_file(tmp_path / "picture.png", tmp_path / "probabilities.npy", activation_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "probabilities.npy"), probabilities)
    with pytest.raises(ConfigurationError, match=r"seg\.jpg.*the format changes labels"):
        network.predict_file(tmp_path / "picture.png", tmp_path / "seg.jpg")
    with pytest.raises(ConfigurationError, match=r"seg\.png.*name the file \.npy"):
        network.predict_file(tmp_path / "picture.png", tmp_path / "seg.png", activation_output=True)

    network.dump(tmp_path / "model.keras")
    loaded = miscnn_tf.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict_file(tmp_path / "picture.png", activation_output=True), probabilities)


# ---------------------------------------------------------------- interfaces of a user's own


class Archive_interface(Abstract_IO):
    """Volumes in ``<name>.vox`` files with ``image`` and ``spacing``, all in one folder."""

    def __init__(self, channels=1, classes=2, key="image"):
        super().__init__(channels=channels, classes=classes, three_dim=True)
        self.key = key
        self.folder = None

    def initialize(self, input_path):
        self.folder = Path(input_path)
        return sorted(path.stem for path in self.folder.glob("*.vox"))

    def load_image(self, index):
        return self.read_file(self.folder / f"{index}.vox")

    def load_segmentation(self, index):
        return None

    def load_prediction(self, index, output_path):
        return np.load(Path(output_path) / f"{index}.vox")["prediction"]

    def save_prediction(self, sample, output_path):
        self.write_file(sample, Path(output_path) / f"{sample.index}.vox")

    @staticmethod
    def check_file_termination(termination):
        return termination == ".vox"

    def read_file(self, path):
        with np.load(path) as archive:
            return archive[self.key], {"spacing": tuple(archive["spacing"]), "source": str(path)}

    def write_file(self, sample, path):
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, prediction=sample.pred_data, source=sample.extended["source"])


class Indexed_interface(Archive_interface):
    """The same without single files."""

    read_file = Abstract_IO.read_file
    write_file = Abstract_IO.write_file

    def load_image(self, index):
        return Archive_interface.read_file(self, self.folder / f"{index}.vox")


def make_archive_network(cls, tmp_path):
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "case_0.vox").open("wb") as file:
        np.savez(file, voxels=noise(0), spacing=(0.9, 1.1, 2.0))
    network = make_network(cls(key="voxels"), tmp_path / "data", tmp_path)
    return network, by_name(network, "case_0")


def test_a_users_own_interface_reads_and_writes_single_files(tmp_path):
    network, (labels, probabilities) = make_archive_network(Archive_interface, tmp_path)
    scan = (tmp_path / "data" / "case_0.vox").rename(tmp_path / "scan.vox")
    np.testing.assert_array_equal(network.predict_file(scan, tmp_path / "new" / "seg.vox"), labels)
    written = np.load(tmp_path / "new" / "seg.vox")
    np.testing.assert_array_equal(written["prediction"][..., 0], labels)
    assert str(written["source"]) == str(scan)
    np.testing.assert_array_equal(network.predict_file(scan, activation_output=True), probabilities)


def test_a_model_of_a_users_own_interface_comes_back(tmp_path):
    network, (labels, probabilities) = make_archive_network(Archive_interface, tmp_path)
    network.dump(tmp_path / "model.keras")
    scan = tmp_path / "data" / "case_0.vox"

    known = miscnn_tf.load_model(
        tmp_path / "model.keras", custom_objects={"Archive_interface": Archive_interface, "Shallow": Shallow}
    )
    assert isinstance(known.preprocessor.data_io.interface, Archive_interface)
    assert isinstance(known.architecture, Shallow)
    assert known.preprocessor.data_io.interface.key == "voxels"
    np.testing.assert_array_equal(known.predict_file(scan, tmp_path / "seg.vox"), labels)
    np.testing.assert_array_equal(np.load(tmp_path / "seg.vox")["prediction"][..., 0], labels)

    # Without the class, everything but its own files works: ours are read, and arrays are taken.
    unknown = miscnn_tf.load_model(tmp_path / "model.keras")
    with pytest.raises(ConfigurationError, match=r"no interface reads .*case_0\.vox.*'\.vox'"):
        unknown.predict_file(scan, tmp_path / "other.vox")
    nifti = save_nifti(tmp_path / "scan.nii.gz", noise(0))
    np.testing.assert_array_equal(unknown.predict_file(nifti, activation_output=True), probabilities)
    np.testing.assert_array_equal(
        unknown.predict_array(noise(0), spacing=(0.9, 1.1, 2.0), activation_output=True), probabilities
    )
    # And so does the class handed over as a Data_IO.
    io = miscnn_tf.Data_IO(Archive_interface(key="voxels"), tmp_path / "data", tmp_path / "out", tmp_path / "batches")
    given = miscnn_tf.load_model(tmp_path / "model.keras", data_io=io)
    np.testing.assert_array_equal(given.predict_file(scan), labels)
    np.testing.assert_array_equal(given.predict("case_0", return_output=True)[0], labels)


def test_an_interface_without_single_files_leaves_them_to_ours(tmp_path):
    network, (labels, _) = make_archive_network(Indexed_interface, tmp_path)
    scan = save_nifti(tmp_path / "scan.nii.gz", noise(0))
    np.testing.assert_array_equal(network.predict_file(scan, tmp_path / "seg.nii.gz"), labels)
    np.testing.assert_array_equal(voxels(tmp_path / "seg.nii.gz"), labels)
    with pytest.raises(ConfigurationError, match=r"case_0\.vox"):
        network.predict_file(tmp_path / "data" / "case_0.vox")


def test_a_model_of_arrays_in_memory_segments_files(tmp_path):
    arrays = {"case_0": (noise(0), None, None, {"spacing": (0.9, 1.1, 2.0)})}
    network = make_network(Dictionary_interface(arrays, three_dim=True), "", tmp_path)
    labels, _ = by_name(network, "case_0")
    network.dump(tmp_path / "model.keras")
    scan = save_nifti(tmp_path / "scan.nii.gz", noise(0))
    np.testing.assert_array_equal(network.predict_file(scan), labels)
    loaded = miscnn_tf.load_model(tmp_path / "model.keras")
    loaded.predict_file(scan, tmp_path / "seg.nii.gz")
    np.testing.assert_array_equal(voxels(tmp_path / "seg.nii.gz"), labels)


def test_an_ending_in_capitals_is_known(one_channel, tmp_path):
    network, _, (labels, _) = one_channel
    scan = save_nifti(tmp_path / "scan.nii.gz", noise(0)).rename(tmp_path / "SCAN.NII.GZ")
    np.testing.assert_array_equal(network.predict_file(scan), labels)


def test_an_empty_list_of_files_is_told(one_channel):
    network, _, _ = one_channel
    with pytest.raises(ConfigurationError, match="image_path"):
        network.predict_file([])


@pytest.mark.parametrize("output", ["seg.xyz", "taken/seg.nii.gz"])
def test_an_output_that_cannot_be_is_told_before_the_first_window(one_channel, tmp_path, monkeypatch, output):
    network, _, _ = one_channel
    scan = save_nifti(tmp_path / "scan.nii.gz", noise(0))
    (tmp_path / "taken").write_text("a file in the folder's place")
    monkeypatch.setattr(PatchPredictor, "__call__", lambda self, patches: pytest.fail("a patch was computed"))
    with pytest.raises(MiscnnError, match=r"seg\.xyz|taken"):
        network.predict_file(scan, tmp_path / output)


def test_a_list_of_pictures_is_told(tmp_path):
    (tmp_path / "data" / "case_0").mkdir(parents=True)
    Image.fromarray(noise(5, (21, 15), np.uint8)).save(tmp_path / "data" / "case_0" / "imaging.png")
    network = make_network(Image_interface(), tmp_path / "data", tmp_path)
    with pytest.raises((ConfigurationError, DataError)):
        network.predict_file([tmp_path / "data" / "case_0" / "imaging.png"])


# ---------------------------------------------------------------- DICOM


@pytest.fixture(scope="module")
def of_a_series(tmp_path_factory):
    """A network on DICOM series, the folder of one, and what it predicts by name."""
    folder = tmp_path_factory.mktemp("dicom")
    save_series(folder / "data" / "patient" / "study" / "ct", make_series(noise(0).astype(np.uint16), intercept=0))
    network = make_network(DICOM_interface(), folder / "data", folder)
    return network, folder / "data" / "patient", by_name(network, "patient")


@pytest.mark.parametrize("of", ["patient", "series", "file"])
@pytest.mark.parametrize("name", ["seg.dcm", "seg.nii.gz"])
def test_a_series_is_segmented_as_the_sample_of_its_name(of_a_series, tmp_path, of, name):
    network, patient, (labels, _) = of_a_series
    series = patient / "study" / "ct"
    path = {"patient": patient, "series": series, "file": series / "000002.dcm"}[of]
    np.testing.assert_array_equal(network.predict_file(path, tmp_path / name), labels)
    if name.endswith(".gz"):
        written = voxels(tmp_path / name)
    else:
        uids = [header.sop_instance for header, _ in grid_of_files([series]).planes]
        written = hd.seg.segread(tmp_path / name).get_pixels_by_source_instance(uids, combine_segments=True)
    np.testing.assert_array_equal(written, labels)


def test_probabilities_of_a_series_are_nifti(of_a_series, tmp_path):
    network, patient, (_, probabilities) = of_a_series
    network.predict_file(patient, tmp_path / "seg.nii.gz", activation_output=True)
    np.testing.assert_array_equal(voxels(tmp_path / "seg.nii.gz"), probabilities)
    with pytest.raises(ConfigurationError, match=r"seg\.png.*DICOM_interface writes no files"):
        network.predict_file(patient, tmp_path / "seg.png")


def test_a_model_of_other_axes_says_so(of_a_series, one_channel, tmp_path, caplog):
    dicom, patient, _ = of_a_series
    nifti, folder, _ = one_channel
    nifti.predict_file(patient / "study" / "ct" / "000002.dcm")
    assert "read by DICOM_interface, but the model was trained on what NIFTI_interface reads" in caplog.text
    caplog.clear()
    dicom.predict_file(folder / "data" / "case_0" / "imaging.nii.gz")
    assert "read by NIFTI_interface, but the model was trained on what DICOM_interface reads" in caplog.text
    caplog.clear()
    dicom.predict_file(patient)
    assert caplog.text == ""


# ---------------------------------------------------------------- the user's own values


def test_masks_of_0_and_255_are_predicted_as_0_and_255_by_every_way(tmp_path, rng):
    mask = 255 * rng.integers(0, 2, (24, 24)).astype(np.uint8)
    folder = tmp_path / "data" / "a"
    folder.mkdir(parents=True)
    Image.fromarray(noise(0, (24, 24), np.uint8)).save(folder / "imaging.png")
    Image.fromarray(mask).save(folder / "segmentation.png")
    interface = Image_interface(classes=2, label_map={255: 1})
    network = make_network(interface, tmp_path / "data", tmp_path)
    labels, _ = by_name(network, "a")
    assert np.unique(labels).tolist() == [0, 1]  # in memory: class numbers
    network.predict("a")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "predictions" / "a.png")), 255 * labels)
    network.dump(tmp_path / "model.keras")
    loaded = miscnn_tf.load_model(tmp_path / "model.keras")
    returned = loaded.predict_file(folder / "imaging.png", tmp_path / "out.tif")
    np.testing.assert_array_equal(returned, labels)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.tif")), 255 * labels)
    np.testing.assert_array_equal(loaded.predict_array(noise(0, (24, 24), np.uint8)), labels)
    group = Model_Group([network, network.copy()], network.preprocessor)
    group.predict_file(folder / "imaging.png", tmp_path / "group.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "group.png")), 255 * labels)
    # A file of another format is read by another interface.
    nibabel.save(nibabel.Nifti1Image(noise(0, (24, 24), np.int16), np.eye(4)), tmp_path / "scan.nii.gz")
    loaded.predict_file(tmp_path / "scan.nii.gz", tmp_path / "seg.nii.gz")
    assert np.unique(voxels(tmp_path / "seg.nii.gz")).tolist() == [0, 255]


def test_a_model_trained_on_arrays_in_memory_keeps_their_values(tmp_path):
    data = {"a": (noise(0), np.where(noise(1) > 120, 4, 0))}
    network = make_network(Dictionary_interface(data, classes=4, label_map={4: 3}), "", tmp_path)
    network.dump(tmp_path / "model.keras")
    assert model_file.read_metadata(tmp_path / "model.keras")["label_values"] == [0, 1, 2, 4]
    loaded = miscnn_tf.load_model(tmp_path / "model.keras")
    labels = loaded.predict_file(save_nifti(tmp_path / "scan.nii.gz", noise(0)), tmp_path / "seg.nii.gz")
    assert 3 in labels
    np.testing.assert_array_equal(voxels(tmp_path / "seg.nii.gz"), np.where(labels == 3, 4, labels))


def test_a_model_file_of_an_earlier_version_says_nothing_of_values(tmp_path):
    network = make_network(Dictionary_interface({"a": (noise(0), noise(1))}), "", tmp_path)
    assert json.loads(network.snapshot().to_json())["label_values"] is None
    network.dump(tmp_path / "model.keras")
    description = model_file.read_metadata(tmp_path / "model.keras")
    del description["label_values"]
    rewrite(tmp_path / "model.keras", description)
    assert miscnn_tf.load_model(tmp_path / "model.keras").preprocessor.data_io.interface.values_of_classes() == (0, 1)
    rewrite(tmp_path / "model.keras", {**description, "label_values": "0, 255"})
    with pytest.raises(MiscnnError, match="label_values"):
        miscnn_tf.load_model(tmp_path / "model.keras")


def rewrite(path: Path, description: dict[str, object]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["miscnn_tf.json"] = json.dumps(description).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_format_that_cannot_hold_the_values_is_refused_before_the_prediction(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "a"
    folder.mkdir(parents=True)
    Image.fromarray(noise(0, (24, 24), np.uint8)).save(folder / "imaging.png")
    network = make_network(Image_interface(classes=2, label_map={65535: 1}), tmp_path / "data", tmp_path)
    monkeypatch.setattr(network, "predict_sample", None)
    with pytest.raises(ConfigurationError, match=r"predictions would hold 65535, but \.bmp files hold 0 to 255"):
        network.predict_file(folder / "imaging.png", tmp_path / "out.bmp")
