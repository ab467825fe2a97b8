"""Detection of the classes of a data set from the values in its segmentations."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading.formats.image_file import LossyMaskError
from miscnn_tf.data_loading.label_keys import IGNORE, as_key, class_of, colour_map, has_colours, has_rules
from miscnn_tf.data_loading.label_values import completed, likely_ignored, proposed_label_map
from miscnn_tf.data_loading.labels import is_odd, label_text, normalised_label_map
from miscnn_tf.errors import DataError, MissingDataError

logger = logging.getLogger(__name__)

#: Number of classes of an interface that reads values before the classes are known.
ANY_CLASSES = 2**16

_CHUNK = 2**22
_PROGRESS_AFTER = 2.0  # seconds
_MOST_VALUES = 1000
_SHOWN = 10
_LISTED = 20
#: Anatomical data sets usually have fewer classes; more are probably numbered objects.
_MANY = 30
# A data set numbers objects if the highest label differs between samples and at least this share is in one piece.
_FEWEST_OBJECTS = 8
_SHARE_IN_ONE_PIECE = 0.9
# Voxels in the bounding boxes of all labels, and labels in all, whose connected pieces are counted: about a second.
_LARGEST_SEARCHED = 2**24
_LABELS_SEARCHED = 100
# Masks with blurred edges: white is the most frequent value, even in thin structures.
_BLURRED_SHARE = 0.8
_MOST_COLOURS = 40

_THRESHOLD = "--label-map 128+=1 (Python: label_map={'128+': 1})"
_ONE_CLASS = "--label-map nonzero=1 (Python: label_map={'nonzero': 1})"


class MaskValuesError(DataError):
    """Error of masks whose values are not classes throughout: shades of smooth edges, or numbers of objects."""


class Labelled(Protocol):
    """The part of an interface that reads segmentations."""

    def initialize(self, input_path: str) -> list[Hashable]:
        """Return the names of the samples in a folder."""

    def stored_labels(self, index: Hashable) -> np.ndarray:
        """Return the label map of a sample with the values in the file."""

    def named_structures(self, index: Hashable) -> dict[str, str | None]:
        """Return the names of the structures in a sample, with the reason to leave one out."""


@dataclass
class FoundLabels:
    """Values of segmentations.

    Attributes:
        voxels: Number of voxels with each value.
        first: First sample that holds the value.
        highest: Highest label of each sample, if its labels have no gap.
        in_one_piece: Whether each label that was examined is one connected object.
    """

    voxels: dict[int, int] = field(default_factory=dict)
    first: dict[int, Hashable] = field(default_factory=dict)
    highest: list[int | None] = field(default_factory=list)
    in_one_piece: list[bool] = field(default_factory=list)

    def add(self, index: Hashable, counts: dict[int, int]) -> None:
        """Add a sample's voxels."""
        labels = sorted(counts.keys() - {0})
        self.highest.append(len(labels) if labels == list(range(1, len(labels) + 1)) else None)
        for value, count in counts.items():
            self.voxels[value] = self.voxels.get(value, 0) + count
            self.first.setdefault(value, index)

    @property
    def values(self) -> list[int]:
        """The values, sorted."""
        return [as_key(value) for value in sorted(self.voxels)]

    @property
    def are_objects(self) -> bool:
        """True if the labels number objects: from 1 without gaps, up to a number that differs, each in one piece."""
        numbers = {number for number in self.highest if number is not None}
        return (
            None not in self.highest
            and max(numbers, default=0) >= _FEWEST_OBJECTS
            and len(numbers) > 1
            and bool(self.in_one_piece)
            and sum(self.in_one_piece) >= _SHARE_IN_ONE_PIECE * len(self.in_one_piece)
        )

    @property
    def are_blurred(self) -> bool:
        """True if the values are those of a mask of 0 and 255 with smooth edges."""
        white, between = self.voxels.get(255, 0), [value for value in self.voxels if 0 < value < 255]
        shades = sum(self.voxels[value] for value in between)
        return (
            self.values[-1:] == [255]
            and len(between) >= _SHOWN
            and shades < _BLURRED_SHARE * (white + shades)
            and white > max(self.voxels[value] for value in between)
        )


