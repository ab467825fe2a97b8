from __future__ import annotations

import json
import logging
import os
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from toy import ToyInterface

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import Dictionary_interface, NIFTI_interface
from miscnn_tf.errors import DataError, MissingDataError, StorageError
from miscnn_tf.evaluation.detailed_validation import detailed_validation
from miscnn_tf.runs.earlier_files import remove_predictions
from miscnn_tf.runs.kept_predictions import KeptPredictions
from miscnn_tf.runs.prediction_files import load_prediction


class Model:
    """Predicts a case as its truth, once told so; its weights are a number."""

    def __init__(self, interface, weight=1.0, place="toy"):
        data_io = Data_IO(interface, place)
        self.preprocessor = SimpleNamespace(data_io=data_io, batch_size=1, patch_shape=None, subfunctions=[])
        self.model = SimpleNamespace(get_weights=lambda: [np.array([self.weight])])
        self.weight = weight
        self.classes = interface.classes
        self.predicted: list[str] = []

    def predict(self, samples, return_output):
        self.predicted += samples
        return [np.asarray(self.preprocessor.data_io.interface.load_segmentation(name)) for name in samples]


def toy_model(**arguments):
    return Model(ToyInterface(shape=(8, 9, 7), **arguments))


def test_predictions_are_kept_in_the_interfaces_format_and_used_again(tmp_path):
    model = toy_model()
    scores = detailed_validation(["case_0", "case_1"], model, tmp_path)
    assert model.predicted == ["case_0", "case_1"]
    kept = load_prediction(model.preprocessor.data_io, "case_1", tmp_path / "predictions")
    np.testing.assert_array_equal(kept, model.preprocessor.data_io.interface.load_segmentation("case_1"))
    # Interrupted, and called again with one case more.
    (tmp_path / "summary.json").unlink()
    assert detailed_validation(["case_0", "case_1", "case_2"], model, tmp_path) | scores
    assert model.predicted == ["case_0", "case_1", "case_2"]
    assert model.preprocessor.data_io.output_path == "predictions"  # the model's own is not touched


@pytest.mark.parametrize("change", ["weight", "settings"])
def test_predictions_of_others_are_thrown_away(tmp_path, change):
    model = toy_model()
    detailed_validation(["case_0", "case_1"], model, tmp_path)
    if change == "weight":
        model.weight = 2.0
    else:
        model.preprocessor.batch_size = 7
    detailed_validation(["case_0"], model, tmp_path)
    assert model.predicted == ["case_0", "case_1", "case_0"]
    assert sorted(path.name for path in (tmp_path / "predictions").iterdir()) == ["case_0.npy", "made_by.json"]


def test_a_damaged_prediction_is_made_again(tmp_path):
    model = toy_model()
    detailed_validation(["case_0"], model, tmp_path)
    (tmp_path / "predictions" / "case_0.npy").write_bytes(b"")
    detailed_validation(["case_0"], model, tmp_path)
    assert model.predicted == ["case_0", "case_0"]


def test_switched_off_nothing_is_kept_and_what_is_there_is_removed(tmp_path):
    model = toy_model()
    detailed_validation(["case_0"], model, tmp_path, save_predictions=False)
    assert not (tmp_path / "predictions").exists()
    detailed_validation(["case_0"], model, tmp_path)
    detailed_validation(["case_0"], model, tmp_path, save_predictions=False)
    assert not (tmp_path / "predictions").exists()


def test_data_in_memory_stay_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    data = {name: (rng.normal(size=(6, 6)), rng.integers(0, 2, (6, 6)).astype(np.uint8)) for name in ("a", "b")}
    model = Model(Dictionary_interface(data, three_dim=False))
    detailed_validation(["a", "b"], model, tmp_path)
    assert all(len(entry) == 2 for entry in data.values())
    kept = load_prediction(model.preprocessor.data_io, "a", tmp_path / "predictions")
    np.testing.assert_array_equal(kept, data["a"][1])
    with pytest.raises(MissingDataError):
        load_prediction(model.preprocessor.data_io, "c", tmp_path / "predictions")


class Pretends(ToyInterface):
    def save_prediction(self, sample, output_path):
        pass


class Refuses(ToyInterface):
    def save_prediction(self, sample, output_path):
        raise NotImplementedError


