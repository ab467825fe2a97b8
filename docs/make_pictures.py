"""Draws the pictures of the README: ``python docs/make_pictures.py``."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from PIL import Image

from miscnn_tf import Data_Augmentation
from miscnn_tf.datasets import make_kits_phantom
from miscnn_tf.processing.patching.blending import window_weights
from miscnn_tf.processing.patching.grid import PatchGrid

# Okabe and Ito's colours, which colour-blind people tell apart.
YELLOW, SKY, GREY = "#F0E442", "#56B4E9", "#808080"

PATCH = (48, 48)


def draw_patches(path: Path) -> None:
    """The three values of ``analysis`` on a slice of a phantom scan."""
    image, labels, _ = make_kits_phantom(seed=5, shape=(24, 120, 168), orientation="IPL", oblique=False, tumours=2)
    best = int(np.argmax((labels == 2).sum((1, 2)) + 0.1 * (labels == 1).sum((1, 2))))
    image = np.clip(image[best], -160, 240)

    figure = Figure(figsize=(13, 4.9), dpi=100, facecolor="white")
    upper, lower = figure.subplots(2, 3, height_ratios=(6, 1))
    figure.subplots_adjust(left=0.01, right=0.99, top=0.94, bottom=0.145, hspace=0.03, wspace=0.05)
    titles = ("fullimage", "patchwise-crop", "patchwise-grid")
    for axis, title in zip(upper, titles, strict=True):
        axis.imshow(image, cmap="gray", aspect="auto")
        axis.set_title(f'analysis="{title}"', family="monospace", fontsize=14, weight="bold")
    for axis in (*upper, *lower):
        axis.set_axis_off()

    draw_full(upper[0], image.shape)
    draw_crops(upper[1])
    draw_grid(upper[2], lower[2], image.shape)
    texts = (
        (0.96, "The network sees the whole image at once.\nGood for small 2D images."),
        (
            0.96,
            "Training: per image and step one random patch,\na third of them around the foreground.\n"
            "For a rotated one the dashed box is read.\nPrediction: by a grid, as on the right.",
        ),
        (-0.13, "Training and prediction: all patches of a grid.\nCurves: what each counts where they overlap."),
    )
    for axis, (height, text) in zip(lower, texts, strict=True):
        axis.text(0.5, height, text, transform=axis.transAxes, ha="center", va="top", fontsize=12.5, linespacing=1.3)
    save_small(figure, path)


def draw_full(axis: Axes, shape: tuple[int, int]) -> None:
    """A frame around everything."""
    axis.add_patch(box((1.5, 1.5), (shape[0] - 3, shape[1] - 3), edgecolor=YELLOW, linewidth=3))
    label(axis, (6, 7), "one patch", YELLOW)


def draw_crops(axis: Axes) -> None:
    """Random patches, one of them with what a rotation reads."""
    for start in ((3, 5), (54, 30)):
        axis.add_patch(box(start, PATCH, edgecolor=YELLOW, linewidth=2.5))
    # The margin that a draw asks for, at the greatest angle.
    angle = 15 / 180 * math.pi
    augmentation = Data_Augmentation(scaling=False, config_p_per_sample=1.0, config_rotations_angleX=(angle, angle))
    margin, size = augmentation.draw(np.random.default_rng(0), PATCH, channels=1).region(PATCH)
    start = (30, 104)
    read = tuple(first + before for first, before in zip(start, margin, strict=True))
    axis.add_patch(box(read, size, edgecolor=SKY, linewidth=2.5, linestyle=(0, (4, 2))))
    middle = np.array(start) + (np.array(PATCH) - 1) / 2
    corners = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) * (np.array(PATCH) / 2)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = (corners @ turn.T + middle)[:, ::-1]
    axis.add_patch(Polygon(points, fill=False, edgecolor=YELLOW, linewidth=2.5, path_effects=outline()))
    label(axis, (7, 5), "patch_shape", YELLOW)
    label(axis, (read[1] + size[1] / 2, read[0] - 10), "read for a\nrotated patch", SKY, ha="center", va="center")


def draw_grid(axis: Axes, below: Axes, shape: tuple[int, int]) -> None:
    """The patches of a grid with half overlap, and what they count."""
    overlap = tuple(size // 2 for size in PATCH)
    grid = PatchGrid(shape, PATCH, overlap)
    for location in grid:
        axis.add_patch(box(location.start, PATCH, edgecolor="white", linewidth=0.7, alpha=0.5, path_effects=[]))
    row, shown = 1, {2: YELLOW, 3: SKY}
    rows, columns = grid.starts
    for column, color in shown.items():
        axis.add_patch(box((rows[row], columns[column]), PATCH, edgecolor=color, linewidth=3))
    axis.add_patch(
        Rectangle((columns[3] - 0.5, rows[row] - 0.5), overlap[1], PATCH[0], facecolor=SKY, alpha=0.4, linewidth=0)
    )
    label(axis, (columns[3] + overlap[1] / 2, rows[row] - 4), "patchwise_overlap", SKY, ha="center", va="bottom")

    weights = window_weights(columns, PATCH[1], "gaussian")
    for number, (first, weight) in enumerate(zip(columns, weights, strict=True)):
        places = first + np.arange(PATCH[1])
        color = shown.get(number)
        below.plot(places, weight, color="black" if color else GREY, linewidth=2.2 if color else 1.2)
        if color:
            below.fill_between(places, weight, color=color, alpha=0.75, linewidth=0)
    below.set_xlim(-0.5, shape[1] - 0.5)
    below.set_ylim(0, 1.15)
    axis.set_xlim(-0.5, shape[1] - 0.5)


def save_small(figure: Figure, path: Path) -> None:
    """As a PNG of 128 colours, which is a third of the size."""
    file = BytesIO()
    figure.savefig(file, format="png")
    Image.open(file).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def box(start: Any, size: Any, **style: Any) -> Rectangle:
    """A rectangle of voxels, from (row, column)."""
    return Rectangle(
        (start[1] - 0.5, start[0] - 0.5), size[1], size[0], fill=False, **{"path_effects": outline(), **style}
    )


def outline(width: float = 4.5) -> list[Any]:
    """A dark border, so that lines and letters stand out on any grey."""
    return [patheffects.withStroke(linewidth=width, foreground="black")]


def label(axis: Axes, where: tuple[float, float], text: str, color: str, ha: str = "left", va: str = "top") -> None:
    """Words in the picture, at (column, row)."""
    axis.text(*where, text, color=color, fontsize=12.5, weight="bold", ha=ha, va=va, path_effects=outline(3.5))


if __name__ == "__main__":
    folder = Path(__file__).parent / "pictures"
    folder.mkdir(exist_ok=True)
    draw_patches(folder / "patches.png")
