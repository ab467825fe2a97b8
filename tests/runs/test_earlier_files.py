"""What cleanup takes for ours. Made by the package itself, and beside it whatever else people have in such folders."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure
from small_data import files_below, write_cases, write_volume

from miscnn_tf._base.holder import this_process
from miscnn_tf.cli.cleanup_run import find_evaluation
from miscnn_tf.data_loading.cache.prepared_store import PreparedStore
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import Image_interface, NIFTI_interface
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.evaluation.curves import plot_validation
from miscnn_tf.evaluation.scores import score_label_maps
from miscnn_tf.evaluation.summary import write_results, write_summary
from miscnn_tf.experiment.toml_file import check_experiment, keep_configuration
from miscnn_tf.pictures.overlay import draw_case
from miscnn_tf.runs import earlier_files as cleanup
from miscnn_tf.runs.earlier_files import Traces, find_batches, find_predictions, remove
from miscnn_tf.runs.fold import Fold, FoldRecord, write_fold2disk
from miscnn_tf.runs.folder_lock import locked_folder
from miscnn_tf.runs.names import KEPT_CONFIGURATIONS
from miscnn_tf.runs.score_table import with_sample
from miscnn_tf.runs.tables import backup_evaluation, backup_history
from miscnn_tf.runs.training_progress import TrainingProgress

HISTORY = {"loss": [0.9, 0.5], "val_loss": [0.8, 0.6], "dice_soft": [0.1, 0.2], "val_dice_soft": [0.1, 0.3]}


def ours(found: Traces | None) -> set[str]:
    assert found is not None
    return {trace.path.relative_to(found.folder).as_posix() for trace in found.ours}


def left(found: Traces | None) -> set[str]:
    assert found is not None
    return {path.relative_to(found.folder).as_posix() for path, _ in found.left}


def write_model(path: Path, member: str = "miscnn_tf.json") -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", "{}")
        file.writestr(member, "{}")
    return path


def write_fold(folder: Path) -> Path:
    """All that a finished fold leaves behind."""
    folder.mkdir(parents=True)
    TrainingProgress(2, 2, 1.5, None, "All 2 epochs are trained.", "2026-12-01T03:12:55+00:00").write(folder)
    fold = Fold(("case_0",), ("case_1",))
    write_fold2disk(folder / "sample_list.json", fold.training, fold.validation)
    backup_history(HISTORY, folder)
    backup_evaluation(["sample_id", "dice_class-0", "dice_class-1"], folder, start=True)
    backup_evaluation(["case_1", 0.9, 0.8], folder)
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1:3] = 1
    write_results(folder, with_sample(score_label_maps(labels, labels, 2), "case_1"), draw_figures=True)
    plot_validation(HISTORY, ["dice_soft"], folder)
    write_model(folder / "model.keras")
    FoldRecord(fold, {"epochs": 2}, HISTORY, detailed=True).write(folder)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-validation, made once: figures and confidence intervals take a while."""
    root = tmp_path_factory.mktemp("finished") / "evaluation"
    write_fold(root / "fold_0")
    shutil.copytree(root / "fold_0", root / "fold_1")
    write_summary(root, draw_figures=True)
    return root


@pytest.fixture
def evaluation(tmp_path: Path, finished: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "evaluation")


@pytest.fixture
def data_io(tmp_path: Path) -> Data_IO:
    write_cases(tmp_path / "data", 2)
    return Data_IO(
        NIFTI_interface(classes=3), tmp_path / "data", tmp_path / "predictions", batch_path=tmp_path / "batches"
    )


def predict(data_io: Data_IO, index: str) -> None:
    sample = data_io.sample_loader(index)
    assert sample.seg_data is not None
    sample.add_prediction(sample.seg_data)
    data_io.save_prediction(sample)


def fill_batches(data_io: Data_IO) -> None:
    data_io.backup_batches(np.zeros((2, 4, 4, 4, 1)), np.zeros((2, 4, 4, 4, 3)), 0)
    data_io.backup_sample(data_io.sample_loader("case_0"))
    store = PreparedStore(Path(data_io.batch_path) / "prepared", 0, persistent=True)
    store.get("key", "case_1", lambda: data_io.sample_loader("case_1"))