def detect_classes(
    interface: Labelled, folder: str | Path, label_map: Mapping[Any, Any] | None = None
) -> tuple[int, dict[int, int] | None]:
    """Determine the number of classes and the label map from all segmentations of a folder.

    Args:
        interface: An interface for `ANY_CLASSES`; it is initialised here.
        folder: The folder of the data set.
        label_map: Labels for values, if the user gave them.

    Raises:
        DataError: If segmentations cannot be read, or their values are not 0, 1, 2, …; the message shows the label map
            to pass.
    """
    found, mapping = scan_folder(interface, folder, label_map)
    return classes_of(found, str(folder), mapping)


def scan_folder(
    interface: Labelled, folder: str | Path, label_map: Mapping[Any, Any] | None = None
) -> tuple[FoundLabels, dict[int, int] | None]:
    """Return the values of all segmentations of a folder, and the label map with numbers as keys.

    Arguments and errors are those of `detect_classes`.
    """
    indices = interface.initialize(str(folder))
    logger.info("%s does not define the classes; reading the segmentations", folder)
    mapping = normalised_label_map(label_map, ANY_CLASSES)
    return scan_labels(interface, indices, None if has_rules(mapping) else _MOST_VALUES), mapping


def scan_labels(interface: Labelled, indices: Iterable[Hashable], most: int | None = _MOST_VALUES) -> FoundLabels:
    """Read the segmentation of every sample once, and count the voxels of each value.

    All samples are read, since a rare class may be in only one of them.

    Args:
        interface: An initialised interface.
        indices: Names of samples.
        most: The most different values of a segmentation; None for any number.

    Raises:
        MissingDataError: If no sample has a segmentation.
        DataError: If some are damaged, or hold values that are not whole numbers, or more than `most` different ones;
            the message names the first 20 of them.
    """
    found = FoundLabels()
    names = list(indices)
    without, bad = [], []
    for index in tqdm(names, desc="Looking for labels", delay=_PROGRESS_AFTER, disable=None, leave=False):
        try:
            labels = interface.stored_labels(index)
        except MissingDataError as error:
            logger.debug("%s", error)
            without.append(index)
            continue
        except LossyMaskError:
            raise  # the others usually are, too
        except DataError as error:
            bad.append(str(error))
            continue
        try:
            counts = count_values(labels, most)
            found.add(index, counts)
            found.in_one_piece += _objects_in_one_piece(labels, counts, len(found.in_one_piece))
        except DataError as error:
            bad.append(f"sample {index!r}: {error}")
    if bad:
        lines = [f"  {line}" for line in bad[:_LISTED]] + (
            [f"  … and {len(bad) - _LISTED} more"] * (len(bad) > _LISTED)
        )
        raise DataError(f"{len(bad)} of {len(names)} segmentations cannot be used; repair them:\n" + "\n".join(lines))
    if names and len(without) == len(names):
        raise MissingDataError(
            f"none of the {len(names)} samples has a segmentation ({some_of(names)}); add segmentations, or give "
            "classes to predict only"
        )
    if without:
        logger.warning("%d of %d samples have no segmentation: %s", len(without), len(names), some_of(without))
    return found


def structures_of(
    interface: Labelled, indices: Iterable[Hashable], where: str
) -> tuple[dict[str, int], dict[str, str]]:
    """Number named structures (the ROIs of an RTSTRUCT) in alphabetical order.

    This requires that all samples with an annotation have the same few structures. Structures that are left out, such
    as the outline of the patient, count only if all structures are of this kind.

    Args:
        interface: An initialised interface that overrides `get_ROI_names`.
        indices: Names of samples.
        where: The data, for messages.

    Returns:
        The label of each structure, and the reason for each that is left out.

    Raises:
        MissingDataError: If no sample has an annotation.
        DataError: If not all samples have the same structures, or there are many; the message shows the argument.
    """
    names: Counter[str] = Counter()
    left_out: dict[str, str] = {}
    annotated, trouble = 0, None
    for index in tqdm(list(indices), desc="Looking for structures", delay=_PROGRESS_AFTER, disable=None, leave=False):
        try:
            found_here = interface.named_structures(index)
            annotated += 1
        except DataError as error:  # the check of the samples reports it
            trouble = trouble or error
            continue
        names.update(found_here.keys())
        left_out |= {name: reason for name, reason in found_here.items() if reason is not None}
    if trouble is not None and not annotated:
        raise type(trouble)(f"{where}: no structures can be read; give classes to predict only. {trouble}")
    if left_out.keys() == names.keys():
        left_out = {}
    for name in left_out:
        del names[name]
    everywhere = sorted(name for name, number in names.items() if number == annotated)
    structures = {name: label for label, name in enumerate(everywhere or sorted(names), start=1)}
    if everywhere and len(everywhere) == len(names) <= _SHOWN:
        logger.info("%s: the structures are numbered: structure_dict=%s", where, structures)
        return structures, left_out
    found = some_of((f"{name} (in {number} of {annotated})" for name, number in sorted(names.items())), _LISTED)
    raise DataError(
        f"{where}: the structures are {found}; choose some and give their labels, for instance "
        f"structure_dict={dict(list(structures.items())[:_SHOWN])}. Several names may share a label, such as those of "
        f"one structure in different patients, for instance structure_dict={dict.fromkeys(_alike(names), 1)}"
    )


