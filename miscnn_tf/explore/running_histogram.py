"""Incremental statistics of values with an unknown range."""

from __future__ import annotations

import math
from copy import copy

import numpy as np

#: Maximum number of bins. A histogram of different values has at least half as many. The number is large, because an
#: outlier makes all bins wide.
BINS = 2**15

# Number of values that fit into the processor's cache, with intermediate results.
_CHUNK = 2**16


class RunningHistogram:
    """Histogram with a growing range.

    The width of the bins is a power of two, and their borders are multiples of it. If a value is out of range, pairs of
    bins are joined, which keeps all counts in correct bins. For the same reason histograms can be merged.

    Example:
        >>> histogram = RunningHistogram()
        >>> histogram.add(np.array([0, 1, 1, 3]))
        >>> histogram.counts.tolist(), histogram.edges.tolist()
        ([1, 2, 0, 1], [0.0, 1.0, 2.0, 3.0, 4.0])
    """

    def __init__(self) -> None:
        self.counts = np.zeros(0, np.int64)
        self._exponent = 0
        self._first = 0

    @property
    def width(self) -> float:
        """Width of a bin."""
        return math.ldexp(1.0, self._exponent)

    @property
    def edges(self) -> np.ndarray:
        """Borders of the bins, one more than bins."""
        return (self._first + np.arange(len(self.counts) + 1, dtype=np.float64)) * self.width

    def add(self, values: np.ndarray) -> None:
        """Add finite values of any shape."""
        flat = values.ravel(order="K")
        if not flat.size:
            return
        lowest, highest = float(flat.min()), float(flat.max())
        if not len(self.counts):
            self._exponent = _exponent(highest - lowest, max(abs(lowest), abs(highest)), flat.dtype.kind in "biu")
        self._make_room(lowest, highest)
        for start in range(0, flat.size, _CHUNK):
            part = flat[start : start + _CHUNK]
            bins = np.floor(np.ldexp(part.astype(np.float64), -self._exponent)).astype(np.int64) - self._first
            self.counts += np.bincount(bins, minlength=len(self.counts))

    def add_counts(self, first: int, counts: np.ndarray) -> None:
        """Add whole numbers: ``counts[i]`` times the number ``first + i``.

        The first and the last count must not be 0.
        """
        if not len(self.counts):
            self._exponent = _exponent(len(counts) - 1, 0, True)
        self._make_room(first, first + len(counts) - 1)
        numbers = first + np.arange(len(counts), dtype=np.float64)
        bins = np.floor(np.ldexp(numbers, -self._exponent)).astype(np.int64) - self._first
        np.add.at(self.counts, bins, counts)

    def merge(self, other: RunningHistogram) -> None:
        """Add the counts of another histogram."""
        if not len(other.counts):
            return
        if not len(self.counts):
            self.counts, self._exponent, self._first = other.counts.copy(), other._exponent, other._first
            return
        counts, first = other.counts, other._first
        while self._exponent < other._exponent:
            self._join()
        last = other.edges[-1] - other.width
        self._make_room(float(other.edges[0]), float(last))
        for _ in range(self._exponent - other._exponent):
            counts, first = _joined(counts, first)
        offset = first - self._first
        self.counts[offset : offset + len(counts)] += counts

    def quantile(self, share: float) -> float:
        """Return a quantile, exact to half a bin; NaN without values."""
        total = int(self.counts.sum())
        if not total:
            return math.nan
        position = int(np.searchsorted(np.cumsum(self.counts), share * total))
        position = min(position, len(self.counts) - 1)
        # A bin of width 1 contains the whole number at its lower border.
        middle = 0.0 if self._exponent == 0 else 0.5
        return (self._first + position + middle) * self.width

    def shares(self, edges: np.ndarray) -> np.ndarray:
        """Return the share of values between successive borders, to which bins are assigned by their centres."""
        middles = (self.edges[:-1] + self.edges[1:]) / 2
        total = max(1, int(self.counts.sum()))
        result: np.ndarray = np.histogram(middles, bins=edges, weights=self.counts)[0] / total
        return result

    def _make_room(self, lowest: float, highest: float) -> None:
        while True:
            low, high = math.floor(lowest / self.width), math.floor(highest / self.width)
            if len(self.counts):
                low, high = min(low, self._first), max(high, self._first + len(self.counts) - 1)
            if high - low < BINS:
                break
            self._join()
        grown = np.zeros(high - low + 1, np.int64)
        if len(self.counts):
            offset = self._first - low
            grown[offset : offset + len(self.counts)] = self.counts
        self.counts, self._first = grown, low

    def _join(self) -> None:
        self._exponent += 1
        if len(self.counts):
            self.counts, self._first = _joined(self.counts, self._first)