# ---------------------------------------------------------------- all of ours goes


def test_batches_and_prepared_samples_go(data_io: Data_IO) -> None:
    fill_batches(data_io)
    folder = Path(data_io.batch_path)
    expected = files_below(folder)
    assert len(expected) >= 2 + 3 + 3
    found = find_batches(folder)
    assert ours(found) == expected
    assert left(found) == set()
    assert found is not None
    assert remove(found) == (len(expected), [])
    assert not folder.exists()


def test_what_a_store_spilled_and_killed_programs_left_goes(tmp_path: Path, data_io: Data_IO) -> None:
    folder = tmp_path / "batches"
    store = PreparedStore(folder / f"{data_io.seed}.prepared", 0, persistent=False)
    store.get("key", "case_0", lambda: data_io.sample_loader("case_0"))
    dead = folder / "prepared" / f".{'a' * 32}.unfinished"
    dead.mkdir(parents=True)
    np.save(dead / "image.npy", np.zeros(3))
    fresh = folder / "prepared" / f".{'b' * 32}.unfinished"
    shutil.copytree(dead, fresh)
    batch = folder / f".{'c' * 32}.{data_io.seed}.batch_img.0.npz"
    batch.write_bytes(b"half")
    yesterday = time.time() - 2 * 24 * 3600
    for path in (dead, batch):
        os.utime(path, (yesterday, yesterday))
    found = find_batches(folder)
    assert left(found) == {f"prepared/.{'b' * 32}.unfinished"}
    assert ours(found) == files_below(folder) - {f"prepared/.{'b' * 32}.unfinished/image.npy"}


def test_an_evaluation_goes(evaluation: Path) -> None:
    expected = files_below(evaluation)
    assert {"fold_0/validation.dice_soft.png", "scores.csv", "summary.json", "scores.png"} <= expected
    found = find_evaluation(evaluation)
    assert ours(found) == expected
    assert left(found) == set()
    assert found is not None
    # The record goes first: half a fold must not pass for a finished one.
    of_fold = [trace.path.name for trace in found.ours if trace.path.parent.name == "fold_0"]
    assert of_fold[0] == "completed.json"
    assert remove(found) == (len(expected), [])
    assert not evaluation.exists()


def test_a_single_fold_may_be_named(evaluation: Path) -> None:
    found = find_evaluation(evaluation / "fold_1")
    assert ours(found) == files_below(evaluation / "fold_1")


