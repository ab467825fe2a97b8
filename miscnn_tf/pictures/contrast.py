"""Colours of classes and differences that are distinct from each other and from the image below them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from miscnn_tf._base.class_colours import OKABE_ITO, class_colours

#: Opacity of the colours of classes over colour images.
OPACITY = 0.6

# Candidates for differences: more saturated than the colours of classes, and bright enough for dark images.
_VIVID = ("#00FFFF", "#FF00FF", "#7CFF00", "#FF2020", "#6060FF", "#FFFF60", "#FFFFFF")
# Share of an image that a colour needs to count as one of its main colours.
_LEAST_SHARE = 0.04
_WHITE = np.array([0.9505, 1.0, 1.0891])
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
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
    room = _distances(candidates, np.concatenate([classes, below]).astype(np.uint8)).min(axis=1)
    chosen: list[int] = []
    for _ in range(3):
        chosen.append(int(room.argmax()))
        # They are shown beside each other, and need twice the distance.
        room = np.minimum(room, _distances(candidates, candidates[chosen[-1:]])[:, 0] / 2)
    # The two that differ most are those of missed and surplus pixels.
    between = _distances(candidates[chosen], candidates[chosen])
    missed, surplus = sorted(divmod(int(between.argmax()), 3))
    return [_VIVID[chosen[place]] for place in (missed, surplus, 3 - missed - surplus)]


def outline_colour(image_colours: np.ndarray | None) -> str:
    """Return black for outlines over bright colour images, otherwise white."""
    bright = image_colours is not None and len(image_colours) and np.mean(_lab(image_colours)[:, 0]) > 55
    return "#000000" if bright else "#FFFFFF"


def _rgb(colours: Sequence[str]) -> np.ndarray:
    return np.array([list(bytes.fromhex(colour[1:])) for colour in colours], np.uint8)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the distance of each pair of colours in CIELAB: the mean of that for common and red-green blind eyes."""
    pairs = [(_lab(first), _lab(second)), (_lab(_blind(first)), _lab(_blind(second)))]
    return np.mean([np.linalg.norm(one[:, None] - other[None], axis=-1) for one, other in pairs], axis=0)


def _tint_contrast(colour: np.ndarray, image_colours: np.ndarray) -> float:
    """Return the least CIELAB distance between a tinted place of the image and any untinted one."""
    tinted = OPACITY * colour + (1 - OPACITY) * image_colours
    return float(np.linalg.norm(_lab(tinted)[:, None] - _lab(image_colours)[None], axis=-1).min())


def _linear(rgb: np.ndarray) -> np.ndarray:
    share = rgb.astype(float) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def _blind(rgb: np.ndarray) -> np.ndarray:
    seen = np.clip(_linear(rgb) @ _WITHOUT_GREEN.T, 0, 1)
    return 255 * np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)


def _lab(rgb: np.ndarray) -> np.ndarray:
    """Convert sRGB of 0 to 255 to CIELAB (D65)."""
    ratio = _linear(rgb) @ _TO_XYZ.T / _WHITE
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
