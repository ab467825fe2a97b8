"""Evaluation of label maps on disk: pairing of predictions and truth by name, and scores."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from miscnn_tf._base.arguments import whole_number
from miscnn_tf._base.files import make_folder
from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.file_names import bare_mask, composed, ending_of, stem_of
from miscnn_tf.data_loading.formats import image_file
from miscnn_tf.data_loading.formats.image_file import IMAGES
from miscnn_tf.data_loading.formats.volumes import is_volume, read_info, read_voxels
from miscnn_tf.data_loading.geometry import grid_difference
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.interfaces.paired_io import is_flat
from miscnn_tf.data_loading.label_keys import is_ignored
from miscnn_tf.data_loading.label_scan import FoundLabels, count_values
from miscnn_tf.data_loading.label_scheme import LabelScheme, has_meaning, scheme_of
from miscnn_tf.data_loading.label_values import reading_map
from miscnn_tf.data_loading.labels import MOST_CLASSES, check_labels, has_ignored, normalised_label_map
from miscnn_tf.data_loading.layout_detection import find_interface, locate_data
from miscnn_tf.data_loading.sample import memory_for
from miscnn_tf.errors import ConfigurationError, DataError, MiscnnError, MissingDataError
from miscnn_tf.evaluation.scores import check_tolerance, score_by_scheme
from miscnn_tf.evaluation.summary import write_results
from miscnn_tf.evaluation.value_sets import meaning_of, require_below
from miscnn_tf.runs.names import SCORES_FILE
from miscnn_tf.runs.score_summary import summarise
from miscnn_tf.runs.score_table import with_sample, write_scores

logger = logging.getLogger(__name__)

_IMAGE_ENDINGS = tuple(f".{ending}" for ending in IMAGES)


@dataclass(frozen=True)
class Grid:
    """Voxel grid of a label map.

    Attributes:
        shape: Number of voxels per axis.
        affine: 4x4, or None if the format does not store it.
        spacing: Voxel size in mm per axis, or None.
    """

    shape: tuple[int, ...]
    affine: np.ndarray | None = None
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True)
class LabelFile:
    """Label map in a separate file."""

    path: Path

    def grid(self) -> Grid:
        """Read its grid from the header."""
        if not is_volume(self.path):
            return Grid(image_file.check_mask(self.path))
        info = read_info(self.path)
        shape = info.shape[:3] + tuple(size for size in info.shape[3:] if size > 1)
        if len(shape) > 3:
            raise DataError(
                f"{self.path} has {len(shape)} axes {shape}, but a label map has one label per voxel; for class "
                "probabilities, predict again without --probabilities"
            )
        flat = shape[2:] in ((), (1,))
        spacing = None if info.spacing is None else tuple(float(size) for size in info.spacing[: 2 if flat else 3])
        return Grid(shape[:2] if flat else shape, info.affine, spacing)

    def stored_values(self) -> np.ndarray:
        """Read the stored values."""
        return self.values()

    def values(self) -> np.ndarray:
        """Read the stored values."""
        if not is_volume(self.path):
            return image_file.read_any_mask(self.path)
        return read_voxels(read_info(self.path)).reshape(self.grid().shape, order="F")

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class LabelSample:
    """Segmentation of a sample of a data set."""

    interface: Abstract_IO
    index: Hashable
    root: Path

    def grid(self) -> Grid:
        """Return the grid of its image, which `Abstract_IO.check` requires to be the same."""
        self.interface.check(self.index, load_seg=True)
        known = self.interface.load_extended(self.index)
        spacing, affine = known.get("spacing"), known.get("affine")
        return Grid(
            self.interface.load_shape(self.index),
            None if affine is None else np.asarray(affine),
            None if spacing is None else tuple(float(size) for size in spacing),
        )

    def stored_values(self) -> np.ndarray:
        """Read the stored values, before the interface's label map."""
        return self.interface.stored_labels(self.index)

    def values(self) -> np.ndarray:
        """Read its labels."""
        return self.interface.load_segmentation(self.index)

    def __str__(self) -> str:
        return f"{self.index} in {self.root}"


