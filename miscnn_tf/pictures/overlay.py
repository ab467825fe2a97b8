"""Figures of label maps over images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch as LegendPatch

from miscnn_tf._base.class_colours import class_colours
from miscnn_tf._base.files import atomic_path
from miscnn_tf.data_loading.geometry import spacing_of
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.pictures.slices import (
    View,
    close_up,
    displayed,
    hide_frame,
    interesting_slices,
    levels_around,
    window_levels,
)

#: Pixels per inch of figures.
DPI: Final = 110


def overlay(
    image2d: np.ndarray,
    labels2d: np.ndarray | None,
    classes: int,
    alpha: float = 0.45,
    levels: tuple[float, float] | None = None,
    colours: np.ndarray | None = None,
) -> np.ndarray:
    """Draw a label map over a slice.

    Args:
        image2d: Slice ``(rows, columns)``, or a colour image ``(rows, columns, 3)``.
        labels2d: Label map ``(rows, columns)``; None shows the image only.
        classes: Number of classes, background (not coloured) included.
        alpha: Opacity of the colour, 0 to 1.
        levels: Values shown as black and white; by default the slice's percentiles (`window_levels`), and 0 and 255
            for uint8 colour images.
        colours: A colour per class, uint8 array ``(classes, 3)``; by default `class_colours`.

    Returns:
        uint8 array ``(rows, columns, 3)``. Neither input is changed.

    Raises:
        ConfigurationError: If the shapes differ or `alpha` is not between 0 and 1.
        DataError: If a label is negative or not below `classes`.

    Example:
        >>> overlay(np.array([[0.0, 1.0]]), np.array([[0, 1]]), classes=2, alpha=1.0).tolist()
        [[[0, 0, 0], [230, 159, 0]]]
    """
    colour = image2d.ndim == 3 and image2d.shape[-1] == 3
    if not (image2d.ndim == 2 or colour):
        raise ConfigurationError(f"image2d must be (rows, columns) or (rows, columns, 3); got {image2d.shape}")
    if not 0 <= alpha <= 1:
        raise ConfigurationError(f"alpha must be between 0 and 1; got {alpha}")
    if levels is None:
        levels = (0.0, 255.0) if colour and image2d.dtype == np.uint8 else window_levels(image2d)
    black, white = levels
    grey = np.clip((np.nan_to_num(image2d.astype(np.float32), nan=black) - black) / (white - black), 0, 1) * 255
    picture = grey if colour else np.repeat(grey[..., np.newaxis], 3, axis=-1)
    if labels2d is not None:
        if labels2d.shape != image2d.shape[:2]:
            raise ConfigurationError(
                f"labels2d is {labels2d.shape}, but image2d is {image2d.shape[:2]}; they must be equal"
            )
        if labels2d.size and (labels2d.min() < 0 or labels2d.max() >= classes):
            raise DataError(
                f"labels2d has labels from {labels2d.min()} to {labels2d.max()}; with classes={classes} they must be "
                f"from 0 to {classes - 1}"
            )
        marked = labels2d > 0
        paint = class_colours(classes) if colours is None else colours
        picture[marked] = (1 - alpha) * picture[marked] + alpha * paint[labels2d[marked].astype(np.intp)]
    return np.rint(picture).astype(np.uint8)


def draw_case(
    image: np.ndarray,
    truth: np.ndarray | None,
    prediction: np.ndarray | None,
    path: str | Path,
    spacing: Sequence[float] | None = None,
    title: str | None = None,
    class_names: Sequence[str] | None = None,
    affine: np.ndarray | None = None,
    slices: int = 3,
    *,
    outlines: bool = False,
    note: str | None = None,
) -> None:
    """Draw slices through the structures of a sample: the image, the ground truth and the prediction.

    The prediction also shows the outline of the ground truth, in white. The panels are cropped so that the structures
    fill at least a third of them, with the grey levels of their surroundings.

    With an affine, volumes are shown in radiological convention: axial slices, the patient's right on the left, the
    front at the top. Without one, slices are perpendicular to the axis of the largest spacing (the last one if all are
    equal).

    Args:
        image: Image ``(x, y[, z])`` or ``(x, y[, z], channels)``. The first channel is shown, or all three of a 2D
            colour image.
        truth: Label map ``(x, y[, z])``, with or without a channel axis of 1, or None.
        prediction: Predicted label map, in the same format, or None.
        path: PNG file to write.
        spacing: Voxel size per axis in mm, for the aspect ratio; by default that of the affine, or isotropic.
        title: Title of the figure.
        class_names: A name per class, background first.
        affine: Array ``(4, 4)`` from voxels to mm in RAS+ world coordinates (NIfTI's).
        slices: Maximum number of slices of a volume.
        outlines: Draw the outline of each class in its colour, instead of colouring its area.
        note: Description that is stored in the PNG file.

    Raises:
        ConfigurationError: If both label maps are None, or the shapes differ.
        DataError: If a label map has values that are not labels.
        StorageError: If the file cannot be written.

    Example:
        >>> draw_case(image, truth, prediction, "case_00000.png", (3.0, 0.8, 0.8), class_names=["", "kidney", "tumour"])
        ... # doctest: +SKIP
    """
    if truth is None and prediction is None:
        raise ConfigurationError("truth and prediction are both None; pass at least one label map to draw")
    figure = case_figure(image, truth, prediction, spacing, title, class_names, affine, slices, outlines=outlines)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DPI, metadata={} if note is None else {"Description": note})


def case_figure(
    image: np.ndarray,
    truth: np.ndarray | None,
    prediction: np.ndarray | None,
    spacing: Sequence[float] | None = None,
    title: str | None = None,
    class_names: Sequence[str] | None = None,
    affine: np.ndarray | None = None,
    slices: int = 3,
    *,
    outlines: bool = False,
) -> Figure:
    """Draw the figure of `draw_case`; without label maps, slices of the image.

    Args and errors are those of `draw_case`.
    """
    given = {"ground truth": truth, "prediction": prediction}
    maps: dict[str, np.ndarray] = {name: labels for name, labels in given.items() if labels is not None}
    if spacing is not None:
        axes = len(spacing)
    else:
        axes = _spatial_axes(image, next(iter(maps.values()))) if maps else 2 if affine is None else 3
    maps = {name: _without_channel(labels, axes) for name, labels in maps.items()}
    for name, labels in maps.items():
        if labels.shape != image.shape[:axes]:
            raise ConfigurationError(
                f"the {name} is {labels.shape}, but the image is {image.shape[:axes]}; they must be equal"
            )
        if not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool) or labels.min(initial=0) < 0:
            raise DataError(f"the {name} must have integer labels from 0, got {labels.dtype}, minimum {labels.min()}")
    image, colour = displayed(image, axes)
    if spacing is None:
        spacing = spacing_of(affine)[:axes].tolist() if affine is not None else (1.0,) * axes
    view = View.of(image.shape[:axes], spacing, affine)
    image = view.turn(image)
    maps = {name: view.turn(labels) for name, labels in maps.items()}
    classes = 1 + max((int(labels.max(initial=0)) for labels in maps.values()), default=0)
    classes = max(classes, len(class_names or ()), 2)
    if maps:
        chosen = interesting_slices(list(maps.values()), slices)
        crop = close_up(np.any([labels[chosen].any(axis=0) for labels in maps.values()], axis=0), view)
        image = image[chosen][:, *crop]
        maps = {name: labels[chosen][:, *crop] for name, labels in maps.items()}
        levels = None if colour else levels_around(image, np.any([labels > 0 for labels in maps.values()], axis=0))
    else:
        count = min(slices, len(image))
        chosen = [round((number + 0.5) * len(image) / count - 0.5) for number in range(count)]
        image = image[chosen]
        levels = None if colour else window_levels(image)

    panel = 2.6
    proportion = image.shape[1] * view.row_mm / (image.shape[2] * view.column_mm)
    columns = 1 + len(maps)
    height = panel * float(np.clip(proportion, 0.5, 1.7)) * len(chosen)
    figure = Figure(figsize=(panel * columns, height + (0.85 if title else 0.6)), layout="constrained")
    grid = figure.subplots(len(chosen), columns, squeeze=False)
    for number, row in enumerate(grid):
        for panel_axes, name in zip(row, ("image", *maps), strict=True):
            shown = maps[name][number] if name in maps and not outlines else None
            picture = overlay(image[number], shown, classes, levels=levels)
            panel_axes.imshow(picture, aspect=view.row_mm / view.column_mm, interpolation="nearest")
            hide_frame(panel_axes)
            if number == 0:
                panel_axes.set_title(name, fontsize=10)
            if outlines and name in maps:
                labels, sizes = np.unique(maps[name][number], return_counts=True)
                # A border of two classes has the colour of the smaller one, which may be inside the other.
                for label in labels[np.argsort(-sizes, kind="stable")]:
                    if label == 0:
                        continue
                    _outline(panel_axes, maps[name][number] == label, class_colours(classes)[label] / 255.0)
            if name == "prediction" and "ground truth" in maps:
                _outline(panel_axes, maps["ground truth"][number], "white")
        if axes == 3:
            row[0].set_ylabel(f"slice {view.number(chosen[number])}", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)  # a sample may be called "a$_$"
    names = list(class_names or ())
    names += [f"class {number}" for number in range(len(names), classes)]
    colours = class_colours(classes) / 255.0
    keys: list[Any] = [LegendPatch(color=colours[number]) for number in range(1, classes)]
    names = names[1:]
    if len(maps) == 2:
        keys.append((LegendPatch(color="0.35"), Line2D([], [], color="white", linewidth=1.2)))
        names.append("outline of ground truth")
    if not maps:
        return figure
    legend = figure.legend(keys, names, loc="outside lower center", ncols=min(len(keys), 4), frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _outline(axes: Axes, labels: np.ndarray, colour: Any) -> None:
    """Draw the borders between labels along the edges of voxels."""
    padded = np.pad(labels.astype(np.int64), 1)
    upright = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])
    level = np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])
    lines = [((x - 0.5, y - 0.5), (x - 0.5, y + 0.5)) for y, x in upright]
    lines += [((x - 0.5, y - 0.5), (x + 0.5, y - 0.5)) for y, x in level]
    axes.add_collection(LineCollection(lines, colors=[colour], linewidths=0.8, capstyle="round"))


def _spatial_axes(image: np.ndarray, labels: np.ndarray) -> int:
    """Return 2 or 3, from the shapes; a last axis of 1 of a label map is a channel if the image also has one."""
    if labels.ndim == image.ndim and labels.shape[-1] == 1 and image.ndim > 2:
        return labels.ndim - 1
    return labels.ndim


def _without_channel(labels: np.ndarray, axes: int) -> np.ndarray:
    return labels[..., 0] if labels.ndim == axes + 1 and labels.shape[-1] == 1 else labels
