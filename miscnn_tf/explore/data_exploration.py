"""Statistics of a data set: sizes, classes and intensities. Each sample is read once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces.nifti_slicer_io import SEPARATOR
from miscnn_tf.data_loading.label_scheme import scheme_of
from miscnn_tf.data_loading.labels import check_labels, count_voxels
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import MissingDataError

#: Maximum number of bins. A histogram of different values has at least half as many. The number is large, because an
#: outlier makes all bins wide.
BINS = 2**15

# Number of values that fit into the processor's cache, with intermediate results.
_CHUNK = 2**16
# Maximum number of entries, of 8 bytes, of a table of classes and integer intensities.
_LARGEST_TABLE = 2**22


class RunningHistogram:
    """Histogram with a growing range.

    The width of the bins is a power of two, and their borders are multiples of it. If a value is out of range, pairs of
    bins are joined, which keeps all counts in correct bins. For the same reason histograms can be merged.

    Example:
        >>> histogram = RunningHistogram()
        >>> histogram.add(np.array([0, 1, 1, 3]))
        >>> histogram.counts.tolist(), histogram.edges.tolist()
        ([1, 2, 0, 1], [0.0, 1.0, 2.0, 3.0, 4.0])
    """

    def __init__(self) -> None:
        self.counts = np.zeros(0, np.int64)
        self._exponent = 0
        self._first = 0

    @property
    def width(self) -> float:
        """Width of a bin."""
        return math.ldexp(1.0, self._exponent)

    @property
    def edges(self) -> np.ndarray:
        """Borders of the bins, one more than bins."""
        return (self._first + np.arange(len(self.counts) + 1, dtype=np.float64)) * self.width

    def add(self, values: np.ndarray) -> None:
        """Add finite values of any shape."""
        flat = values.ravel(order="K")
        if not flat.size:
            return
        lowest, highest = float(flat.min()), float(flat.max())
        if not len(self.counts):
            self._exponent = _exponent(highest - lowest, max(abs(lowest), abs(highest)), flat.dtype.kind in "biu")
        self._make_room(lowest, highest)
        for start in range(0, flat.size, _CHUNK):
            part = flat[start : start + _CHUNK]
            bins = np.floor(np.ldexp(part.astype(np.float64), -self._exponent)).astype(np.int64) - self._first
            self.counts += np.bincount(bins, minlength=len(self.counts))

    def add_counts(self, first: int, counts: np.ndarray) -> None:
        """Add whole numbers: ``counts[i]`` times the number ``first + i``.

        The first and the last count must not be 0.
        """
        if not len(self.counts):
            self._exponent = _exponent(len(counts) - 1, 0, True)
        self._make_room(first, first + len(counts) - 1)
        numbers = first + np.arange(len(counts), dtype=np.float64)
        bins = np.floor(np.ldexp(numbers, -self._exponent)).astype(np.int64) - self._first
        np.add.at(self.counts, bins, counts)

    def merge(self, other: RunningHistogram) -> None:
        """Add the counts of another histogram."""
        if not len(other.counts):
            return
        if not len(self.counts):
            self.counts, self._exponent, self._first = other.counts.copy(), other._exponent, other._first
            return
        counts, first = other.counts, other._first
        while self._exponent < other._exponent:
            self._join()
        last = other.edges[-1] - other.width
        self._make_room(float(other.edges[0]), float(last))
        for _ in range(self._exponent - other._exponent):
            counts, first = _joined(counts, first)
        offset = first - self._first
        self.counts[offset : offset + len(counts)] += counts

    def quantile(self, share: float) -> float:
        """Return a quantile, exact to half a bin; NaN without values."""
        total = int(self.counts.sum())
        if not total:
            return math.nan
        position = int(np.searchsorted(np.cumsum(self.counts), share * total))
        position = min(position, len(self.counts) - 1)
        # A bin of width 1 contains the whole number at its lower border.
        middle = 0.0 if self._exponent == 0 else 0.5
        return (self._first + position + middle) * self.width

    def shares(self, edges: np.ndarray) -> np.ndarray:
        """Return the share of values between successive borders, to which bins are assigned by their centres."""
        middles = (self.edges[:-1] + self.edges[1:]) / 2
        total = max(1, int(self.counts.sum()))
        result: np.ndarray = np.histogram(middles, bins=edges, weights=self.counts)[0] / total
        return result

    def _make_room(self, lowest: float, highest: float) -> None:
        while True:
            low, high = math.floor(lowest / self.width), math.floor(highest / self.width)
            if len(self.counts):
                low, high = min(low, self._first), max(high, self._first + len(self.counts) - 1)
            if high - low < BINS:
                break
            self._join()
        grown = np.zeros(high - low + 1, np.int64)
        if len(self.counts):
            offset = self._first - low
            grown[offset : offset + len(self.counts)] = self.counts
        self.counts, self._first = grown, low

    def _join(self) -> None:
        self._exponent += 1
        if len(self.counts):
            self.counts, self._first = _joined(self.counts, self._first)


def _joined(counts: np.ndarray, first: int) -> tuple[np.ndarray, int]:
    """Return bins of twice the width."""
    padded = np.concatenate([np.zeros(first % 2, np.int64), counts])
    padded = np.concatenate([padded, np.zeros(len(padded) % 2, np.int64)])
    return padded.reshape(-1, 2).sum(axis=1), (first - first % 2) // 2


def _exponent(spread: float, size: float, whole: bool) -> int:
    """Return the exponent of the width of the first bins."""
    if whole:
        return max(0, math.ceil(math.log2((spread + 1) / BINS)))
    if spread > 0:
        return math.ceil(math.log2(spread / (BINS - 2)))
    # For a single value, the resolution of float32.
    return math.frexp(size)[1] - 20 if size else -20


class RunningStatistics:
    """Incremental count, range, mean, standard deviation and histogram.

    Means and squared deviations are merged as in Chan, Golub and LeVeque, "Algorithms for computing the sample
    variance" (1983), which is accurate also for values far from 0.

    Example:
        >>> statistics = RunningStatistics()
        >>> statistics.add(np.array([1.0, 2.0, np.nan]))
        >>> statistics.add(np.array([3.0]))
        >>> statistics.count, statistics.mean, statistics.not_finite
        (3, 2.0, 1)
    """

    def __init__(self) -> None:
        self.count = 0
        self.not_finite = 0
        self.lowest = math.inf
        self.highest = -math.inf
        self.histogram = RunningHistogram()
        self._mean = 0.0
        self._squares = 0.0

    @property
    def mean(self) -> float:
        """Mean; NaN without values."""
        return self._mean if self.count else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation, with n in the denominator; NaN without values."""
        return math.sqrt(self._squares / self.count) if self.count else math.nan

    def add(self, values: np.ndarray) -> None:
        """Add values of any shape; NaN and infinite values are counted separately."""
        flat = values.ravel(order="K")
        if flat.dtype.kind == "f":
            finite = np.isfinite(flat)
            missing = flat.size - int(np.count_nonzero(finite))
            if missing:
                self.not_finite += missing
                flat = flat[finite]
        if not flat.size:
            return
        self.lowest, self.highest = min(self.lowest, float(flat.min())), max(self.highest, float(flat.max()))
        for start in range(0, flat.size, _CHUNK):
            part = flat[start : start + _CHUNK].astype(np.float64)
            mean = float(part.mean())
            self._join(part.size, mean, float(np.square(part - mean).sum()))
        self.histogram.add(flat)

    def add_counts(self, first: int, counts: np.ndarray) -> None:
        """Add whole numbers: ``counts[i]`` times the number ``first + i``."""
        there = np.flatnonzero(counts)
        if not len(there):
            return
        counts, first = counts[there[0] : there[-1] + 1], first + int(there[0])
        self.lowest, self.highest = min(self.lowest, first), max(self.highest, first + len(counts) - 1)
        numbers = first + np.arange(len(counts), dtype=np.float64)
        total = int(counts.sum())
        mean = float(numbers @ counts) / total
        self._join(total, mean, float(np.square(numbers - mean) @ counts))
        self.histogram.add_counts(first, counts)

    def without_histogram(self) -> RunningStatistics:
        """Return a copy without the histogram, which needs most of the memory."""
        twin = copy(self)
        twin.histogram = RunningHistogram()
        return twin

    def merge(self, other: RunningStatistics) -> None:
        """Add the values of other statistics."""
        self.not_finite += other.not_finite
        self.lowest, self.highest = min(self.lowest, other.lowest), max(self.highest, other.highest)
        self._join(other.count, other._mean, other._squares)
        self.histogram.merge(other.histogram)

    def _join(self, count: int, mean: float, squares: float) -> None:
        total = self.count + count
        if not total:
            return
        apart = mean - self._mean
        self._mean += apart * count / total
        self._squares += squares + apart * apart * self.count * count / total
        self.count = total


