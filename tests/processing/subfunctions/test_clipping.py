"""Against numpy's clip, for every type an image may have."""

from __future__ import annotations

import numpy as np
import pytest

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.subfunctions import Clipping


def clipped(image, *limits):
    sample = Sample("case", image, channels=1, classes=2)
    Clipping(*limits).preprocessing(sample)
    return sample.img_data[..., 0]


@pytest.mark.parametrize(
    "limits", [(-79, 304), (-79.0, 304.0), (-79.5, 304), (-100_000, 0), (0, 100_000), (5, 5), (-9, None), (None, 9)]
)
@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.uint16, np.int32, np.float32, np.float64, bool])
def test_values_are_those_of_float64_numpy(rng, limits, kind):
    image = (
        rng.integers(0, 256, (8, 9)).astype(kind)
        if kind in (np.uint8, bool)
        else rng.integers(-500, 500, (8, 9)).astype(kind)
    )
    result = clipped(image, *limits)
    np.testing.assert_array_equal(result, np.clip(image.astype(np.float64), *limits).astype(np.float32))
    assert result.dtype.itemsize <= 4


@pytest.mark.parametrize(
    ("kind", "limits", "expected"),
    [
        (np.int16, (-79, 304), np.int16),
        (np.int16, (-79.0, 304.0), np.int16),
        (np.int16, (-1e9, 1e9), np.int16),
        (np.int16, (-0.5, 304), np.float32),
        (np.uint8, (-79, 100), np.uint8),
        (np.uint8, (-79, -5), np.float32),
        (np.float64, (0, 1), np.float32),
    ],
)
def test_a_ct_stays_int16_where_the_limits_allow(kind, limits, expected):
    assert clipped(np.ones((3, 3), kind), *limits).dtype == expected


def test_nan_is_not_hidden():
    assert np.isnan(clipped(np.array([[np.nan, 5.0]]), 0, 1)).tolist() == [[True, False]]


@pytest.mark.parametrize("limits", [(2, 1), (None, None), ("a", 1), (float("nan"), 1)])
def test_limits_that_cannot_be(limits):
    with pytest.raises(ConfigurationError, match="Clipping"):
        Clipping(*limits)
