"""Cross-validation of a real, tiny network: what the model without a network cannot show."""

import csv
import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
from fold_workers import weights

import miscnn_tf
from miscnn_tf.data_loading.interfaces.dictionary_io import Dictionary_interface
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.evaluation import cross_validation, split_validation
from miscnn_tf.evaluation.cross_validation import run_fold, split_folds
from miscnn_tf.neural_network.architecture.unet.plain import Architecture
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
    architecture = Architecture(feature_maps=(4,), instance_normalization=False)
    network = miscnn_tf.Neural_Network(preprocessor, architecture, learning_rate=0.01, seed=1, precision="float32")
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
        np.testing.assert_array_equal(np.load(folder / "predictions" / f"{name}.npy"), predicted)
    # The data are in memory only, and still there is a page with each case.
    page = (tmp_path / "report.html").read_text()
    assert all(f'id="case-{number}"' in page for number in range(4))
    assert page.count("data:image/webp") == 4
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


class Interrupt(keras.callbacks.Callback):
    """Ends a training in the middle of its n-th epoch of all."""

    def __init__(self, number):
        super().__init__()
        self.number = number
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        if len(self.epochs) == self.number:
            raise KeyboardInterrupt


class Watch(keras.callbacks.Callback):
    """Reads the files of a run as they are at the end of each epoch's first step."""

    def __init__(self, root):
        super().__init__()
        self.root = root
        self.lines, self.pages = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.lines.append([len(path.read_text().splitlines()) for path in sorted(self.root.glob("fold_*/history.tsv"))])

    def on_train_batch_end(self, batch, logs=None):
        if not batch:
            self.pages.append((self.root / "report.html").read_text(encoding="utf-8"))


def test_history_and_report_show_a_cross_validation_while_it_runs(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("miscnn_tf.runs.epoch_log._PAUSE", 0.0)
    monkeypatch.setattr("miscnn_tf.runs.epoch_log._LARGEST_SHARE", 1e9)
    model.verbose = 2
    samples = model.preprocessor.data_io.get_indiceslist()
    watch = Watch(tmp_path)
    stop = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=1e9)  # nothing is an improvement
    cross_validation(samples, model, 2, 5, 2, tmp_path, callbacks=[watch, stop])
    # A header and a line for each epoch, fold by fold.
    assert watch.lines == [[], [2], [3], [3, 2]]
    assert "Fold 0 (1 of 2), 0 of 5 epochs" in watch.pages[0]
    assert "Fold 0 (1 of 2), 1 of 5 epochs" in watch.pages[1]
    assert "Fold 1 (2 of 2), 1 of 5 epochs" in watch.pages[3]
    for page in watch.pages:
        assert 'http-equiv="refresh"' in page
    for page in watch.pages[2:]:
        assert "Fold 0: loss did not improve for 1 epoch (early stopping)." in page
    last = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' not in last
    assert "Fold 1: loss did not improve for 1 epoch (early stopping)." in last
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if line.startswith("Fold")] == [
        "Fold 1/2 - Epoch 1/5", "Fold 1/2 - Epoch 2/5", "Fold 2/2 - Epoch 1/5", "Fold 2/2 - Epoch 2/5",
    ]  # fmt: skip


def test_an_interruption_is_on_the_page_and_the_rest_of_the_history_follows(model, tmp_path):
    samples = model.preprocessor.data_io.get_indiceslist()
    with pytest.raises(KeyboardInterrupt):
        split_validation(samples, model, epochs=4, iterations=2, evaluation_path=tmp_path, callbacks=[Interrupt(3)])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Interrupted in epoch 3; the same call continues it." in page
    assert 'http-equiv="refresh"' not in page
    before = (tmp_path / "history.tsv").read_text()
    assert len(before.splitlines()) == 3
    split_validation(samples, model, epochs=4, iterations=2, evaluation_path=tmp_path)
    assert (tmp_path / "history.tsv").read_text().startswith(before)
    assert len((tmp_path / "history.tsv").read_text().splitlines()) == 5
    assert "All 4 epochs are trained." in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_interrupted_fold_goes_on_with_its_epoch(model, tmp_path):
    samples = model.preprocessor.data_io.get_indiceslist()
    arguments = {"k_fold": 2, "epochs": 3, "iterations": 2, "return_output": True}
    whole = cross_validation(samples, model, evaluation_path=tmp_path / "whole", **arguments)
    # In the third epoch of the second fold.
    with pytest.raises(KeyboardInterrupt):
        cross_validation(samples, model, evaluation_path=tmp_path, callbacks=[Interrupt(6)], **arguments)
    assert (tmp_path / "fold_1" / "training_state.npz").is_file()
    assert not (tmp_path / "fold_0" / "training_state.npz").exists()
    with pytest.raises(ConfigurationError, match="epochs"):
        cross_validation(samples, model, evaluation_path=tmp_path, **{**arguments, "k_fold": 2, "epochs": 4})
    rest = Interrupt(0)
    histories = cross_validation(samples, model, evaluation_path=tmp_path, callbacks=[rest], **arguments)
    assert rest.epochs == [2]
    for history, expected in zip(histories, whole, strict=True):
        for name in set(expected) - {"data_wait"}:
            assert history[name] == pytest.approx(expected[name], rel=1e-3)
    for folder in ("fold_0", "fold_1"):
        files = {path.name for path in (tmp_path / folder).iterdir()}
        assert files == {path.name for path in (tmp_path / "whole" / folder).iterdir()}
        assert "training_state.npz" not in files


