"""The inverse of a label map: what is written for a class is read back as that class, whatever the label map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miscnn_tf.data_loading.interfaces.abstract_io import prediction_labels, prediction_to_write
from miscnn_tf.data_loading.label_values import (
    are_class_numbers,
    class_values,
    completed,
    label_map_of,
    likely_ignored,
    proposed_label_map,
    reading_map,
    to_values,
    values_dtype,
)
from miscnn_tf.data_loading.labels import check_labels
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, LabelError


@st.composite
def label_maps(draw):
    """A number of classes, and a label map of it."""
    classes = draw(st.integers(2, 9))
    near, far = st.integers(-3, 12), st.sampled_from([128, 254, 255, 256, 65535, 70000, -1000])
    return classes, draw(st.dictionaries(near | far, st.integers(0, classes - 1), max_size=6))


@given(label_maps())
def test_every_class_is_written_as_a_value_of_its_own_and_read_back(settings):
    classes, label_map = settings
    values = class_values(label_map, classes)
    assert len(set(values)) == len(values) == classes
    sample = Sample("a", np.zeros((3, classes), np.float32), 1, classes, three_dim=False)
    sample.add_prediction(np.tile(np.arange(classes, dtype=np.uint8), (3, 1)))
    written, _ = prediction_to_write(sample, "a", values)
    np.testing.assert_array_equal(written[0], values)
    assert written.dtype == values_dtype(values)
    read = prediction_labels(written, classes, "a", label_map or None, values)
    np.testing.assert_array_equal(read, sample.pred_data[..., 0])
    assert read.dtype == np.uint8


@given(label_maps())
def test_a_written_value_means_its_class_by_the_label_map_itself(settings):
    classes, label_map = settings
    reached = set(label_map.values()) | ({0} - set(label_map))
    for label, value in enumerate(class_values(label_map, classes)):
        if label in reached:
            assert label_map.get(value, value) == label


@given(label_maps())
def test_predictions_of_class_numbers_are_read_where_they_are_not_written_values(settings):
    classes, label_map = settings
    values = class_values(label_map, classes)
    for label in range(classes):
        if label not in values or values[label] == label:
            read = prediction_labels(np.full((2, 2), label), classes, "a", label_map or None, values)
            assert (read == label).all()


@given(label_maps())
def test_the_values_alone_make_a_label_map_with_the_same_inverse(settings):
    classes, label_map = settings
    values = class_values(label_map, classes)
    assert class_values(label_map_of(values), classes) == values
    assert are_class_numbers(values) == (label_map_of(values) is None)


@pytest.mark.parametrize(
    ("label_map", "classes", "values"),
    [
        (None, 3, (0, 1, 2)),
        ({255: 1}, 2, (0, 255)),
        ({4: 3}, 4, (0, 1, 2, 4)),
        ({65535: 1}, 2, (0, 65535)),
        ({254: 1, 255: 1}, 2, (0, 254)),
        ({1: 1, 2: 1}, 2, (0, 1)),
        ({2: 1}, 2, (0, 2)),
        ({1: 0, 2: 1}, 2, (0, 2)),
        ({1: 2, 2: 1}, 3, (0, 2, 1)),
        ({0: 1, 255: 0}, 2, (255, 0)),
        ({255: 0}, 2, (0, 1)),
        ({-1: 1}, 2, (0, -1)),
        ({1: 2}, 3, (0, 3, 1)),
    ],
)
def test_the_values_of_label_maps_that_people_have(label_map, classes, values):
    assert class_values(label_map, classes) == values


def test_a_value_of_another_source_means_what_the_label_map_says():
    label_map = {254: 1, 255: 1}
    read = prediction_labels(np.array([[0, 254, 255, 1]]), 2, "a", label_map, class_values(label_map, 2))
    np.testing.assert_array_equal(read, [[0, 1, 1, 1]])
    with pytest.raises(LabelError, match="a: the label map holds 7"):
        prediction_labels(np.array([[0, 7]]), 2, "a", label_map, class_values(label_map, 2))


def test_reading_a_prediction_does_not_warn_of_two_values_of_one_class(recwarn):
    reading = reading_map({4: 3}, class_values({4: 3}, 4))
    np.testing.assert_array_equal(check_labels(np.array([0, 1, 2, 3, 4]), 4, "a", reading), [0, 1, 2, 3, 3])
    assert not recwarn


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((0, 255), np.uint8),
        ((0, 65535), np.uint16),
        ((0, -1), np.int16),
        ((0, 70000), np.int32),
        ((-1, 40000), np.int32),
        ((0, 2**40), np.int64),
    ],
)
def test_the_written_type_holds_the_values(values, dtype):
    written = to_values(np.array([[0, 1]], np.uint8), values, "a")
    assert written.dtype == dtype
    assert written.tolist() == [list(values)]


def test_values_that_no_type_holds_are_refused():
    with pytest.raises(
        ConfigurationError, match=r"label_map: predictions would hold the values 0 to 18446744073709551616"
    ):
        values_dtype([0, 2**64])


def test_labels_that_are_no_class_are_not_written():
    with pytest.raises(
        LabelError, match=r"b\.nii: the prediction holds the label 5, which is not one of the 2 classes"
    ):
        to_values(np.array([[0, 5]], np.uint8), (0, 255), "b.nii")


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_in_memory_stays(order):
    labels = np.asarray(np.arange(24).reshape(2, 3, 4) % 2, np.uint8, order=order)
    written = to_values(labels, (0, 255), "a")
    np.testing.assert_array_equal(written, labels * 255)
    assert written.flags.f_contiguous == labels.flags.f_contiguous


@pytest.mark.parametrize(
    ("values", "proposal"),
    [
        ([0, 1, 2, 255], {255: 0}),
        ([0, 1, 255], {255: 0}),
        ([0, 1, 4, 255], {4: 2, 255: 0}),
        ([0, 1, 2, 65535], {65535: 0}),
        ([0, 255], {255: 1}),
        ([0, 128, 255], {128: 1, 255: 2}),
        ([0, 85, 170, 255], {85: 1, 170: 2, 255: 3}),
    ],
)
def test_255_beside_other_labels_is_ignore_and_no_class(values, proposal):
    assert proposed_label_map(values) == proposal
    assert likely_ignored(values) == (max(values) if proposal[max(values)] == 0 else None)


def test_a_label_map_is_completed_only_by_values_that_are_there():
    assert completed({2: 1}, [0, 1, 2]) == {1: 1, 2: 1}
    assert completed({2: 1}, [0, 2]) == {2: 1}
    assert completed({4: 3, 5: 3}, [0, 1, 2, 3, 4, 5]) == {3: 3, 4: 3, 5: 3}
