from __future__ import annotations

import functools
import json
import logging
import subprocess
import sys
import textwrap
import zipfile

import keras
import nibabel as nib
import numpy as np
import pytest

import miscnn_tf
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.errors import ConfigurationError, MissingDataError, ModelFileError
from miscnn_tf.neural_network.architecture.unet import UNet_plain
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.losses import categorical_focal_loss, dice_crossentropy
from miscnn_tf.neural_network.metrics import ClassDice, dice_soft
from miscnn_tf.neural_network.model_file import read_metadata
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction
from miscnn_tf.processing.subfunctions.clipping import Clipping
from miscnn_tf.processing.subfunctions.normalization import Normalization
from miscnn_tf.processing.subfunctions.resampling import Resampling

CASES = [f"case_{number}" for number in range(4)]


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Three oblique, anisotropic NIfTI cases."""
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, -1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.2, 0.8, 3.0])
    affine[:3, 3] = [30, -20, 7]
    for case in range(3):
        labels = np.zeros((24, 28, 10), np.uint8)
        labels[4:16, 6:20, 2:8] = 1
        image = (rng.normal(0, 30, labels.shape) + 100 * labels).astype(np.int16)
        (folder / f"case_{case}").mkdir()
        nib.save(nib.Nifti1Image(image, affine), folder / f"case_{case}" / "imaging.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), folder / f"case_{case}" / "segmentation.nii.gz")
    return folder


@pytest.fixture(scope="module")
def trained(scans, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    io = miscnn_tf.Data_IO(
        NIFTI_interface(pattern="case_[0-9]"), str(scans), str(folder / "predictions"), str(folder / "batches")
    )
    steps = [Clipping(min=-50, max=150), Resampling((1.0, 1.0, 2.0)), Normalization(mode="z-score")]
    preprocessor = miscnn_tf.Preprocessor(io, batch_size=2, subfunctions=steps, patch_shape=(16, 16, 8), seed=1)
    preprocessor.patchwise_overlap = (8, 8, 4)
    network = miscnn_tf.Neural_Network(
        preprocessor, Architecture(n_filters=4, depth=2), learning_rate=0.002, precision="float32"
    )
    network.verbose = 0
    network.train(io.get_indiceslist(), epochs=2)
    network.dump(folder / "model.keras")
    return network, folder


def test_a_new_process_predicts_the_same_voxels_from_a_file_alone(trained, scans, tmp_path):
    network, folder = trained
    expected = network.predict("case_1", return_output=True)[0]
    assert 0.01 < expected.mean() < 0.99, "a constant prediction would show nothing"
    script = f"""
        import miscnn_tf
        model = miscnn_tf.load_model({str(folder / "model.keras")!r})
        model.predict_file({str(scans / "case_1" / "imaging.nii.gz")!r}, {str(tmp_path / "seg.nii.gz")!r})
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, timeout=300)
    written = nib.load(tmp_path / "seg.nii.gz")
    image = nib.load(scans / "case_1" / "imaging.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), expected)
    np.testing.assert_allclose(written.affine, image.affine, atol=1e-5)


def test_the_file_holds_what_prediction_needs(trained):
    _, folder = trained
    metadata = read_metadata(folder / "model.keras")
    assert metadata["channels"] == 1
    assert metadata["classes"] == 2
    assert metadata["preprocessor"]["patch_shape"] == [16, 16, 8]
    assert metadata["preprocessor"]["patchwise_overlap"] == [8, 8, 4]
    assert [step["class_name"] for step in metadata["preprocessor"]["subfunctions"]] == [
        "Clipping",
        "Resampling",
        "Normalization",
    ]
    assert metadata["preprocessor"]["subfunctions"][0]["config"] == {"min": -50, "max": 150}
    assert {"miscnn_tf", "tensorflow", "keras"} <= set(metadata["versions"])
    assert metadata["architecture"]["config"]["n_filters"] == 4


def test_keras_reads_the_file_too(trained):
    network, folder = trained
    model = keras.saving.load_model(folder / "model.keras")
    for ours, theirs in zip(network.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_loading_restores_the_optimizer_and_training_goes_on_the_same(trained):
    """Defect: after load the optimizer's moments and step count were wrong."""
    network, folder = trained
    samples = network.preprocessor.data_io.get_indiceslist()
    twins = [miscnn_tf.load_model(folder / "model.keras", data_io=network.preprocessor.data_io) for _ in range(2)]
    original = network.model.optimizer
    for twin in twins:
        twin.verbose = 0
        restored = twin.model.optimizer
        assert restored.iterations.numpy() == original.iterations.numpy() == 4
        assert restored.learning_rate.numpy() == pytest.approx(0.002)
        for ours, theirs in zip(original.variables, restored.variables, strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    losses = [twin.train(samples, epochs=1).history["loss"] for twin in twins]
    assert losses[0] == losses[1]


def test_dumping_and_loading_half_way_equals_an_uninterrupted_training(toy_io, make_network, tmp_path):
    samples = toy_io().get_indiceslist()

    def network():
        return make_network(loss=dice_crossentropy, metrics=[dice_soft, ClassDice(1)], learning_rate=0.01)

    whole = network()
    whole.train(samples, epochs=4)
    half = network()
    half.train(samples, epochs=2)
    half.dump(tmp_path / "half.keras")
    resumed = network()
    resumed.load(tmp_path / "half.keras")
    resumed.train(samples, epochs=2)
    loaded = miscnn_tf.load_model(tmp_path / "half.keras", data_io=half.preprocessor.data_io)
    loaded.verbose = 0
    loaded.train(samples, epochs=2)
    for network in (resumed, loaded):
        for expected, weight in zip(whole.model.get_weights(), network.model.get_weights(), strict=True):
            np.testing.assert_array_equal(weight, expected)


def test_loss_metrics_and_samples_are_in_the_file(make_network, tmp_path, caplog):
    network = make_network(loss=dice_crossentropy, metrics=[dice_soft, ClassDice(1)])
    network.evaluate(CASES[:2], CASES[2:], epochs=1)
    network.dump(tmp_path / "model.keras")
    loaded = miscnn_tf.load_model(tmp_path / "model.keras")
    assert loaded.loss is dice_crossentropy
    assert loaded.metrics == [dice_soft, ClassDice(1)]
    assert loaded.trained_on == {"training": CASES[:2], "validation": CASES[2:]}
    assert loaded.epochs_trained == 1
    configured = make_network(loss=categorical_focal_loss(alpha=0.3, gamma=1.5))
    configured.dump(tmp_path / "focal.keras")
    loss = miscnn_tf.load_model(tmp_path / "focal.keras").loss
    assert (loss.alpha, loss.gamma) == (0.3, 1.5)
    make_network(loss=lambda y_true, y_pred: keras.ops.mean(y_pred, axis=-1)).dump(tmp_path / "lambda.keras")
    with caplog.at_level(logging.WARNING):
        miscnn_tf.load_model(tmp_path / "lambda.keras")
    assert "does not hold its loss" in caplog.text


def test_the_names_of_the_classes_are_in_the_file(make_network, tmp_path):
    network = make_network()
    network.dump(tmp_path / "model.keras")
    interface = miscnn_tf.load_model(tmp_path / "model.keras").preprocessor.data_io.interface
    assert interface.class_names is None
    assert interface.names_of_classes() == ("0", "1")
    network.preprocessor.data_io.interface.class_names = ["background", "box"]
    network.dump(tmp_path / "model.keras")
    interface = miscnn_tf.load_model(tmp_path / "model.keras").preprocessor.data_io.interface
    assert interface.names_of_classes() == ("background", "box")
    interface.class_names = ("box",)
    with pytest.raises(ConfigurationError, match="must be 2 names"):
        interface.names_of_classes()


@pytest.mark.parametrize("ending", [".h5", ".hdf5"])
def test_the_old_endings_work(make_network, tmp_path, ending):
    network = make_network()
    network.train(CASES[:2], epochs=1)
    expected = network.predict("case_0", return_output=True, activation_output=True)[0]
    network.dump(tmp_path / f"model{ending}")
    other = make_network(seed=8)
    other.load(tmp_path / f"model{ending}")
    np.testing.assert_array_equal(other.predict("case_0", return_output=True, activation_output=True)[0], expected)
    assert other.model.optimizer.iterations.numpy() == 0
    alone = miscnn_tf.load_model(tmp_path / f"model{ending}")
    image = network.preprocessor.data_io.interface.load_image("case_0")[0]
    np.testing.assert_array_equal(alone.predict_array(image, activation_output=True), expected)


def test_mixed_float16_comes_back_with_its_loss_scale(make_network, tmp_path):
    network = make_network(precision="mixed_float16")
    network.train(CASES[:2], epochs=2)
    network.dump(tmp_path / "model.keras")
    twin = miscnn_tf.load_model(tmp_path / "model.keras")
    assert isinstance(twin.model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert twin.model.optimizer.inner_optimizer.iterations.numpy() == 2


def weighted_error(y_true, y_pred, weight):
    return weight * keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)


class Shift(Abstract_Subfunction):
    def __init__(self, by):
        self.by = by

    def preprocessing(self, sample, training=True):
        sample.img_data = sample.img_data + self.by


class Secretive(Abstract_Subfunction):
    def __init__(self, by):
        self._by = by

    def preprocessing(self, sample, training=True):
        sample.img_data = sample.img_data + self._by


def test_a_users_step_is_named_in_the_file_but_never_imported_by_it(make_network, tmp_path):
    network = make_network(processing={"subfunctions": [Shift(by=2.0)]})
    network.dump(tmp_path / "model.keras")
    with pytest.raises(ConfigurationError, match=r"'Shift'.*custom_objects"):
        miscnn_tf.load_model(tmp_path / "model.keras")
    loaded = miscnn_tf.load_model(tmp_path / "model.keras", custom_objects={"Shift": Shift})
    assert loaded.preprocessor.subfunctions[0].by == 2.0


def test_a_step_that_keeps_no_settings_does_not_lose_the_training(make_network, tmp_path, caplog):
    network = make_network(processing={"subfunctions": [Secretive(by=2.0)]})
    with caplog.at_level(logging.WARNING):
        network.dump(tmp_path / "model.keras")
    assert "Secretive" in caplog.text
    with pytest.raises(ConfigurationError, match="subfunctions="):
        miscnn_tf.load_model(tmp_path / "model.keras")
    loaded = miscnn_tf.load_model(tmp_path / "model.keras", subfunctions=[Secretive(by=2.0)])
    image = network.preprocessor.data_io.interface.load_image("case_0")[0]
    np.testing.assert_array_equal(loaded.predict_array(image), network.predict("case_0", return_output=True)[0])


def test_a_users_loss_that_cannot_be_written_does_not_lose_the_training(make_network, tmp_path):
    network = make_network(loss=lambda y_true, y_pred: keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1))
    network.train(CASES[:2], epochs=1)
    network.dump(tmp_path / "model.keras")
    twin = make_network(seed=5)
    twin.load(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        twin.predict("case_0", return_output=True)[0], network.predict("case_0", return_output=True)[0]
    )


def test_a_partial_as_loss_does_not_lose_the_training(make_network, tmp_path):
    network = make_network(loss=functools.partial(weighted_error, weight=2.0))
    network.train(CASES[:2], epochs=1)
    network.dump(tmp_path / "model.keras")
    assert miscnn_tf.load_model(tmp_path / "model.keras").epochs_trained == 1


def test_the_next_machine_chooses_its_own_precision(make_network, tmp_path):
    network = make_network(precision="auto")
    network.dump(tmp_path / "model.keras")
    metadata = read_metadata(tmp_path / "model.keras")
    assert (metadata["precision"], metadata["jit_compile"]) == ("auto", "auto")


def test_whether_to_compile_is_kept_and_no_part_of_what_is_trained(make_network, tmp_path):
    network = make_network(jit_compile=True)
    network.dump(tmp_path / "model.keras")
    assert miscnn_tf.load_model(tmp_path / "model.keras").hardware.jit_compile is True
    assert network.snapshot().training_settings() == make_network(jit_compile=False).snapshot().training_settings()
    assert network.copy().jit_compile is True


def test_a_model_file_written_during_the_training_counts_its_epochs(make_network, tmp_path):
    network = make_network()

    class Write(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            network.dump(tmp_path / f"{epoch}.keras")

    network.evaluate(CASES[:2], CASES[2:], epochs=2, callbacks=[Write()])
    written = [read_metadata(tmp_path / f"{epoch}.keras") for epoch in range(2)]
    assert [metadata["epochs_trained"] for metadata in written] == [1, 2]
    assert written[0]["trained_on"]["training"] == CASES[:2]


def test_an_architecture_that_is_not_known_here_is_taken_from_the_file(make_network, tmp_path):
    class Unknown(Architecture):
        pass

    network = make_network(architecture=Unknown(n_filters=4, depth=1))
    network.dump(tmp_path / "model.keras")
    loaded = miscnn_tf.load_model(tmp_path / "model.keras")
    image = network.preprocessor.data_io.interface.load_image("case_0")[0]
    np.testing.assert_array_equal(loaded.predict_array(image), network.predict("case_0", return_output=True)[0])


def test_axes_that_are_pooled_differently_stay_so_where_the_architecture_is_not_known(make_network, tmp_path):
    class Flat(UNet_plain):
        pass

    architecture = Flat(feature_maps=(2, 4), pooling=(1, 2, 2))
    network = make_network(architecture=architecture, processing={"analysis": "fullimage"}, data={"shape": (6, 9, 7)})
    network.dump(tmp_path / "model.keras")
    assert read_metadata(tmp_path / "model.keras")["divisor"] == [2, 4, 4]
    loaded = miscnn_tf.load_model(tmp_path / "model.keras")
    assert loaded.architecture.divisors(3) == (2, 4, 4)
    assert loaded.architecture.divisor == 4
    image = network.preprocessor.data_io.interface.load_image("case_0")[0]
    np.testing.assert_array_equal(loaded.predict_array(image), network.predict("case_0", return_output=True)[0])


@pytest.mark.parametrize("damage", ["missing", "text", "truncated", "foreign", "future", "incomplete"])
def test_damaged_and_foreign_files_are_told_apart_clearly(trained, tmp_path, damage):
    _, folder = trained
    content = (folder / "model.keras").read_bytes()
    path = tmp_path / "model.keras"
    error, message = ModelFileError, "model.keras"
    if damage == "missing":
        error, message = MissingDataError, "the model file .* does not exist"
    elif damage == "text":
        path.write_text("not a model")
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "foreign":
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
        message = r"not written by Neural_Network\.dump"
    else:
        with zipfile.ZipFile(folder / "model.keras") as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                data = old.read(name)
                if name == "miscnn_tf.json":
                    metadata = json.loads(data)
                    if damage == "future":
                        metadata["format"] = 99
                        message = r"99.*update miscnn_tf"
                    else:
                        del metadata["preprocessor"]
                        message = "'preprocessor' is missing"
                    data = json.dumps(metadata)
                new.writestr(name, data)
    with pytest.raises(error, match=message):
        miscnn_tf.load_model(path)


def test_no_code_runs_from_a_model_file(make_network, tmp_path):
    image = keras.Input((8, 8, 8, 1))
    evil = keras.layers.Lambda(lambda x: x)(image)
    model = keras.Model(image, keras.layers.Conv3D(2, 1, activation="softmax")(evil))
    model.save(tmp_path / "evil.keras")
    with pytest.raises(ModelFileError, match=r"(?i)evil\.keras.*lambda"):
        make_network().load(tmp_path / "evil.keras")


def test_a_model_of_other_dimensions_is_refused(make_network, tmp_path):
    make_network(data={"classes": 3}).dump(tmp_path / "model.keras")
    with pytest.raises(ModelFileError, match="3 classes"):
        make_network().load(tmp_path / "model.keras")


def test_weights_of_another_architecture_are_refused(make_network, tmp_path):
    make_network(depth=2).dump(tmp_path / "model.keras")
    with pytest.raises(ModelFileError, match="another architecture"):
        make_network().load(tmp_path / "model.keras")


def test_weights_fit_a_network_with_another_patch(make_network, tmp_path):
    trained = make_network(processing={"patch_shape": (16, 16, 16)})
    trained.dump(tmp_path / "model.keras")
    network = make_network(seed=9)
    network.load(tmp_path / "model.keras")
    assert network.predict("case_0", return_output=True)[0].shape == (20, 22, 18)
    for ours, theirs in zip(network.model.get_weights(), trained.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_wrong_ending_is_refused_and_a_failed_dump_leaves_the_old_file(make_network, tmp_path, monkeypatch):
    network = make_network()
    with pytest.raises(ConfigurationError, match=r"must end in \.keras"):
        network.dump(tmp_path / "model.txt")
    network.dump(tmp_path / "model.keras")
    before = (tmp_path / "model.keras").read_bytes()

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(network.model, "save", full)
    with pytest.raises(OSError, match="No space left"):
        network.dump(tmp_path / "model.keras")
    assert (tmp_path / "model.keras").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if "model" in path.name] == ["model.keras"]


def test_a_file_for_the_scripts_of_miscnn_is_written_without_advice(make_tiny_network, tmp_path, caplog):
    """Defect: Keras advised users of ``dump("model.hdf5")`` to write another format."""
    network = make_tiny_network()
    with caplog.at_level("DEBUG", logger="absl"):
        logging.getLogger("absl").addHandler(caplog.handler)
        try:
            keras.saving.save_model(network.model, tmp_path / "other.h5")
            assert "HDF5" in caplog.text  # the message is still Keras'
            caplog.clear()
            network.dump(tmp_path / "model.hdf5")
        finally:
            logging.getLogger("absl").removeHandler(caplog.handler)
    assert "HDF5" not in caplog.text
