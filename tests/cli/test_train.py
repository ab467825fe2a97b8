from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import keras
import nibabel as nib
import numpy as np
import pytest
from processes import hear_interrupts, wait_until

import miscnn_tf
from miscnn_tf.cli import main as cli
from miscnn_tf.cli.output_folder import alone_in, check_folder
from miscnn_tf.evaluation.options import ValidationOptions
from miscnn_tf.experiment.toml_file import read_experiment
from miscnn_tf.neural_network.model_file import read_metadata
from miscnn_tf.runs.names import RECORD_FILE
from miscnn_tf.runs.run_record import read_run_record
from miscnn_tf.runs.score_table import read_scores


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def copy_of(experiment: Path, folder: Path) -> Path:
    """The configuration, with the data where they are."""
    text = experiment.read_text().replace('path = "data"', f'path = "{experiment.parent / "data"}"')
    (folder / "small.toml").write_text(text)
    return folder / "small.toml"


def test_everything_is_in_the_folder(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert {"model.keras", "history.tsv", "sample_list.json", "run.json", "training.toml"} <= names
    assert {"detailed_validation.tsv", "scores.csv", "summary.json", "predictions", "report.html"} <= names
    split = json.loads((trained / "sample_list.json").read_text())
    assert len(split["TRAINING"]) == 3
    assert len(split["VALIDATION"]) == 1
    assert len(rows(trained)) == 2
    assert {row["sample_id"] for row in read_scores(trained / "scores.csv")} == set(split["VALIDATION"])
    assert (trained / "predictions" / f"{split['VALIDATION'][0]}.nii.gz").is_file()


def test_the_model_is_what_the_file_says(trained: Path) -> None:
    metadata = read_metadata(trained / "model.keras")
    assert metadata["class_names"] == ["background", "kidney", "tumour"]
    assert metadata["preprocessor"]["patch_shape"] == [8, 16, 16]
    assert metadata["preprocessor"]["patchwise_overlap"] == [4, 8, 8]
    assert metadata["preprocessor"]["data_augmentation"] is None
    assert [step["class_name"] for step in metadata["preprocessor"]["subfunctions"]] == [
        "Clipping", "Normalization", "Resampling",
    ]  # fmt: skip
    assert metadata["architecture"]["config"]["n_filters"] == 2
    assert metadata["precision"] == "float32"
    record = read_run_record(trained)
    assert (record["kind"], record["predictions"]) == ("training", "predictions")
    assert record["settings"]["epochs"] == 2


def test_the_kept_configuration_is_the_one_that_was_used(trained: Path, experiment: Path) -> None:
    assert read_experiment(trained / "training.toml") == read_experiment(experiment)


def test_a_finished_training_is_not_done_again(trained: Path, experiment: Path, monkeypatch) -> None:
    before = (trained / "model.keras").stat().st_mtime_ns

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(miscnn_tf.Neural_Network, "evaluate", fail)
    assert cli.main(["train", str(experiment)]) == 0
    assert (trained / "model.keras").stat().st_mtime_ns == before


def test_another_configuration_is_refused_and_names_the_key(
    trained: Path, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in trained.iterdir()}
    assert cli.main(["train", str(experiment), "--set", "network.epochs=3"]) == 1
    error = capsys.readouterr().err
    assert "network.epochs was 2, now 3" in error
    assert "--fresh" in error
    assert "--output" in error
    assert {path.name: path.stat().st_mtime_ns for path in trained.iterdir()} == before


def test_an_interrupted_training_goes_on(
    trained: Path, experiment: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Interrupted in its second epoch, it does that one, and no other; the numbers are those of an undisturbed one."""
    config, epochs = copy_of(experiment, tmp_path), []

    class Interrupt(keras.callbacks.Callback):
        def __init__(self, where: int | None) -> None:
            super().__init__()
            self.where = where

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            epochs.append(epoch)

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            if epochs[-1] == self.where:
                raise KeyboardInterrupt

    from miscnn_tf.cli import training_run

    monkeypatch.setattr(training_run, "make_callbacks", lambda *args: [Interrupt(1)])
    assert cli.main(["train", str(config)]) == 130
    assert "what was finished is kept" in capsys.readouterr().err
    folder = tmp_path / "small_training"
    assert not (folder / "summary.json").exists()
    monkeypatch.setattr(training_run, "make_callbacks", lambda *args: [Interrupt(None)])
    assert cli.main(["train", str(config)]) == 0
    assert epochs == [0, 1, 1]
    assert len(rows(folder)) == 2
    for one, other in zip(rows(folder), rows(trained), strict=True):
        assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=1e-4)


def test_anew_where_that_is_asked_for(trained: Path, experiment: Path, tmp_path: Path, monkeypatch) -> None:
    from miscnn_tf.cli import training_run

    folder, asked = tmp_path / "again", []
    shutil.copytree(trained, folder)

    def run(fold: object, model: object, place: Path, options: ValidationOptions, *_: object) -> None:
        asked.append((place, options.resume, options.epochs))
        raise KeyboardInterrupt

    monkeypatch.setattr(training_run, "run_split", run)
    arguments = ["train", str(experiment), "-o", str(folder), "--set", "network.epochs=1"]
    assert cli.main(arguments) == 1
    assert cli.main([*arguments, "--fresh"]) == 130
    assert asked == [(folder, False, 1)]
    assert read_experiment(folder / "training.toml").network.epochs == 1


def test_without_validation_the_last_model_is_kept(experiment: Path, tmp_path: Path) -> None:
    arguments = ["train", str(experiment), "-o", str(tmp_path / "all"), "--set", "split.validation_share=0"]
    arguments += ["--set", "network.epochs=1"]
    assert cli.main(arguments) == 0
    folder = tmp_path / "all"
    names = {path.name for path in folder.iterdir()}
    assert {"model.keras", "history.tsv", "sample_list.json", "run.json"} <= names
    assert not {"scores.csv", "summary.json", "predictions"} & names
    metadata = read_metadata(folder / "model.keras")
    assert len(metadata["trained_on"]["training"]) == 4
    assert metadata["epochs_trained"] == 1
    before = (folder / "model.keras").stat().st_mtime_ns
    assert cli.main(arguments) == 0
    assert (folder / "model.keras").stat().st_mtime_ns == before


def test_folders_with_other_things_are_left_alone(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.docx").write_text("years of work")
    assert cli.main(["train", str(experiment), "-o", str(tmp_path), "--fresh"]) == 1
    assert "holds files that no training wrote" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]
    (tmp_path / "folds").mkdir()
    (tmp_path / "folds" / "cross_validation.toml").touch()
    assert cli.main(["train", str(experiment), "-o", str(tmp_path / "folds"), "--fresh"]) == 1
    assert "holds a cross-validation" in capsys.readouterr().err


def test_bad_data_leave_nothing_behind(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(experiment.parent / "data", tmp_path / "data")
    (tmp_path / "data" / "case_00001" / "segmentation.nii.gz").unlink()
    shutil.copy(experiment, tmp_path / "small.toml")
    assert cli.main(["train", str(tmp_path / "small.toml"), "--set", "data.classes=3"]) == 1
    assert "case_00001" in capsys.readouterr().err
    assert not (tmp_path / "small_training").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX'")
def test_exit_codes_in_a_process_of_its_own(experiment: Path, tmp_path: Path) -> None:
    """A mistake is 1 without TensorFlow; Ctrl-C is 130, and the same command goes on."""
    config = copy_of(experiment, tmp_path)
    command = [sys.executable, "-m", "miscnn_tf", "train", str(config)]
    wrong = subprocess.run([*command, "--set", "network.epoch=1"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("miscnn-tf: error: ")
    assert "Did you mean 'epochs'?" in wrong.stderr
    assert "TensorFlow" not in wrong.stdout
    many = ["--set", "network.epochs=100000"]
    process = subprocess.Popen(
        [*command, *many], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
    )
    state = tmp_path / "small_training" / "training_state.npz"
    wait_until(lambda: state.is_file() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "interrupted; what was finished is kept" in error
    assert not (state.parent / RECORD_FILE).exists()
    with np.load(state, allow_pickle=False) as file:
        assert file.files


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("init", "train", "predict", "evaluate", "cross-validate"):
        assert cli.main([name, "--help"]) == 0
        shown = capsys.readouterr().out
        assert f"\n  miscnn-tf {name} " in shown
        assert "Examples:" in shown


def test_more_epochs_of_a_finished_training_lead_to_continue_from(trained: Path, experiment: Path, capsys) -> None:
    """Defect: none of the three pieces of advice helped."""
    assert cli.main(["train", str(experiment), "--set", "network.epochs=4"]) == 1
    message = capsys.readouterr().err
    assert "network.epochs was 2, now 4" in message
    assert "To train longer, start from its finished model: miscnn-tf train CONFIG" in message
    assert f"--continue-from {trained} --output NEW_FOLDER" in message


def test_continue_from_starts_from_the_weights_of_an_earlier_training(
    trained: Path, experiment: Path, tmp_path: Path, monkeypatch
) -> None:
    starts = []
    evaluate = miscnn_tf.Neural_Network.evaluate

    def noted(self, *args, **kwargs):
        starts.append(self.model.get_weights())
        return evaluate(self, *args, **kwargs)

    monkeypatch.setattr(miscnn_tf.Neural_Network, "evaluate", noted)
    command = ["train", str(experiment), "--continue-from", str(trained), "--output", str(tmp_path / "longer")]
    assert cli.main(command) == 0
    expected = miscnn_tf.load_model(trained / "model.keras").model.get_weights()
    assert len(starts) == 1
    for one, two in zip(starts[0], expected, strict=True):
        np.testing.assert_array_equal(one, two)
    assert read_experiment(tmp_path / "longer" / "training.toml").network.weights == str(trained / "model.keras")
    assert len(rows(tmp_path / "longer")) == 2
    # The same command again finds it finished.
    assert cli.main(command) == 0
    assert len(starts) == 1


def test_continue_from_a_folder_without_a_model_is_refused(experiment: Path, tmp_path: Path, capsys) -> None:
    assert cli.main(["train", str(experiment), "--continue-from", str(tmp_path)]) == 1
    message = f"--continue-from {tmp_path}: {tmp_path / 'model.keras'} does not exist; name the folder of a finished"
    assert message in capsys.readouterr().err


def test_more_epochs_of_an_interrupted_training_go_on_where_the_schedule_allows(
    experiment: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    """With a constant rate they are those of a longer training; a schedule over all epochs is finished first."""
    config = copy_of(experiment, tmp_path)
    folder = tmp_path / "small_training"

    def kill(*args, **kwargs):
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("miscnn_tf.evaluation.fold_run.backup_history", kill)
        with pytest.raises(RuntimeError, match="killed"):
            cli.main(["train", str(config)])
    assert (folder / "training_state.npz").is_file()
    longer = ["train", str(config), "--set", "network.epochs=3"]
    assert cli.main([*longer, "--set", "network.schedule=polynomial"]) == 1
    assert "network.schedule was not given" in capsys.readouterr().err
    assert cli.main(longer) == 0
    assert len(rows(folder)) == 3
    assert read_experiment(folder / "training.toml").network.epochs == 3


def test_the_optimizer_of_the_configuration_trains(experiment: Path, tmp_path: Path, capsys) -> None:
    command = ["train", str(experiment), "--output", str(tmp_path / "sgd"), "--set", "network.epochs=1"]
    optimizer = "network.optimizer={name = 'SGD', momentum = 0.9, clipnorm = 1.0}"
    assert cli.main([*command, "--set", optimizer, "--set", "network.learning_rate=0.05"]) == 0
    model = miscnn_tf.load_model(tmp_path / "sgd" / "model.keras")
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert (model.optimizer.momentum, model.optimizer.clipnorm, model.learning_rate) == (0.9, 1.0, 0.05)
    for wrong, told in (
        ("'sdg'", "[network] the optimizer 'sdg' is unknown. Did you mean 'sgd'?"),
        ("{name = 'SGD', momentun = 0.9}", "the optimizer 'sgd' cannot be created from {'momentun': 0.9"),
        ("{name = 'SGD', learning_rate = 0.9}", "move it to the key learning_rate of [network]"),
        ("{name = 'SGD', momentum = 7.0}", "the optimizer 'sgd' cannot be created from {'momentum': 7.0"),
    ):
        assert cli.main([*command[:3], str(tmp_path / "wrong"), "--set", f"network.optimizer={wrong}"]) == 1
        assert told in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX'")
def test_two_train_commands_in_one_folder(experiment: Path, tmp_path: Path, capsys) -> None:
    """Defect: both exited with 0, and one printed the scores of the other as its own."""
    config = copy_of(experiment, tmp_path)
    folder = tmp_path / "small_training"
    lock = folder / ".miscnn_tf.lock"
    command = [sys.executable, "-m", "miscnn_tf", "train", str(config)]
    many = ["--set", "network.epochs=100000"]
    first = subprocess.Popen([*command, *many], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: (lock.is_file() and lock.read_text()) or first.poll() is not None)
        for more in ([], ["--fresh"], ["--archive"], many):
            assert cli.main(["train", str(config), *more]) == 1
            error = capsys.readouterr().err
            assert f"the folder {folder} is in use by process {first.pid} on {socket.gethostname()}" in error
            assert f"delete {lock}" in error
        wait_until(lambda: (folder / "training_state.npz").is_file() or first.poll() is not None)
        assert list(tmp_path.glob("small_training_*")) == []
    finally:
        first.kill()
        first.wait()
    assert lock.exists()
    # The lock of the killed one is stale, and what it left half-written goes.
    (folder / f".{json.loads(lock.read_text())['holder']}00000.model.keras").write_text("half")
    assert cli.main(["train", str(config)]) == 1
    assert "network.epochs was 100000, now 2" in capsys.readouterr().err
    assert cli.main(["train", str(config), "--archive"]) == 0
    (archive,) = tmp_path.glob("small_training_20*")
    assert (archive / "training_state.npz").is_file()
    assert len(rows(folder)) == 2
    assert list(tmp_path.rglob(".*")) == []


def test_killed_before_its_configuration_was_kept_the_same_command_goes_on(experiment: Path, tmp_path: Path) -> None:
    """Defect: the folder then held "files that no training wrote", a temporary one of its own."""
    from dataclasses import replace

    from miscnn_tf._base.holder import this_process

    dead = replace(this_process(), process=2**22 - 1).text
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / f".{dead}00000.training.toml").write_text("half")
    (folder / ".miscnn_tf.lock").write_text(json.dumps({"host": "x", "process": 1, "since": "", "holder": dead}))
    with alone_in(folder):
        check_folder(folder, read_experiment(experiment), "training", fresh=False)
    assert list(folder.iterdir()) == []


def test_fresh_keeps_the_users_files(trained: Path, experiment: Path, tmp_path: Path) -> None:
    """Defect: --fresh deleted everything in predictions/."""
    folder = tmp_path / "again"
    shutil.copytree(trained, folder)
    (kept,) = (folder / "predictions").glob("*.nii.gz")
    corrected = nib.load(kept)
    voxels = np.asarray(corrected.dataobj).copy()
    voxels[0, 0, 0] = 2
    nib.save(nib.Nifti1Image(voxels, corrected.affine, corrected.header), kept)
    (folder / "predictions" / "notes.txt").write_text("mine")
    (folder / "predictions" / "mine").mkdir()
    (folder / "predictions" / "mine" / "a.nii.gz").write_bytes(b"mine")
    assert cli.main(["train", str(experiment), "-o", str(folder), "--fresh"]) == 0
    assert (folder / "predictions" / "notes.txt").read_text() == "mine"
    assert (folder / "predictions" / "mine" / "a.nii.gz").read_bytes() == b"mine"
    aside = kept.with_name(f"{kept.name}.kept1")
    shutil.copy(aside, tmp_path / "aside.nii.gz")
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "aside.nii.gz").dataobj), voxels)
    assert not np.array_equal(np.asarray(nib.load(kept).dataobj), voxels)
