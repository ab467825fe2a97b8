"""Each writer has a file and its folder on the disk before its name counts: the order of the calls is traced."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_series import ORIENTATIONS, make_series, random_volume, save_series
from fold_workers import network

from miscnn_tf._base.files import make_folder
from miscnn_tf._base.plain_files import write_json
from miscnn_tf.data_loading.cache.prepared_store import PreparedStore
from miscnn_tf.data_loading.cache.sample_files import SAMPLE_FILE, write_sample
from miscnn_tf.data_loading.dicom import write_rtstruct, write_seg
from miscnn_tf.data_loading.formats import image_file
from miscnn_tf.data_loading.formats.nifti_writer import write_nifti
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.evaluation import split_validation
from miscnn_tf.experiment.toml_file import write_text
from miscnn_tf.runs.score_table import write_scores
from miscnn_tf.runs.tables import backup_evaluation, backup_history
from miscnn_tf.runs.training_state_file import write_state

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")

Event = tuple[str, str, str | int]
LABELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 2


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """What is synchronised, with its size then, and what is renamed."""
    traced: list[Event] = []
    fsync, replace, rename = os.fsync, os.replace, os.rename

    def traced_fsync(descriptor: int) -> None:
        fsync(descriptor)
        traced.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor).st_size))

    def traced_name(act: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def traced_act(source: Any, target: Any) -> None:
            act(source, target)
            traced.append(("name", os.path.abspath(source), os.path.abspath(target)))

        return traced_act

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "replace", traced_name(replace))
    monkeypatch.setattr(os, "rename", traced_name(rename))
    return traced


def require_durable(events: list[Event], path: Path) -> None:
    """The file is synchronised when it is complete, then named, then its folder is synchronised."""
    named = [number for number, event in enumerate(events) if event[0] == "name" and event[2] == str(path)]
    assert named, f"{path.name} was not renamed from a temporary file"
    source = events[named[-1]][1]
    before = [event for event in events[: named[-1]] if event[:2] == ("fsync", source)]
    assert before, f"{path.name} was not synchronised before it was named"
    if path.is_file():
        assert before[-1][2] == path.stat().st_size > 0
    after = [event[1] for event in events[named[-1] :] if event[0] == "fsync"]
    assert str(path.parent) in after, f"the folder of {path.name} was not synchronised after it was named"


def sample() -> Sample:
    made = Sample("case", np.ones((4, 5, 6), np.float32), 1, 2, {"affine": np.eye(4), "large": np.ones(100)})
    made.add_segmentation(np.zeros((4, 5, 6), np.uint8))
    return made


WRITERS: dict[str, Callable[[Path], Any]] = {
    "labels.nii.gz": lambda path: write_nifti(path, LABELS, {}),
    "labels.nii": lambda path: write_nifti(path, LABELS, {}),
    "mask.png": lambda path: image_file.write_mask(path, LABELS[0]),
    "mask.tif": lambda path: image_file.write_mask(path, LABELS[0]),
    "mask.bmp": lambda path: image_file.write_mask(path, LABELS[0]),
    "run.json": lambda path: write_json(path, {"kind": "training"}),
    "experiment.toml": lambda path: write_text(path, "[data]"),
    "history.tsv": lambda path: backup_history({"loss": [1.0]}, path.parent),
    "detailed_validation.tsv": lambda path: backup_evaluation(["sample_id"], path.parent, start=True),
    "training_state.npz": lambda path: write_state(path, {"first": 0}, {"variable.0": np.ones(9)}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_power_cut_cannot_leave_a_name_without_its_content(tmp_path: Path, events: list[Event], name: str) -> None:
    path = tmp_path / "new" / name
    WRITERS[name](path)
    require_durable(events, path)
    # The new folder itself must not be lost either.
    assert ("fsync", str(tmp_path)) in [event[:2] for event in events]
    events.clear()
    WRITERS[name](path)  # in the place of the old one
    require_durable(events, path)


def test_scores_csv_is_durable(tmp_path: Path, events: list[Event]) -> None:
    write_scores(tmp_path / "scores.csv", [{"sample_id": "a", "class": 1, "dice": 0.5, "iou": 0.25}])
    require_durable(events, tmp_path / "scores.csv")


@pytest.mark.parametrize("write", [write_seg, write_rtstruct])
def test_dicom_is_durable(tmp_path: Path, events: list[Event], rng: np.random.Generator, write: Any) -> None:
    save_series(tmp_path / "ct", make_series(random_volume(rng, (4, 8, 9)), ORIENTATIONS["axial"]))
    labels = np.zeros((4, 8, 9), np.uint8)
    labels[1:3, 2:6, 2:6] = 1
    write(tmp_path / "out" / "labels.dcm", labels, tmp_path / "ct", {1: "Heart"})
    require_durable(events, tmp_path / "out" / "labels.dcm")


def test_the_model_the_best_model_and_the_state_of_a_training_are_durable(tmp_path: Path, events: list[Event]) -> None:
    model = network(tmp_path)
    model.dump(tmp_path / "out" / "model.keras")
    require_durable(events, tmp_path / "out" / "model.keras")
    events.clear()
    samples = model.preprocessor.data_io.get_indiceslist()
    split_validation(samples, model, 0.5, 1, 1, tmp_path / "run", run_detailed_evaluation=True, draw_figures=True)
    written = {path for path in (tmp_path / "run").rglob("*") if path.is_file() and path.parent.name != "predictions"}
    assert {"model.keras", "completed.json", "report.html", "scores.png", "validation.loss.png"} <= {
        path.name for path in written
    }
    for path in written:
        require_durable(events, path)
    assert [Path(event[2]).name for event in events if event[0] == "name"].count("training_state.npz") == 1


def test_a_prepared_sample_is_durable_in_each_of_its_files(tmp_path: Path, events: list[Event]) -> None:
    folder = write_sample(tmp_path / "case.key", sample())
    require_durable(events, folder)
    (name,) = [event for event in events if event[0] == "name"]
    before = {event[1]: event[2] for event in events[: events.index(name)] if event[0] == "fsync"}
    files = {f"{name[1]}/{path.name}": path.stat().st_size for path in folder.iterdir()}
    assert SAMPLE_FILE in {path.name for path in folder.iterdir()}
    assert len(files) == 4
    assert files.items() <= before.items()


def test_what_no_later_process_reads_is_not_synchronised(tmp_path: Path, events: list[Event]) -> None:
    with PreparedStore(tmp_path / "spill", 0, persistent=False) as store:
        store.get("key", "case", sample)
    assert [event for event in events if event[0] == "fsync" and "image.npy" in event[1]] == []
    with PreparedStore(tmp_path / "prepared", 0, persistent=True) as store:
        store.get("key", "case", sample)
    assert [event for event in events if event[0] == "fsync" and "image.npy" in event[1]] != []


def test_new_parents_are_durable(tmp_path: Path, events: list[Event]) -> None:
    make_folder(tmp_path / "a" / "b")
    assert {event[1] for event in events} == {str(tmp_path), str(tmp_path / "a")}


def test_every_writer_of_the_package_names_its_files_in_one_place() -> None:
    """A rename anywhere else would not be synchronised."""
    package = Path(image_file.__file__).parents[2]
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for word in ("os.replace", "os.rename", ".rename(", "shutil.move", "os.link")
        if word in path.read_text()
    }
    # Removal gives a prepared sample a temporary name; a user's file is set aside, with nothing written.
    assert found == {
        "_base/files.py", "data_loading/cache/sample_files.py", "runs/kept_predictions.py",
    }  # fmt: skip