@dataclass(frozen=True)
class ClassFacts:
    """Statistics of a class in one sample.

    Attributes:
        label: The class.
        voxels: Number of its voxels.
        share: Share of all voxels of the sample.
        size: Volume in ml (2D: area in mm²); None if the voxel size is unknown.
        intensities: Statistics per channel.
    """

    label: int
    voxels: int
    share: float
    size: float | None
    intensities: tuple[RunningStatistics, ...]


@dataclass(frozen=True)
class CaseFacts:
    """Statistics of one sample.

    Attributes:
        index: Name of the sample.
        shape: Spatial shape.
        spacing: Voxel size in mm; None if unknown.
        dtype: Type of the image array.
        files: Names of its files; None if unknown.
        disk_bytes: Size of the files.
        memory_bytes: Size of the decoded image and label map.
        intensities: Statistics per channel.
        classes: Statistics of all classes; None without a label map.
    """

    index: Hashable
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None
    dtype: str
    files: tuple[str, ...] | None
    disk_bytes: int | None
    memory_bytes: int
    intensities: tuple[RunningStatistics, ...]
    classes: tuple[ClassFacts, ...] | None


@dataclass
class Exploration:
    """Statistics of a data set.

    Attributes:
        class_names: A name per class.
        channels: Number of channels.
        three_dim: True if the images are volumes.
        cases: Statistics of the samples that could be read.
        unreadable: Names and errors of the other samples.
        intensities: Statistics per channel over all samples.
        class_intensities: The same per class.
        endings: Number of files per ending in the data folder and its subfolders.
        folders: Number of folders.
    """

    class_names: tuple[str, ...]
    channels: int
    three_dim: bool
    cases: list[CaseFacts] = field(default_factory=list)
    unreadable: list[tuple[Hashable, Exception]] = field(default_factory=list)
    intensities: list[RunningStatistics] = field(default_factory=list)
    class_intensities: list[list[RunningStatistics]] = field(default_factory=list)
    endings: Counter[str] = field(default_factory=Counter)
    folders: int = 0

    @property
    def labelled(self) -> list[CaseFacts]:
        """Samples with a label map."""
        return [case for case in self.cases if case.classes is not None]

    @property
    def size_unit(self) -> str:
        """Unit of the sizes of classes."""
        return "ml" if self.three_dim else "mm²"


