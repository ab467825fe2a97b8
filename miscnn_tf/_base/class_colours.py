"""Colours of classes in pictures, pages and DICOM files, and CIELAB, in which colours are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

#: Okabe & Ito, "Color Universal Design" (2008): distinct for any colour vision. The first colours differ most from grey
#: and from each other. Black is the background.
OKABE_ITO: Final = ("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#F0E442", "#CC79A7", "#0072B2")

# Grey, and its share, that the colours of classes 1 to 7, 8 to 14 and 15 to 21 are mixed with.
_SHADES = ((0, 0.0), (255, 0.55), (0, 0.5))
_WHITE = np.array([0.9505, 1.0, 1.0891])
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def class_colour(label: int, palette: Sequence[str] = OKABE_ITO) -> tuple[int, int, int]:
    """Return the colour of a class, black for the background (0).

    Classes 8 to 14 have lighter and 15 to 21 darker colours of 1 to 7; from 22 on colours are repeated.

    Args:
        label: The class.
        palette: The colours of classes 1 to 7.

    Example:
        >>> class_colour(1), class_colour(8)
        ((230, 159, 0), (244, 212, 140))
    """
    if label == 0:
        return 0, 0, 0
    number = label - 1
    colour = bytes.fromhex(palette[number % len(palette)][1:])
    grey, share = _SHADES[number // len(palette) % len(_SHADES)]
    red, green, blue = (round(grey * share + (1 - share) * value) for value in colour)
    return red, green, blue


def class_colours(classes: int, palette: Sequence[str] = OKABE_ITO) -> np.ndarray:
    """Return a colour per class: uint8 array ``(classes, 3)``, black for the background (0); see `class_colour`.

    Args:
        classes: Number of classes, background included.
        palette: The colours of classes 1 to 7.

    Example:
        >>> class_colours(2).tolist()
        [[0, 0, 0], [230, 159, 0]]
    """
    return np.array([class_colour(label, palette) for label in range(max(1, classes))], np.uint8)


def linear_rgb(rgb: np.ndarray) -> np.ndarray:
    """Convert sRGB of 0 to 255 to linear RGB of 0 to 1."""
    share = rgb.astype(float) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def cielab(rgb: np.ndarray) -> np.ndarray:
    """Convert sRGB of 0 to 255, array ``(colours, 3)``, to CIELAB (D65)."""
    ratio = linear_rgb(rgb) @ _TO_XYZ.T / _WHITE
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
