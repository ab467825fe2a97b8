"""Samples that are in memory already."""

from __future__ import annotations

import json

import numpy as np
import pytest

from miscnn_tf._base.configuration import get_config
from miscnn_tf.data_loading.interfaces import Dictionary_interface
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError

SHAPE = (4, 5, 6)


@pytest.fixture
def data(rng) -> dict:
    return {
        "b": (rng.random(SHAPE), rng.integers(0, 2, SHAPE)),
        "a": (rng.integers(0, 9, SHAPE).astype(np.int16), rng.integers(0, 2, (*SHAPE, 1))),
    }


def sample_of(interface, index, prediction, activation=False) -> Sample:
    image, extended = interface.load_image(index)
    sample = Sample(index, image, interface.channels, interface.classes, extended, three_dim=interface.three_dim)
    sample.add_prediction(prediction, activation_output=activation)
    return sample


def test_indices_are_sorted_and_the_path_is_not_used(data):
    assert Dictionary_interface(data).initialize("/no/such/folder") == ["a", "b"]
    assert Dictionary_interface({2: data["a"], 10: data["b"]}).initialize("") == [2, 10]
    assert Dictionary_interface({2: data["a"], "x": data["b"]}).initialize("") == [2, "x"]


def test_empty():
    with pytest.raises(MissingDataError, match="dictionary is empty"):
        Dictionary_interface({}).initialize("")


def test_images_are_neither_copied_nor_writable(data):
    image, extended = Dictionary_interface(data).load_image("a")
    assert np.shares_memory(image, data["a"][0])
    assert not image.flags.writeable
    assert data["a"][0].flags.writeable
    assert extended == {"type": "dictionary"}


def test_float64_becomes_float32(data):
    assert Dictionary_interface(data).load_image("b")[0].dtype == np.float32


def test_a_second_prediction_replaces_the_first(data, tmp_path):
    # MIScnn does not store it.
    interface = Dictionary_interface(data)
    for value in (1, 0):
        interface.save_prediction(sample_of(interface, "a", np.full(SHAPE, value)), tmp_path)
        prediction = interface.load_prediction("a", tmp_path)
        assert prediction.shape == SHAPE
        assert (prediction == value).all()
    assert len(data["a"]) == 3
    assert list(tmp_path.iterdir()) == []


def test_details_stay_when_a_prediction_is_saved(data):
    details = {"spacing": (1, 2, 3)}
    data["a"] = [*data["a"], None, details]
    interface = Dictionary_interface(data)
    interface.save_prediction(sample_of(interface, "a", np.zeros(SHAPE)), "")
    assert data["a"][3] is details
    assert interface.load_details("a") == details


def test_probabilities(data, rng):
    probabilities = rng.random((*SHAPE, 2))
    interface = Dictionary_interface(data)
    interface.save_prediction(sample_of(interface, "a", probabilities, True), "")
    assert interface.load_prediction("a", "").dtype == np.float32
    np.testing.assert_allclose(interface.load_prediction("a", ""), probabilities, rtol=1e-6)


def test_geometry_from_the_details(data):
    data["a"] = (*data["a"], None, {"affine": np.diag([0.5, 0.5, 2, 1])})
    extended = Dictionary_interface(data).load_image("a")[1]
    assert extended["spacing"].tolist() == [0.5, 0.5, 2]


def test_labels_are_checked_and_mapped(data):
    data["a"] = (data["a"][0], data["a"][1] * 255)
    with pytest.raises(DataError, match="sample 'a' of the dictionary, segmentation: the label map holds 255"):
        Dictionary_interface(data).load_segmentation("a")
    labels = Dictionary_interface(data, label_map={255: 1}).load_segmentation("a")
    assert labels.dtype == np.uint8
    assert labels.max() == 1


def test_nan_is_warned(data):
    data["b"][0][0, 0, 0] = np.nan
    with pytest.warns(UserWarning, match=r"sample 'b'.*1 of 120"):
        Dictionary_interface(data).load_image("b")


@pytest.mark.parametrize("entry", [None, 5, (), (None, 1), np.zeros(SHAPE), tuple(range(5))])
def test_entries_that_are_none(data, entry):
    data["a"] = entry
    with pytest.raises(DataError, match=r"sample 'a' of the dictionary, entry must be \(image, segmentation"):
        Dictionary_interface(data).load_image("a")


def test_what_is_missing_is_named(data):
    data["c"] = (data["a"][0],)
    interface = Dictionary_interface(data)
    with pytest.raises(MissingDataError, match="no sample 'x'; it holds 'b', 'a', 'c'"):
        interface.load_image("x")
    with pytest.raises(MissingDataError, match=r"sample 'c'.*segmentation is missing"):
        interface.load_segmentation("c")
    with pytest.raises(MissingDataError, match=r"sample 'c'.*prediction is missing"):
        interface.load_prediction("c", "")
    with pytest.raises(MissingDataError, match="segmentation"):
        interface.check("c")
    interface.check("c", load_seg=False)


@pytest.mark.parametrize(
    ("entry", "arguments", "message"),
    [
        ((np.zeros((4, 5)), np.zeros((4, 5))), {}, "three_dim=False"),
        ((np.zeros(SHAPE), np.zeros(SHAPE)), {"channels": 2}, r"1 channel\(s\)"),
        ((np.zeros(SHAPE), np.zeros((4, 5, 7))), {}, r"\(4, 5, 7\), the image \(4, 5, 6\)"),
        ((np.array(["x"]), None), {}, "numbers are needed"),
        ((np.zeros(SHAPE), np.zeros(SHAPE), None, "mm"), {}, "details"),
    ],
)
def test_check(entry, arguments, message):
    with pytest.raises(DataError, match=message):
        Dictionary_interface({"a": entry}, **arguments).check("a")


def test_check_of_good_data(data):
    for index in data:
        Dictionary_interface(data).check(index)
    Dictionary_interface({"a": (np.zeros((4, 5, 3)), np.zeros((4, 5)))}, channels=3, three_dim=False).check("a")


def test_fingerprint_is_the_contents(data):
    interface = Dictionary_interface(data)
    before = interface.fingerprint("a")
    data["a"] = (np.asfortranarray(data["a"][0]).copy(), data["a"][1].copy())
    assert interface.fingerprint("a") == before
    assert interface.fingerprint("b") != before
    data["a"][1][0, 0, 0] ^= 1
    assert interface.fingerprint("a") != before


def test_no_data_in_the_configuration(data):
    config = get_config(Dictionary_interface(data, classes=3, three_dim=True, label_map={4: 1}))
    assert config["dictionary"] == {}
    again = Dictionary_interface(**json.loads(json.dumps(config)))
    assert (again.classes, again.label_map) == (3, {4: 1})


def test_something_else_than_a_dict():
    with pytest.raises(ConfigurationError, match="dictionary is a list"):
        Dictionary_interface([np.zeros(SHAPE)])


def test_what_is_known_of_an_image_does_not_need_the_image():
    interface = Dictionary_interface({"a": (np.zeros((4, 5, 6)), None, None, {"spacing": (1.0, 2.0, 3.0)})})
    found, expected = interface.load_extended("a"), interface.load_image("a")[1]
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(found["spacing"], (1.0, 2.0, 3.0))
