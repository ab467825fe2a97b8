from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from miscnn_tf.report.charts import box_chart, line_chart, shared_range


def places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path)]


def test_curves_lie_where_their_values_are():
    history = {"loss": [1.0, 0.5, 0.25], "val_loss": [1.0, 0.25, 0.75]}
    chart = line_chart("Loss", "loss", history, shared_range([history], "loss"))
    left, top, right, bottom = chart.frame
    training, validation = (places(curve.path) for curve in chart.curves)
    assert [x for x, _ in training] == [left, (left + right) / 2, right]
    ticks = {float(tick.text): tick.place for tick in chart.y_ticks}
    assert all(top - 0.1 <= place <= bottom + 0.1 for place in ticks.values())
    low, high = min(ticks), max(ticks)
    for (_, y), value in zip(training + validation, history["loss"] + history["val_loss"], strict=True):
        assert y == pytest.approx(bottom - (bottom - top) * (value - low) / (high - low), abs=0.11)
    assert chart.best.text == "lowest validation loss: 0.25, epoch 2"
    assert (chart.best.x, chart.best.y) == validation[1]


def test_what_is_not_finite_leaves_a_gap():
    chart = line_chart("Loss", "loss", {"loss": [1.0, math.nan, 0.5, 0.4, math.inf]}, (0.4, 1.0))
    assert re.sub(r"[^ML]", "", chart.curves[0].path) == "MML"
    assert len(chart.curves[0].points) == 3
    nothing = line_chart("Loss", "loss", {"loss": [math.nan]}, shared_range([{"loss": [math.nan]}], "loss"))
    assert nothing.curves == []
    assert "no finite value" in nothing.summary


def test_one_epoch_is_a_point_in_the_middle():
    chart = line_chart("Loss", "loss", {"loss": [0.7]}, (0.7, 0.7))
    assert len(chart.curves[0].points) == 1
    assert chart.frame[0] < chart.curves[0].points[0].x < chart.frame[2]
    assert [tick.text for tick in chart.x_ticks] == ["1"]


@given(st.floats(-1e12, 1e12), st.floats(0, 1e12), st.integers(1, 500))
@example(2.2e-311, 0.0, 1)
@example(1e-311, 1e-311, 3)
@example(1e12, 1e-3, 3)
def test_any_values_fit_into_the_frame(low, width, epochs):
    values = np.linspace(low, low + width, epochs).tolist()
    chart = line_chart("x", "x", {"x": values}, (min(values), max(values)))
    for curve in chart.curves:
        for x, y in places(curve.path):
            assert chart.frame[0] - 0.1 <= x <= chart.frame[2] + 0.1
            assert chart.frame[1] - 0.1 <= y <= chart.frame[3] + 0.1
    assert 1 <= len(chart.y_ticks) <= 9


def test_the_range_is_that_of_all_folds_and_both_sides():
    assert shared_range([{"loss": [1.0, math.nan]}, {"loss": [0.5], "val_loss": [3.0, math.inf]}], "loss") == (0.5, 3.0)
    assert shared_range([], "loss") == (0.0, 1.0)


def test_boxes_have_the_quartiles_of_the_finite_scores():
    scores = [0.1, 0.7, 0.75, 0.8, 0.85, 0.9, math.nan]
    cases = [(f"case {number}", value) for number, value in enumerate(scores)]
    chart = box_chart("dice", {1: cases, 2: [("a", math.nan)]}, {1: "organ", 2: "lesion"})
    box, empty = chart.boxes
    _, top, _, bottom = chart.frame
    low, high = (float(chart.y_ticks[place].text) for place in (0, -1))
    assert high == 1.0

    def value(place: float) -> float:
        return low + (high - low) * (bottom - place) / (bottom - top)

    assert [value(place) for place in box.quartiles] == pytest.approx(
        np.percentile(scores[:-1], [25, 50, 75]), abs=0.01
    )
    assert [value(place) for place in box.whiskers] == pytest.approx([0.7, 0.9], abs=0.01)  # 0.1 is an outlier
    assert len(box.points) == 6
    assert empty.quartiles is None
    assert empty.points == []
    assert "organ median 0.775" in chart.summary


def test_infinite_distances_are_counted_and_outliers_of_many_cases_stay():
    rng = np.random.default_rng(0)
    cases = [(f"case {number}", float(value)) for number, value in enumerate(rng.normal(5, 0.1, 3000))]
    cases += [("far", 60.0), ("empty", math.inf), ("empty too", math.inf)]
    chart = box_chart("hd95_mm", {1: cases}, {1: "organ"})
    assert chart.title == "HD95 (mm)"
    assert chart.boxes[0].infinite == 2
    assert len(chart.boxes[0].points) < 1000
    assert any(point.text == "far: 60" for point in chart.boxes[0].points)


def test_differences_show_zero_and_many_classes_a_wide_chart():
    chart = box_chart("volume_difference_ml", {1: [("a", -2.0), ("b", -1.0)]}, {1: "organ"})
    assert chart.frame[1] - 0.1 <= chart.zero <= chart.frame[3]
    names = {label: f"class {label}" for label in range(1, 31)}
    wide = box_chart("dice", {label: [("a", 0.5)] for label in names}, names)
    assert wide.width > 1000
    assert len({box.x for box in wide.boxes}) == 30
