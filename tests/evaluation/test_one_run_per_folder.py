"""One run at a time in a folder of results, and results of another run that are moved aside."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import keras
import pytest
from fold_workers import network

from miscnn_tf.errors import ConfigurationError, FolderInUseError
from miscnn_tf.evaluation import cross_validation, leave_one_out, split_validation
from miscnn_tf.evaluation.cross_validation import run_fold, split_folds


def names(model):
    return model.preprocessor.data_io.indices_list


def content(folder):
    """Every file below a folder, with its bytes; nothing hidden may be left."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def archives(folder):
    return sorted(folder.parent.glob(f"{folder.name}_20[0-9][0-9]-*"))


HOLDS = """
import sys
from miscnn_tf.runs.folder_lock import locked_folder
with locked_folder(sys.argv[1]):
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(folder):
    """Another process, whose id this gives, that holds the lock on a folder."""
    command = [sys.executable, "-c", HOLDS, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.stdin.close()


# ---------------------------------------------------------------- locks


@pytest.mark.parametrize("run", [cross_validation, split_validation, leave_one_out])
@pytest.mark.parametrize("resume", [True, False])
def test_a_second_run_in_one_evaluation_folder_is_refused(fake_model, tmp_path, run, resume):
    model, folder = fake_model(), tmp_path / "evaluation"
    run(names(model), model, epochs=3, evaluation_path=folder)
    before, calls = content(folder), len(model.calls)
    with held(folder) as process:
        with pytest.raises(FolderInUseError, match=rf"{folder} is in use by process {process} on "):
            run(names(model), model, epochs=4, evaluation_path=folder, resume=resume)
        assert {name: data for name, data in content(folder).items() if name != ".miscnn_tf.lock"} == before
    assert len(model.calls) == calls
    run(names(model), model, epochs=3, evaluation_path=folder)
    assert content(folder).keys() == before.keys()


@pytest.mark.parametrize("arguments", [{}, {"resume": False}, {"archive": True, "epochs": 4}])
def test_a_fold_that_another_process_trains_is_not_touched(fake_model, tmp_path, arguments):
    model = fake_model()
    cross_validation(names(model), model, 3, 3, evaluation_path=tmp_path)
    before = content(tmp_path)
    with held(tmp_path / "fold_1") as process:
        for run in (
            lambda: cross_validation(names(model), model, 3, evaluation_path=tmp_path, **{"epochs": 3, **arguments}),
            lambda: split_folds(
                names(model), 2, tmp_path, **{k: v for k, v in {"resume": False, **arguments}.items() if k != "epochs"}
            ),
            lambda: run_fold(1, model, 3, evaluation_path=tmp_path),
        ):
            with pytest.raises(FolderInUseError, match=rf"fold_1 is in use by process {process} on "):
                run()
        assert {name: data for name, data in content(tmp_path).items() if not name.endswith(".lock")} == before
    assert archives(tmp_path) == []


def test_several_processes_share_one_cross_validation_fold_by_fold(fake_model, tmp_path):
    model = fake_model()
    split_folds(names(model), 3, tmp_path)
    with held(tmp_path / "fold_1"):
        for fold in (0, 2):
            run_fold(fold, model, 3, evaluation_path=tmp_path, draw_figures=False)
    assert (tmp_path / "fold_0" / "completed.json").is_file()
    assert (tmp_path / "fold_2" / "completed.json").is_file()
    run_fold(1, model, 3, evaluation_path=tmp_path, draw_figures=False)
    assert not list(tmp_path.rglob(".*"))


def test_folds_of_an_executor_are_locked_each(tmp_path):
    model = network(tmp_path)
    with ThreadPoolExecutor(2) as executor:
        cross_validation(names(model), model, 2, 1, 1, tmp_path / "run", executor=executor)
    assert not list((tmp_path / "run").rglob(".*"))
    assert len(list((tmp_path / "run").glob("fold_*/completed.json"))) == 2


def test_an_interrupted_run_leaves_no_lock(fake_model, tmp_path):
    model = fake_model()
    model.fail_in_call = 2
    with pytest.raises(KeyboardInterrupt):
        cross_validation(names(model), model, 3, 3, evaluation_path=tmp_path)
    assert not list(tmp_path.rglob(".*"))


# ---------------------------------------------------------------- archives


@pytest.mark.parametrize("run", [cross_validation, split_validation, leave_one_out])
def test_archive_moves_the_results_of_another_run_aside(fake_model, tmp_path, run, caplog):
    model, folder = fake_model(), tmp_path / "evaluation"
    run(names(model), model, epochs=3, evaluation_path=folder)
    (folder / "notes.txt").write_text("mine")
    before, calls = content(folder), len(model.calls)
    with pytest.raises(ConfigurationError, match=r"epochs was 3, now 4.*archive=True"):
        run(names(model), model, epochs=4, evaluation_path=folder)
    assert content(folder) == before
    with caplog.at_level(logging.WARNING):
        run(names(model), model, epochs=4, evaluation_path=folder, archive=True)
    (archive,) = archives(folder)
    assert content(archive) == before
    assert f"the earlier results in {folder} were moved to {archive}" in caplog.text
    assert content(folder).keys() == before.keys() - {"notes.txt"}
    assert len(model.calls) == 2 * calls
    records = [json.loads(path.read_text()) for path in folder.rglob("completed.json")]
    assert records
    assert {record["settings"]["epochs"] for record in records} == {4}
    # The same call again neither trains nor moves anything.
    after = content(folder)
    run(names(model), model, epochs=4, evaluation_path=folder, archive=True)
    assert (content(folder).keys(), len(model.calls), archives(folder)) == (after.keys(), 2 * calls, [archive])


def test_archive_without_resume_moves_the_results_of_the_same_run_too(fake_model, tmp_path):
    folder = tmp_path / "evaluation"
    for run in (cross_validation, split_validation):
        model = fake_model()
        run(names(model), model, epochs=3, evaluation_path=folder)
        before, calls = content(folder), len(model.calls)
        run(names(model), model, epochs=3, evaluation_path=folder, archive=True, resume=False)
        assert len(model.calls) == 2 * calls
        (archive,) = archives(folder)
        assert content(archive) == before
        shutil.rmtree(folder)
        shutil.rmtree(archive)


def test_archive_for_fewer_folds(fake_model, tmp_path):
    model, folder = fake_model(), tmp_path / "evaluation"
    cross_validation(names(model), model, 5, 3, evaluation_path=folder)
    before = content(folder)
    with pytest.raises(ConfigurationError, match="archive=True"):
        split_folds(names(model), 2, folder)
    split_folds(names(model), 2, folder, archive=True)
    (archive,) = archives(folder)
    assert content(archive) == before
    assert content(folder).keys() == {"fold_0/sample_list.json", "fold_1/sample_list.json"}


def test_archive_of_one_fold(fake_model, tmp_path):
    model = fake_model()
    split_folds(names(model), 2, tmp_path)
    arguments = {"evaluation_path": tmp_path, "draw_figures": False}
    run_fold(0, model, 3, **arguments)
    before = content(tmp_path / "fold_0")
    with pytest.raises(ConfigurationError, match="archive=True"):
        run_fold(0, model, 4, **arguments)
    run_fold(0, model, 4, **arguments, archive=True)
    (archive,) = archives(tmp_path / "fold_0")
    assert content(archive) == before
    assert content(tmp_path / "fold_0").keys() == before.keys()
    run_fold(1, model, 4, **arguments)


class Stop(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)
        if epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("run", [cross_validation, pytest.param(split_validation, marks=pytest.mark.slow)])
def test_archive_lets_an_interrupted_run_go_on_and_moves_one_of_other_settings(tmp_path, run):
    model, folder = network(tmp_path), tmp_path / "evaluation"
    samples = names(model)
    arguments = {"iterations": 1, "evaluation_path": folder, "archive": True, "report": False}
    if run is cross_validation:
        arguments["k_fold"] = 2
    for stop in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            run(samples, model, epochs=3, callbacks=[callback := Stop(stop)], **arguments)
        assert archives(folder) == []
        # It goes on where it stopped.
        assert callback.epochs == [*range(stop - 1, stop + 1)]
    (state,) = folder.rglob("training_state.npz")
    before = state.read_bytes()
    run(samples, model, epochs=1, **arguments)
    (archive,) = archives(folder)
    assert (archive / state.relative_to(folder)).read_bytes() == before
    assert list(folder.rglob("completed.json"))
    assert not list(folder.rglob("training_state.npz"))


def test_a_figure_of_the_users_survives_a_fresh_run(fake_model, tmp_path):
    """Defect: every validation.*.png was deleted."""
    model = fake_model()
    arguments = {"epochs": 3, "evaluation_path": tmp_path, "draw_figures": True}
    split_validation(names(model), model, **arguments)
    assert (tmp_path / "validation.loss.png").is_file()
    (tmp_path / "validation.loss.png").rename(tmp_path / "kept.png")
    for name in ("validation.mine.png", "validation.loss.png"):
        (tmp_path / name).write_bytes(b"mine")
    split_validation(names(model), model, **{**arguments, "draw_figures": False}, resume=False)
    assert (tmp_path / "validation.mine.png").read_bytes() == b"mine"
    assert (tmp_path / "validation.loss.png").read_bytes() == b"mine"
    shutil.move(tmp_path / "kept.png", tmp_path / "validation.loss.png")
    split_validation(names(model), model, **{**arguments, "draw_figures": False}, resume=False)
    assert not (tmp_path / "validation.loss.png").exists()
    assert os.listdir(tmp_path).count("validation.mine.png") == 1


def test_a_group_is_refused_in_a_folder_in_use(tmp_path):
    from miscnn_tf.multi_model import CrossValidationGroup

    model = network(tmp_path)
    group = CrossValidationGroup(model, model.preprocessor, 2)
    arguments = {"epochs": 1, "iterations": 1, "evaluation_path": tmp_path / "run"}
    with held(Path(tmp_path / "run")) as process, pytest.raises(FolderInUseError, match=str(process)):
        group.evaluate(names(model), **arguments)
    group.evaluate(names(model), **arguments)
    with pytest.raises(ConfigurationError, match="archive=True"):
        group.evaluate(names(model), **{**arguments, "epochs": 2})
    group.evaluate(names(model), **{**arguments, "epochs": 2}, archive=True)
    assert len(archives(tmp_path / "run")) == 1
