"""Detection of the classes of a data set from the values in its segmentations."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from miscnn_tf._base.messages import some_of
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
    """

    voxels: dict[int, int] = field(default_factory=dict)
    first: dict[int, Hashable] = field(default_factory=dict)

    def add(self, index: Hashable, counts: dict[int, int]) -> None:
        """Add a sample's voxels."""
        for value, count in counts.items():
            self.voxels[value] = self.voxels.get(value, 0) + count
            self.first.setdefault(value, index)

    @property
    def values(self) -> list[int]:
        """The values, sorted."""
        return sorted(self.voxels)


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
    indices = interface.initialize(str(folder))
    logger.info("%s does not define the classes; reading the segmentations", folder)
    return classes_of(scan_labels(interface, indices), str(folder), label_map)


def scan_labels(interface: Labelled, indices: Iterable[Hashable]) -> FoundLabels:
    """Read the segmentation of every sample once, and count the voxels of each value.

    All samples are read, since a rare class may be in only one of them.

    Args:
        interface: An initialised interface.
        indices: Names of samples.

    Raises:
        MissingDataError: If no sample has a segmentation.
        DataError: If some are damaged, or hold values that are not whole numbers, or more than 1000 different ones; the
            message names the first 20 of them.
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
        except DataError as error:
            bad.append(str(error))
            continue
        try:
            found.add(index, count_values(labels))
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
    as the outline of the patient, do not count, unless there are no others.

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
        f"structure_dict={dict(list(structures.items())[:_SHOWN])}"
    )


def count_values(labels: np.ndarray) -> dict[int, int]:
    """Count the voxels of each value, without a copy of the array.

    Args:
        labels: Numbers of any type and shape.

    Raises:
        DataError: If there are values that are not whole numbers, or more than 1000 different ones.

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
        if len(counts) > _MOST_VALUES:
            raise DataError(
                f"the label map holds more than {_MOST_VALUES} different values; is it the image? Labels are "
                "0 for the background, 1, 2, … for the classes"
            )
    return counts


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
    mapping = None if mapping is None else completed(mapping, values)
    labels = sorted({(mapping or {}).get(value, value) for value in values})
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
                "(cells, lesions), merge them into one class: label_map={2: 1, 3: 1, …}",
                *(where, labels[-1], len(labels)),
            )
        return len(labels), mapping
    shown = ", ".join(f"{value} (in {found.first[value]!r})" for value in values[:_SHOWN])
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    numbered = values[:-1] == list(range(len(values) - 1))
    if len(labels) > _SHOWN and mapping is None and values[-1] == 255 and not numbered:
        raise DataError(
            f"{where}: the masks hold {len(values)} values between {values[0]} and 255 ({shown}{more}): they were "
            "resized smoothly, or compressed with loss. Save them again with nearest-neighbour interpolation, as PNG "
            "or TIFF; or give classes and a label_map for all values"
        )
    ignored = likely_ignored(values) if mapping is None else None
    hint = "" if ignored is None else f' ({ignored} beside other labels most likely means "ignore": background then)'
    mapped = "" if mapping is None else f", with label_map={mapping} {some_of(labels, _SHOWN)}"
    raise DataError(
        f"{where}: the segmentations hold the values {shown}{more}{mapped}, but classes are numbered 0, 1, 2, … "
        f"without gaps. Map the values, for instance with label_map={proposed_label_map(values)}{hint}, or give "
        "classes if some class is in none of these samples"
    )
