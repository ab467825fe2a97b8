"""Sums, casts and weights that all losses are made of."""

import numpy as np
import pytest
import tensorflow as tf

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.loss_terms import (
    FLOAT16_MAX,
    class_weight_factors,
    foreground_classes,
    in_float32,
    spatial_sum,
)


@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (2, 4, 3, 2, 5)])
def test_spatial_sum_is_over_the_voxels(shape, rng):
    values = rng.random(shape)
    np.testing.assert_allclose(spatial_sum(values), values.reshape(2, -1, 5).sum(1), rtol=1e-6)
    with pytest.raises(ConfigurationError, match="neither"):
        spatial_sum(values[0, 0])


def test_small_numbers_are_not_lost_in_the_sum_of_a_volume(rng):
    values = rng.random((1, 100, 100, 100, 2), dtype="float32") ** 8
    exact = values.sum((1, 2, 3), dtype="float64")
    np.testing.assert_allclose(spatial_sum(values), exact, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_gradient_beyond_float16_ends_at_its_largest_number(dtype, compiled):
    def slopes(p):
        with tf.GradientTape() as tape:
            tape.watch(p)
            value = in_float32(tf.zeros_like(p), p)[1] * tf.constant([1e8, -1e8, 3.0])
        return tape.gradient(value, p)

    found = (tf.function(slopes, jit_compile=True) if compiled else slopes)(tf.cast([[0.5, 0.5, 0.5]], dtype))
    assert found.dtype == dtype
    expected = [[FLOAT16_MAX, -FLOAT16_MAX, 3]] if dtype == "float16" else [[1e8, -1e8, 3]]
    np.testing.assert_allclose(tf.cast(found, "float64"), expected, rtol=5e-3)


def test_class_weight_factors_have_a_mean_of_one():
    assert class_weight_factors(None, 3) is None
    np.testing.assert_allclose(class_weight_factors([1, 1, 4], 3), [0.5, 0.5, 2])
    with pytest.raises(ConfigurationError, match="3 classes"):
        class_weight_factors([1, 2], 3)


def test_foreground_classes_are_all_but_the_background():
    assert foreground_classes("x", np.zeros((1, 2, 2, 4))) == 3
    with pytest.raises(ConfigurationError, match="x needs a background"):
        foreground_classes("x", np.zeros((1, 2, 2, 1)))
