"""What is let through as a label map or image, and what is not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from miscnn_tf.data_loading.labels import check_axes, check_image, check_labels, count_voxels, normalised_label_map
from miscnn_tf.errors import ConfigurationError, DataError, LabelError

TYPES = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64, np.uint64, np.float32, np.float64, np.bool_]


@pytest.mark.parametrize("dtype", TYPES)
def test_whole_numbers_of_any_type(dtype):
    labels = check_labels(np.array([[0, 1], [1, 0]]).astype(dtype), 2, "x")
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[0, 1], [1, 0]]


def test_right_labels_are_not_copied():
    array = np.asfortranarray(np.zeros((3, 4, 5), np.uint8))
    assert check_labels(array, 2, "x") is array


def test_more_than_256_classes_are_uint16():
    labels = check_labels(np.array([0, 299]), 300, "x")
    assert labels.dtype == np.uint16
    assert labels.tolist() == [0, 299]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 255], r"a\.nii: the label map holds 255 \(1 voxels\).*0 to 2.*label_map=\{255: 1\}"),
        ([0, 3, 3, 7], r"holds 3, 7 \(3 voxels\)"),
        ([-1, 0], r"holds -1 .*label_map=\{-1: 1\}"),
        ([0.5, 1, 0.25], r"holds 0\.25, 0\.5 .*interpolated"),
        ([np.nan, 0.0], "holds nan"),
        ([np.inf, 0.0], "holds inf"),
        ([1e30, 0.0], r"holds 1e\+30"),
        (list(range(20)), r"3, 4, 5, 6, 7, 8, 9, 10 and 9 more"),
    ],
)
def test_bad_labels_are_named(values, message):
    with pytest.raises(DataError, match=message):
        check_labels(np.array(values), 3, "a.nii")


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.zeros((0, 3))])
def test_no_labels_at_all(array):
    with pytest.raises(DataError, match=r"a\.nii"):
        check_labels(array, 3, "a.nii")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_label_map(dtype):
    labels = check_labels(np.array([0, 100, 1], dtype), 3, "x", {100: 2})
    assert labels.dtype == np.uint8
    assert labels.tolist() == [0, 2, 1]


def test_label_map_swaps():
    assert check_labels(np.array([0, 1, 2]), 3, "x", {1: 2, 2: 1}).tolist() == [0, 2, 1]


def test_label_map_of_negative_and_far_values():
    assert check_labels(np.array([-1, 0, 10**9]), 3, "x", {-1: 1, 10**9: 2}).tolist() == [1, 0, 2]
    assert check_labels(np.array([-128, 127], np.int8), 2, "x", {-128: 0, 127: 1}).tolist() == [0, 1]


def test_label_map_that_leaves_a_bad_value():
    with pytest.raises(DataError, match=r"holds 200 \(1 voxels\)"):
        check_labels(np.array([0, 200, 255], np.uint8), 2, "x", {255: 1})


@given(
    hnp.arrays(np.int16, hnp.array_shapes(max_dims=3), elements=st.integers(-5, 300)),
    st.dictionaries(st.integers(-5, 300), st.integers(0, 6), max_size=5),
)
def test_label_map_as_a_plain_loop_does_it(array, label_map):
    expected = np.vectorize(lambda value: label_map.get(value, value), otypes=[np.int64])(array)
    if expected.min() < 0 or expected.max() > 6:
        with pytest.raises(DataError):
            check_labels(array, 7, "x", label_map)
    else:
        np.testing.assert_array_equal(check_labels(array, 7, "x", label_map), expected)


@pytest.mark.parametrize("label_map", [{"a": 1}, {255: 2}, {255: -1}])
def test_label_map_that_cannot_be(label_map):
    with pytest.raises(ConfigurationError, match="label_map"):
        normalised_label_map(label_map, 2)


def test_label_map_survives_json():
    assert normalised_label_map({"255": 1}, 2) == {255: 1}
    assert normalised_label_map({}, 2) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_voxels_are_warned_and_counted(bad):
    image = np.ones((20, 30, 4), np.float32, order="F")
    image[3, 4, 1] = bad
    with pytest.warns(UserWarning, match=r"scan\.nii: 1 of 2400 voxels are NaN or infinite"):
        assert check_image(image, "scan.nii") is image


def test_large_values_are_not_taken_for_infinite():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_image(np.full((100, 100), 3e38, np.float32), "x")
        check_image(np.zeros((3, 3), np.int16), "x")


@pytest.mark.parametrize(
    ("shape", "three_dim", "channels"), [((4, 5), False, 1), ((4, 5, 3), False, 3), ((4, 5, 6), True, 1)]
)
def test_axes_that_fit(shape, three_dim, channels):
    check_axes(shape, three_dim, channels, "x")


@pytest.mark.parametrize(
    ("shape", "three_dim", "channels", "message"),
    [
        ((4, 5), True, 1, r"a\.nii.*reads 3D.*three_dim=False"),
        ((4, 5, 6, 1), False, 1, r"reads 2D.*three_dim=True"),
        ((4, 5, 6, 2), True, 1, r"2 channel.*channels=1.*channels=2"),
        ((4, 5, 6), True, 4, r"1 channel.*channels=4"),
        ((4, 0, 6), True, 1, "no voxels"),
    ],
)
def test_axes_that_do_not_fit(shape, three_dim, channels, message):
    with pytest.raises(DataError, match=message):
        check_axes(shape, three_dim, channels, "a.nii")


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_voxels_are_counted_in_any_order_of_memory(shape, order, rng):
    labels = np.asarray(rng.integers(0, 4, shape).astype(np.uint8), order=order)
    for view in (labels, labels[::2], labels[:, 1:]):
        assert count_voxels(view, 5) == [int((view == label).sum()) for label in range(5)]


def test_255_beside_other_labels_most_likely_means_ignore():
    with pytest.raises(LabelError, match=r'255 beside other labels most likely means "ignore"; label_map=\{255: 0\}'):
        check_labels(np.array([0, 1, 2, 255], np.uint8), 3, "a.nii")
    with pytest.raises(LabelError, match=r"label_map=\{255: 1\}"):
        check_labels(np.array([0, 255], np.uint8), 3, "a.nii")
