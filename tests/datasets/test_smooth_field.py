from __future__ import annotations

import numpy as np
import pytest

from miscnn_tf.datasets.smooth_field import smooth_field


@pytest.mark.parametrize("shape", [(200, 200), (40, 40, 40)])
def test_mean_and_deviation_are_those_promised(shape):
    points = np.indices(shape).astype(np.float32)
    fields = [smooth_field(points, np.random.default_rng(seed), wavelength=8) for seed in range(5)]
    for field in fields:
        assert field.shape == shape
        assert field.dtype == np.float32
        assert abs(field.mean()) < 0.1
        assert 0.8 < field.std() < 1.2
        assert np.abs(field).max() <= np.sqrt(2 * 8) + 1e-5
    assert np.abs(fields[0] - fields[1]).max() > 0.5


def test_a_finer_grid_samples_the_same_function():
    coarse = np.indices((10, 12)).astype(np.float32)
    fine = np.indices((20, 24)).astype(np.float32) / 2
    one, two = (smooth_field(points, np.random.default_rng(3), wavelength=9) for points in (coarse, fine))
    np.testing.assert_allclose(two[::2, ::2], one, atol=1e-4)


def test_a_longer_wavelength_is_smoother():
    points = np.indices((64, 64)).astype(np.float32)
    steps = [
        np.abs(np.diff(smooth_field(points, np.random.default_rng(1), wavelength=length), axis=0)).mean()
        for length in (8, 32)
    ]
    # The slope of a sine is inverse to its length.
    assert steps[0] / steps[1] == pytest.approx(4, rel=0.25)
