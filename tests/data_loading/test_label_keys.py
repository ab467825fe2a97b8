"""Label maps by colour, threshold and "nonzero": reading, writing, and the text of a configuration."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miscnn_tf._base.configuration import plain
from miscnn_tf.data_loading.label_keys import (
    BLACK,
    NONZERO,
    as_key,
    class_of,
    colour_keys,
    colour_map,
    colours_of,
    is_colour,
    is_threshold,
    parse_key,
)
from miscnn_tf.data_loading.label_values import class_values, label_map_of, reading_map, to_values
from miscnn_tf.data_loading.labels import check_labels, normalised_label_map
from miscnn_tf.errors import ConfigurationError, LabelError

RED, GREEN = parse_key("#ff0000"), parse_key("#00FF00")


@pytest.mark.parametrize("text", ["0", "255", "-7", "nonzero", "128+", "1+", "#000000", "#12abef"])
def test_a_key_is_shown_as_it_is_written(text):
    key = parse_key(text)
    assert (str(key), f"{key}") == (text, text)
    assert str(as_key(int(key))) == text
    assert copy.deepcopy({key: 1}) == pickle.loads(pickle.dumps({key: 1})) == {key: 1}
    assert json.loads(json.dumps(plain({key: 1}))) == {text: 1}
    assert normalised_label_map({text: 1}, 2) == normalised_label_map({key: 1}, 2) == {key: 1}


@pytest.mark.parametrize(
    "text", ["", "1.5", "1_0", "red", "#fff", "#gggggg", "+128", "-1+", "0+", "128 +", "123456+", "Nonzero"]
)
def test_other_texts_are_no_keys(text):
    with pytest.raises(ValueError, match=r"is not a value, a colour \(#ff0000\), a threshold \(128\+\) or nonzero"):
        parse_key(text)
    with pytest.raises(ConfigurationError, match="Keys may also be colours"):
        normalised_label_map({text: 1}, 2)


def test_nonzero_is_one_class():
    labels = np.array([[0, 1, 7], [300, 0, 2]], np.uint16)
    np.testing.assert_array_equal(check_labels(labels, 2, "a", {"nonzero": 1}), labels > 0)
    np.testing.assert_array_equal(check_labels(labels, 3, "a", {"nonzero": 1, 7: 2}), [[0, 1, 2], [1, 0, 1]])
    assert class_values({NONZERO: 1}, 2) == (0, 1)
    with pytest.raises(ConfigurationError, match="both nonzero and a threshold"):
        normalised_label_map({"nonzero": 1, "128+": 1}, 2)


def test_values_from_a_threshold_are_a_class():
    labels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(check_labels(labels, 2, "a", {"128+": 1}), labels >= 128)
    three = check_labels(labels, 3, "a", {"64+": 1, "192+": 2})
    np.testing.assert_array_equal(three, (labels >= 64).astype(int) + (labels >= 192))
    mapping = normalised_label_map({"64+": 1, "192+": 2}, 3)
    assert class_values(mapping, 3) == (0, 64, 255)
    assert class_values(normalised_label_map({"1000+": 1}, 2), 2) == (0, 1000)


@given(
    st.dictionaries(
        st.one_of(
            st.sampled_from([NONZERO, RED, GREEN, BLACK]), st.integers(1, 300).map(lambda least: parse_key(f"{least}+"))
        ),
        st.integers(0, 3),
        min_size=1,
    ).filter(lambda held: len({is_colour(key) + 2 * is_threshold(key) for key in held}) == 1)
)
def test_predictions_are_read_back(label_map):
    """What is written for a class is read as this class, whatever the label map."""
    values = class_values(label_map, 4)
    assert len(set(values)) == 4
    labels = np.arange(4, dtype=np.uint8).reshape(2, 2)
    stored = to_values(labels, values, "a")
    np.testing.assert_array_equal(check_labels(stored, 4, "a", reading_map(label_map, values)), labels)
    again = label_map_of([int(value) for value in values])
    np.testing.assert_array_equal(check_labels(stored, 4, "a", again), labels)


@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=20))
def test_colours_are_kept(colours):
    array = np.array(colours, np.uint8)
    keys = colour_keys(array)
    assert keys.dtype == np.int32
    np.testing.assert_array_equal(colours_of(keys), array)
    assert [str(as_key(key)) for key in keys] == ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colours]


def test_a_colour_without_a_class_is_an_error():
    keys = np.array([[BLACK, RED], [GREEN, GREEN]], np.int32)
    np.testing.assert_array_equal(check_labels(keys, 3, "a", {RED: 1, GREEN: 2}), [[0, 1], [2, 2]])
    with pytest.raises(
        LabelError, match=r"a\.png: the mask holds the colour #00ff00 \(2 pixels\), which label_map does"
    ):
        check_labels(keys, 2, "a.png", {RED: 1})


def test_black_is_the_background_unless_it_is_not_there():
    white = parse_key("#ffffff")
    assert colour_map([BLACK, white, RED], {BLACK: 1, white: 90, RED: 5}) == {BLACK: 0, RED: 1, white: 2}
    assert colour_map([white, RED], {white: 90, RED: 5}) == {white: 0, RED: 1}
    assert class_values({white: 0, RED: 1}, 2) == (white, RED)
    assert class_values({RED: 1}, 2) == (BLACK, RED)


def test_entries_come_before_thresholds():
    mapping = {255: 0, parse_key("128+"): 1}
    assert [class_of(value, mapping) for value in (0, 127, 128, 254, 255)] == [0, 0, 1, 1, 0]