@dataclass(frozen=True)
class LabelAnnotation:
    """DICOM SEG or RTSTRUCT of a sample of a data set."""

    sample: LabelSample
    path: Path

    def grid(self) -> Grid:
        """Return the grid of the series that it refers to."""
        return self.sample.grid()

    def stored_values(self) -> np.ndarray:
        """Read its labels."""
        return self.values()

    def values(self) -> np.ndarray:
        """Read its labels."""
        return self.sample.interface.load_annotation(self.sample.index, self.path)

    def __str__(self) -> str:
        return str(self.path)


LabelMap = LabelFile | LabelSample | LabelAnnotation


@dataclass(frozen=True)
class LabelMaps:
    """Label maps by name.

    Attributes:
        maps: Label maps.
        classes: Number of classes, if the data set defines it.
        data_io: Data set of the label maps, if any.
    """

    maps: Mapping[str, LabelMap]
    classes: int | None = None
    data_io: Data_IO | None = None

    @property
    def class_names(self) -> Sequence[str] | None:
        """Names of the classes in the data set."""
        return None if self.data_io is None else self.data_io.interface.class_names


def find_label_maps(path: str | Path, classes: int | None = None, **settings: Any) -> LabelMaps:
    """Find the label maps of a path.

    Args:
        path: A file; a folder with a file per label map, NIfTI or PNG, TIFF, BMP; or a data set in any layout that
            `find_interface` knows.
        classes: Number of classes, if the data set does not define it.
        **settings: Further arguments of `find_interface`, for a data set.

    Raises:
        MissingDataError: If no label maps are found.
        DataError: If they cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise MissingDataError(f"{path} does not exist; give a file or a folder with label maps")
    if annotation_files(path):
        raise DataError(
            f"{path}: DICOM SEG and RTSTRUCT files are read only in a data set, with the series that they belong to. "
            "Predict again with --format nifti, which keeps the geometry"
        )
    if not path.is_dir():
        return LabelMaps({composed(stem_of(path)): LabelFile(path)})
    # Including pipes, which raise an error when read: skipping them would silently lose a label map.
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


def annotation_files(path: str | Path) -> list[Path]:
    """Return the DICOM files of a path; none if it holds other label maps, or is a data set."""
    path = Path(path)
    files = [one for one in path.iterdir() if one.is_file()] if path.is_dir() else [path] if path.is_file() else []
    shown = sorted(one for one in files if not one.name.startswith("."))
    dicom = [one for one in shown if one.suffix.lower() == ".dcm"]
    return dicom if len(dicom) == len([one for one in shown if one in dicom or _is_image(one)]) else []


def find_annotations(path: str | Path, truth: LabelMaps) -> LabelMaps:
    """Find predictions that are DICOM SEG or RTSTRUCT files, which the data set of the truth can read.

    Args:
        path: A file, or a folder with a file per sample, named like it.
        truth: A data set of DICOM series.

    Raises:
        DataError: If the truth is not such a data set, or has no sample of a name.
    """
    files = {composed(stem_of(file)): file for file in annotation_files(path)}
    samples = {name: one for name, one in truth.maps.items() if isinstance(one, LabelSample)}
    if not samples or not all(one.interface.writes_annotations for one in samples.values()):
        raise DataError(
            f"{path}: DICOM SEG and RTSTRUCT files can be compared only with a data set that holds their series. Give "
            "the folder of the patients as the truth, or predict again with --format nifti"
        )
    if len(files) == len(samples) == 1:  # regardless of names, as in `pair`
        files = dict(zip(samples, files.values(), strict=True))
    missing = [name for name in files if name not in samples]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(files)} predictions have no truth of the same name: {some_of(missing)}; the truth "
            f"has {some_of(samples)}. Rename or remove them"
        )
    return LabelMaps({name: LabelAnnotation(samples[name], file) for name, file in files.items()})


def data_set_around(
    truth: str | Path, names: Iterable[str], classes: int, label_map: Mapping[int, int] | None = None
) -> Data_IO | None:
    """Find the data set of a folder of label maps, such as ``labelsTs``, for its images and class names.

    Args:
        truth: The folder of the label maps.
        names: Cases that it must contain.
        classes: Number of classes, background included.
        label_map: Labels for values in the files.

    Returns:
        The data set in the parent folder; None if it has no known layout, or other cases or classes.
    """
    root = Path(truth).resolve().parent
    try:
        if locate_data(root, settings={"part": "all"}) != root:
            logger.debug("no data set around %s, but one beside it", truth)
            return None
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
    """Pair predictions and truth by name; a single file of each is paired regardless of names.

    The name of a truth may also be that of the prediction with ``_mask``, ``_seg`` or similar.

    Returns:
        Pairs ``(prediction, truth)`` by name. Truths without a prediction are left out.

    Raises:
        DataError: If a prediction has no truth, or several.
    """
    if len(predictions.maps) == len(truth.maps) == 1:
        (name, first), (second,) = next(iter(predictions.maps.items())), truth.maps.values()
        return {name: (first, second)}
    bare: dict[str, list[str]] = defaultdict(list)
    for name in truth.maps:
        bare[bare_mask(name)].append(name)
    for name in predictions.maps:
        if name not in truth.maps and len(bare.get(name, [])) > 1:
            raise DataError(
                f"the prediction {name!r} could belong to the truths {some_of(bare[name])}; leave one of them in the "
                "folder, such as those of one annotator"
            )
    known = {name: truth.maps[one[0]] for name, one in bare.items()} | dict(truth.maps)
    missing = [name for name in predictions.maps if name not in known]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(predictions.maps)} predictions have no truth of the same name: "
            f"{some_of(missing)}; the truth has {some_of(truth.maps)}. Rename or remove them"
        )
    return {name: (one, known[name]) for name, one in predictions.maps.items()}


def check_pairs(pairs: Mapping[str, tuple[LabelMap, LabelMap]]) -> dict[str, Grid]:
    """Check, by the headers, that each prediction is on the grid of its truth.

    Returns:
        The grids of the truths.

    Raises:
        DataError: If some are not; the message lists all of them.
    """
    grids: dict[str, Grid] = {}
    bad = []
    for name, (prediction, truth) in pairs.items():
        try:
            first, second = truth.grid(), prediction.grid()
            difference = _difference(first, second)
            if difference:
                raise DataError(f"{prediction} is not on the grid of {truth}: {difference} (truth, prediction)")
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
    ignore: Iterable[int] = (),
    tolerance_mm: float = 1.0,
    draw_figures: bool = False,
    class_names: Sequence[str] | None = None,
    images: Data_IO | None = None,
    meaning: Abstract_IO | None = None,
) -> dict[str, Any]:
    """Score predictions against the truth, without a network.

    All label maps are read first: predictions and truth must hold the same values, or values that can be mapped to
    classes (`value_sets.meaning_of`).

    Args:
        predictions: The result of `find_label_maps`.
        truth: The result of `find_label_maps` for the truth.
        output: Folder for ``scores.csv``, ``summary.json`` and ``scores.png``; None writes nothing.
        classes: Number of classes, background included; None: as defined by the data set of the truth, or by the
            labels in the truth.
        label_map: Labels for values in the files, ``{255: 1}``; None: masks of 0 and 255 are detected.
        ignore: Values in the truth's files that mark voxels to exclude.
        tolerance_mm: Tolerance of the normalised surface Dice.
        draw_figures: Draw box plots.
        class_names: Names of the classes, background first; None: those of the data set of the truth.
        images: Images of the cases, for the voxel size of label maps that do not store one.
        meaning: The interface with the regions and the ignored values of the truth's files, if its data set or `images`
            do not define them.

    Returns:
        The content of ``summary.json`` (`summary.summarise`), with ``"cases_without_prediction"``, ``{"number": 1,
        "names": ["d"]}``, which have no scores; and ``"label_map"`` and ``"ignored_values"`` if there are any.

    Raises:
        DataError: If a prediction has no truth, is on another grid, or a file cannot be read or has other labels;
            grids are checked first, and all bad ones are listed.
        LabelError: If the predictions hold values that the truth does not; nothing is scored.

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
    sources = [None if truth.data_io is None else truth.data_io.interface, meaning]
    sources.append(None if images is None else images.interface)
    meaning = next((one for one in sources if one is not None and has_meaning(one)), None)
    scheme = None if meaning is None else scheme_of(meaning)
    # The labels of a data set are classes already; files beside it hold its values.
    stored = meaning.label_map or {} if meaning is not None and truth.data_io is None else {}
    marked = {value for value, label in [*stored.items(), *(label_map or {}).items()] if is_ignored(label)}
    if label_map is not None:
        label_map = {value: label for value, label in label_map.items() if value not in marked} or None
    ignored = sorted({*ignore, *marked})
    comparison = _compare(pairs, truth, classes, label_map, ignored)
    names = truth.class_names if class_names is None else class_names
    if scheme is None or scheme.classes != comparison.classes:
        scheme = LabelScheme(comparison.classes)
    if names is not None and len(names) != comparison.classes:
        raise ConfigurationError(
            f"class_names={tuple(names)!r} are {len(names)} names, but there are {comparison.classes} classes with the "
            "background; give a name for each"
        )
    if images is not None:
        grids = _with_spacing(grids, images)
    rows: list[dict[str, Any]] = []
    for name, (prediction, true) in tqdm(pairs.items(), desc="Scores per case", unit="case", disable=None):
        with memory_for(name, "its scores", grids[name].shape):
            labels, predicted, left_out = comparison.read(prediction, true)
            case = score_by_scheme(
                labels, predicted, scheme, grids[name].spacing, tolerance_mm=tolerance_mm, ignored=left_out
            )
        rows += with_sample(case, name)
        if output is not None:
            write_scores(Path(output) / SCORES_FILE, rows)
    compared = {id(true) for _, true in pairs.values()}
    missing = [name for name, true in truth.maps.items() if id(true) not in compared]
    if names is None and scheme.regions:
        names = ()
    facts: dict[str, Any] = {"cases_without_prediction": {"number": len(missing), "names": missing}}
    if names is not None:
        facts["class_names"] = [str(name) for name in scheme.scored_names(names)]
    if comparison.label_map:
        facts["label_map"] = {str(value): label for value, label in comparison.label_map.items()}
    if ignored:
        facts["ignored_values"] = ignored
    if output is not None:
        return write_results(output, rows, draw_figures=draw_figures, facts=facts)
    return summarise(rows) | facts


