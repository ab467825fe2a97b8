"""Colours over images, measured with scikit-image's CIELAB."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from miscnn_tf._base.class_colours import class_colours
from miscnn_tf.pictures.contrast import OPACITY, colours_over, difference_colours, main_colours, outline_colour

BROWN = np.array([[150, 90, 50], [125, 75, 40], [170, 115, 70], [232, 225, 220]], np.uint8)
FUNDUS = np.array([[200, 89, 19], [154, 57, 9], [96, 42, 7], [0, 0, 0]], np.uint8)
PINK = np.array([[200, 140, 190], [130, 80, 150], [240, 230, 240]], np.uint8)


def lab(colours) -> np.ndarray:
    return rgb2lab(np.asarray(colours, float)[None] / 255)[0]


def rgb(names: list[str]) -> np.ndarray:
    return np.array([list(bytes.fromhex(name[1:])) for name in names])


def distances(first, second) -> np.ndarray:
    return np.linalg.norm(lab(first)[:, None] - lab(second)[None], axis=-1)


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 6, 7, 8, 12, 22, 40])
@pytest.mark.parametrize("below", [None, BROWN, FUNDUS, PINK], ids=["grey", "brown", "fundus", "pink"])
def test_differences_differ_from_every_class_and_from_each_other(classes, below):
    """Defect: missed was the colour of class 2, too much that of class 4, another class that of class 6."""
    own = colours_over(classes, below)[1:]
    names = difference_colours(own, below)
    assert len(set(names)) == 3
    # 2.3 is just noticeable; colours of different things need about ten times as much.
    assert distances(rgb(names), own).min() > 25
    assert distances(rgb(names), rgb(names))[np.triu_indices(3, 1)].min() > 40


@pytest.mark.parametrize("below", [BROWN, FUNDUS], ids=["brown", "fundus"])
def test_orange_is_not_laid_over_brown(below):
    orange, vermilion = [230, 159, 0], [213, 94, 0]
    first = colours_over(3, below)[1:].tolist()
    assert orange not in first
    assert vermilion not in first

    def contrast(colour):
        return distances(OPACITY * np.array([colour]) + (1 - OPACITY) * below, below).min()

    assert contrast(first[0]) > 1.4 * contrast(orange)
    assert contrast(first[0]) >= contrast(first[1])


def test_grey_images_have_the_usual_colours_and_all_images_all_colours():
    np.testing.assert_array_equal(colours_over(22, None), class_colours(22))
    colours = colours_over(22, BROWN)
    assert {tuple(one) for one in colours.tolist()} == {tuple(one) for one in class_colours(22).tolist()}


def test_the_main_colours_are_those_of_large_areas():
    image = np.full((60, 100, 3), 230, np.uint8)
    image[:20, :50] = (150, 90, 50)
    image[0, :2] = (0, 255, 0)  # too little to matter
    found = {tuple(colour) for colour in main_colours(image).tolist()}
    assert found == {(230, 230, 230), (150, 90, 50)}


def test_outlines_are_dark_on_bright_images_only():
    assert [outline_colour(below) for below in (None, FUNDUS, PINK)] == ["#FFFFFF", "#FFFFFF", "#000000"]


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 6, 7, 8, 12, 22])
@pytest.mark.parametrize("below", [None, BROWN, FUNDUS, PINK], ids=["grey", "brown", "fundus", "pink"])
def test_differences_are_not_two_greens(classes, below):
    """Defect: "too much" and "another class" were two greens, at a CIEDE2000 of 15."""
    own = colours_over(classes, below)[1:]
    three = lab(rgb(difference_colours(own, below)))
    between = deltaE_ciede2000(three[:, None], three[None])
    assert between[np.triu_indices(3, 1)].min() > 25
    assert deltaE_ciede2000(three[:, None], lab(own)[None]).min() > 14