@pytest.mark.parametrize("cls", [Pretends, Refuses])
def test_an_interface_that_cannot_save_is_told_once_and_written_for(tmp_path, cls, caplog):
    model = Model(cls(shape=(8, 9, 7)))
    with caplog.at_level(logging.WARNING):
        detailed_validation(["case_0", "case_1"], model, tmp_path)
    assert len([one for one in caplog.records if "written as .npy" in one.message]) == 1
    detailed_validation(["case_0", "case_1"], model, tmp_path)
    assert model.predicted == ["case_0", "case_1"]


def test_somebody_elses_files_are_neither_used_nor_removed(tmp_path):
    folder = tmp_path / "predictions"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    model = toy_model()
    detailed_validation(["case_0"], model, tmp_path)
    model.weight = 2.0
    detailed_validation(["case_0"], model, tmp_path)
    remove_predictions(tmp_path)
    assert (folder / "thesis.txt").read_text() == "mine"


def test_removal_leaves_folders_and_links_of_others(tmp_path):
    model = toy_model()
    detailed_validation(["case_0"], model, tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    (tmp_path / "predictions" / "inner").mkdir()
    (tmp_path / "predictions" / "inner" / "file").write_text("x")
    (tmp_path / "predictions" / "link").symlink_to(outside)
    remove_predictions(tmp_path)
    assert sorted(path.name for path in (tmp_path / "predictions").iterdir()) == ["inner", "link"]
    assert (tmp_path / "predictions" / "inner" / "file").read_text() == "x"
    assert (outside / "kept").exists()


def test_users_files_in_predictions_survive_a_fresh_run(tmp_path):
    """Defect: train --fresh deleted everything in predictions/."""
    model = toy_model()
    detailed_validation(["case_0", "case_1"], model, tmp_path)
    folder = tmp_path / "predictions"
    corrected = np.load(folder / "case_1.npy")
    corrected[0, 0, 0] = 1 - corrected[0, 0, 0]
    np.save(folder / "case_1.npy", corrected)
    (folder / "notes.txt").write_text("mine")
    (folder / "sub").mkdir()
    (folder / "sub" / "scan.npy").write_bytes(b"mine")
    remove_predictions(tmp_path)
    assert not (folder / "case_0.npy").exists()
    assert not (folder / "made_by.json").exists()
    np.testing.assert_array_equal(np.load(folder / "case_1.npy"), corrected)
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "sub" / "scan.npy").read_bytes() == b"mine"


def test_a_prediction_corrected_by_hand_is_neither_scored_nor_lost(tmp_path, caplog):
    """A new run must not take a user's file for its own prediction, nor write over it."""
    model = toy_model()
    detailed_validation(["case_0"], model, tmp_path)
    folder = tmp_path / "predictions"
    wrong = np.zeros_like(np.load(folder / "case_0.npy"))
    np.save(folder / "case_0.npy", wrong)
    for weight in (1.0, 2.0):  # the same run that goes on, and another one
        model.weight = weight
        with caplog.at_level(logging.WARNING):
            assert detailed_validation(["case_0"], model, tmp_path)["case_0"] == [1, 1]
        np.testing.assert_array_equal(np.load(folder / "case_0.npy.kept1"), wrong)
    assert model.predicted == ["case_0"] * 3
    assert "case_0.npy was not written by this package; it was renamed to case_0.npy.kept1" in caplog.text
    truth = model.preprocessor.data_io.interface.load_segmentation("case_0")
    np.testing.assert_array_equal(np.load(folder / "case_0.npy")[..., 0], truth)


def test_a_prediction_that_was_being_saved_is_made_again_and_is_not_the_users(tmp_path):
    class Interrupted(ToyInterface):
        interrupt = True

        def save_prediction(self, sample, output_path):
            super().save_prediction(sample, output_path)
            if self.interrupt:
                raise KeyboardInterrupt

    model = Model(Interrupted(shape=(8, 9, 7)))
    with pytest.raises(KeyboardInterrupt):
        detailed_validation(["case_0"], model, tmp_path)
    model.preprocessor.data_io.interface.interrupt = False
    detailed_validation(["case_0"], model, tmp_path)
    assert model.predicted == ["case_0", "case_0"]
    assert sorted(path.name for path in (tmp_path / "predictions").iterdir()) == ["case_0.npy", "made_by.json"]