def _with_spacing(grids: Mapping[str, Grid], images: Data_IO) -> dict[str, Grid]:
    """Add the voxel size of the images to grids without one.

    Raises:
        DataError: If a case has no image, or its shape is another one.
    """
    of_name = {composed(str(index)): index for index in images.get_indiceslist()}
    found = {}
    for name, grid in grids.items():
        if name not in of_name:
            raise DataError(
                f"{images.input_path} has no image of the case {name}; it has {some_of(of_name)}. Rename it, or name "
                "another folder of images"
            )
        shape = images.interface.load_shape(of_name[name])
        if shape != grid.shape:
            raise DataError(
                f"{name}: the image in {images.input_path} has the shape {shape}, the label map {grid.shape}; name the "
                "folder of the images on which the label maps were drawn"
            )
        spacing = images.interface.load_extended(of_name[name]).get("spacing")
        if grid.spacing is None and spacing is not None:
            grid = replace(grid, spacing=tuple(float(size) for size in spacing))
        found[name] = grid
    return found


@dataclass(frozen=True)
class _Comparison:
    """Conversion of the label maps of a pair to class numbers.

    Attributes:
        classes: Number of classes, background included.
        label_map: Labels for values in the files, as given or detected.
        truth_map: Labels for values of the truth; None for class numbers.
        prediction_map: Labels for values of the predictions; None for class numbers.
        ignored: Values in the truth's files that mark voxels to exclude.
        has_ignored: The truth has the label `classes` in voxels without annotation.
    """

    classes: int
    label_map: Mapping[int, int] | None
    truth_map: Mapping[int, int] | None
    prediction_map: Mapping[int, int] | None
    ignored: Sequence[int]
    has_ignored: bool = False

    def read(self, prediction: LabelMap, truth: LabelMap) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Read the labels of the truth and of the prediction, and a mask of excluded voxels."""
        left_out = _left_out(truth, self.ignored)
        true, predicted = truth.values(), prediction.stored_values()
        if left_out is not None:
            # The values of excluded voxels do not matter.
            true, predicted = (np.where(left_out, 0, values) for values in (true, predicted))
        return (
            check_labels(true, self.classes + self.has_ignored, str(truth), self.truth_map),
            check_labels(predicted, self.classes, str(prediction), self.prediction_map),
            left_out,
        )


def _compare(
    pairs: Mapping[str, tuple[LabelMap, LabelMap]],
    truth: LabelMaps,
    classes: int | None,
    label_map: Mapping[int, int] | None,
    ignored: Sequence[int],
) -> _Comparison:
    """Read all label maps, and determine how their values map to classes."""
    true, predicted = FoundLabels(), FoundLabels()
    for name, both in tqdm(pairs.items(), desc="Looking for labels", delay=2.0, disable=None, leave=False):
        with memory_for(name, "looking for its labels"):
            left_out = _left_out(both[1], ignored)
            for found, one, values in (
                (true, both[1], both[1].values()),
                (predicted, both[0], both[0].stored_values()),
            ):
                try:
                    found.add(str(one), count_values(values if left_out is None else values[~left_out]))
                except DataError as error:
                    raise DataError(f"{one}: {error}") from error
    if truth.data_io is not None:
        interface = truth.data_io.interface
        # Labels of a data set are classes already. Predictions hold the values of its files, or classes.
        reading = reading_map(interface.label_map, interface.values_of_classes())
        require_below(predicted, "predictions", reading or {}, interface.classes)
        known = {value: label for value, label in (interface.label_map or {}).items() if not is_ignored(label)} or None
        return _Comparison(interface.classes, known, None, reading, ignored, has_ignored(interface.label_map))
    given = normalised_label_map(label_map, MOST_CLASSES if classes is None else classes)
    meaning = meaning_of(true, predicted, classes, given)
    whole = None
    if meaning.label_map is not None:
        # Both 1 and 255 are accepted, in predictions and truth.
        whole = {label: label for label in meaning.label_map.values()} | meaning.label_map
    return _Comparison(meaning.classes, meaning.label_map, whole, whole, ignored)


def _left_out(truth: LabelMap, ignored: Sequence[int]) -> np.ndarray | None:
    return np.isin(truth.stored_values(), ignored) if ignored else None


def _difference(truth: Grid, prediction: Grid) -> str | None:
    if truth.affine is None or prediction.affine is None:
        return None if truth.shape == prediction.shape else f"shape {truth.shape} against {prediction.shape}"
    return grid_difference(truth.shape, truth.affine, prediction.shape, prediction.affine)


def _is_image(path: Path) -> bool:
    return is_volume(path) or ending_of(path) in _IMAGE_ENDINGS
