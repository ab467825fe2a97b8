import csv
import math

import numpy as np
import pytest

from miscnn_tf.errors import DataError, MissingDataError, StorageError
from miscnn_tf.evaluation.scores import score_label_maps
from miscnn_tf.runs.score_table import (
    columns,
    is_difference,
    is_share,
    measured,
    read_scores,
    score_title,
    with_sample,
    write_scores,
)


def scored(rng, spacing=(1.0, 1.0, 2.0), index="case, \"one\"\nof 'two' ü"):
    truth, pred = rng.integers(0, 2, (2, 5, 6, 7))
    return with_sample(score_label_maps(truth, pred, 3, spacing), index)


def test_round_trip_is_exact(rng, tmp_path):
    rows = scored(rng) + scored(rng, index="b")
    write_scores(tmp_path / "new" / "scores.csv", rows)
    found = read_scores(tmp_path / "new" / "scores.csv")
    np.testing.assert_equal(found, rows)
    assert [type(row["class"]) for row in found] == [int] * 6


def test_others_read_it(rng, tmp_path):
    rows = [{"fold": 3, **row} for row in scored(rng)]
    rows[1]["hd95_mm"] = math.inf
    write_scores(tmp_path / "scores.csv", rows)
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert list(table[0])[:4] == ["fold", "sample_id", "class", "dice"]
    assert table[0]["sample_id"] == rows[0]["sample_id"]
    assert table[0]["hd95_mm"] == ""  # of the background it is not measured
    assert (table[1]["hd95_mm"], table[2]["hd95_mm"]) == ("inf", "nan")
    assert float(table[1]["dice"]) == rows[1]["dice"]


def test_units_are_kept_apart_when_cases_differ(rng, tmp_path):
    rows = scored(rng, index="a") + scored(rng, None, index="b")
    names = columns(rows)
    assert "hd95_mm" in names
    assert "hd95_voxels" in names
    write_scores(tmp_path / "scores.csv", rows)
    found = read_scores(tmp_path / "scores.csv")
    assert ["hd95_mm" in row for row in found] == [False, True, True, False, False, False]
    assert ["hd95_voxels" in row for row in found] == [False, False, False, False, True, True]


def test_an_earlier_table_stays_whole_when_writing_fails(rng, tmp_path, monkeypatch):
    write_scores(tmp_path / "scores.csv", scored(rng))
    before = (tmp_path / "scores.csv").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("csv.DictWriter.writerows", full)
    with pytest.raises(StorageError, match=r"scores\.csv.*No space"):
        write_scores(tmp_path / "scores.csv", scored(rng))
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]
    assert (tmp_path / "scores.csv").read_bytes() == before


@pytest.mark.parametrize(
    "text", ["sample_id,dice\na,1\n", "sample_id,class,dice\na,x,1\n", "sample_id,class,dice\na,1\n", "class\n1\n"]
)
def test_a_damaged_table_is_named(tmp_path, text):
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(DataError, match=r"scores\.csv is not a table"):
        read_scores(tmp_path / "scores.csv")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(MissingDataError, match="detailed_validation"):
        read_scores(tmp_path / "scores.csv")


@pytest.mark.parametrize(
    ("column", "title"),
    [
        ("dice", "Dice"),
        ("hd95_voxels", "HD95 (voxels)"),
        ("nsd_2.5mm", "surface Dice at 2.5 mm"),
        ("nsd_1pixels", "surface Dice at 1 pixel"),
        ("nsd_2pixels", "surface Dice at 2 pixels"),
        ("area_difference_mm2", "area difference (mm²)"),
        ("volume_truth_ml", "volume, truth (ml)"),
        ("something", "something"),
    ],
)
def test_titles(column, title):
    assert score_title(column) == title


def test_kinds_of_scores():
    names = ["fold", "sample_id", "class", "dice", "volume_truth_ml", "volume_difference_ml", "hd95_mm", "nsd_1mm"]
    assert measured(names) == ["dice", "volume_difference_ml", "hd95_mm", "nsd_1mm"]
    assert [name for name in names if is_share(name)] == ["dice", "nsd_1mm"]
    assert [name for name in names if is_difference(name)] == ["volume_difference_ml"]
