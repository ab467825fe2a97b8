from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.runs.score_summary import mean_interval, scores_table, summarise


def test_the_main_scores_of_the_foreground() -> None:
    rows = [
        {"sample_id": name, "class": label, "dice": 0.5 + label / 10, "iou": 0.3, "hd95_mm": 2.0}
        for name in "ab"
        for label in range(3)
    ]
    lines = scores_table(summarise(rows), ["background", "kidney"]).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["kidney", "dice", "0.6"],
        ["kidney", "hd95_mm", "2"],
        ["2", "dice", "0.7"],
        ["2", "hd95_mm", "2"],
    ]


def test_normal_values_have_the_normal_interval(rng):
    values = rng.normal(5, 2, 500)
    low, high = mean_interval(values, resamples=9999)
    error = values.std(ddof=1) / math.sqrt(values.size)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)
    inner = mean_interval(values, confidence=0.5, resamples=9999)
    assert inner[1] - inner[0] == pytest.approx(2 * 0.6745 * error, rel=0.06)


def test_it_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(7)
    # Skewed, as Dice is.
    covered = sum(
        low <= 8 / 10 <= high
        for low, high in (mean_interval(rng.beta(8, 2, 25), resamples=400, seed=trial) for trial in range(300))
    )
    assert 0.90 <= covered / 300 <= 0.98


def test_the_same_values_give_the_same_interval_and_global_state_is_left_alone():
    values = [0.91, 0.88, 0.93, 0.79, 0.90, 0.92]
    np.random.seed(1)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = mean_interval(values)
    np.random.seed(2)  # noqa: NPY002
    assert mean_interval(values) == first
    assert mean_interval(values, seed=1) != first
    np.random.seed(1)  # noqa: NPY002
    mean_interval(values)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1).map(lambda value: round(value, 3)), min_size=2, max_size=12))
def test_it_is_finite_and_within_the_values(values):
    low, high = mean_interval(values, resamples=200)
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12


def test_too_few_or_equal_values():
    assert mean_interval([]) is None
    assert mean_interval([0.5]) is None
    assert mean_interval([0.7] * 5) == (0.7, 0.7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": [1.0, math.nan]}, "NaN or infinity"),
        ({"values": [1.0, math.inf]}, "NaN or infinity"),
        ({"values": [1.0, 2.0], "confidence": 95}, "confidence=95"),
        ({"values": [1.0, 2.0], "resamples": 0}, "resamples"),
    ],
)
def test_what_cannot_work_is_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        mean_interval(**arguments)
