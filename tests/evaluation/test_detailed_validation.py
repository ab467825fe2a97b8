import csv
import math

import numpy as np
import pytest

from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.evaluation.detailed_validation import compute_dice, detailed_validation, mean_dice


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
