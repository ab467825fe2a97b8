"""Against the formula of DICOM, evaluated in float64."""

from __future__ import annotations

import numpy as np
import pytest

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.subfunctions import TransformHU

RAW = np.array([[-2000, 0, 24, 1024], [1424, 4000, -1, 724]], np.int16)


def transformed(raw, details=None, **arguments):
    sample = Sample("case", raw, channels=1, classes=2)
    sample.add_details(details or {})
    TransformHU(**arguments).preprocessing(sample)
    assert sample.img_data.dtype == np.float32
    return sample.img_data[..., 0]


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32])
def test_hounsfield_units(kind):
    expected = [[-1024, -1024, -1000, 0], [400, 2976, -1025, -300]]
    assert transformed(RAW.astype(kind), normalize=False).tolist() == expected


def test_normalized_to_the_bounds():
    expected = [[0, 0, 0, 1000 / 1400], [1, 1, 0, 0.5]]
    np.testing.assert_allclose(transformed(RAW), expected, atol=1e-6)
    np.testing.assert_allclose(transformed(RAW, minmaxBound=[-1024, 0])[0, 3], 1)


def test_defect_transform_hu_ignores_clip_scan_value():
    marked = np.array([[-3024, -2000, 10]], np.int16)
    assert transformed(marked, normalize=False, clipScan_value=-3024).tolist() == [[-1024, -3024, -1014]]
    assert transformed(marked, normalize=False, clipScan_value=None).tolist() == [[-4048, -3024, -1014]]
    assert transformed(marked.astype(np.uint16), normalize=False)[0, 2] == -1014


def test_defect_transform_hu_changes_the_callers_array_and_prints(capsys):
    raw = RAW.astype(np.float32)
    raw.setflags(write=False)
    transformed(raw)
    assert np.array_equal(raw, RAW)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("names", [("slope", "intercept"), ("RescaleSlope", "RescaleIntercept")])
def test_slope_and_intercept_of_the_sample(names):
    details = dict(zip(names, (np.float64(2.5), -1000), strict=True))
    result = transformed(RAW, details, normalize=False, slope=9, intercept=9)
    np.testing.assert_allclose(result, np.where(RAW == -2000, 0, RAW) * 2.5 - 1000)


def test_a_detail_that_is_no_number():
    with pytest.raises(DataError, match=r"case.*slope"):
        transformed(RAW, {"slope": [1, 2]})


@pytest.mark.parametrize(
    "arguments",
    [
        {"slope": "x"},
        {"minmaxBound": (400, -1000)},
        {"minmaxBound": (1, 2, 3)},
        {"minmaxBound": 4},
        {"intercept": None},
    ],
)
def test_arguments_that_cannot_be(arguments):
    with pytest.raises(ConfigurationError, match="TransformHU"):
        TransformHU(**arguments)
