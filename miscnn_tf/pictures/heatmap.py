"""Figures of heat maps, one real number per voxel, over images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from miscnn_tf._base.arguments import whole_number
from miscnn_tf._base.files import atomic_path
from miscnn_tf.data_loading.geometry import spacing_of
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.pictures.overlay import overlay
from miscnn_tf.pictures.slices import View, displayed, hide_frame, spaced, window_levels

#: Perceptually uniform colormap, in which equal steps of the value look like equal steps (Smith & van der Walt 2015).
SEQUENTIAL = "inferno"
#: Diverging colormap for signed maps, in which 0 is white.
DIVERGING = "RdBu_r"


def draw_heatmap(
    image: np.ndarray,
    heat: np.ndarray,
    path: str | Path,
    label: str = "value",
    title: str | None = None,
    spacing: Sequence[float] | None = None,
    affine: np.ndarray | None = None,
    limits: tuple[float, float] | None = None,
    alpha: float = 0.8,
    slices: int = 3,
) -> None:
    """Draw the slices with the largest values of a map: the image, the map over the image, and the map.

    Volumes are oriented as in `miscnn_tf.pictures.overlay.draw_case`.

    Args:
        image: Image ``(x, y[, z])`` or ``(x, y[, z], channels)``. The first channel is shown, or all three of a 2D
            colour image.
        heat: Map ``(x, y[, z])``.
        path: PNG file to write.
        label: Label of the colour bar.
        title: Title of the figure.
        spacing: Voxel size per axis in mm, for the aspect ratio; by default that of the affine, or isotropic.
        affine: Array ``(4, 4)`` from voxels to mm in RAS+ world coordinates (NIfTI's).
        limits: Values at the ends of the colour bar. By default 0 and the maximum, or, with negative values, plus and
            minus the largest absolute value with diverging colours.
        alpha: Opacity, 0 to 1, of the largest absolute values over the image. Smaller values are more transparent.
        slices: Maximum number of slices of a volume.

    Raises:
        ConfigurationError: If the shapes differ.
        StorageError: If the file cannot be written.

    Example:
        >>> draw_heatmap(image, heat, "case_00000.png", label="probability", limits=(0, 1))  # doctest: +SKIP
    """
    axes = heat.ndim
    if axes not in (2, 3) or image.shape[:axes] != heat.shape or image.ndim > axes + 1:
        raise ConfigurationError(f"the map is {heat.shape}, but the image is {image.shape}; their grids must be equal")
    image, colour = displayed(image, axes)
    if spacing is None:
        spacing = spacing_of(affine)[:axes].tolist() if affine is not None else (1.0,) * axes
    view = View.of(heat.shape, spacing, affine)
    image, heat = view.turn(image), view.turn(heat)
    if heat.dtype not in (np.float32, np.float64):
        heat = heat.astype(np.float32)  # matplotlib does not support half precision
    colours, scale = _colours(heat, limits)
    chosen = telling_slices(heat, whole_number(slices, "slices", 1))
    levels = None if colour else window_levels(image)

    panel = 2.6
    proportion = float(np.clip(image.shape[1] * view.row_mm / (image.shape[2] * view.column_mm), 0.5, 1.7))
    height = panel * proportion * len(chosen) + (0.6 if title else 0.35)
    figure = Figure(figsize=(panel * 3 + 0.9, height), layout="constrained")
    grid = figure.subplots(len(chosen), 3, squeeze=False)
    aspect = view.row_mm / view.column_mm
    shown = None
    for number, row in zip(chosen, grid, strict=True):
        grey = overlay(image[number], None, 2, levels=levels)
        row[0].imshow(grey, aspect=aspect, interpolation="nearest")
        row[1].imshow(grey, aspect=aspect, interpolation="nearest")
        opacity = alpha * _share(heat[number], scale)
        row[1].imshow(heat[number], aspect=aspect, cmap=colours, norm=scale, alpha=opacity, interpolation="nearest")
        shown = row[2].imshow(heat[number], aspect=aspect, cmap=colours, norm=scale, interpolation="nearest")
        for panel_axes in row:
            hide_frame(panel_axes)
        if axes == 3:
            row[0].set_ylabel(f"slice {view.number(number)}", fontsize=9)
    for panel_axes, name in zip(grid[0], ("image", "map over image", "map"), strict=True):
        panel_axes.set_title(name, fontsize=10)
    assert shown is not None
    bar = figure.colorbar(shown, ax=grid[:, 2].tolist(), fraction=0.08, pad=0.03, aspect=18)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)  # a sample may be called "a$_$"
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def telling_slices(heat: np.ndarray, count: int) -> list[int]:
    """Return spaced slices of the first axis with the largest absolute values, in ascending order.

    Args:
        heat: Map ``(slices, rows, columns)``; NaN and infinite values are ignored.
        count: Maximum number of slices.

    Example:
        >>> heat = np.zeros((9, 2, 2))
        >>> heat[4] = 1
        >>> telling_slices(heat, 1)
        [4]
    """
    amounts = np.array([np.abs(np.nan_to_num(slab)).sum(dtype=np.float64) for slab in heat])
    # The middle slice, if all slices are equal.
    order = np.lexsort((np.abs(np.arange(len(amounts)) - (len(amounts) - 1) / 2), -amounts))
    return spaced(order, max(1, len(amounts) // (2 * count)), count)


def _colours(heat: np.ndarray, limits: tuple[float, float] | None) -> tuple[str, Normalize]:
    if limits is not None:
        return SEQUENTIAL, Normalize(*limits)
    finite = heat[np.isfinite(heat)]
    least, most = float(finite.min(initial=0)), float(finite.max(initial=0))
    if least < 0:
        reach = max(-least, most)
        return DIVERGING, Normalize(-reach, reach)
    return SEQUENTIAL, Normalize(0, most or 1.0)


def _share(values: np.ndarray, scale: Normalize) -> np.ndarray:
    """Return each absolute value relative to the largest one of the colours."""
    low, high = float(scale.vmin or 0), float(scale.vmax or 1)
    base = 0.0 if low < 0 else low
    return np.clip(np.abs(np.nan_to_num(values) - base) / (high - base), 0, 1)
