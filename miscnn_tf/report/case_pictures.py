"""The worst, typical and best cases of a run, and their slices as small pictures and label maps for a page."""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from PIL import Image

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.geometry import is_usable, spacing_of
from miscnn_tf.errors import DataError, MissingDataError
from miscnn_tf.pictures.contrast import main_colours
from miscnn_tf.pictures.overlay import overlay
from miscnn_tf.pictures.slices import View, close_up, levels_around
from miscnn_tf.runs.prediction_files import load_prediction
from miscnn_tf.runs.score_summary import finite

#: Pixels of the longer side of a picture at most, and slices of a case at most.
MOST_PIXELS = 384
MOST_SLICES = 40
# Quality of WebP; small pictures are enlarged on the page.
_QUALITY, _QUALITY_OF_SMALL, _SMALL = 82, 94, 128
# Number of the worst cases, and of the best.
_AT_EACH_END = 3
# Grey values for the intensities below the usual window, and for those above it.
_OUTSIDE = 48
# Intensities outside the window by less than this share of it are not kept.
_LEAST_ROOM = 0.05
# Percentiles of the least and largest intensities that are kept.
_ENDS = (0.05, 99.95)
# Hounsfield units of lung and air begin below this.
_AIR = -500
# Slices beside the structure that are shown on both sides.
_RIM = 2


class RankedCase(NamedTuple):
    """Case with its scores.

    Attributes:
        fold: The fold that it validated; None without folds.
        name: Name of the case.
        mean: Mean Dice of its classes without the background; NaN without classes.
        dice: Dice by class without the background; NaN for classes that are in neither label map.
        place: ``"worst"``, ``"typical"`` or ``"best"``; empty before the choice.
    """

    fold: int | None
    name: str
    mean: float
    dice: dict[int, float]
    place: str = ""


def rank_cases(rows: Sequence[Mapping[str, Any]]) -> list[RankedCase]:
    """Sort cases by mean Dice over the classes without the background, the worst first; those without Dice are last.

    Example:
        >>> rows = [{"sample_id": name, "class": 1, "dice": dice} for name, dice in (("a", 0.9), ("b", 0.7))]
        >>> [case.name for case in rank_cases(rows)]
        ['b', 'a']
    """
    found: dict[tuple[int | None, str], dict[int, float]] = {}
    for row in rows:
        scores = found.setdefault((row.get("fold"), str(row["sample_id"])), {})
        if row["class"] != 0:
            scores[int(row["class"])] = float(row.get("dice", math.nan))
    cases = []
    for (fold, name), dice in found.items():
        present = finite(dice.values())
        cases.append(RankedCase(fold, name, sum(present) / len(present) if present else math.nan, dice))
    return sorted(cases, key=lambda case: (math.isnan(case.mean), case.mean, case.name))


