"""Training, saving and callbacks take values; only the reading of model files knows the class of networks."""

from __future__ import annotations

import ast
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import miscnn_tf
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.callbacks import CheckedCallback
from miscnn_tf.neural_network.compiled_model import CompiledModel
from miscnn_tf.neural_network.keras_file import load_weights, write_model
from miscnn_tf.neural_network.optimizer import OptimizerSettings
from miscnn_tf.neural_network.segmentation_model import SegmentationModel, build_model
from miscnn_tf.neural_network.training import Training, TrainingSettings

CASES = ["case_0", "case_1"]
NEURAL_NETWORK = Path(miscnn_tf.__file__).parent / "neural_network"


def compiled(network):
    """Another model for the network's architecture and devices."""
    window = network.window_shape
    model = build_model(network.architecture, window, network.channels, network.classes, network.hardware, seed=7)
    return CompiledModel(model, network.hardware, OptimizerSettings.of("sgd", 0.01), window)


def test_a_training_reports_its_progress_and_changes_no_network(make_network):
    """Defect: `Training.run` wrote six attributes of the network and of its preprocessor."""
    network, reports = make_network(data={"shape": (12, 12)}), []
    before = (network.epochs_trained, network.trained_on, network.preprocessor.seed, network.model.get_weights())
    model = compiled(network)
    initial = model.model.get_weights()
    settings = TrainingSettings(CASES, None, 2, None, [], None, verbose=0)
    unused = lambda: pytest.fail("one size")  # noqa: E731
    history = Training(settings, model, network.snapshot(), network.plan, unused, reports.append).run()
    assert len(history.history["loss"]) == 2
    assert [progress.epochs_trained for progress in reports] == [0, 1, 2]
    assert reports[0].trained_on == {"training": CASES, "validation": []}
    assert any(not np.array_equal(one, two) for one, two in zip(initial, model.model.get_weights(), strict=True))
    assert (network.epochs_trained, network.trained_on, network.preprocessor.seed) == before[:3]
    for one, two in zip(network.model.get_weights(), before[3], strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_network_adopts_the_progress(make_network):
    network, seen = make_network(data={"shape": (12, 12)}), []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((network.epochs_trained, network.trained_on["training"]))
    )
    network.train(CASES, epochs=2, callbacks=[watch])
    assert seen == [(1, CASES), (2, CASES)]


def test_a_model_file_is_written_from_a_model_and_a_description(tmp_path):
    """Defect: saving and export needed the whole network."""
    image = keras.Input((4, 4, 1))
    model = SegmentationModel(image, keras.layers.Conv2D(2, 1, activation="softmax")(image))
    write_model(model, '{"format": 1}', tmp_path / "model.keras")
    assert zipfile.ZipFile(tmp_path / "model.keras").read("miscnn_tf.json") == b'{"format": 1}'
    weights = model.get_weights()
    model.set_weights([np.zeros_like(one) for one in weights])
    load_weights(model, tmp_path / "model.keras")
    for one, two in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_callback_checks_a_training_before_its_first_step(make_network):
    """Defect: the checks of our callbacks were a list of their classes."""

    class NeedsValidation(CheckedCallback):
        def check(self, model, validates):
            assert model.optimizer is not None
            if not validates:
                raise ConfigurationError("no validation samples")

    network = make_network(data={"shape": (12, 12)})
    with pytest.raises(ConfigurationError, match="no validation samples"):
        network.train(CASES, epochs=1, callbacks=[NeedsValidation()])
    assert network.trained_on == {"training": [], "validation": []}
    network.evaluate(CASES[:1], CASES[1:], epochs=1, callbacks=[NeedsValidation()])


def test_settings_of_the_optimizer_are_values():
    settings = OptimizerSettings.of("sgd", 0.5)
    other = settings.with_optimizer(keras.optimizers.Adam(0.25))
    assert (settings.rate, other.rate, other.initial_rate) == (0.5, 0.25, 0.25)
    assert settings.with_optimizer("adam").rate == 0.5
    assert settings.recipe.cls is keras.optimizers.SGD
    with pytest.raises(ConfigurationError, match=r"learning_rate=0.5 differs from the learning rate 0.25"):
        OptimizerSettings.of(keras.optimizers.Adam(0.25), 0.5)


def imported(path: Path) -> set[str]:
    return {
        node.module
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
    }


def test_only_the_reading_of_model_files_knows_the_class_of_networks():
    """Defect: ten modules imported each other through Neural_Network."""
    knowing = {path.name for path in NEURAL_NETWORK.rglob("*.py") if "miscnn_tf.neural_network.model" in imported(path)}
    assert knowing == {"model_file.py"}