class OtherNames(ToyInterface):
    def save_prediction(self, sample, output_path):
        np.savez(f"{output_path}/{sample.index}_seg.npz", sample.pred_data)

    def load_prediction(self, index, output_path):
        return np.load(f"{output_path}/{index}_seg.npz")["arr_0"]


def test_predictions_under_names_of_the_users_own_are_used_again(tmp_path):
    model = Model(OtherNames(shape=(8, 9, 7)))
    detailed_validation(["case_0"], model, tmp_path)
    detailed_validation(["case_0"], model, tmp_path)
    assert model.predicted == ["case_0"]
    model.weight = 2.0
    detailed_validation(["case_0"], model, tmp_path)
    assert model.predicted == ["case_0", "case_0"]


def test_predictions_of_earlier_versions_are_used_again(tmp_path):
    model = toy_model()
    detailed_validation(["case_0"], model, tmp_path)
    mark = tmp_path / "predictions" / "made_by.json"
    mark.write_text(json.dumps({"made_by": json.loads(mark.read_text())["made_by"]}))
    detailed_validation(["case_0"], model, tmp_path)
    assert model.predicted == ["case_0"]


def test_a_prediction_is_noted_before_it_has_its_name(tmp_path, monkeypatch):
    """Killed in between, a file of this package must not pass for the user's."""
    data = {"a": (np.zeros((6, 6)), np.zeros((6, 6), np.uint8))}
    kept = KeptPredictions(tmp_path, Model(Dictionary_interface(data, three_dim=False)))
    seen = []
    replace = os.replace

    def watch(source, target):
        if str(target).endswith("a.npy"):
            seen.append(json.loads((tmp_path / "predictions" / "made_by.json").read_text())["files"])
        replace(source, target)

    monkeypatch.setattr("miscnn_tf._base.files.os.replace", watch)
    kept.save("a", np.ones((6, 6), np.uint8))
    assert [list(files) for files in seen] == [["a.npy"]]


def test_a_full_disk_is_an_error_not_a_warning(tmp_path):
    class Full(ToyInterface):
        def save_prediction(self, sample, output_path):
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="No space left"):
        KeptPredictions(tmp_path, Model(Full())).save("case_0", np.zeros((20, 22, 18), np.uint8))


def test_what_is_loaded_are_labels(tmp_path):
    data_io = Data_IO(ToyInterface(shape=(3, 4), classes=3), "toy")
    np.save(tmp_path / "case_0.npy", np.eye(3, dtype=np.float32)[np.array([[0, 1, 2, 1]] * 3)])
    np.testing.assert_array_equal(load_prediction(data_io, "case_0", tmp_path), [[0, 1, 2, 1]] * 3)
    np.save(tmp_path / "case_0.npy", np.full((3, 4, 1), 2.0))
    assert load_prediction(data_io, "case_0", tmp_path).dtype == np.uint8
    np.save(tmp_path / "case_0.npy", np.full((3, 4), 7))
    with pytest.raises(DataError, match="7"):
        load_prediction(data_io, "case_0", tmp_path)
    np.save(tmp_path / "case_0.npy", np.array([[None]]), allow_pickle=True)
    with pytest.raises(DataError, match="damaged"):
        load_prediction(data_io, "case_0", tmp_path)


def test_kept_predictions_of_other_values_are_made_again(tmp_path):
    def in_files(label_map):
        return Model(NIFTI_interface(classes=2, label_map=label_map), place=tmp_path / "data")

    folder = tmp_path / "data" / "a"
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), folder / "imaging.nii.gz")
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1:3] = 255
    nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / "segmentation.nii.gz")
    model = in_files({255: 1})
    assert detailed_validation(["a"], model, tmp_path / "scores")["a"] == [1, 1]
    np.testing.assert_array_equal(
        np.asarray(nib.load(tmp_path / "scores" / "predictions" / "a.nii.gz").dataobj), labels
    )
    assert json.loads((tmp_path / "scores" / "summary.json").read_text())["label_values"] == [0, 255]
    detailed_validation(["a"], again := in_files({255: 1}), tmp_path / "scores")
    assert again.predicted == []
    detailed_validation(["a"], other := in_files({255: 1, 0: 0, 7: 1}), tmp_path / "scores")
    assert other.predicted == ["a"]  # 7 is the value now