@pytest.mark.slow
def test_interrupted_fold_of_another_split_is_told(model, tmp_path):
    samples = model.preprocessor.data_io.get_indiceslist()
    with pytest.raises(KeyboardInterrupt):
        cross_validation(samples, model, 2, 2, 1, tmp_path, callbacks=[Interrupt(2)])
    split = (tmp_path / "fold_0" / "sample_list.json").read_text()
    with pytest.raises(ConfigurationError, match=r"fold_0.*other samples.*resume=False"):
        cross_validation(samples, model, 2, 2, 1, tmp_path, seed=1)
    assert (tmp_path / "fold_0" / "sample_list.json").read_text() == split
    again = Interrupt(0)
    cross_validation(samples, model, 2, 2, 1, tmp_path, seed=1, resume=False, callbacks=[again])
    assert again.epochs == [0, 1, 0, 1]


def test_nothing_is_kept_of_epochs_when_not_asked_for(model, tmp_path):
    samples = model.preprocessor.data_io.get_indiceslist()
    with pytest.raises(KeyboardInterrupt):
        cross_validation(samples, model, 2, 2, 1, tmp_path, callbacks=[Interrupt(2)], backup_every=0)
    assert not list(tmp_path.rglob("training_state.npz"))


KILLED = """
    import os, pathlib, signal, sys
    sys.path.insert(0, sys.argv[1])
    import keras
    from fold_workers import network
    from miscnn_tf.evaluation import cross_validation

    folder, kill = pathlib.Path(sys.argv[2]), int(sys.argv[3])
    seen = []

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(epoch)

        def on_train_batch_end(self, batch, logs=None):
            if len(seen) == kill:
                os.kill(os.getpid(), signal.SIGKILL)

    model = network(folder / "samples", deterministic=True)
    samples = model.preprocessor.data_io.get_indiceslist()
    cross_validation(samples, model, 2, 4, evaluation_path=folder, callbacks=[Kill()], run_detailed_evaluation=True)
    (folder / "epochs.json").write_text(str(seen))
"""


def run(folder, kill):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(Path(__file__).parents[1]), str(folder), str(kill)]
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == (-signal.SIGKILL if kill else 0), done.stderr.decode()[-3000:]


@pytest.mark.slow
def test_killed_cross_validation_equals_an_uninterrupted_one_to_the_last_bit(tmp_path):
    run(tmp_path / "whole", 0)
    run(tmp_path / "killed", 7)  # in the third epoch of the second fold
    run(tmp_path / "killed", 0)
    assert json.loads((tmp_path / "killed" / "epochs.json").read_text()) == [2, 3]
    for number in range(2):
        whole, killed = (tmp_path / name / f"fold_{number}" for name in ("whole", "killed"))
        assert {path.name for path in whole.iterdir()} == {path.name for path in killed.iterdir()}
        table = (whole / "detailed_validation.tsv").read_bytes()
        assert (killed / "detailed_validation.tsv").read_bytes() == table
        histories = [json.loads((folder / "completed.json").read_text())["history"] for folder in (whole, killed)]
        for history in histories:
            del history["data_wait"]
        assert histories[0] == histories[1]
        for found, expected in zip(weights(killed / "model.keras"), weights(whole / "model.keras"), strict=True):
            np.testing.assert_array_equal(found, expected)