def _alike(names: Iterable[str]) -> tuple[str, str]:
    """Return two names that differ in case, spaces and signs alone; an example if there are none."""
    seen: dict[str, str] = {}
    for name in sorted(names):
        letters = "".join(filter(str.isalnum, name)).casefold()
        if letters in seen:
            return seen[letters], name
        seen[letters] = name
    return "Heart", "HEART"


def _objects_in_one_piece(labels: np.ndarray, counts: Mapping[int, int], examined: int) -> list[bool]:
    """Return whether each label is one connected object; empty if they are few, or enough were examined."""
    numbers = sorted(counts.keys() - {0})
    numbered = numbers == list(range(1, len(numbers) + 1))
    if not numbered or len(numbers) < _FEWEST_OBJECTS or examined >= _LABELS_SEARCHED:
        return []
    whole = np.rint(labels).astype(np.int32, copy=False)
    places = ndimage.find_objects(whole)
    if sum(whole[place].size for place in places) > _LARGEST_SEARCHED:
        return []
    neighbours = np.ones((3,) * whole.ndim, bool)
    pairs = zip(numbers, places, strict=True)
    return [bool(ndimage.label(whole[place] == number, neighbours)[1] == 1) for number, place in pairs]


def count_values(labels: np.ndarray, most: int | None = _MOST_VALUES) -> dict[int, int]:
    """Count the voxels of each value, without a copy of the array.

    Args:
        labels: Numbers of any type and shape.
        most: The most different values; None for any number.

    Raises:
        DataError: If there are values that are not whole numbers, or more than `most` different ones.

    Example:
        >>> count_values(np.array([[0, 255], [255, 255]], np.uint8))
        {0: 1, 255: 3}
    """
    counts: dict[int, int] = {}
    flat = np.asarray(labels).ravel(order="K")
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        if part.dtype == np.bool_ or part.dtype == np.uint8:
            every = np.bincount(part.view(np.uint8))
            values = np.flatnonzero(every)
            numbers = every[values]
        else:
            values, numbers = np.unique(part, return_counts=True)
        if values.dtype.kind == "f":
            odd = values[is_odd(values)]
            if odd.size:
                raise DataError(
                    f"the label map holds {some_of(map(label_text, odd))}, but labels are whole numbers: was it "
                    "interpolated, or is it a probability map? Save it again with nearest-neighbour interpolation"
                )
            values = np.rint(values)
        for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
            counts[int(value)] = counts.get(int(value), 0) + int(number)
        if most is not None and len(counts) > most:
            if has_colours(counts):
                raise DataError(
                    f"the mask holds more than {most} colours: is it the image, or are its edges smoothed or "
                    "compressed? Save it with one colour per class, as PNG without smoothing"
                )
            raise DataError(
                f"the label map holds more than {most} different values; is it the image? Labels are "
                f"0 for the background, 1, 2, … for the classes; if it numbers objects, merge them: {_ONE_CLASS}"
            )
    return counts


def _colours_of_classes(found: FoundLabels, where: str) -> dict[int, int]:
    """Return the label map of masks with a colour per class."""
    mapping = colour_map(found.values, found.voxels)
    if len(mapping) > _MOST_COLOURS:
        raise DataError(
            f"{where}: the masks hold {len(mapping)} colours ({some_of(mapping, _SHOWN)}): their edges are smoothed or "
            "compressed with loss, or they are not masks. Save them with one colour per class, as PNG without smoothing"
        )
    logger.info("%s: the masks have a colour per class; they are read with label_map=%s", where, mapping)
    return mapping


