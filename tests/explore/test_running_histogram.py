from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from miscnn_tf.explore.running_histogram import BINS, RunningHistogram, RunningStatistics

WHOLE = arrays.arrays(np.int32, st.integers(0, 50), elements=st.integers(-(2**31), 2**31 - 1))
REAL = arrays.arrays(
    np.float32, st.integers(0, 50), elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(WHOLE, REAL), max_size=5))
def test_no_count_is_lost_and_each_is_in_its_bin(pieces: list[np.ndarray]) -> None:
    histogram = RunningHistogram()
    for piece in pieces:
        histogram.add(piece)
    assert len(histogram.counts) <= BINS
    values = np.concatenate([piece.astype(np.float64) for piece in pieces]) if pieces else np.zeros(0)
    assert histogram.counts.sum() == len(values)
    for low, high, count in zip(histogram.edges[:-1], histogram.edges[1:], histogram.counts, strict=True):
        if count:
            assert np.count_nonzero((values >= low) & (values < high)) == count


@settings(max_examples=60, deadline=None)
@given(st.one_of(WHOLE, REAL), st.one_of(WHOLE, REAL))
def test_merging_is_adding(first: np.ndarray, second: np.ndarray) -> None:
    one, other, both = RunningStatistics(), RunningStatistics(), RunningStatistics()
    one.add(first)
    other.add(second)
    one.merge(other)
    both.add(first)
    both.add(second)
    assert (one.count, one.lowest, one.highest) == (both.count, both.lowest, both.highest)
    values = np.concatenate([first.astype(np.float64), second.astype(np.float64)])
    assert one.histogram.counts.sum() == len(values)
    for low, high, count in zip(one.histogram.edges[:-1], one.histogram.edges[1:], one.histogram.counts, strict=True):
        if count:
            assert np.count_nonzero((values >= low) & (values < high)) == count
    if len(values):
        scale = float(np.abs(values).max()) or 1
        assert one.mean == pytest.approx(values.mean(), abs=1e-9 * scale)
        assert one.deviation == pytest.approx(values.std(), abs=1e-6 * scale)


def test_statistics_are_numpys_also_far_from_zero(rng: np.random.Generator) -> None:
    pieces = [rng.normal(1e6, 2.5, 300_000) for _ in range(3)]
    statistics = RunningStatistics()
    for piece in pieces:
        statistics.add(piece)
    values = np.concatenate(pieces)
    assert statistics.mean == pytest.approx(values.mean(), rel=1e-12)
    assert statistics.deviation == pytest.approx(values.std(), rel=1e-9)
    assert (statistics.lowest, statistics.highest) == (values.min(), values.max())
    for share in (0.005, 0.5, 0.995):
        assert statistics.histogram.quantile(share) == pytest.approx(np.quantile(values, share), abs=0.01)


def test_counts_of_whole_numbers_are_those_numbers(rng: np.random.Generator) -> None:
    values = rng.integers(-1024, 3000, 5000)
    one, other = RunningStatistics(), RunningStatistics()
    one.add(values)
    other.add_counts(-1100, np.bincount(values + 1100, minlength=5000))
    assert (one.count, one.lowest, one.highest) == (other.count, other.lowest, other.highest)
    assert one.mean == pytest.approx(other.mean, rel=1e-12)
    assert one.deviation == pytest.approx(other.deviation, rel=1e-12)
    for share in (0.001, 0.25, 0.5, 0.9):
        expected = np.quantile(values, share, method="inverted_cdf")
        assert one.histogram.quantile(share) == other.histogram.quantile(share) == expected


def test_nan_and_infinity_are_counted_apart() -> None:
    statistics = RunningStatistics()
    statistics.add(np.array([1, np.nan, np.inf, 3, -np.inf], np.float32))
    assert (statistics.count, statistics.not_finite, statistics.mean) == (2, 3, 2.0)


def test_nothing_is_nan() -> None:
    statistics = RunningStatistics()
    statistics.add(np.zeros(0))
    statistics.add_counts(5, np.zeros(3, np.int64))
    statistics.merge(RunningStatistics())
    assert statistics.count == 0
    assert math.isnan(statistics.mean)
    assert math.isnan(statistics.deviation)
    assert math.isnan(statistics.histogram.quantile(0.5))


@pytest.mark.parametrize("value", [0.0, 5.0, -3.25, 1e30])
def test_a_single_value(value: float) -> None:
    statistics = RunningStatistics()
    statistics.add(np.full(10, value, np.float32))
    assert statistics.histogram.quantile(0.5) == pytest.approx(value, rel=1e-5, abs=1e-5)
    assert statistics.deviation == 0


def test_shares_of_wider_bins(rng: np.random.Generator) -> None:
    histogram = RunningHistogram()
    values = rng.integers(0, 100, 1000)
    histogram.add(values)
    edges = np.arange(0, 101, 10.0)
    np.testing.assert_allclose(histogram.shares(edges), np.histogram(values, bins=edges)[0] / 1000)
