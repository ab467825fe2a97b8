import csv
import json
import logging
import math

import numpy as np
import pytest

from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.evaluation.detailed_validation import compute_dice, detailed_validation, mean_dice
from miscnn_tf.evaluation.scores import score_label_maps
from miscnn_tf.evaluation.summary import write_summary
from miscnn_tf.runs.run_folder import read_run_folder
from miscnn_tf.runs.score_summary import read_summary
from miscnn_tf.runs.score_table import read_scores


def test_table_holds_the_dice_of_each_case(fake_model, tmp_path):
    model = fake_model(3, val_losses=(0.5, 0.1))
    model.weight = 0  # predicts background alone
    model.truth["case_001"][:] = 0
    scores = detailed_validation(["case_002", "case_001"], model, tmp_path / "new")
    with (tmp_path / "new" / "detailed_validation.tsv").open(newline="") as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    assert [row["sample_id"] for row in table] == ["case_002", "case_001"]
    assert list(scores) == ["case_002", "case_001"]
    truth = model.truth["case_002"]
    background = 2 * (truth == 0).sum() / ((truth == 0).sum() + truth.size)
    assert scores["case_002"] == pytest.approx([background, 0, 0])
    assert scores["case_001"][0] == 1
    assert all(math.isnan(score) for score in scores["case_001"][1:])
    for row in table:
        written = [float(row[f"dice_class-{number}"]) for number in range(3)]
        np.testing.assert_array_equal(written, scores[row["sample_id"]])
    # The case without foreground does not count for the foreground.
    assert mean_dice(list(scores.values()))[1:] == [0, 0]


def test_earlier_table_is_replaced(fake_model, tmp_path):
    model = fake_model(2)
    detailed_validation(["case_000"], model, tmp_path)
    detailed_validation(["case_001"], model, tmp_path)
    assert len((tmp_path / "detailed_validation.tsv").read_text().splitlines()) == 2


def test_wrong_label_names_the_sample(fake_model, tmp_path):
    model = fake_model(2)
    model.truth["case_001"][0, 0, 0] = 7
    with pytest.raises(DataError, match=r"'case_001'.*label 7"):
        detailed_validation(["case_000", "case_001"], model, tmp_path)


def test_unknown_sample_is_found_first(fake_model, tmp_path):
    model = fake_model(2)
    with pytest.raises(ConfigurationError, match="'case_005'"):
        detailed_validation(["case_000", "case_005"], model, tmp_path)
    assert not model.predicted


def test_compute_dice_is_found_here():
    assert compute_dice(np.array([0, 1]), np.array([0, 1]), 2) == [1.0, 1.0]


def add_spacing(model, spacing):
    model.preprocessor.data_io.interface.load_extended = lambda index: {"spacing": spacing}


