"""Label maps on disk that belong together by their names: predictions and the truth, wherever they come from."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from miscnn_tf.arguments import whole_number
from miscnn_tf.data_loading import image_file
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.file_names import composed
from miscnn_tf.data_loading.geometry import grid_difference
from miscnn_tf.data_loading.image_file import LOSSLESS, LOSSY
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.interfaces.paired_io import is_flat
from miscnn_tf.data_loading.label_scan import FoundLabels, classes_of, count_values
from miscnn_tf.data_loading.labels import check_labels, normalised_label_map
from miscnn_tf.data_loading.layouts import find_interface
from miscnn_tf.data_loading.nifti_file import is_nifti, read_info, read_voxels, stem_of
from miscnn_tf.data_loading.pairing import bare_mask
from miscnn_tf.data_loading.storage import make_folder
from miscnn_tf.errors import DataError, MiscnnError, MissingDataError
from miscnn_tf.evaluation.score_table import SCORES_FILE, with_sample, write_scores
from miscnn_tf.evaluation.scores import check_tolerance, score_label_maps
from miscnn_tf.evaluation.summary import summarise, write_results
from miscnn_tf.messages import some_of

logger = logging.getLogger(__name__)

_IMAGE_ENDINGS = tuple(f".{ending}" for ending in LOSSLESS + LOSSY)


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a label map lie.

    Attributes:
        shape: Number of voxels per axis.
        affine: 4x4, or None where the format knows none.
        spacing: Voxel size in mm per axis, or None.
    """

    shape: tuple[int, ...]
    affine: np.ndarray | None = None
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True)
class LabelFile:
    """A label map in a file of its own."""

    path: Path

    def grid(self) -> Grid:
        """Its grid, from the header."""
        if not is_nifti(self.path):
            return Grid(image_file.check_mask(self.path))
        info = read_info(self.path)
        shape = info.shape[:3] + tuple(size for size in info.shape[3:] if size > 1)
        if len(shape) > 3:
            raise DataError(
                f"{self.path} has {len(shape)} axes {shape}; a label map has one label per voxel (class probabilities "
                "become labels by an argmax; predict without --probabilities)"
            )
        flat = shape[2:] in ((), (1,))
        return Grid(shape[:2] if flat else shape, info.affine, tuple(info.spacing[: 2 if flat else 3]))

    def values(self) -> np.ndarray:
        """What is stored."""
        if not is_nifti(self.path):
            return image_file.read_mask(self.path)
        return read_voxels(read_info(self.path)).reshape(self.grid().shape, order="F")

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class LabelSample:
    """The segmentation of a sample of a data set."""

    interface: Abstract_IO
    index: Hashable
    root: Path

    def grid(self) -> Grid:
        """That of its image, on which `Abstract_IO.check` wants it to be."""
        self.interface.check(self.index, load_seg=True)
        known = self.interface.load_extended(self.index)
        spacing, affine = known.get("spacing"), known.get("affine")
        return Grid(
            self.interface.load_shape(self.index),
            None if affine is None else np.asarray(affine),
            None if spacing is None else tuple(float(size) for size in spacing),
        )

    def values(self) -> np.ndarray:
        """Its labels."""
        return self.interface.load_segmentation(self.index)

    def __str__(self) -> str:
        return f"{self.index} in {self.root}"


LabelMap = LabelFile | LabelSample


@dataclass(frozen=True)
class LabelMaps:
    """Label maps by name.

    Attributes:
        maps: The label maps.
        classes: How many classes there are, where the data set says so.
        data_io: The data set that they are of, if they are.
    """

    maps: Mapping[str, LabelMap]
    classes: int | None = None
    data_io: Data_IO | None = None

    @property
    def class_names(self) -> Sequence[str] | None:
        """What the data set calls them."""
        return None if self.data_io is None else self.data_io.interface.class_names


