import json
import math

import numpy as np
import pytest

from miscnn_tf.errors import DataError
from miscnn_tf.evaluation.summary import write_results, write_summary
from miscnn_tf.runs.score_summary import mean_interval, summarise, summary_table
from miscnn_tf.runs.score_table import read_scores, write_scores


def rows_of(dice, label=1, **others):
    return [
        {"sample_id": f"case_{number}", "class": label, "dice": value, **{k: v[number] for k, v in others.items()}}
        for number, value in enumerate(dice)
    ]


def test_figures_are_those_of_numpy(rng):
    dice, distance = rng.beta(8, 2, 30), rng.gamma(2, 2, 30)
    summary = summarise(rows_of(dice.tolist(), hd95_mm=distance.tolist()) + rows_of([1.0] * 30, label=0))
    assert summary["cases"] == 30
    assert "folds" not in summary
    assert list(summary["classes"]) == ["0", "1"]
    for name, values in (("dice", dice), ("hd95_mm", distance)):
        figures = summary["classes"]["1"][name]
        assert figures["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert figures["standard_deviation"] == pytest.approx(values.std(ddof=1), rel=1e-12)
        assert figures["median"] == pytest.approx(np.median(values), rel=1e-12)
        assert figures["confidence_interval"] == pytest.approx(list(mean_interval(values)))
        assert (figures["cases"], figures["undefined"], figures["infinite"]) == (30, 0, 0)
    assert "hd95_mm" not in summary["classes"]["0"]
    assert summarise(rows_of(dice.tolist()))["classes"]["1"]["dice"] == summary["classes"]["1"]["dice"]


def test_what_is_left_out_is_counted():
    """users.md: NaN on empty masks."""
    distances = [1.0, math.inf, math.nan, 3.0]
    figures = summarise(rows_of([0.5, 0.0, math.nan, 0.7], hd95_mm=distances))["classes"]["1"]
    assert (figures["hd95_mm"]["mean"], figures["hd95_mm"]["median"]) == (2.0, 2.0)
    assert [figures["hd95_mm"][name] for name in ("cases", "undefined", "infinite")] == [2, 1, 1]
    assert figures["dice"]["mean"] == pytest.approx(0.4)
    assert [figures["dice"][name] for name in ("cases", "undefined", "infinite")] == [3, 1, 0]


@pytest.mark.parametrize("values", [[math.nan], [math.nan, math.inf], [0.5]])
def test_what_cannot_be_computed_is_null_in_json(values):
    summary = summarise(rows_of(values))
    figures = json.loads(json.dumps(summary, allow_nan=False))["classes"]["1"]["dice"]
    assert figures["standard_deviation"] is None
    assert figures["confidence_interval"] is None
    assert figures["mean"] == (0.5 if values == [0.5] else None)
    assert "-" in summary_table(summary) or figures["mean"] == 0.5


def test_settings_say_how_it_was_measured():
    settings = summarise(rows_of([0.5], **{"nsd_1.5mm": [0.9]}))["settings"]
    assert settings["surface_dice_tolerance"] == [{"length": 1.5, "unit": "mm"}]
    assert "95th percentile" in settings["definitions"]["hd95"]
    assert {"miscnn_tf", "numpy", "scipy"} <= set(settings["versions"])
    interval = settings["confidence_interval"]
    assert (interval["level"], interval["seed"]) == (0.95, 0)


def folds(root, numbers, rng):
    values = {}
    for number in numbers:
        rows = rows_of(rng.random(4).tolist())
        write_scores(root / f"fold_{number}" / "scores.csv", [{**row, "sample_id": f"{number}_{i}"} for i, row in
                                                              enumerate(rows)])  # fmt: skip
        values[number] = [row["dice"] for row in rows]
    return values


def test_folds_are_gathered_in_the_order_of_their_numbers(rng, tmp_path):
    values = folds(tmp_path, [10, 0, 2], rng)
    (tmp_path / "fold_1").mkdir()  # not evaluated
    (tmp_path / "fold_x").mkdir()
    (tmp_path / "fold_x" / "scores.csv").write_text("not ours")
    path = write_summary(tmp_path)
    assert path == tmp_path / "summary.json"
    rows = read_scores(tmp_path / "scores.csv")
    assert [row["fold"] for row in rows] == [0] * 4 + [2] * 4 + [10] * 4
    assert [row["dice"] for row in rows] == values[0] + values[2] + values[10]
    summary = json.loads(path.read_text())
    assert (summary["cases"], summary["folds"]) == (12, 3)
    assert summary["classes"]["1"]["dice"]["mean"] == pytest.approx(np.mean(list(values.values())))
    assert not (tmp_path / "scores.png").exists()
    # Another fold is finished: everything is made again, and what was gathered is not gathered twice.
    folds(tmp_path, [1], rng)
    write_summary(tmp_path, draw_figures=True)
    assert json.loads(path.read_text())["cases"] == 16
    assert (tmp_path / "scores.png").is_file()


def test_without_scores_nothing_is_written(tmp_path):
    (tmp_path / "fold_0").mkdir()
    assert write_summary(tmp_path) is None
    assert write_summary(tmp_path / "missing") is None
    assert [path.name for path in tmp_path.iterdir()] == ["fold_0"]


def test_of_several_machines_the_first_one_gathers(rng, tmp_path, become_second_worker):
    folds(tmp_path, [0, 1], rng)
    become_second_worker()
    assert write_summary(tmp_path) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fold_0", "fold_1"]


def test_a_damaged_fold_is_named(rng, tmp_path):
    folds(tmp_path, [0, 1], rng)
    (tmp_path / "fold_1" / "scores.csv").write_text("damaged")
    (tmp_path / "fold_1" / "scores.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"fold_1.scores\.csv"):
        write_summary(tmp_path)
    assert not (tmp_path / "summary.json").exists()


def test_table_has_a_line_per_class_and_score():
    summary = summarise(rows_of([0.5, 0.7], hd95_mm=[math.inf, 2.0]) + rows_of([0.9, 0.9], label=12))
    lines = summary_table(summary).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["1", "dice"], ["1", "hd95_mm"], ["12", "dice"]]
    assert "0.6 ± 0.1414 [0.5, 0.7]" in lines[1]
    assert lines[2].split()[2:] == ["2", "2", "1", "1", "0"]


def test_the_summary_of_all_folds_keeps_the_values_of_the_predictions(tmp_path):
    for number in range(2):
        write_results(tmp_path / f"fold_{number}", rows_of([0.5]), facts={"label_values": [0, 255]})
    summary = json.loads(write_summary(tmp_path).read_text())
    assert summary["label_values"] == [0, 255]
    assert summary["cases"] == 2
    (tmp_path / "fold_0" / "summary.json").unlink()  # a fold that was interrupted
    assert json.loads(write_summary(tmp_path).read_text())["label_values"] == [0, 255]
    for number in range(2):
        write_results(tmp_path / f"fold_{number}", rows_of([0.5]))
    assert "label_values" not in json.loads(write_summary(tmp_path).read_text())
