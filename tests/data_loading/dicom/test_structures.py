"""Names to labels: what is unknown, missing, misspelt or overlapping."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from miscnn_tf.data_loading.dicom.structures import choose_structures, normalised_structure_dict, why_left_out
from miscnn_tf.errors import ConfigurationError, DataError

PATH = Path("rt.dcm")


@pytest.mark.parametrize("wrong", [{"Heart": 3}, {"Heart": -1}, {"Heart": "1"}, {"Heart": True}, {"Heart": 1.0}])
def test_labels_are_classes(wrong):
    with pytest.raises(ConfigurationError, match="not one of the 3 classes"):
        normalised_structure_dict(wrong, 3)


def test_it_is_a_dict():
    with pytest.raises(ConfigurationError, match="must be a dict"):
        normalised_structure_dict(["Heart"], 2)
    assert normalised_structure_dict(None, 2) == {}
    assert normalised_structure_dict({" Heart": np.int64(1)}, 2) == {"Heart": 1}


def test_those_that_are_wanted_come_in_the_order_of_the_dict():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_structures({4: "Lung", 9: "Heart "}, {"Heart": 2, "Lung": 1}, PATH) == [
            (9, "Heart", 2),
            (4, "Lung", 1),
        ]


def test_what_is_not_wanted_or_not_there_is_told():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        choose_structures({1: "Heart", 2: "BODY", 3: "Lung_Left"}, {"Heart": 1, "Lung_left": 2}, PATH)
    texts = [str(one.message) for one in told]
    assert texts == [
        "rt.dcm: Lung_Left is not in structure_dict; the voxels become background",
        "rt.dcm does not hold 'Lung_left' Did you mean 'Lung_Left'? of structure_dict; its label has no voxels there",
    ]


def test_spellings_that_share_a_label_are_not_missing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_structures({1: "Lung L", 2: "BODY"}, {"Lung_L": 1, "Lung L": 1}, PATH) == [(1, "Lung L", 1)]


def test_several_structures_of_one_name_are_united_with_a_warning():
    with pytest.warns(UserWarning, match=r"rt.dcm holds several structures of one name: 'Heart' \(2 times\); they are"):
        chosen = choose_structures({4: "Heart", 9: "Heart "}, {"Heart": 2}, PATH)
    assert chosen == [(4, "Heart", 2), (9, "Heart", 2)]


def test_none_of_them_is_an_error_that_lists_the_names():
    with pytest.raises(DataError, match=r"none of the structures of structure_dict \(Hart\); it holds Heart, Lung"):
        choose_structures({1: "Heart", 2: "Lung"}, {"Hart": 1}, PATH)


def test_without_a_dict_the_error_says_what_it_could_be():
    with pytest.raises(DataError, match=r"structure_dict=\{'Heart': 1, 'Lung': 2\}"):
        choose_structures({1: "Heart", 2: "Lung"}, {}, PATH)


def test_structures_that_are_left_out_knowingly_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choose_structures({1: "Heart", 2: "BODY"}, {"Heart": 1}, PATH, {"BODY": "outline"})


@pytest.mark.parametrize(
    "name",
    ["BODY", "Body", " external ", "Skin", "SKIN 1", "body_contour", "Outer Contour", "External_2", "Patient outline"],
)
def test_the_outline_of_the_patient_is_known_by_its_name(name):
    assert why_left_out(name) == "outline of the patient, by its name"


@pytest.mark.parametrize(
    "name", ["", "Heart", "Vertebral_Body", "Skin_Rash", "patient", "outer", "External_Iliac", "body4x"]
)
def test_other_names_are_organs(name):
    assert why_left_out(name) is None
    assert why_left_out(name, "ORGAN") is None
    assert why_left_out(name, "EXTERNAL ") == "outline of the patient (type EXTERNAL)"


def test_the_example_of_the_error_has_no_outline():
    with pytest.raises(DataError, match=r"structure_dict=\{'Heart': 1\}, or"):
        choose_structures({1: "BODY", 2: "Heart"}, {}, PATH)
    with pytest.raises(DataError, match=r"structure_dict=\{'BODY': 1\}, or"):
        choose_structures({1: "BODY"}, {}, PATH)