def _joined(counts: np.ndarray, first: int) -> tuple[np.ndarray, int]:
    """Return bins of twice the width."""
    padded = np.concatenate([np.zeros(first % 2, np.int64), counts])
    padded = np.concatenate([padded, np.zeros(len(padded) % 2, np.int64)])
    return padded.reshape(-1, 2).sum(axis=1), (first - first % 2) // 2


def _exponent(spread: float, size: float, whole: bool) -> int:
    """Return the exponent of the width of the first bins."""
    if whole:
        return max(0, math.ceil(math.log2((spread + 1) / BINS)))
    if spread > 0:
        return math.ceil(math.log2(spread / (BINS - 2)))
    # For a single value, the resolution of float32.
    return math.frexp(size)[1] - 20 if size else -20


class RunningStatistics:
    """Incremental count, range, mean, standard deviation and histogram.

    Means and squared deviations are merged as in Chan, Golub and LeVeque, "Algorithms for computing the sample
    variance" (1983), which is accurate also for values far from 0.

    Example:
        >>> statistics = RunningStatistics()
        >>> statistics.add(np.array([1.0, 2.0, np.nan]))
        >>> statistics.add(np.array([3.0]))
        >>> statistics.count, statistics.mean, statistics.not_finite
        (3, 2.0, 1)
    """

    def __init__(self) -> None:
        self.count = 0
        self.not_finite = 0
        self.lowest = math.inf
        self.highest = -math.inf
        self.histogram = RunningHistogram()
        self._mean = 0.0
        self._squares = 0.0

    @property
    def mean(self) -> float:
        """Mean; NaN without values."""
        return self._mean if self.count else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation, with n in the denominator; NaN without values."""
        return math.sqrt(self._squares / self.count) if self.count else math.nan

    def add(self, values: np.ndarray) -> None:
        """Add values of any shape; NaN and infinite values are counted separately."""
        flat = values.ravel(order="K")
        if flat.dtype.kind == "f":
            finite = np.isfinite(flat)
            missing = flat.size - int(np.count_nonzero(finite))
            if missing:
                self.not_finite += missing
                flat = flat[finite]
        if not flat.size:
            return
        self.lowest, self.highest = min(self.lowest, float(flat.min())), max(self.highest, float(flat.max()))
        for start in range(0, flat.size, _CHUNK):
            part = flat[start : start + _CHUNK].astype(np.float64)
            mean = float(part.mean())
            self._join(part.size, mean, float(np.square(part - mean).sum()))
        self.histogram.add(flat)

    def add_counts(self, first: int, counts: np.ndarray) -> None:
        """Add whole numbers: ``counts[i]`` times the number ``first + i``."""
        there = np.flatnonzero(counts)
        if not len(there):
            return
        counts, first = counts[there[0] : there[-1] + 1], first + int(there[0])
        self.lowest, self.highest = min(self.lowest, first), max(self.highest, first + len(counts) - 1)
        numbers = first + np.arange(len(counts), dtype=np.float64)
        total = int(counts.sum())
        mean = float(numbers @ counts) / total
        self._join(total, mean, float(np.square(numbers - mean) @ counts))
        self.histogram.add_counts(first, counts)

    def without_histogram(self) -> RunningStatistics:
        """Return a copy without the histogram, which needs most of the memory."""
        twin = copy(self)
        twin.histogram = RunningHistogram()
        return twin

    def merge(self, other: RunningStatistics) -> None:
        """Add the values of other statistics."""
        self.not_finite += other.not_finite
        self.lowest, self.highest = min(self.lowest, other.lowest), max(self.highest, other.highest)
        self._join(other.count, other._mean, other._squares)
        self.histogram.merge(other.histogram)

    def _join(self, count: int, mean: float, squares: float) -> None:
        total = self.count + count
        if not total:
            return
        apart = mean - self._mean
        self._mean += apart * count / total
        self._squares += squares + apart * apart * self.count * count / total
        self.count = total