def explore(data_io: Data_IO, *, labels: bool = True) -> Exploration:
    """Compute the statistics of a data set. Each sample is read once, and one is in memory at a time.

    Args:
        data_io: The data set.
        labels: Read label maps, where they exist.

    Example:
        >>> from miscnn_tf.data_loading.interfaces import Dictionary_interface
        >>> data = {"a": (np.arange(8).reshape(2, 2, 2), np.eye(2, dtype=int)[:, :, None] * np.ones(2, int))}
        >>> found = explore(Data_IO(Dictionary_interface(data, classes=2), ""))
        >>> found.cases[0].shape, found.cases[0].classes[1].voxels, found.class_intensities[1][0].mean
        ((2, 2, 2), 4, 3.5)
    """
    interface = data_io.interface
    channels, classes = interface.channels, interface.classes
    result = Exploration(interface.names_of_classes(), channels, interface.three_dim)
    result.intensities = [RunningStatistics() for _ in range(channels)]
    result.class_intensities = [[RunningStatistics() for _ in range(channels)] for _ in range(classes)]
    root = Path(str(data_io.input_path))
    if root.is_dir():
        _count_files(root, result)
    for index in tqdm(data_io.get_indiceslist(), desc="Exploring", unit="case", disable=None):
        try:
            case = _explore_case(data_io, index, labels)
        except Exception as error:  # continue with the other samples after any error
            result.unreadable.append((index, error))
            continue
        _merge(result.intensities, case.intensities)
        for facts in case.classes or ():
            _merge(result.class_intensities[facts.label], facts.intensities)
        result.cases.append(_compact(case))
    return result