def find_label_maps(path: str | Path, classes: int | None = None, **settings: Any) -> LabelMaps:
    """The label maps of a path.

    Args:
        path: A file; a folder with a file per label map, NIfTI or PNG, TIFF, BMP; or a data set in any layout that
            `find_interface` knows.
        classes: Number of classes, where the data set does not say.
        **settings: Further arguments of `find_interface`, for a data set.

    Raises:
        MissingDataError: If there is nothing there.
        DataError: If it cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise MissingDataError(f"there are no label maps {path}; give a file or a folder")
    if not path.is_dir():
        return LabelMaps({composed(stem_of(path)): LabelFile(path)})
    # Pipes among them: reading one reports it, where leaving it out would lose a label map without a word.
    files = sorted(
        one for one in path.iterdir() if not one.is_dir() and _is_image(one) and not one.name.startswith(".")
    )
    if files and not is_flat(path):
        names = [composed(stem_of(file)) for file in files]
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise DataError(f"{path} holds several files of the names {some_of(twice, 3)}; keep one of each")
        return LabelMaps({name: LabelFile(file) for name, file in zip(names, files, strict=True)})
    interface = find_interface(path, classes=classes, **settings)
    data_io = Data_IO(interface, path)
    maps = {composed(str(index)): LabelSample(interface, index, path) for index in data_io.get_indiceslist()}
    return LabelMaps(maps, interface.classes, data_io)


def data_set_around(
    truth: str | Path, names: Iterable[str], classes: int, label_map: Mapping[int, int] | None = None
) -> Data_IO | None:
    """The data set that a folder of label maps is a part of, such as ``labelsTs``: it has the images and the names.

    Args:
        truth: The folder of the label maps.
        names: The cases that have to be in it.
        classes: Number of classes, background included.
        label_map: What values in the files mean.

    Returns:
        The data set in the folder above; None where there is none that is known, or not of these cases and classes.
    """
    root = Path(truth).resolve().parent
    try:
        interface = find_interface(root, part="all", classes=classes, label_map=label_map)
        data_io = Data_IO(interface, root)
    except MiscnnError as reason:
        logger.debug("no data set around %s: %s", truth, reason)
        return None
    missing = set(names) - {composed(str(index)) for index in data_io.get_indiceslist()}
    if missing:
        logger.debug("%s is not around %s: it has no %s", root, truth, some_of(sorted(missing)))
        return None
    return data_io


def pair(predictions: LabelMaps, truth: LabelMaps) -> dict[str, tuple[LabelMap, LabelMap]]:
    """Which prediction belongs to which truth: those of one name, or one of each whatever they are called.

    A truth may also be called like the prediction and ``_mask``, ``_seg`` and the like.

    Returns:
        By name ``(prediction, truth)``. Truths without a prediction are left out.

    Raises:
        DataError: If a prediction has no truth.
    """
    if len(predictions.maps) == len(truth.maps) == 1:
        (name, first), (second,) = next(iter(predictions.maps.items())), truth.maps.values()
        return {name: (first, second)}
    known = {bare_mask(name): one for name, one in truth.maps.items()} | dict(truth.maps)
    missing = [name for name in predictions.maps if name not in known]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(predictions.maps)} predictions have no truth of the same name: "
            f"{some_of(missing)}; the truth has {some_of(truth.maps)}. Rename or remove them"
        )
    return {name: (one, known[name]) for name, one in predictions.maps.items()}


def check_pairs(pairs: Mapping[str, tuple[LabelMap, LabelMap]]) -> dict[str, Grid]:
    """Make sure, by the headers, that predictions and truths lie on one grid each.

    Returns:
        The grids of the truths.

    Raises:
        DataError: If some do not; the message lists all of them.
    """
    grids: dict[str, Grid] = {}
    bad = []
    for name, (prediction, truth) in pairs.items():
        try:
            first, second = truth.grid(), prediction.grid()
            difference = _difference(first, second)
            if difference:
                raise DataError(f"{prediction} does not lie on the grid of {truth}: {difference} (truth, prediction)")
            grids[name] = first
        except MiscnnError as error:
            bad.append(f"  {name}: {error}")
    if bad:
        raise DataError(
            f"{len(bad)} of {len(pairs)} cases cannot be compared; resample or leave them out:\n" + "\n".join(bad)
        )
    return grids


def evaluate_label_maps(
    predictions: LabelMaps,
    truth: LabelMaps,
    output: str | Path | None = None,
    *,
    classes: int | None = None,
    label_map: Mapping[int, int] | None = None,
    tolerance_mm: float = 1.0,
    draw_figures: bool = False,
) -> dict[str, Any]:
    """Score predictions against the truth; no network is needed.

    Args:
        predictions: What `find_label_maps` found.
        truth: The same of the truth.
        output: Folder for ``scores.csv``, ``summary.json`` and ``scores.png``; None writes nothing.
        classes: Number of classes, background included; None: as the data set of the truth says, or as many as there
            are labels in both.
        label_map: What values in the files mean, ``{255: 1}``; None: masks of 0 and 255 are understood.
        tolerance_mm: Of the normalised surface Dice.
        draw_figures: Draw box plots.

    Returns:
        What ``summary.json`` holds (`summary.summarise`).

    Raises:
        DataError: If a prediction has no truth, lies on another grid, or a file cannot be read or has other labels;
            grids are looked at first, and all bad ones are listed.

    Example:
        >>> evaluate_label_maps(
        ...     find_label_maps("predictions"), find_label_maps("labelsTs"), "evaluation"
        ... )  # doctest: +SKIP
    """
    check_tolerance(tolerance_mm)
    if classes is not None:
        whole_number(classes, "classes", least=2)
    if output is not None:
        make_folder(output)
    pairs = pair(predictions, truth)
    grids = check_pairs(pairs)
    classes, label_map = _classes(pairs, truth, classes, label_map)
    rows: list[dict[str, Any]] = []
    for name, (prediction, true) in tqdm(pairs.items(), desc="Scores per case", unit="case", disable=None):
        labels, predicted = (check_labels(one.values(), classes, str(one), label_map) for one in (true, prediction))
        case = score_label_maps(labels, predicted, classes, grids[name].spacing, tolerance_mm=tolerance_mm)
        rows += with_sample(case, name)
        if output is not None:
            write_scores(Path(output) / SCORES_FILE, rows)
    if output is not None:
        return write_results(output, rows, draw_figures=draw_figures)
    return summarise(rows)


def _classes(
    pairs: Mapping[str, tuple[LabelMap, LabelMap]],
    truth: LabelMaps,
    classes: int | None,
    label_map: Mapping[int, int] | None,
) -> tuple[int, Mapping[int, int] | None]:
    """How many classes there are, and what the values mean."""
    if classes is None and truth.classes is not None:
        classes = truth.classes  # whose interface has seen to the label map, too
    if classes is not None:
        return classes, normalised_label_map(label_map, classes)
    found = {"truth": FoundLabels(), "prediction": FoundLabels()}
    for name, both in tqdm(pairs.items(), desc="Looking for labels", delay=2.0, disable=None, leave=False):
        for kind, one in zip(("prediction", "truth"), both, strict=True):
            try:
                found[kind].add(name, count_values(one.values()))
            except DataError as error:
                raise DataError(f"{one}: {error}") from error
    if label_map is None:
        _, label_map = _understood(found["truth"])
    values = {(label_map or {}).get(value, value) for each in found.values() for value in each.values}
    if min(values) < 0 or max(values) >= 2**16:
        raise DataError(f"labels are 0 and above, but there is {min(values)}; say what it means with a label map")
    return max(2, max(values) + 1), label_map


def _understood(found: FoundLabels) -> tuple[int | None, dict[int, int] | None]:
    try:
        return classes_of(found, "the truth")
    except DataError as reason:  # a class may be in none of a few cases
        logger.debug("%s", reason)
        return None, None


def _difference(truth: Grid, prediction: Grid) -> str | None:
    if truth.affine is None or prediction.affine is None:
        return None if truth.shape == prediction.shape else f"shape {truth.shape} against {prediction.shape}"
    return grid_difference(truth.shape, truth.affine, prediction.shape, prediction.affine)


def _is_image(path: Path) -> bool:
    return is_nifti(path) or path.suffix.lower() in _IMAGE_ENDINGS
