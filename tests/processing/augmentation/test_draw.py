"""Drawn numbers have the distributions that batchgenerators' transforms have."""

from __future__ import annotations

import numpy as np
import pytest

from miscnn_tf.processing.augmentation.drawn_augmentation import draw_around_one, draw_factors, draw_uniform, happens


def test_happens_as_often_as_its_probability_says(rng):
    assert np.mean([happens(rng, 0.15) for _ in range(4000)]) == pytest.approx(0.15, abs=0.02)
    assert not any(happens(rng, 0.0) for _ in range(100))
    assert all(happens(rng, 1.0) for _ in range(100))


def test_uniform_covers_its_range(rng):
    values = [draw_uniform(rng, (-2, 6)) for _ in range(4000)]
    assert -2 <= min(values) < -1.9
    assert 5.9 < max(values) <= 6
    assert np.mean(values) == pytest.approx(2, abs=0.15)


def test_around_one_reduces_as_often_as_it_enlarges(rng):
    values = np.array([draw_around_one(rng, (0.3, 3.0)) for _ in range(6000)])
    below = values[values < 1]
    above = values[values >= 1]
    assert len(below) / len(values) == pytest.approx(0.5, abs=0.03)
    assert below.min() == pytest.approx(0.3, abs=0.02)
    assert below.mean() == pytest.approx(0.65, abs=0.02)
    assert above.max() == pytest.approx(3.0, abs=0.02)
    assert above.mean() == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("limits", [(1.0, 2.0), (1.5, 1.5), (0.2, 0.9), (0.5, 1.0)])
def test_around_one_stays_within_limits_on_one_side(rng, limits):
    values = [draw_around_one(rng, limits) for _ in range(500)]
    assert limits[0] <= min(values) <= max(values) <= limits[1]
    assert np.mean(values) == pytest.approx(sum(limits) / 2, abs=0.05)


def test_factors_per_channel_or_one_for_all(rng):
    assert len(set(draw_factors(rng, (0.5, 2), 4, per_channel=True, centred=False))) == 4
    shared = draw_factors(rng, (0.5, 2), 4, per_channel=False, centred=True)
    assert len(shared) == 4
    assert len(set(shared)) == 1