def case_rows(exploration: Exploration) -> Iterator[dict[str, Any]]:
    """Yield a table row per sample."""
    for case in exploration.cases:
        row: dict[str, Any] = {"sample_id": str(case.index)}
        # In the order of the array axes: x, y, z for NIfTI, but slice, row, column for DICOM.
        row |= {f"size_axis-{axis}": size for axis, size in enumerate(case.shape)}
        row |= {f"spacing_axis-{axis}_mm": length for axis, length in enumerate(case.spacing or ())}
        row |= {"dtype": case.dtype, "disk_bytes": case.disk_bytes, "memory_bytes": case.memory_bytes}
        row["files"] = None if case.files is None else len(case.files)
        row |= _intensity_cells(case.intensities)
        row["label_map"] = case.classes is not None
        yield row


def class_rows(exploration: Exploration) -> Iterator[dict[str, Any]]:
    """Yield a table row per sample and class."""
    size = "volume_ml" if exploration.three_dim else "area_mm2"
    for case in exploration.labelled:
        for facts in case.classes or ():
            yield {
                "sample_id": str(case.index),
                "class": facts.label,
                "name": exploration.class_names[facts.label],
                "voxels": facts.voxels,
                "share": facts.share,
                size: facts.size,
                **_intensity_cells(facts.intensities),
            }


def _explore_case(data_io: Data_IO, index: Hashable, labels: bool) -> CaseFacts:
    interface = data_io.interface
    sample = data_io.sample_loader(index, load_seg=False)
    image = sample.img_data
    label_map = _label_map(data_io, sample) if labels else None
    # Without a label map, all voxels are one class.
    classes = 1 if label_map is None else scheme_of(interface).labels
    places = np.zeros(image.shape[:-1], np.uint8, order="F") if label_map is None else label_map
    per_channel = [_statistics_per_class(image[..., channel], places, classes) for channel in range(image.shape[-1])]
    intensities = [RunningStatistics() for _ in per_channel]
    for statistics, of_channel in zip(intensities, per_channel, strict=True):
        for of_class in of_channel:
            statistics.merge(of_class)
    facts = None
    if label_map is not None:
        counts = count_voxels(label_map, interface.classes)
        voxel = None if sample.spacing is None else float(np.prod(sample.spacing)) / (1000 if sample.three_dim else 1)
        facts = tuple(
            ClassFacts(
                label,
                voxels,
                voxels / label_map.size,
                None if voxel is None else voxels * voxel,
                tuple(of_channel[label] for of_channel in per_channel),
            )
            for label, voxels in enumerate(counts)
        )
    files = _files_of(data_io, index)
    return CaseFacts(
        index=index,
        shape=image.shape[:-1],
        spacing=sample.spacing,
        dtype=image.dtype.name,
        files=None if files is None else tuple(sorted(path.name for path in files)),
        disk_bytes=None if files is None else sum(path.stat().st_size for path in files),
        memory_bytes=image.nbytes + (0 if label_map is None else label_map.nbytes),
        intensities=tuple(intensities),
        classes=facts,
    )


