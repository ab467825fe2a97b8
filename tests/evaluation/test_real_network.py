"""Cross-validation of a real, tiny network: what the model without a network cannot show."""

import csv
import json

import numpy as np
import pytest

import miscnn_tf
from miscnn_tf.data_loading.interfaces.dictionary_io import Dictionary_interface
from miscnn_tf.evaluation import cross_validation
from miscnn_tf.evaluation.cross_validation import run_fold, split_folds
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.checkpoint import restore_weights


@pytest.fixture(scope="module")
def cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Bright squares on a dark ground, 24 x 20 pixels."""
    rng = np.random.default_rng(3)
    cases = {}
    for number in range(4):
        labels = np.zeros((24, 20), np.uint8)
        x, y = rng.integers(2, 10, 2)
        labels[x : x + 10, y : y + 8] = 1
        cases[f"case_{number}"] = ((2 * labels + 0.3 * rng.standard_normal(labels.shape)).astype(np.float32), labels)
    return cases


@pytest.fixture(scope="module")
def model(cases):
    interface = Dictionary_interface(cases, channels=1, classes=2, three_dim=False)
    data_io = miscnn_tf.Data_IO(interface, "")
    preprocessor = miscnn_tf.Preprocessor(
        data_io, batch_size=2, data_aug=None, analysis="patchwise-crop", patch_shape=(16, 16)
    )
    network = miscnn_tf.Neural_Network(
        preprocessor, Architecture(n_filters=4, depth=1), learning_rate=0.01, seed=1, precision="float32"
    )
    network.verbose = 0
    return network


def test_cross_validation_of_a_network(model, cases, tmp_path):
    samples = model.preprocessor.data_io.get_indiceslist()
    histories = cross_validation(samples, model, 2, 2, 2, tmp_path, run_detailed_evaluation=True, return_output=True)
    # The file of the best epoch alone leads to the Dice in the table.
    folder = tmp_path / "fold_1"
    network = miscnn_tf.load_model(folder / "model.keras")
    with (folder / "detailed_validation.tsv").open(newline="") as file:
        table = {row["sample_id"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert list(table) == json.loads((folder / "sample_list.json").read_text())["VALIDATION"]
    for name, row in table.items():
        image, labels = cases[name]
        predicted = network.predict_array(image) == 1
        dice = 2 * np.sum(predicted & (labels == 1)) / (np.sum(predicted) + np.sum(labels == 1))
        assert float(row["dice_class-1"]) == pytest.approx(dice, abs=1e-12)
    # The second fold began with the same weights, optimizer and rate as if it were the first.
    split_folds(samples, 2, tmp_path / "alone")
    alone = run_fold(1, model, 2, 2, tmp_path / "alone", draw_figures=False)
    assert alone["loss"] == pytest.approx(histories[1]["loss"], rel=1e-5)
    assert alone["val_loss"] == pytest.approx(histories[1]["val_loss"], rel=1e-5)


def test_weights_of_the_best_epoch_are_restored(model, tmp_path):
    expected = [weight + 1 for weight in model.model.get_weights()]
    before = model.model.get_weights()
    model.model.set_weights(expected)
    model.dump(tmp_path / "model.keras")
    model.model.set_weights(before)
    restore_weights(model, tmp_path / "model.keras")
    for found, weight in zip(model.model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(found, weight)
