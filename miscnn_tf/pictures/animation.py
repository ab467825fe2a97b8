"""Animations as GIF files: panels side by side, one frame per slice."""

from __future__ import annotations

import functools
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil
from pathlib import Path

import numpy as np
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from scipy.spatial import KDTree

from miscnn_tf._base.files import atomic_path
from miscnn_tf.pictures.overlay import overlay
from miscnn_tf.pictures.slices import View

MARGIN = 10
GAP = 8
LINE = 22
_FONT_SIZE = 14
_SWATCH = 13
_LEAST_WIDTH = 300
_MOST_COLUMNS = 4
_MOST_SIGNS = 500  # longer texts do not fit into any picture


@dataclass(frozen=True)
class Sheet:
    """Layout of a frame: title and slice number at the top, panels with their names, the legend below.

    Attributes:
        title: Text on the left above the panels, truncated if it does not fit.
        names: A name per panel. A row has at most four panels.
        panel: Width and height of a panel in pixels.
        legend: Names and their colours.
    """

    title: str
    names: tuple[str, ...]
    panel: tuple[int, int]
    legend: tuple[tuple[str, tuple[int, int, int]], ...] = ()

    @property
    def width(self) -> int:
        """Width of a frame in pixels."""
        columns = min(len(self.names), _MOST_COLUMNS)
        return max(_LEAST_WIDTH, columns * (self.panel[0] + GAP) - GAP + 2 * MARGIN)

    def corners(self) -> list[tuple[int, int]]:
        """Upper left pixel of each panel."""
        across, down = self.panel
        columns = min(len(self.names), _MOST_COLUMNS)
        left = (self.width - columns * (across + GAP) + GAP) // 2
        top = MARGIN + 2 * LINE
        return [
            (left + number % columns * (across + GAP), top + number // columns * (down + LINE + GAP))
            for number in range(len(self.names))
        ]

    def blank(self) -> Image.Image:
        """Draw the common parts of all frames, with space for the panels and the slice number."""
        entries, lines = self._legend_places()
        below = self.corners()[-1][1] + self.panel[1] + MARGIN
        height = below + lines * LINE + (MARGIN // 2 if lines else 0)
        picture = Image.new("RGB", (self.width, height), "white")
        draw = ImageDraw.Draw(picture)
        draw.text((MARGIN, MARGIN), _fitting(self.title, self.width - 2 * MARGIN - 110), "black", _font())
        for name, (left, top) in zip(self.names, self.corners(), strict=True):
            draw.text((left, top - LINE + 1), _fitting(name, self.panel[0]), "black", _font())
        for (name, colour), (left, line) in zip(self.legend, entries, strict=True):
            top = below + line * LINE
            draw.rectangle((left, top + 2, left + _SWATCH - 1, top + 1 + _SWATCH), fill=colour)
            draw.text((left + _SWATCH + 5, top), _fitting(name, self._longest_entry()), "black", _font())
        return picture

    def frame(self, blank: Image.Image, panels: Sequence[np.ndarray], caption: str) -> Image.Image:
        """Draw a frame from panels, uint8 arrays ``(rows, columns, 3)`` of any size, and a caption."""
        picture = blank.copy()
        for pixels, corner in zip(panels, self.corners(), strict=True):
            picture.paste(_resized(pixels, self.panel), corner)
        draw = ImageDraw.Draw(picture)
        draw.text((self.width - MARGIN, MARGIN), caption, "black", _font(), anchor="ra")
        return picture

    def _longest_entry(self) -> int:
        return self.width - 2 * MARGIN - _SWATCH - 5

    def _legend_places(self) -> tuple[list[tuple[int, int]], int]:
        """Return the left border and line of each entry, and the number of lines."""
        places: list[tuple[int, int]] = []
        left, line = MARGIN, 0
        for name, _ in self.legend:
            long = _SWATCH + 5 + round(_font().getlength(_fitting(name, self._longest_entry())))
            if places and left + long > self.width - MARGIN:
                left, line = MARGIN, line + 1
            places.append((left, line))
            left += long + 18
        return places, line + 1 if places else 0


def panel_size(view: View, shape: Sequence[int], size: int) -> tuple[int, int]:
    """Return width and height of a panel in pixels, with the aspect ratio of the voxels.

    Small images are enlarged by a whole factor, so that all voxels have the same size.

    Args:
        view: View of the array.
        shape: Shape of the view, ``(slices, rows, columns)``.
        size: Approximate length of the longer side in pixels.

    Example:
        >>> panel_size(View((0, 1, 2), (False,) * 3, 5, row_mm=2.0, column_mm=1.0), (5, 20, 30), 100)
        (60, 80)
    """
    least = min(view.row_mm, view.column_mm)
    down, across = shape[1] * view.row_mm / least, shape[2] * view.column_mm / least
    factor = size / max(down, across)
    if factor > 1:
        factor = int(factor)
    return max(1, round(across * factor)), max(1, round(down * factor))


def write_gif(
    path: str | Path, frames: Iterable[Image.Image], seconds: float = 0.15, palette: np.ndarray | None = None
) -> None:
    """Write frames as an endless GIF. Frames are consumed one at a time, and stored with 8 bits per pixel.

    Args:
        path: The file.
        frames: RGB pictures of one size.
        seconds: Duration of a frame.
        palette: Common colours of all frames, uint8 array ``(n, 3)``, at most 256 (see `overlay_palette`). The
            remaining colours are chosen for each frame.

    Raises:
        StorageError: If the file cannot be written.
    """
    reduced = _reduced(frames, palette)
    first = next(reduced)
    second = next(reduced, None)
    with atomic_path(path) as temporary:
        if second is None:
            first.save(temporary, optimize=False)
        else:
            first.save(
                temporary,
                save_all=True,
                append_images=chain([second], reduced),
                duration=max(20, round(1000 * seconds)),  # browsers replace durations below 0.02 s by 0.1 s
                loop=0,
                optimize=False,
            )


def overlay_palette(colours: np.ndarray, alpha: float) -> np.ndarray:
    """Return 256 colours for frames of `overlay`: greys, and the colour of each class over some greys.

    One palette for all frames avoids flickering, and the colours match those of the legend.

    Args:
        colours: A colour per class, uint8 array ``(classes, 3)``, background first.
        alpha: Opacity in the calls of `overlay`.

    Returns:
        uint8 array ``(256, 3)``.
    """
    paints = np.unique(colours[1:], axis=0)
    shades = min(32, 128 // max(1, len(paints)))
    entries = [paints]
    for paint in paints:
        ramp = np.linspace(0, 255, shades)[np.newaxis]
        label = np.ones((1, shades), np.uint8)
        entries.append(overlay(ramp, label, 2, alpha, (0, 255), np.stack([paint, paint]))[0])
    left = 256 - sum(len(each) for each in entries)
    entries.append(np.repeat(np.rint(np.linspace(0, 255, left)).astype(np.uint8)[:, np.newaxis], 3, axis=1))
    return np.concatenate(entries)


def _reduced(frames: Iterable[Image.Image], palette: np.ndarray | None) -> Iterator[Image.Image]:
    fixed = np.zeros((0, 3), np.uint8) if palette is None else palette
    for frame in frames:
        entries = fixed
        if len(fixed) < 256:
            own = frame.quantize(256 - len(fixed), dither=Image.Dither.NONE).getpalette() or []
            entries = np.concatenate([fixed, np.array(own, np.uint8).reshape(-1, 3)])
        # Not Pillow's quantize(palette=...), which merges similar colours: white would be grey.
        red, green, blue = (np.asarray(channel).astype(np.int32) for channel in frame.split())
        colours, places = np.unique((red << 16) + (green << 8) + blue, return_inverse=True)
        wanted = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1)
        nearest = KDTree(entries.astype(np.float64)).query(wanted)[1].astype(np.uint8)
        reduced = Image.fromarray(nearest[places].reshape(frame.height, frame.width))
        reduced.putpalette(entries.tobytes())
        yield reduced


def _resized(pixels: np.ndarray, panel: tuple[int, int]) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    # Enlarge without interpolation, and reduce by averaging all voxels.
    for axis in (0, 1):
        size = (panel[0], picture.height) if axis == 0 else (picture.width, panel[1])
        smaller = size < picture.size
        picture = picture.resize(size, Image.Resampling.BOX if smaller else Image.Resampling.NEAREST)
    return picture


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    # matplotlib's font, which has Greek and Cyrillic letters, and exists on every machine.
    return ImageFont.truetype(findfont("DejaVu Sans"), _FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)


def _fitting(text: str, width: int) -> str:
    """Return a text on one line, truncated to `width` pixels."""
    text = "".join(sign if sign.isprintable() else " " for sign in text[:_MOST_SIGNS])
    if _font().getlength(text) <= width:
        return text
    fits = bisect(range(len(text)), width, key=lambda count: ceil(_font().getlength(text[:count] + "…"))) - 1
    return text[: max(0, fits)] + "…"