def _label_map(data_io: Data_IO, sample: Sample) -> np.ndarray | None:
    """Return the label map ``(x, y[, z])`` of a sample, if any."""
    interface = data_io.interface
    try:
        segmentation = interface.load_segmentation(sample.index)
    except MissingDataError:
        return None
    if segmentation is None:
        return None
    sample.add_segmentation(
        check_labels(np.asarray(segmentation), scheme_of(interface).labels, f"sample {sample.index!r}: label map")
    )
    assert sample.seg_data is not None
    return sample.seg_data[..., 0]


def _statistics_per_class(values: np.ndarray, labels: np.ndarray, classes: int) -> list[RunningStatistics]:
    """Compute the statistics of one channel ``(x, y[, z])`` in each class."""
    if labels.flags.f_contiguous:
        # Volumes from files are in Fortran order; transposed, adjacent voxels are adjacent in memory.
        values, labels = values.T, labels.T
    if values.dtype.kind in "iu":
        lowest, highest = int(values.min()), int(values.max())
        if (highest - lowest + 1) * classes <= _LARGEST_TABLE:
            return _from_table(values, labels, classes, lowest, highest - lowest + 1)
    result = []
    # Find the bounding box of each class in one pass, and search for it only there.
    regions = [tuple(slice(0, size) for size in labels.shape), *ndimage.find_objects(labels, max_label=classes - 1)]
    for label, region in enumerate(regions):
        statistics = RunningStatistics()
        if region is not None:
            statistics.add(values[region][labels[region] == label])
        result.append(statistics)
    return result


def _from_table(
    values: np.ndarray, labels: np.ndarray, classes: int, lowest: int, numbers: int
) -> list[RunningStatistics]:
    """Count each integer intensity in each class in one pass, and derive all statistics from the counts."""
    table = np.zeros(classes * numbers, np.int64)
    for plane, place in zip(values, labels, strict=True):
        keys = place.astype(np.int64)
        keys *= numbers
        keys += plane
        keys -= lowest
        table += np.bincount(keys.ravel(order="K"), minlength=len(table))
    result = []
    for counts in table.reshape(classes, numbers):
        statistics = RunningStatistics()
        statistics.add_counts(lowest, counts)
        result.append(statistics)
    return result


def _merge(into: Sequence[RunningStatistics], more: Sequence[RunningStatistics]) -> None:
    for statistics, other in zip(into, more, strict=True):
        statistics.merge(other)


def _compact(case: CaseFacts) -> CaseFacts:
    """Drop the histograms, which need most of the memory."""

    def compact(intensities: Sequence[RunningStatistics]) -> tuple[RunningStatistics, ...]:
        return tuple(statistics.without_histogram() for statistics in intensities)

    classes = case.classes
    if classes is not None:
        classes = tuple(replace(facts, intensities=compact(facts.intensities)) for facts in classes)
    return replace(case, intensities=compact(case.intensities), classes=classes)


def _intensity_cells(intensities: Sequence[RunningStatistics]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for channel, statistics in enumerate(intensities):
        suffix = "" if len(intensities) == 1 else f"_channel-{channel}"
        empty = statistics.count == 0
        cells |= {
            f"min{suffix}": None if empty else statistics.lowest,
            f"max{suffix}": None if empty else statistics.highest,
            f"mean{suffix}": None if empty else statistics.mean,
            f"sd{suffix}": None if empty else statistics.deviation,
            f"not_finite{suffix}": statistics.not_finite,
        }
    return cells


def _files_of(data_io: Data_IO, index: Hashable) -> list[Path] | None:
    """Return the files of a sample, if known."""
    interface = data_io.interface
    sources = getattr(getattr(interface, "reader", interface), "source_paths", None)
    if sources is not None:
        return list(sources(index, data_io.input_path))
    folder = Path(str(data_io.input_path)) / str(index).partition(SEPARATOR)[0]
    return [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else None


def _count_files(root: Path, result: Exploration) -> None:
    for path in root.rglob("*"):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            result.folders += 1
        elif path.is_file():
            name = path.name.lower()
            result.endings[".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower() or "no ending"] += 1
