from __future__ import annotations

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from miscnn_tf import Data_IO, Neural_Network, Preprocessor
from miscnn_tf._machine.system_memory import SystemMemory
from miscnn_tf.data_loading.interfaces import Dictionary_interface
from miscnn_tf.errors import MemoryBudgetError
from miscnn_tf.neural_network import training
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.data_generator import DataGenerator
from miscnn_tf.neural_network.prediction import PatchPredictor
from miscnn_tf.processing.subfunctions import Resampling

SIZES = {"small": (16, 16), "wide": (16, 40), "large": (32, 32)}


@pytest.fixture
def make(tmp_path):
    """A network for whole images, or for patches, of several sizes."""

    def network(sizes=SIZES, **arguments):
        rng = np.random.default_rng(0)
        cases = {
            name: (rng.normal(size=shape).astype(np.float32), rng.integers(0, 2, shape, dtype=np.uint8))
            for name, shape in sizes.items()
        }
        interface = Dictionary_interface(cases, channels=1, classes=2, three_dim=False)
        settings = {"batch_size": 1, "data_aug": None, "analysis": "fullimage", "seed": 1, **arguments}
        preprocessor = Preprocessor(Data_IO(interface, "", batch_path=str(tmp_path / "batches")), **settings)
        made = Neural_Network(preprocessor, Architecture(n_filters=2, depth=1), precision="float32", seed=1)
        made.verbose = 0
        return made

    return network


def steps_of(network, monkeypatch):
    """The sizes of the images of each step from now on, as the graph sees them."""
    seen = []
    step = network.model.train_step

    def watched(data):
        tf.py_function(lambda image: seen.append(tuple(image.shape[1:3])), [data[0]], [])
        return step(data)

    monkeypatch.setattr(network.model, "train_step", watched)
    return seen


def test_the_largest_image_is_tried_first(make, monkeypatch, caplog):
    network = make()
    seen = steps_of(network, monkeypatch)
    with caplog.at_level(logging.INFO):
        network.train(["small", "large", "wide"], epochs=1)
    assert seen[0] == (32, 32)
    assert sorted(seen[1:]) == [(16, 16), (16, 40), (32, 32)]
    assert "trying a step with the largest image, 'large' of (32, 32) voxels" in caplog.text


def test_the_trial_leaves_nothing_behind(make, monkeypatch):
    tried, untried = make(), make()
    monkeypatch.setattr(training, "_try_step", lambda *_: None)
    expected = untried.train(list(SIZES), epochs=2)
    monkeypatch.undo()
    history = tried.train(list(SIZES), epochs=2)
    assert history.history["loss"] == expected.history["loss"]
    assert tried.model.optimizer.iterations == untried.model.optimizer.iterations == 6
    for own, other in zip(tried.model.get_weights(), untried.model.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize(
    "arguments",
    [{"analysis": "patchwise-crop", "patch_shape": (8, 8)}, {"sizes": {"one": (16, 16), "other": (16, 16)}}],
)
def test_of_one_size_nothing_is_tried(make, monkeypatch, arguments):
    network = make(**arguments)
    monkeypatch.setattr(training, "_try_step", lambda *_: pytest.fail("it was"))
    network.train(network.preprocessor.data_io.get_indiceslist(), epochs=1)


def out_of_memory(*_, **__):
    raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


def out_of_memory_of_xla(*_, **__):
    raise tf.errors.InternalError(None, None, "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes")


def failing(*_, **__):
    raise tf.errors.InternalError(None, None, "no kernel image is available")


@pytest.mark.parametrize("fails", [out_of_memory, out_of_memory_of_xla])
def test_a_step_that_does_not_fit_names_the_sample(make, monkeypatch, fails):
    network = make()
    monkeypatch.setattr(keras.Model, "fit", fails)
    with pytest.raises(MemoryBudgetError, match=r"'large' of \(32, 32\) voxels.*patchwise-crop"):
        network.train(["small", "large"], epochs=1)


def test_a_prediction_that_does_not_fit_names_the_sample(make, monkeypatch):
    """The largest is one of the validation here: nobody would know before the end of the first epoch."""
    network = make()
    monkeypatch.setattr(PatchPredictor, "_predicted", out_of_memory)
    with pytest.raises(MemoryBudgetError, match=r"'large', cannot be predicted: one patch of \(32, 32\)"):
        network.evaluate(["small", "wide"], ["large"], epochs=1)


@pytest.mark.parametrize("fails", [out_of_memory, out_of_memory_of_xla])
def test_a_batch_of_patches_that_does_not_fit_is_told(make, monkeypatch, fails):
    network = make(analysis="patchwise-crop", patch_shape=(8, 8), batch_size=2)
    monkeypatch.setattr(keras.Model, "fit", fails)
    with pytest.raises(MemoryBudgetError, match=r"batches of 2 times \(8, 8\) voxels.*smaller batch_size"):
        network.train(["small", "large"], epochs=1)


@pytest.mark.parametrize("patches", [{}, {"analysis": "patchwise-crop", "patch_shape": (8, 8)}])
def test_a_step_that_fails_for_another_reason_says_that(make, monkeypatch, patches):
    network = make(**patches)
    monkeypatch.setattr(keras.Model, "fit", failing)
    with pytest.raises(tf.errors.InternalError, match="no kernel image"):
        network.train(["small", "large"], epochs=1)


def test_too_little_memory_of_the_machine_is_not_blamed_on_the_device(make, monkeypatch):
    """TensorFlow makes of a MemoryError of ours what it raises for a full device."""
    network = make(analysis="patchwise-crop", patch_shape=(8, 8))

    def full(*_, **__):
        raise MemoryError("Unable to allocate 3 GiB")

    monkeypatch.setattr(DataGenerator, "batch", full)
    with pytest.raises(MemoryError, match="Unable to allocate") as caught:
        network.train(["small", "large"], epochs=1)
    assert not isinstance(caught.value, MemoryBudgetError)


def test_a_sample_too_large_to_be_predicted_here_is_told_before_the_training(make, monkeypatch, caplog):
    network = make(analysis="patchwise-crop", patch_shape=(8, 8))
    monkeypatch.setattr(training, "system_memory", lambda: SystemMemory(1000, 1000))
    network.train(["small", "large"], epochs=1)
    (warning,) = [record.getMessage() for record in caplog.records if "to be predicted" in record.getMessage()]
    assert warning.startswith("sample 'large' of (32, 32) voxels and 2 classes takes")
    caplog.clear()
    monkeypatch.setattr(training, "system_memory", lambda: SystemMemory(2**40, 2**40))
    network.train(["small", "large"], epochs=1)
    assert "to be predicted" not in caplog.text


def test_the_largest_may_be_so_on_its_own_grid_alone(make, monkeypatch, caplog):
    """Of two images one has more voxels, and the other, of larger ones, more after resampling."""
    network = make(
        sizes={"many": (48, 48), "wide": (40, 40)}, analysis="patchwise-crop", patch_shape=(8, 8),
        subfunctions=[Resampling((1.0, 1.0))],
    )  # fmt: skip
    interface = network.preprocessor.data_io.interface
    spacings = {"many": (0.5, 0.5), "wide": (1.0, 1.0)}
    monkeypatch.setattr(interface, "load_details", lambda name: {"spacing": spacings[name]})
    monkeypatch.setattr(training, "system_memory", lambda: SystemMemory(1000, 1000))
    network.train(["many", "wide"], epochs=1)
    assert "sample 'many' of (48, 48) voxels" in caplog.text
    assert "sample 'wide' of (40, 40) voxels" in caplog.text
