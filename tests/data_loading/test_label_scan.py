"""Which labels there are."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miscnn_tf.data_loading.interfaces import Dictionary_interface
from miscnn_tf.data_loading.label_scan import (
    FoundLabels,
    classes_of,
    count_values,
    proposed_label_map,
    scan_labels,
)
from miscnn_tf.errors import DataError, MissingDataError


def found(**samples) -> FoundLabels:
    labels = FoundLabels()
    for name, values in samples.items():
        labels.add(name, dict.fromkeys(values, 1))
    return labels


def interface(**labels) -> Dictionary_interface:
    arrays = {name: None if values is None else np.array(values) for name, values in labels.items()}
    return Dictionary_interface(
        {name: (np.zeros((2, 2)), values) for name, values in arrays.items()}, classes=2**16, three_dim=False
    )


@settings(deadline=None)
@given(
    st.sampled_from([np.uint8, np.int16, np.uint16, np.int64, np.float32, np.float64, np.bool_]),
    st.lists(st.integers(0, 120), min_size=1, max_size=60),
)
def test_counts_are_numpys(dtype, values):
    array = np.array(values).astype(dtype)
    numbers, counts = np.unique(array, return_counts=True)
    assert count_values(array) == {int(value): count for value, count in zip(numbers, counts, strict=True)}


def test_large_arrays_are_counted_in_parts(monkeypatch, rng):
    monkeypatch.setattr("miscnn_tf.data_loading.label_scan._CHUNK", 7)
    array = rng.integers(0, 5, (4, 5, 6)).astype(np.uint8)
    assert count_values(np.asfortranarray(array)) == {value: int((array == value).sum()) for value in range(5)}


@pytest.mark.parametrize("bad", [[0.5, 1], [np.nan, 1], [np.inf, 0]])
def test_fractions_are_no_labels(bad):
    with pytest.raises(DataError, match="whole numbers"):
        count_values(np.array(bad))


def test_an_image_is_no_label_map(rng):
    with pytest.raises(DataError, match="more than 1000 different values; is it the image"):
        count_values(np.arange(-2000, 2000))


def test_all_samples_are_read_for_a_rare_class():
    labels = scan_labels(interface(a=[[0, 1], [1, 1]], b=[[0, 0], [0, 0]], c=[[0, 2], [0, 0]]), ["a", "b", "c"])
    assert labels.voxels == {0: 8, 1: 3, 2: 1}
    assert labels.first == {0: "a", 1: "a", 2: "c"}
    assert classes_of(labels, "data") == (3, None)


def test_samples_without_segmentation_are_passed_over_and_named(caplog):
    assert scan_labels(interface(a=[[0, 1], [1, 1]], b=None), ["a", "b"]).values == [0, 1]
    assert "1 of 2 samples have no segmentation: b" in caplog.text
    with pytest.raises(MissingDataError, match="none of the 2 samples has a segmentation"):
        scan_labels(interface(a=None, b=None), ["a", "b"])


def test_every_bad_segmentation_is_named():
    with pytest.raises(DataError, match="2 of 3 segmentations cannot be used") as caught:
        scan_labels(interface(a=[[0, 1], [1, 1]], b=[[0.5, 0], [0, 0]], c=[[-1, 0], [0, 0]]), ["a", "b", "c"])
    assert "'b'" in str(caught.value)
    assert "'c'" in str(caught.value)


@pytest.mark.parametrize("high", [255, 65535])
def test_masks_of_0_and_255_are_two_classes(caplog, high):
    with caplog.at_level(logging.INFO):
        assert classes_of(found(a=[0, high], b=[0]), "data") == (2, {high: 1})
    assert f"label_map={{{high}: 1}}" in caplog.text


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ([0, 1, 4], r"label_map=\{4: 2\}"),
        ([1, 2, 3], r"label_map=\{1: 0, 2: 1, 3: 2\}"),
        ([0, 128, 255], r"label_map=\{128: 1, 255: 2\}"),
        ([-1, 0, 1], r"label_map=\{-1: 1, 1: 2\}"),
        ([0, 2], r"label_map=\{2: 1\}"),
    ],
)
def test_gaps_are_told_with_the_label_map_to_pass(values, advice):
    with pytest.raises(DataError, match=advice) as caught:
        classes_of(found(a=values), "data")
    assert all(f"{value} (in 'a')" in str(caught.value) for value in values)
    mapping = proposed_label_map(values)
    assert classes_of(found(a=values), "data", mapping) == (len(values), mapping)


@settings(deadline=None)
@given(st.sets(st.integers(-50, 50), min_size=2, max_size=10))
def test_a_proposed_label_map_always_works(values):
    mapping = proposed_label_map(values)
    assert classes_of(found(a=values), "data", mapping)[0] == len(values)
    assert 0 not in values or 0 not in mapping


def test_text_keys_are_numbers():
    assert classes_of(found(a=[0, 255]), "data", {"255": 1}) == (2, {255: 1})


def test_a_label_map_that_leaves_gaps_is_told():
    with pytest.raises(DataError, match=r"with label_map=\{4: 3\} 0, 1, 3"):
        classes_of(found(a=[0, 1, 4]), "data", {4: 3})


@pytest.mark.parametrize("mapping", [None, {255: 0}])
def test_background_alone_is_no_data_set(mapping):
    with pytest.raises(DataError, match="only background"):
        classes_of(found(a=[0] if mapping is None else [0, 255]), "data", mapping)


def test_smoothly_resized_masks_are_recognised():
    with pytest.raises(DataError, match="resized smoothly, or compressed with loss"):
        classes_of(found(a=[0, *range(3, 60, 4), 255]), "data")


def test_numbered_objects_are_suspected(caplog):
    assert classes_of(found(a=range(58)), "data") == (58, None)
    assert "If they number objects" in caplog.text


@pytest.mark.parametrize("values", [[0, 1, 2, 255], [*range(14), 255], [0, 1, 65535]])
def test_255_beside_other_labels_is_not_proposed_as_a_class(values):
    with pytest.raises(DataError, match=rf'label_map=\{{{values[-1]}: 0\}}.*most likely means "ignore"') as caught:
        classes_of(found(a=values), "data")
    assert "resized smoothly" not in str(caught.value)
    assert classes_of(found(a=values), "data", {values[-1]: 0}) == (len(values) - 1, {values[-1]: 0})


def test_the_label_map_of_merged_values_is_completed():
    assert classes_of(found(a=[0, 1, 2]), "data", {2: 1}) == (2, {1: 1, 2: 1})
    assert classes_of(found(a=[0, 2]), "data", {2: 1}) == (2, {2: 1})
