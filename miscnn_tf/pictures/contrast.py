"""Colours of classes and differences that are distinct from each other and from the image below them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from PIL import Image

from miscnn_tf._base.class_colours import OKABE_ITO, cielab, class_colours, linear_rgb

#: Opacity of the colours of classes over colour images.
OPACITY = 0.6

# Candidates for differences: more saturated than the colours of classes, and bright enough for dark images.
_VIVID = (
    *("#00FFFF", "#FF00FF", "#7CFF00", "#FF2020", "#6060FF", "#00FF9C", "#FFFF60", "#FF9CFF"),
    *("#FF0080", "#A000FF", "#2020FF", "#C8FF00", "#00C0FF"),
)
# Share of an image that a colour needs to count as one of its main colours.
_LEAST_SHARE = 0.04
# Linear RGB as people without green cones see it (Viénot, Brettel & Mollon, Color Research & Application 1999).
_WITHOUT_GREEN = np.array([[0.2928, 0.7072, 0.0], [0.2928, 0.7072, 0.0], [-0.0223, 0.0223, 1.0]])


def main_colours(image: np.ndarray) -> np.ndarray:
    """Return the main colours of a colour image: uint8 array ``(colours, 3)`` with at most 8 rows.

    Args:
        image: uint8 array ``(rows, columns, 3)``.

    Example:
        >>> main_colours(np.full((4, 4, 3), 200, np.uint8)).tolist()
        [[200, 200, 200]]
    """
    step = max(1, *(side // 256 for side in image.shape[:2]))
    small = Image.fromarray(np.ascontiguousarray(image[::step, ::step]))
    few = small.quantize(8, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette = np.array(few.getpalette(), np.uint8).reshape(-1, 3)
    counts = np.bincount(np.asarray(few).ravel(), minlength=len(palette))
    return palette[counts >= _LEAST_SHARE * counts.sum()]


def colours_over(classes: int, image_colours: np.ndarray | None) -> np.ndarray:
    """Return a colour per class: those of `class_colours`, in the order of their contrast to an image.

    Args:
        classes: Number of classes, background included.
        image_colours: The result of `main_colours`, of one or several images; None for grey images.

    Returns:
        uint8 array ``(classes, 3)``, black for the background.

    Example:
        >>> brown = np.array([[150, 90, 40]], np.uint8)
        >>> colours_over(2, None)[1].tolist(), colours_over(2, brown)[1].tolist()
        ([230, 159, 0], [0, 114, 178])
    """
    if image_colours is None or not len(image_colours):
        return class_colours(classes)
    contrast = {
        name: _tint_contrast(colour, image_colours) for name, colour in zip(OKABE_ITO, _rgb(OKABE_ITO), strict=True)
    }
    return class_colours(classes, sorted(OKABE_ITO, key=lambda name: -contrast[name]))


def difference_colours(classes: np.ndarray, image_colours: np.ndarray | None) -> list[str]:
    """Return colours for missed, surplus and confused pixels, as far as possible from those of classes and image.

    Args:
        classes: The colours of the classes that are shown, uint8 array ``(colours, 3)``.
        image_colours: The result of `main_colours`; None for grey images.

    Returns:
        Three colours as ``"#RRGGBB"``.
    """
    candidates = _rgb(_VIVID)
    grey = np.repeat(np.array([[40], [128], [215]], np.uint8), 3, axis=1)
    below = grey if image_colours is None or not len(image_colours) else image_colours
    from_classes = _distances(candidates, classes.astype(np.uint8)).min(axis=1, initial=np.inf)
    from_image = _distances(candidates, below.astype(np.uint8)).min(axis=1)
    between = _distances(candidates, candidates)

    def room(three: tuple[int, ...]) -> float:
        chosen = list(three)
        # They are shown beside each other, and need twice the distance. The image matters less: the colours cover it.
        apart = min(float(between[one, other]) for one, other in combinations(three, 2)) / 2
        return min(apart, float(from_classes[chosen].min()), 1.5 * float(from_image[chosen].min()))

    # The two that differ most are those of missed and surplus pixels.
    best = max(combinations(range(len(candidates)), 3), key=room)
    missed, surplus = max(combinations(best, 2), key=lambda pair: between[pair])
    (other,) = set(best) - {missed, surplus}
    return [_VIVID[missed], _VIVID[surplus], _VIVID[other]]


def outline_colour(image_colours: np.ndarray | None) -> str:
    """Return black for outlines over bright colour images, otherwise white."""
    bright = image_colours is not None and len(image_colours) and np.mean(cielab(image_colours)[:, 0]) > 55
    return "#000000" if bright else "#FFFFFF"


def _rgb(colours: Sequence[str]) -> np.ndarray:
    return np.array([list(bytes.fromhex(colour[1:])) for colour in colours], np.uint8)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the CIEDE2000 of each pair of colours: the mean of that for common and red-green blind eyes."""
    common = _ciede2000(cielab(first)[:, None], cielab(second)[None])
    blind = _ciede2000(cielab(_blind(first))[:, None], cielab(_blind(second))[None])
    return (common + blind) / 2


def _ciede2000(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    from skimage.color import deltaE_ciede2000  # slow to import

    distances: np.ndarray = deltaE_ciede2000(first, second)
    return distances


def _tint_contrast(colour: np.ndarray, image_colours: np.ndarray) -> float:
    """Return the least CIELAB distance between a tinted place of the image and any untinted one."""
    tinted = OPACITY * colour + (1 - OPACITY) * image_colours
    return float(np.linalg.norm(cielab(tinted)[:, None] - cielab(image_colours)[None], axis=-1).min())


def _blind(rgb: np.ndarray) -> np.ndarray:
    seen = np.clip(linear_rgb(rgb) @ _WITHOUT_GREEN.T, 0, 1)
    return 255 * np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
