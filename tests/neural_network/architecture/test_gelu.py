"""GELU and its gradient against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from miscnn_tf.neural_network.architecture.gelu import GELU


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-6), ("mixed_bfloat16", 2**-8), ("mixed_float16", 2**-10)]
)
def test_values_and_gradient(precision, tolerance):
    values = tf.linspace(-6.0, 6.0, 97)  # multiples of 1/8, exact in all precisions
    x = values.numpy().astype(np.float64)
    with tf.GradientTape() as tape:
        tape.watch(values)
        outputs = GELU(dtype=precision)(values)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32))
    expected = x * stats.norm.cdf(x)
    np.testing.assert_allclose(tf.cast(outputs, tf.float32), expected, rtol=tolerance, atol=1e-6)
    slope = stats.norm.cdf(x) + x * stats.norm.pdf(x)
    np.testing.assert_allclose(tape.gradient(loss, values), slope, rtol=tolerance, atol=1e-6)