def test_all_scores_are_written_in_millimetres(fake_model, tmp_path):
    model = fake_model(3, val_losses=(0.5, 0.1))
    model.weight = 0  # predicts background alone
    add_spacing(model, np.array([0.5, 1.0, 2.0]))
    scores = detailed_validation(["case_002", "case_001"], model, tmp_path, tolerance_mm=2.5)
    rows = read_scores(tmp_path / "scores.csv")
    assert [(row["sample_id"], row["class"]) for row in rows] == [
        (name, label) for name in ("case_002", "case_001") for label in range(3)
    ]
    truth = model.truth["case_002"]
    expected = score_label_maps(truth, np.zeros_like(truth), 3, (0.5, 1.0, 2.0), tolerance_mm=2.5)
    np.testing.assert_equal(rows[:3], [{"sample_id": "case_002", **row} for row in expected])
    assert [row["dice"] for row in rows[:3]] == scores["case_002"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["classes"]["1"]["hd95_mm"]["infinite"] == 2
    assert summary["settings"]["surface_dice_tolerance"] == [{"length": 2.5, "unit": "mm"}]
    assert not (tmp_path / "scores.png").exists()


def test_unknown_spacing_is_said_and_figures_are_drawn(fake_model, tmp_path, caplog):
    model = fake_model(2)
    model.weight = 1
    with caplog.at_level(logging.INFO):
        detailed_validation(["case_000"], model, tmp_path, draw_figures=True)
    assert "hd95_voxels" in read_scores(tmp_path / "scores.csv")[1]
    assert (tmp_path / "scores.png").is_file()
    assert "hd95_voxels" in caplog.text


def test_finished_cases_are_kept_when_interrupted(fake_model, tmp_path):
    model = fake_model(3)
    detailed_validation(["case_002"], model, tmp_path)
    model.truth["case_001"][0, 0, 0] = 7
    with pytest.raises(DataError):
        detailed_validation(["case_000", "case_001"], model, tmp_path)
    assert {row["sample_id"] for row in read_scores(tmp_path / "scores.csv")} == {"case_000"}
    # That of the earlier run would be taken for this one's.
    assert not (tmp_path / "summary.json").exists()


def test_wrong_tolerance_is_found_first(fake_model, tmp_path):
    model = fake_model(2)
    with pytest.raises(ConfigurationError, match="tolerance_mm"):
        detailed_validation(["case_000"], model, tmp_path, tolerance_mm=-1)
    assert not model.predicted


def test_details_of_a_sample_know_its_spacing_better(fake_model, tmp_path):
    model = fake_model(2)
    model.weight = 1
    add_spacing(model, (1.0, 1.0, 1.0))
    model.preprocessor.data_io.interface.load_details = lambda index: {"spacing": (10.0, 10.0, 10.0)}
    detailed_validation(["case_000"], model, tmp_path)
    row = read_scores(tmp_path / "scores.csv")[1]
    assert row["volume_truth_ml"] == (model.truth["case_000"] == 1).sum()


def test_the_spacing_is_that_of_the_subclass_that_reads_the_image(fake_model, tmp_path):
    """Not what its base class would find in a header, of a file that may not even be there."""

    class Headers:
        def load_extended(self, index):
            raise AssertionError("the subclass reads images elsewhere")

        def load_image(self, index):
            raise AssertionError("the subclass reads images elsewhere")

    class Own(Headers):
        def __init__(self, truth):
            self.truth = truth

        def load_image(self, index):
            return np.zeros(self.truth[index].shape), {"spacing": (10.0, 10.0, 10.0)}

        def load_segmentation(self, index):
            return self.truth[index]

    model = fake_model(1)
    truth = model.truth
    model.preprocessor.data_io.interface = Own(truth)
    detailed_validation(["case_000"], model, tmp_path)
    voxels = int((truth["case_000"] == 1).sum())
    assert voxels > 0
    assert read_scores(tmp_path / "scores.csv")[1]["volume_truth_ml"] == pytest.approx(voxels)


def test_spacing_that_does_not_fit_names_the_sample(fake_model, tmp_path):
    model = fake_model(2)
    model.preprocessor.data_io.interface.load_extended = lambda index: {"spacing": (1.0, 1.0)}
    with pytest.raises(ConfigurationError, match=r"case_000.*spacing"):
        detailed_validation(["case_000"], model, tmp_path)


def test_of_several_machines_the_first_one_writes(fake_model, tmp_path, become_second_worker):
    model = fake_model(3, val_losses=(0.5, 0.1))
    model.weight = 0  # predicts background alone
    samples = ["case_002", "case_001"]
    expected = detailed_validation(samples, model, tmp_path / "first")
    become_second_worker()
    assert detailed_validation(samples, model, tmp_path / "second") == expected
    assert not (tmp_path / "second").exists()


def test_the_names_of_the_interface_are_in_the_summary(fake_model, tmp_path):
    model = fake_model(2)
    model.preprocessor.data_io.interface.class_names = ("background", "kidney", "tumour")
    detailed_validation(model.preprocessor.data_io.indices_list, model, tmp_path / "fold_0")
    assert read_summary(tmp_path / "fold_0" / "summary.json")["class_names"] == ["background", "kidney", "tumour"]
    # From there they come into the summary of all folds.
    write_summary(tmp_path)
    assert read_summary(tmp_path / "summary.json")["class_names"] == ["background", "kidney", "tumour"]
    assert read_run_folder(tmp_path).name_of(2) == "tumour"
