"""Colours of classes in pictures, pages and DICOM files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Okabe & Ito, "Color Universal Design" (2008): distinct for any colour vision. The first colours differ most from grey
# and from each other. Black is the background.
OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#F0E442", "#CC79A7", "#0072B2")

# Grey, and its share, that the colours of classes 1 to 7, 8 to 14 and 15 to 21 are mixed with.
_SHADES = ((0, 0.0), (255, 0.55), (0, 0.5))


def class_colours(classes: int, palette: Sequence[str] = OKABE_ITO) -> np.ndarray:
    """Return a colour per class: uint8 array ``(classes, 3)``, black for the background (0).

    Classes 8 to 14 have lighter and 15 to 21 darker colours of 1 to 7; from 22 on colours are repeated.

    Args:
        classes: Number of classes, background included.
        palette: The colours of classes 1 to 7.

    Example:
        >>> class_colours(2).tolist()
        [[0, 0, 0], [230, 159, 0]]
    """
    colours: list[tuple[float, ...]] = [(0.0, 0.0, 0.0)]
    for number in range(classes - 1):
        colour = bytes.fromhex(palette[number % len(palette)][1:])
        grey, share = _SHADES[number // len(palette) % len(_SHADES)]
        colours.append(tuple(grey * share + (1 - share) * value for value in colour))
    return np.rint(colours).astype(np.uint8)
