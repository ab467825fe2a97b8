"""The colours of classes, and CIELAB against scikit-image."""

from __future__ import annotations

import numpy as np
from skimage.color import rgb2lab

from miscnn_tf._base.class_colours import cielab, class_colour, class_colours


def test_classes_have_one_colour_each():
    colours = class_colours(22)
    assert len({tuple(colour) for colour in colours.tolist()}) == 22
    assert [tuple(colour) for colour in colours.tolist()] == [class_colour(label) for label in range(22)]
    assert class_colour(22) == class_colour(1)


def test_cielab_is_that_of_scikit_image(rng):
    colours = rng.integers(0, 256, (100, 3), dtype=np.uint8)
    np.testing.assert_allclose(cielab(colours), rgb2lab(colours[None] / 255)[0], atol=0.1)