def choose_cases(ranked: Sequence[RankedCase]) -> list[RankedCase]:
    """Choose the worst, the median and the best of ranked cases; all of them if they are few.

    Args:
        ranked: The result of `rank_cases`.

    Returns:
        The cases from the worst to the best.
    """
    known = [case for case in ranked if not math.isnan(case.mean)] or list(ranked)
    number = len(known)
    if number <= 2 * _AT_EACH_END + 1:
        low, high = (number - 1) // 2, number // 2  # one or two in the middle
        places = ["worst" if one < low else "best" if one > high else "typical" for one in range(number)]
        if number == 2:
            places = ["worst", "best"]
        return [case._replace(place=place) for case, place in zip(known, places, strict=True)]
    return [
        *(case._replace(place="worst") for case in known[:_AT_EACH_END]),
        known[number // 2]._replace(place="typical"),
        *(case._replace(place="best") for case in known[-_AT_EACH_END:]),
    ]


class Case(NamedTuple):
    """Arrays of a case that are shown.

    Attributes:
        image: ``(x, y[, z])``, or ``(x, y, 3)`` of a colour image; None if it cannot be read.
        truth: Label map of the same grid; None if it cannot be read.
        prediction: Predicted label map; None if it cannot be read.
        spacing: Voxel size in mm per axis.
        affine: 4x4, from voxels to mm; None if unknown.
        channels: Number of channels of the image, of which the first is shown.
        problems: Sentences about arrays that could not be read.
    """

    image: np.ndarray | None
    truth: np.ndarray | None
    prediction: np.ndarray | None
    spacing: tuple[float, ...]
    affine: np.ndarray | None
    channels: int
    problems: list[str]


def load_case(data_io: Data_IO, index: Hashable, predictions: str | Path) -> Case:
    """Read a case for pictures; errors become problems.

    Args:
        data_io: Source of the image and the truth.
        index: Name of the case.
        predictions: The folder of its prediction.

    Raises:
        DataError: If neither its truth nor its prediction can be read, or their grid differs from that of the image.
    """
    problems: list[str] = []
    axes = 3 if data_io.interface.three_dim else 2
    image: np.ndarray | None = None
    facts: dict[str, Any] = {}
    image, facts = _read(problems, "the image", lambda: _image(data_io, index)) or (image, facts)
    truth = _read(problems, "the truth", lambda: _labels(data_io.interface.load_segmentation(index), axes))
    prediction = _read(problems, "the prediction", lambda: load_prediction(data_io, index, predictions))
    if truth is None and prediction is None:
        raise DataError("; ".join(problems))
    maps = [labels for labels in (truth, prediction) if labels is not None]
    shape = maps[0].shape if image is None else image.shape[:axes]
    for labels in maps:
        if labels.shape != shape:
            raise DataError(f"a label map has the shape {labels.shape}, the image {shape}")
    channels = image.shape[-1] if image is not None else 1
    if image is not None and not (axes == 2 and channels == 3):
        image = image[..., 0]
        if channels > 1:
            problems.append(f"Shown is the first of {channels} channels.")
    affine = facts.get("affine")
    affine = np.asarray(affine, float) if affine is not None and axes == 3 and is_usable(affine) else None
    spacing = facts.get("spacing")
    if spacing is None:
        spacing = spacing_of(affine) if affine is not None else (1.0,) * axes
    lengths = tuple(float(length) for length in spacing)[:axes]
    return Case(image, truth, prediction, lengths, affine, channels, problems)


def draw_slices(
    case: Case, most_slices: int = MOST_SLICES, most_pixels: int = MOST_PIXELS, most_bytes: int | None = None
) -> dict[str, Any]:
    """Draw the slices of a case through its structure for a page.

    Args:
        case: The case.
        most_slices: Maximum number of slices; those of a longer structure are taken at equal distances.
        most_pixels: Maximum length of the longer side; larger pictures are scaled down.
        most_bytes: Maximum size of all pictures and label maps together, which limits the number of slices.

    Returns:
        Plain data: ``"width"``, ``"height"`` of the pictures in pixels, which are square; ``"slices"``, each with its
        ``"number"`` in the array, ``"image"`` (a ``data:`` URL, or None), ``"truth"`` and
        ``"prediction"`` (see `pack_labels`, or None); ``"total"`` slices of the volume; ``"start"``, the index in
        ``"slices"`` of the one with the largest structure; ``"sides"``, the letters at the left, right, top and bottom
        (None if unknown); ``"plane"``, the orientation of the slices (None for a 2D image); ``"scale"``, the
        intensities in the pictures (see `_scale_of`; None for colour images); ``"colours"``, the main colours of a
        colour image (None for others).
    """
    maps = {
        name: labels for name, labels in (("truth", case.truth), ("prediction", case.prediction)) if labels is not None
    }
    shape = next(iter(maps.values())).shape
    view = View.of(shape, case.spacing, case.affine)
    turned = {name: view.turn(labels) for name, labels in maps.items()}
    chosen = _chosen(turned, most_slices)
    # Only the chosen slices from here, since a CT is large.
    turned = {name: labels[chosen] for name, labels in turned.items()}
    marked = np.any([labels > 0 for labels in turned.values()], axis=0)
    box = close_up(marked.any(axis=0), view)
    marked = marked[:, *box]
    turned = {name: labels[:, *box] for name, labels in turned.items()}
    image = None if case.image is None else view.turn(case.image)[chosen][:, *box]
    colour = image is not None and image.ndim == 4
    scale = None if image is None or colour else _scale_of(image, levels_around(image, marked))
    rows, columns = marked.shape[1:]
    width, height = _pixels(rows * view.row_mm, columns * view.column_mm, min(view.row_mm, view.column_mm), most_pixels)
    pictures = [None if image is None else _picture(image[one], scale, (width, height)) for one in range(len(chosen))]
    packed = {
        name: [pack_labels(_scaled(labels[one], width, height)) for one in range(len(chosen))]
        for name, labels in turned.items()
    }
    area = _area(turned)
    start = int(np.argmax(area))
    # Label maps of an untrained network are noise, which takes more than the pictures.
    size = sum(len(picture) for picture in pictures if picture) + sum(map(len, chain(*packed.values())))
    kept = list(range(len(chosen)))
    if most_bytes is not None and size > most_bytes:
        kept = _with(_evenly(kept, max(1, int(len(kept) * most_bytes / size))), start, area)
    return {
        "width": width,
        "height": height,
        "slices": [
            {
                "number": view.number(int(chosen[one])),
                "image": pictures[one],
                **{name: packed[name][one] if name in packed else None for name in ("truth", "prediction")},
            }
            for one in kept
        ],
        "total": view.slices,
        "start": int(np.argmax(area[kept])),
        "scale": scale,
        "colours": None if image is None or not colour else main_colours(overlay(image[start], None, 1)).tolist(),
        "sides": _sides(view, case.affine),
        "plane": _plane(case.affine) if len(shape) == 3 else None,
    }


def pack_labels(labels: np.ndarray) -> str:
    r"""Encode a label map as runs, row after row: the label and the number of pixels of each run.

    Both are numbers of 7 bits per byte, the lowest first, with the eighth bit set if more follow; base64. A browser may
    change the colours of a picture, but not these.

    Example:
        >>> base64.b64decode(pack_labels(np.array([[0, 0, 0], [0, 2, 2]])))
        b'\x00\x04\x02\x02'
    """
    flat = labels.ravel()
    starts = (
        np.concatenate(([0], np.flatnonzero(np.diff(flat.astype(np.int64))) + 1)) if flat.size else np.empty(0, int)
    )
    lengths = np.diff(np.append(starts, flat.size))
    packed = bytearray()
    for label, length in zip(flat[starts].tolist(), lengths.tolist(), strict=True):
        for number in (label, length):
            while number > 127:
                packed.append(number & 127 | 128)
                number >>= 7
            packed.append(number)
    return base64.b64encode(packed).decode("ascii")


def _image(data_io: Data_IO, index: Hashable) -> tuple[np.ndarray, dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # NaN in the image, of which the training has warned
        sample = data_io.sample_loader(index, load_seg=False)
    # The spacing in the details of a sample overrides that of its file.
    return sample.img_data, {**sample.extended, "spacing": sample.spacing}


def _labels(labels: Any, axes: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim == axes + 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.ndim != axes:
        raise DataError(f"a label map of the shape {labels.shape} has not {axes} axes")
    return labels if labels.dtype.kind in "iu" else labels.astype(np.uint16)


def _read(problems: list[str], what: str, read: Any) -> Any:
    try:
        return read()
    except Exception as error:  # a custom interface may raise any error
        missing = "" if isinstance(error, MissingDataError | DataError | OSError) else f"{type(error).__name__}: "
        problems.append(f"{what[0].upper()}{what[1:]} cannot be shown: {missing}{error}")
        return None


def _chosen(maps: Mapping[str, np.ndarray], most: int) -> np.ndarray:
    """Return the slices with the structure and a few around it; all slices without a structure."""
    with_structure = np.any([labels.any(axis=(1, 2)) for labels in maps.values()], axis=0)
    filled, slices = np.flatnonzero(with_structure), len(with_structure)
    low, high = (int(filled[0]), int(filled[-1])) if filled.size else (0, slices - 1)
    span = list(range(max(0, low - _RIM), min(slices, high + 1 + _RIM)))
    area = _area(maps)
    return np.array(_with(_evenly(span, most), int(np.argmax(area)), area))


def _area(maps: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the size of the structure in each slice: that of the truth, or of the prediction if there is none."""
    areas = [np.count_nonzero(labels, axis=(1, 2)) for labels in maps.values()]
    return next((area for area in areas if area.any()), areas[0])


def _with(items: list[int], wanted: int, area: np.ndarray) -> list[int]:
    """Put a slice in the place of the nearest one, unless one of the same size is among them."""
    if area[wanted] <= area[items].max():
        return items
    nearest = min(range(len(items)), key=lambda place: abs(items[place] - wanted))
    return [*items[:nearest], wanted, *items[nearest + 1 :]]


def _evenly(items: Sequence[int], most: int) -> list[int]:
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[len(items) // 2]]
    return [items[place] for place in np.rint(np.linspace(0, len(items) - 1, most)).astype(int).tolist()]


def _pixels(height_mm: float, width_mm: float, smallest_mm: float, most: int) -> tuple[int, int]:
    """Return width and height in square pixels of the size of the finer side of a voxel, limited by `most`."""
    pixel = max(smallest_mm, max(height_mm, width_mm) / most)
    return max(1, round(width_mm / pixel)), max(1, round(height_mm / pixel))


def _scale_of(image: np.ndarray, levels: tuple[float, float]) -> dict[str, Any]:
    """Return the intensities that the grey values of the pictures mean, with most of them for the usual window.

    The page changes the window; a CT has 4000 intensities, and a picture 256 grey values.

    Args:
        image: The part of the image that is shown.
        levels: The intensities that are shown as black and white at first.

    Returns:
        Plain data: ``"greys"``, ascending grey values, and their ``"values"``, between which the relation is linear;
        ``"levels"``; ``"modality"``, ``"CT"`` if the intensities look like Hounsfield units, otherwise None.
    """
    # A million voxels are enough for percentiles; numpy computes none of bool.
    known = image.reshape(-1)[:: max(1, image.size // 2**20)].astype(np.float32)
    known = known[np.isfinite(known)]
    low, high = (float(value) for value in np.percentile(known, _ENDS)) if known.size else levels
    black, white = levels
    room = _LEAST_ROOM * (white - black)
    greys, values = [0, 255], [black, white]
    if low < black - room:
        greys, values = [0, _OUTSIDE, 255], [low, black, white]
    if high > white + room:
        greys, values = [*greys[:-1], 255 - _OUTSIDE, 255], [*values, high]
    is_ct = low <= _AIR and high - low >= 500
    return {"greys": greys, "values": values, "levels": [black, white], "modality": "CT" if is_ct else None}


def _picture(image: np.ndarray, scale: Mapping[str, Any] | None, size: tuple[int, int]) -> str:
    if scale is None:
        picture = Image.fromarray(overlay(image, None, 1))
    else:
        values = np.nan_to_num(image.astype(np.float32), nan=scale["values"][0])
        picture = Image.fromarray(np.rint(np.interp(values, scale["values"], scale["greys"])).astype(np.uint8))
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    quality = _QUALITY if max(size) > _SMALL else _QUALITY_OF_SMALL
    picture.save(file, "WEBP", quality=quality, method=2)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _scaled(labels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return the label in the middle of each pixel."""
    rows, columns = labels.shape
    down = ((np.arange(height) + 0.5) * rows / height).astype(int)
    across = ((np.arange(width) + 0.5) * columns / width).astype(int)
    return labels[down[:, np.newaxis], across]


def _sides(view: View, affine: np.ndarray | None) -> list[str] | None:
    """Return the letters at the left, right, top and bottom of the pictures."""
    if affine is None:
        return None
    codes = nib.orientations.aff2axcodes(affine)
    opposite = dict(zip("RLAPSI", "LRPAIS", strict=True))
    sides = []
    for axis, flip in ((view.axes[2], view.flips[2]), (view.axes[1], view.flips[1])):
        end = opposite[codes[axis]] if flip else codes[axis]
        sides += [opposite[end], end]
    return sides


def _plane(affine: np.ndarray | None) -> str:
    return "slices across the longest spacing" if affine is None else "axial slices"
