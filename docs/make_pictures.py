"""Draw the pictures of the README and the documentation: ``python docs/make_pictures.py``."""

from __future__ import annotations

import base64
import json
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
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle
from PIL import Image

from miscnn_tf import Data_Augmentation
from miscnn_tf.datasets import make_kits_phantom
from miscnn_tf.pictures.overlay import overlay
from miscnn_tf.processing.patching.blending import window_weights
from miscnn_tf.processing.patching.grid import PatchGrid

# Okabe and Ito's colours, which colour-blind readers can distinguish.
YELLOW, SKY, GREY = "#F0E442", "#56B4E9", "#808080"

TRAINING, PREDICTION = "#0072B2", "#B34700"

PATCH = (48, 48)


def draw_patches(path: Path) -> None:
    """Draw the three values of ``analysis`` on a slice of a phantom."""
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
        (0.96, "The network sees the whole image at once.\nFor small 2D images."),
        (
            0.96,
            "Training: one random patch per image and step,\na third of them around foreground. For a rotated\n"
            "patch, the dashed region is read.\nPrediction: a grid, as on the right.",
        ),
        (-0.13, "Training and prediction: all patches of a grid.\nCurves: the weight of each patch in the overlap."),
    )
    for axis, (height, text) in zip(lower, texts, strict=True):
        axis.text(0.5, height, text, transform=axis.transAxes, ha="center", va="top", fontsize=12.5, linespacing=1.3)
    save_small(figure, path)


def draw_full(axis: Axes, shape: tuple[int, int]) -> None:
    """Frame the whole image."""
    axis.add_patch(box((1.5, 1.5), (shape[0] - 3, shape[1] - 3), edgecolor=YELLOW, linewidth=3))
    label(axis, (6, 7), "one patch", YELLOW)


def draw_crops(axis: Axes) -> None:
    """Draw random patches, and the region that is read for a rotated one."""
    for start in ((3, 5), (54, 30)):
        axis.add_patch(box(start, PATCH, edgecolor=YELLOW, linewidth=2.5))
    # The margin of a patch at the largest angle.
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
    """Draw the patches of a grid with half overlap, and their weights."""
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


def draw_pipeline(path: Path) -> None:
    """Draw the way of a scan: training in the upper row, prediction in the lower one."""
    image, labels, _ = make_kits_phantom(seed=5, shape=(24, 120, 168), orientation="IPL", oblique=False, tumours=2)
    best = int(np.argmax((labels == 2).sum((1, 2)) + 0.1 * (labels == 1).sum((1, 2))))
    scan, truth = np.clip(image[best], -160, 240), labels[best]
    prepared = scan[18:102, 10:158]

    figure = Figure(figsize=(13, 6.6), dpi=100, facecolor="white")
    page = figure.add_axes((0, 0, 1, 1))
    page.set_xlim(0, 130)
    page.set_ylim(0, 66)
    page.set_axis_off()
    page.text(2, 63.6, "Training", fontsize=17, weight="bold", color=TRAINING, va="center")
    page.text(2, 2.4, "Prediction", fontsize=17, weight="bold", color=PREDICTION, va="center")

    # Title and text of each column; a picture is drawn into the box below.
    for column, (title, text) in enumerate(
        (
            ("file", "NIfTI, DICOM,\nPNG, TIFF, …"),
            ("Sample", "an interface reads it:\nvoxels and geometry"),
            ("subfunctions", "clip, resample,\nnormalise, once"),
            ("patches", "around foreground or\nanywhere, augmented"),
            ("network", "trained with batches\nof patches"),
        )
    ):
        station(page, column, 36, title, text, TRAINING)
    for column, (title, text) in enumerate(
        (
            ("label map", "in the geometry\nof the scan"),
            ("labels", "decided on the\nvoxels of the scan"),
            ("undone", "probabilities on the\ngrid of the scan"),
            ("blending", "overlapping patches,\nGaussian weights"),
            ("patches", "of a grid,\nin batches"),
        )
    ):
        station(page, column, 6, title, text, PREDICTION)
    for column in range(4):
        arrow(page, (column * 26 + 23, 50.5), (column * 26 + 27, 50.5), TRAINING)
        arrow(page, (column * 26 + 27, 20.5), (column * 26 + 23, 20.5), PREDICTION)
    arrow(page, (117, 35.3), (117, 30.7), PREDICTION)
    page.text(
        115.4,
        33,
        "after training; a new scan is prepared in the same way",
        fontsize=12,
        ha="right",
        va="center",
        color="#404040",
    )
    arrow(page, (65, 35.3), (65, 30.7), PREDICTION)
    page.text(63.4, 33, "in reverse order", fontsize=12, ha="right", va="center", color="#404040")

    gray = {"cmap": "gray", "vmin": -160, "vmax": 240}
    file_sheets(page, (13, 48.8), TRAINING)
    file_sheets(page, (13, 18.8), PREDICTION)
    show(figure, 1, 36, scan, **gray)
    show(figure, 2, 36, prepared, cmap="gray", vmin=-110, vmax=190)
    patches = show(figure, 3, 36, prepared, cmap="gray", vmin=-110, vmax=190)
    for start, color in (((6, 12), SKY), ((32, 22), YELLOW), ((10, 88), YELLOW)):
        patches.add_patch(box(start, (38, 44), edgecolor=color, linewidth=2.5))
    u_shape(page, (117, 50.5))

    show(figure, 1, 6, overlay(scan, truth, classes=3, levels=(-160, 240)))
    probability = np.where(truth > 0, 1.0, 0.0)
    for _ in range(3):
        probability = sum(np.roll(probability, step, axis) for step in (-1, 0, 1) for axis in (0, 1)) / 6
    show(figure, 2, 6, probability, cmap="cividis", vmin=0, vmax=1)
    blended = show(figure, 3, 6, probability[18:102, 10:158], cmap="cividis", vmin=0, vmax=1)
    patches = show(figure, 4, 6, prepared, cmap="gray", vmin=-110, vmax=190)
    for location in PatchGrid(prepared.shape, (42, 50), (21, 25)):
        for axis in (blended, patches):
            axis.add_patch(box(location.start, (42, 50), edgecolor="white", linewidth=0.9, alpha=0.8, path_effects=[]))
    patches.add_patch(box((21, 49), (42, 50), edgecolor=YELLOW, linewidth=2.5))
    save_small(figure, path)