def classes_of(
    found: FoundLabels, where: str, label_map: Mapping[Any, Any] | None = None
) -> tuple[int, dict[int, int] | None]:
    """Determine the number of classes and the label map: the given one, or {255: 1} for masks of 0 and 255.

    If the given one maps a value to a class whose number is also in the files, ``{2: 1}`` for 1 and 2, it is
    completed to ``{1: 1, 2: 1}``: predictions then hold the class's number.

    Args:
        found: The values.
        where: The data, for messages.
        label_map: Labels for values, if the user gave them.

    Raises:
        DataError: If there is only background, or the values have gaps; the message shows the label map to pass.
    """
    values = found.values
    mapping = normalised_label_map(label_map, 2**16)
    if mapping is None and values in ([0, 255], [0, 2**16 - 1]):
        mapping = {values[1]: 1}
        logger.info("%s: the masks hold 0 and %d; they are read with label_map=%s", where, values[1], mapping)
    if mapping is None and has_colours(values):
        mapping = _colours_of_classes(found, where)
    if mapping is None and found.are_blurred:
        raise MaskValuesError(
            f"{where}: the masks hold {len(values)} values between 0 and 255, but mostly 0 and 255: their edges are "
            f"smoothed or were compressed with loss. Separate the values by a threshold, {_THRESHOLD}, or save the "
            "masks with 0 and 255 alone"
        )
    if mapping is None and found.are_objects:
        raise MaskValuesError(
            f"{where}: the segmentations number objects (cells, lesions): up to {values[-1]} labels, not the same "
            f"number in all samples, each in one piece. Merge them into one class: {_ONE_CLASS}; or give classes if "
            "each number is a class"
        )
    mapping = None if mapping is None else completed(mapping, values)
    labels = sorted({class_of(value, mapping) for value in values} - {IGNORE})
    if labels in ([0], []):
        raise DataError(
            f"{where}: the segmentations hold only background; check that these are the right files, and give "
            "classes if they are"
        )
    if labels == list(range(len(labels))):
        logger.info("%s: %d classes: %s", where, len(labels), some_of(labels, _SHOWN))
        if len(labels) > _MANY:
            logger.warning(
                "%s: the segmentations hold the values 0 to %d, so that %d classes are assumed. If they number objects "
                "(cells, lesions), merge them into one class: %s",
                *(where, labels[-1], len(labels), _ONE_CLASS),
            )
        return len(labels), mapping
    shown = ", ".join(f"{value} (in {found.first[value]!r})" for value in values[:_SHOWN])
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    numbered = values[:-1] == list(range(len(values) - 1))
    if len(labels) > _SHOWN and mapping is None and values[-1] == 255 and not numbered:
        raise DataError(
            f"{where}: the masks hold {len(values)} values between {values[0]} and 255 ({shown}{more}): they were "
            "resized smoothly, or compressed with loss. Save them again with nearest-neighbour interpolation, as PNG "
            f"or TIFF; or separate the values by a threshold, {_THRESHOLD}"
        )
    ignored = likely_ignored(values) if mapping is None else None
    hint = (
        ""
        if ignored is None
        else f' ({ignored} beside other labels most likely means "ignore": background then; or '
        f"label_map={{{ignored}: 'ignore'}}, which leaves such voxels out of training and scores)"
    )
    mapped = "" if mapping is None else f", with label_map={mapping} {some_of(labels, _SHOWN)}"
    if len(values) > _MANY and mapping is None:
        raise DataError(
            f"{where}: the segmentations hold {len(values)} values ({shown}{more}), but classes are numbered 0, 1, 2, "
            f"… without gaps. If they number objects (cells, lesions), merge them into one class: {_ONE_CLASS}; "
            "otherwise give a label_map for all values"
        )
    raise DataError(
        f"{where}: the segmentations hold the values {shown}{more}{mapped}, but classes are numbered 0, 1, 2, … "
        f"without gaps. Map the values, for instance with label_map={proposed_label_map(values)}{hint}, or give "
        "classes if some class is in none of these samples"
    )