def test_an_interrupted_training_goes(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation" / "fold_0"
    folder.mkdir(parents=True)
    write_fold2disk(folder / "sample_list.json", ["a"], ["b"])
    np.savez(folder / "training_state.npz", description=np.zeros(3, np.uint8))
    write_model(folder / "best.unsaved.keras")
    assert ours(find_evaluation(tmp_path / "evaluation")) == files_below(tmp_path / "evaluation")


def test_predictions_and_maps_with_their_pictures_go(tmp_path: Path, data_io: Data_IO) -> None:
    from miscnn_tf.data_loading.formats.nifti_writer import write_map

    for index in ("case_0", "case_1"):
        predict(data_io, index)
    folder = tmp_path / "predictions"
    sample = data_io.sample_loader("case_0")
    write_map(folder / "gradcam" / "case_0.gradcam.class-1", np.zeros((12, 10, 6)), sample)
    Figure(figsize=(1, 1)).savefig(folder / "gradcam" / "case_0.gradcam.class-1.png")
    found = find_predictions(folder)
    assert ours(found) == files_below(folder)
    assert found is not None
    assert remove(found)[0] == 4
    assert not folder.exists()


def test_masks_as_png_go(tmp_path: Path) -> None:
    interface = Image_interface()
    sample = Sample("cell", np.zeros((5, 5)), 1, 2, three_dim=False)
    sample.add_prediction(np.ones((5, 5), np.uint8))
    interface.save_prediction(sample, tmp_path / "predictions")
    assert ours(find_predictions(tmp_path / "predictions")) == {"cell.png"}


def test_predictions_of_a_fold_go_with_it(evaluation: Path, data_io: Data_IO) -> None:
    data_io.output_path = evaluation / "fold_0" / "predictions"
    predict(data_io, "case_0")
    mine = write_volume(evaluation / "fold_0" / "predictions" / "mine.nii.gz", np.zeros((3, 3, 3), np.uint8))
    found = find_evaluation(evaluation)
    assert "fold_0/predictions/case_0.nii.gz" in ours(found)
    assert left(found) == {"fold_0/predictions/mine.nii.gz"}
    assert found is not None
    remove(found)
    assert files_below(evaluation) == {"fold_0/predictions/mine.nii.gz"}
    assert mine.is_file()


def test_a_run_record_and_a_report_go(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    record = {"kind": "training", "written": "…", "versions": {"miscnn_tf": "0"}, "data": None, "settings": {}}
    (folder / "run.json").write_text(json.dumps(record))
    head = '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    (folder / "report.html").write_text(head + '<meta name="generator" content="miscnn_tf">')
    assert ours(find_evaluation(folder)) == {"run.json", "report.html"}
    (folder / "report.html").write_text(head + "<title>miscnn_tf</title>")
    assert ours(find_evaluation(folder)) == {"run.json"}


@pytest.mark.parametrize("kind", ["training", "cross-validation"])
def test_the_configuration_of_a_run_goes_with_it_unless_it_was_changed(tmp_path: Path, kind: str) -> None:
    tables = {"data": {"path": str(tmp_path)}, "preprocessing": {"patch_shape": [8, 8, 8], "cache_bytes": "1GB"}}
    keep_configuration(check_experiment(tables, "test"), tmp_path, kind)
    name = KEPT_CONFIGURATIONS[kind]
    assert left(find_evaluation(tmp_path)) == {name}  # it alone is no run
    record = {"kind": kind, "written": "…", "versions": {"miscnn_tf": "0"}, "data": None, "settings": {}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert ours(find_evaluation(tmp_path)) == {"run.json", name}
    with (tmp_path / name).open("a") as file:
        file.write("# tried with another rate, too\n")
    assert left(find_evaluation(tmp_path)) == {name}


def test_our_pages_say_that_they_are_ours(tmp_path: Path) -> None:
    import miscnn_tf.report

    base = Path(miscnn_tf.report.__file__).parent / "templates" / "base.html"
    (tmp_path / "report.html").write_text(base.read_text(encoding="utf-8"))
    assert cleanup._is_report(tmp_path / "report.html")


# ---------------------------------------------------------------- all else stays


def test_a_users_files_in_the_evaluation_stay(evaluation: Path) -> None:
    theirs = {
        "notes.txt": b"mine",
        "fold_0/figure_for_paper.png": b"mine",
        "fold_0/model.h5": b"mine",
        "fold_0/fold_1/thesis.tex": b"mine",
        "fold_x/model.keras": b"mine",
        "previous/fold_0/completed.json": b"{}",
        "fold_1/validation.notes.png": b"mine",
    }
    for name, content in theirs.items():
        (evaluation / name).parent.mkdir(parents=True, exist_ok=True)
        (evaluation / name).write_bytes(content)
    # Files with the right name and other content.
    (evaluation / "fold_1" / "history.tsv").write_text("week\tweight\n1\t70\n")
    write_model(evaluation / "fold_1" / "model.keras", "other.json")
    (evaluation / "summary.json").write_text(json.dumps({"cases": 1, "classes": {}, "settings": {"versions": {}}}))
    stay = {*theirs, "fold_1/history.tsv", "fold_1/model.keras", "summary.json"}
    # Without a summary of ours nothing says that the tables beside it are; without a history not which curves.
    stay |= {"scores.csv", "scores.png", "fold_1/validation.loss.png", "fold_1/validation.dice_soft.png"}
    found = find_evaluation(evaluation)
    assert found is not None
    remove(found)
    assert files_below(evaluation) == stay
    for name, content in theirs.items():
        assert (evaluation / name).read_bytes() == content


def test_tables_alone_are_no_run(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    backup_history(HISTORY, folder)
    write_model(folder / "model.keras")
    assert ours(find_evaluation(folder)) == set()
    assert left(find_evaluation(folder)) == {"history.tsv", "model.keras"}


def test_links_are_not_followed(tmp_path: Path, evaluation: Path, data_io: Data_IO) -> None:
    fill_batches(data_io)
    predict(data_io, "case_0")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(evaluation / "fold_0", elsewhere / "fold_7")
    shutil.copytree(tmp_path / "predictions", elsewhere / "predictions")
    shutil.copytree(tmp_path / "batches", elsewhere / "batches")
    before = files_below(elsewhere)
    (evaluation / "fold_7").symlink_to(elsewhere / "fold_7")
    (evaluation / "fold_0" / "model.keras").unlink()
    (evaluation / "fold_0" / "model.keras").symlink_to(elsewhere / "fold_7" / "model.keras")
    (tmp_path / "predictions" / "more").symlink_to(elsewhere / "predictions")
    (tmp_path / "predictions" / "case_9.nii.gz").symlink_to(elsewhere / "predictions" / "case_0.nii.gz")
    (tmp_path / "batches" / "prepared" / "link.key").symlink_to(elsewhere / "batches")
    inner = next(path for path in (tmp_path / "batches").iterdir() if path.name.endswith(".case_0"))
    (inner / "image.npy").unlink()
    (inner / "image.npy").symlink_to(next((elsewhere / "batches").glob("*.case_0")) / "image.npy")
    for found in (
        find_batches(tmp_path / "batches"),
        find_evaluation(evaluation),
        find_predictions(tmp_path / "predictions"),
    ):
        assert found is not None
        remove(found)
    assert files_below(elsewhere) == before
    assert files_below(evaluation) == {"fold_7", "fold_0/model.keras"}
    assert files_below(tmp_path / "predictions") == {"more", "case_9.nii.gz"}
    assert "prepared/link.key" in files_below(tmp_path / "batches")
    assert f"{inner.name}/image.npy" in files_below(tmp_path / "batches")


def test_a_folder_that_is_a_link_is_left(tmp_path: Path, evaluation: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(evaluation)
    found = find_evaluation(link)
    assert found is not None
    assert found.ours == []
    assert str(evaluation) in found.left[0][1]


def test_a_folder_called_predictions_with_other_content_stays(tmp_path: Path) -> None:
    folder = tmp_path / "predictions"
    write_volume(folder / "case_0.nii.gz", np.ones((4, 4, 4), np.uint8))
    (folder / "weather.csv").write_text("monday,rain\n")
    Figure(figsize=(1, 1)).savefig(folder / "case_0.png")
    np.save(folder / "case_1.npy", np.zeros(3))
    (folder / "made_by.json").write_text('{"made_by": "me", "when": "today"}')
    (folder / "empty").mkdir()
    before = files_below(folder)
    found = find_predictions(folder)
    assert found is not None
    assert found.ours == []
    assert remove(found) == (0, [])
    assert files_below(folder) == before
    assert (folder / "empty").is_dir()


def test_a_corrected_prediction_stays(tmp_path: Path, data_io: Data_IO) -> None:
    predict(data_io, "case_0")
    predict(data_io, "case_1")
    path = tmp_path / "predictions" / "case_0.nii.gz"
    image = nib.load(path)
    labels = np.asarray(image.dataobj).copy()
    labels[0, 0, 0] = 2
    nib.save(nib.Nifti1Image(labels, image.affine, image.header), path)
    found = find_predictions(tmp_path / "predictions")
    assert ours(found) == {"case_1.nii.gz"}
    assert left(found) == {"case_0.nii.gz"}


def test_other_files_among_the_batches_stay(tmp_path: Path, data_io: Data_IO) -> None:
    fill_batches(data_io)
    folder = tmp_path / "batches"
    expected = files_below(folder)
    np.savez(folder / "12.batch_img.0.npz", mine=np.zeros(3))
    np.savez(folder / "batch_img.0.npz", batch=np.zeros(3))
    (folder / "12.batch_seg.0.npz").write_bytes(b"no zip")
    (folder / "12.experiment").mkdir()
    (folder / "12.experiment" / "image.npy").write_bytes(b"mine")
    (folder / "12.prepared").mkdir()
    (folder / "12.prepared" / "notes.txt").write_text("mine")
    sample = next(path for path in folder.iterdir() if path.name.endswith(".case_0"))
    (sample / "mine.txt").write_text("mine")
    found = find_batches(folder)
    assert ours(found) == {name for name in expected if not name.startswith(sample.name)}
    assert {sample.name, "12.experiment", "12.prepared/notes.txt", "batch_img.0.npz"} <= left(found)


def test_what_changes_between_looking_and_removing_stays(tmp_path: Path, evaluation: Path) -> None:
    found = find_evaluation(evaluation)
    assert found is not None
    (evaluation / "fold_0" / "model.keras").write_bytes(b"somebody trains anew")
    moved = tmp_path / "moved"
    (evaluation / "fold_1").rename(moved)
    (evaluation / "fold_1").symlink_to(moved)
    removed, failed = remove(found)
    assert {path.relative_to(evaluation).parts[0] for path, _ in failed} == {"fold_0", "fold_1"}
    assert (evaluation / "fold_0" / "model.keras").read_bytes() == b"somebody trains anew"
    assert len(files_below(moved)) == 11
    assert removed == len(found.ours) - len(failed)


def test_damaged_files_are_no_obstacle(evaluation: Path) -> None:
    for path in (evaluation / "fold_0").iterdir():
        path.write_bytes(b"\xff\xfe\x00")
    assert ours(find_evaluation(evaluation)) == files_below(evaluation) - {
        f"fold_0/{path.name}" for path in (evaluation / "fold_0").iterdir()
    }


def test_no_folder_is_none(tmp_path: Path) -> None:
    assert find_batches(tmp_path / "batches") is None
    (tmp_path / "batches").write_text("a file")
    assert find_batches(tmp_path / "batches") is None


def test_a_folder_in_use_is_left_alone_and_a_stale_lock_goes(evaluation: Path) -> None:
    before = files_below(evaluation)
    with locked_folder(evaluation):
        found = find_evaluation(evaluation)
        assert ours(found) == set()
        assert found is not None
        assert [(path, reason.partition(" process")[0]) for path, reason in found.left] == [(evaluation, "in use by")]
    dead = replace(this_process(), process=2**22 - 1)
    (evaluation / ".miscnn_tf.lock").write_text(json.dumps({"host": "x", "process": 1, "holder": dead.text}))
    (evaluation / f".{dead.text}00000.scores.csv").write_text("half")
    found = find_evaluation(evaluation)
    assert ours(found) == before | {".miscnn_tf.lock", f".{dead.text}00000.scores.csv"}


def test_kept_predictions_without_room_for_a_mark_go_unless_they_were_changed(tmp_path: Path) -> None:
    folder = tmp_path / "predictions"
    folder.mkdir()
    for name in ("a.npy", "b.npy", "c.npy"):
        np.save(folder / name, np.zeros(3))
    digest = hashlib.blake2b((folder / "a.npy").read_bytes(), digest_size=16).hexdigest()
    np.save(folder / "b.npy", np.ones(3))
    mark = {"made_by": "x", "files": {"a.npy": digest, "b.npy": digest}, "others": []}
    (folder / "made_by.json").write_text(json.dumps(mark))
    (folder / "predictions.json").write_text(json.dumps({"made_by": "somebody else"}))
    found = find_predictions(folder)
    assert ours(found) == {"a.npy", "made_by.json"}
    assert left(found) == {"b.npy", "c.npy", "predictions.json"}


def test_pictures_of_predictions_are_removed_and_others_stay(tmp_path):
    """Defect: overlays/ was left behind."""
    image = np.random.default_rng(0).normal(size=(8, 9)).astype(np.float32)
    for name in ("overlays", "mine"):
        draw_case(image, None, (image > 0).astype(np.uint8), tmp_path / name / "a.png")
    (tmp_path / "overlays" / "photo.png").write_bytes(b"\x89PNG of a camera")
    found = find_predictions(tmp_path)
    assert ours(found) == {"overlays/a.png"}
    assert left(found) == {"overlays/photo.png", "mine/a.png"}