def cut_prediction(path: Path) -> None:
    """Cut the first row and the legend out of the last picture of a prediction in the first tutorial."""
    notebook = json.loads((Path(__file__).parents[1] / "tutorials" / "1_first_pipeline.ipynb").read_text("utf-8"))
    (png,) = [
        output["data"]["image/png"]
        for cell in notebook["cells"]
        if "prediction=True)" in cell["source"][-1]
        for output in cell["outputs"]
    ]
    picture = Image.open(BytesIO(base64.b64decode("".join(png)))).convert("RGB")
    # Below the name of the case; above the white border at the bottom.
    rows, legend = picture.crop((0, 25, picture.width, 246)), picture.crop((0, 668, picture.width, 705))
    result = Image.new("RGB", (picture.width, rows.height + legend.height), "white")
    result.paste(rows)
    result.paste(legend, (0, rows.height))
    result.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def station(page: Axes, column: int, height: float, title: str, text: str, color: str) -> None:
    """Draw a box of the pipeline with a title and two lines, and room for a picture."""
    left = column * 26 + 3
    page.add_patch(
        FancyBboxPatch((left, height), 20, 24, boxstyle="round,pad=0,rounding_size=1.4", fc="#F7F7F7", ec=color, lw=1.8)
    )
    page.text(left + 10, height + 22, title, fontsize=14, weight="bold", ha="center", va="center", color="#202020")
    page.text(left + 10, height + 3.2, text, fontsize=11.5, ha="center", va="center", color="#303030", linespacing=1.25)


def show(figure: Figure, column: int, height: float, picture: Any, **style: Any) -> Axes:
    """Draw a picture in a box of the pipeline."""
    axis = figure.add_axes(((column * 26 + 4) / 130, (height + 6.6) / 66, 18 / 130, 13.4 / 66))
    axis.imshow(picture, aspect="auto", **style)
    axis.set_axis_off()
    return axis


def arrow(page: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    """Draw an arrow from one box to the next."""
    page.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=20, lw=2.6, color=color, shrinkA=0, shrinkB=0)
    )


def file_sheets(page: Axes, middle: tuple[float, float], color: str) -> None:
    """Draw two sheets of paper as files."""
    x, y = middle
    for shift in (1.6, 0.0):
        left, bottom = x - 4.2 + shift, y - 4.6 + shift
        corners = [(0, 0), (0, 9), (5.6, 9), (7.8, 6.8), (7.8, 0)]
        page.add_patch(Polygon([(left + a, bottom + b) for a, b in corners], fc="white", ec=color, lw=2))
    page.plot([left + 5.6, left + 5.6, left + 7.8], [bottom + 9, bottom + 6.8, bottom + 6.8], color=color, lw=2)
    page.text(left + 3.9, bottom + 3.2, "NIfTI\nDICOM\nPNG", fontsize=9.5, ha="center", va="center", color="#303030")


def u_shape(page: Axes, middle: tuple[float, float]) -> None:
    """Draw the levels of a U-Net and its skip connections."""
    x, y = middle
    for level, width in enumerate((1.3, 1.9, 2.6)):
        tall, drop, out = 5.6 - 1.7 * level, 3.4 * level, 7.2 - 2.7 * level
        for side in (-1, 1):
            left = x + side * out - width / 2
            page.add_patch(Rectangle((left, y + 5.4 - drop - tall), width, tall, fc=SKY, ec="#303030", lw=1.2))
        height = y + 5.4 - drop - tall / 2
        if level < 2:
            page.plot(
                [x - out + width / 2 + 0.4, x + out - width / 2 - 0.4], [height, height], color=GREY, lw=1.6, ls=":"
            )
    # From the contracting to the expanding side, through the bridge.
    page.add_patch(Rectangle((x - 1.6, y - 5.6), 3.2, 2.0, fc=YELLOW, ec="#303030", lw=1.2))


def save_small(figure: Figure, path: Path) -> None:
    """Save a figure as a PNG with 128 colours, a third of the size."""
    file = BytesIO()
    figure.savefig(file, format="png")
    Image.open(file).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def box(start: Any, size: Any, **style: Any) -> Rectangle:
    """Return a rectangle of voxels, from (row, column)."""
    return Rectangle(
        (start[1] - 0.5, start[0] - 0.5), size[1], size[0], fill=False, **{"path_effects": outline(), **style}
    )


def outline(width: float = 4.5) -> list[Any]:
    """Return a dark border that makes lines and letters visible on any grey."""
    return [patheffects.withStroke(linewidth=width, foreground="black")]


def label(axis: Axes, where: tuple[float, float], text: str, color: str, ha: str = "left", va: str = "top") -> None:
    """Write text at (column, row)."""
    axis.text(*where, text, color=color, fontsize=12.5, weight="bold", ha=ha, va=va, path_effects=outline(3.5))


if __name__ == "__main__":
    folder = Path(__file__).parent / "pictures"
    folder.mkdir(exist_ok=True)
    draw_patches(folder / "patches.png")
    draw_pipeline(folder / "pipeline.png")
    cut_prediction(folder / "prediction.png")
