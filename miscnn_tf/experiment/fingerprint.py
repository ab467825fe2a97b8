"""Fingerprint of a data set: sizes and spacings of all samples, intensities and classes of some."""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field, model_validator
from tqdm import tqdm

from miscnn_tf._base.configuration import plain
from miscnn_tf._base.plain_files import read_json, write_json
from miscnn_tf._base.typed_data import Document, require
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.geometry import orientation_of
from miscnn_tf.processing.subfunctions.cropping import nonzero_box

logger = logging.getLogger(__name__)

#: Number of samples whose intensities are measured, and of foreground voxels of each.
SAMPLES_MEASURED: Final = 24
VOXELS_PER_SAMPLE: Final = 20_000
#: Voxels of a label map from which the centres of its classes are computed.
_VOXELS_FOR_CENTRES: Final = 1_000_000

_FORMAT: Final = 1


@dataclass(frozen=True)
class Intensities:
    """Intensities of one channel.

    Attributes:
        least: Smallest value of an image; the median over the measured samples.
        greatest: Largest value of an image; the median over the measured samples.
        percentile_00_5: 0.5 % percentile of the foreground voxels of all measured samples.
        percentile_99_5: 99.5 % percentile.
        mean: Mean of the foreground.
        deviation: Standard deviation of the foreground.
    """

    least: float
    greatest: float
    percentile_00_5: float
    percentile_99_5: float
    mean: float
    deviation: float


@dataclass(frozen=True)
class Fingerprint:
    """Fingerprint of a data set.

    Attributes:
        cases: Number of samples.
        shapes: Spatial shape of each sample, voxels.
        spacings: Voxel size of each sample in mm, or None if it is unknown for any sample.
        whole_numbers: True if all intensities are integers.
        intensities: Intensities per channel.
        class_shares: Share of the voxels of each class in the measured samples.
        class_cases: Number of measured samples with each class.
        measured: Names of the measured samples.
        cropped_shapes: Spatial shape of each sample in the box of its voxels that are not 0; None if the box of every
            measured sample is the whole image.
        orientations: Directions of the axes of each volume, such as "RAS", or None if unknown for any sample.
        class_centres: Centre of each class in each measured sample, from 0 to 1 along each axis; None for a class that
            the sample lacks. None if they were not measured.
    """

    cases: int
    shapes: tuple[tuple[int, ...], ...]
    spacings: tuple[tuple[float, ...], ...] | None
    whole_numbers: bool
    intensities: tuple[Intensities, ...]
    class_shares: tuple[float, ...]
    class_cases: tuple[int, ...]
    measured: tuple[str, ...]
    cropped_shapes: tuple[tuple[int, ...], ...] | None = None
    orientations: tuple[str, ...] | None = None
    class_centres: tuple[tuple[tuple[float, ...] | None, ...], ...] | None = None

    @property
    def cropped_share(self) -> float:
        """Median share of the voxels of a sample that is left in the box of those that are not 0."""
        if self.cropped_shapes is None:
            return 1.0
        pairs = zip(self.cropped_shapes, self.shapes, strict=True)
        return float(np.median([math.prod(cropped) / math.prod(shape) for cropped, shape in pairs]))

    @property
    def median_shape(self) -> tuple[int, ...]:
        """Median size of each axis, voxels."""
        return tuple(round(float(size)) for size in np.median(np.array(self.shapes), axis=0))

    @property
    def median_spacing(self) -> tuple[float, ...] | None:
        """Median voxel size of each axis, mm."""
        if self.spacings is None:
            return None
        return tuple(float(f"{size:.6g}") for size in np.median(np.array(self.spacings), axis=0))

    def write(self, path: str | Path) -> None:
        """Write the fingerprint as JSON, atomically."""
        content: dict[str, Any] = {"format": _FORMAT, **plain(self.__dict__ | {"intensities": ()})}
        content["intensities"] = [plain(channel.__dict__) for channel in self.intensities]
        write_json(path, content)


class _IntensitiesFile(Document):
    least: float
    greatest: float
    percentile_00_5: float
    percentile_99_5: float
    mean: float
    deviation: float


class _FingerprintFile(Document):
    format: Literal[1]
    cases: Annotated[int, Field(ge=1)]
    shapes: list[Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=3)]]
    spacings: list[Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2, max_length=3)]] | None
    whole_numbers: bool
    intensities: list[_IntensitiesFile]
    class_shares: list[float]
    class_cases: list[Annotated[int, Field(ge=0)]]
    measured: list[str]
    cropped_shapes: list[Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=3)]] | None = None
    orientations: list[str] | None = None
    class_centres: list[list[Annotated[list[float], Field(min_length=2, max_length=3)] | None]] | None = None

    @model_validator(mode="after")
    def _fit(self) -> _FingerprintFile:
        if len(self.shapes) != self.cases or (self.spacings is not None and len(self.spacings) != self.cases):
            raise ValueError(f"cases is {self.cases}, but shapes or spacings have another length")
        for values in (self.cropped_shapes, self.orientations):
            if values is not None and len(values) != self.cases:
                raise ValueError(f"cases is {self.cases}, but cropped_shapes or orientations have another length")
        axes = {len(one) for one in (*self.shapes, *(self.spacings or ()), *(self.cropped_shapes or ()))}
        if len(axes) > 1:
            raise ValueError("shapes and spacings have different numbers of axes")
        if len(self.class_shares) != len(self.class_cases):
            raise ValueError("class_shares and class_cases have different numbers of classes")
        centres = self.class_centres or []
        if {len(one) for one in centres} - {len(self.class_shares)} or len(centres) not in (0, len(self.measured)):
            raise ValueError("class_centres must have an entry for each class of each measured sample")
        return self


def read_fingerprint(path: str | Path) -> Fingerprint:
    """Read a fingerprint.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is damaged.
    """
    advice = "create it again with 'miscnn-tf init'"
    content = read_json(path, "'miscnn-tf init' writes it", advice)
    require(_FingerprintFile, content, path, advice, fault="is not a fingerprint of a data set")
    return Fingerprint(
        cases=content["cases"],
        shapes=_tuples(content["shapes"]),
        spacings=_tuples(content["spacings"]),
        whole_numbers=content["whole_numbers"],
        intensities=tuple(
            Intensities(**{name: channel[name] for name in _IntensitiesFile.model_fields})
            for channel in content["intensities"]
        ),
        class_shares=tuple(content["class_shares"]),
        class_cases=tuple(content["class_cases"]),
        measured=tuple(content["measured"]),
        cropped_shapes=_tuples(content.get("cropped_shapes")),
        orientations=None if content.get("orientations") is None else tuple(content["orientations"]),
        class_centres=None
        if content.get("class_centres") is None
        else tuple(tuple(None if one is None else tuple(one) for one in sample) for sample in content["class_centres"]),
    )


def _tuples(lists: Any) -> Any:
    return None if lists is None else tuple(map(tuple, lists))


def take_fingerprint(data_io: Data_IO, samples_measured: int = SAMPLES_MEASURED, seed: int = 0) -> Fingerprint:
    """Compute the fingerprint of a data set from the headers of all samples and the voxels of some.

    Args:
        data_io: The samples.
        samples_measured: Number of samples whose voxels are read, evenly spaced in the list.
        seed: Random seed of the selection of voxels.

    Raises:
        DataError: If a sample is invalid.

    Example:
        >>> take_fingerprint(data_io).median_shape  # doctest: +SKIP
        (36, 50, 35)
    """
    interface, names = data_io.interface, data_io.get_indiceslist()
    data_io.check(names)
    shapes, spacings, orientations = [], [], []
    axes = 3 if interface.three_dim else 2
    for name in tqdm(names, desc="Reading headers", unit="sample", delay=2.0, disable=None, leave=False):
        shapes.append(tuple(int(size) for size in interface.load_shape(name)))
        extended = interface.load_extended(name)
        spacings.append(_spacing(extended, axes))
        orientations.append(orientation_of(extended, interface.three_dim))
    known = [spacing for spacing in spacings if spacing is not None]
    measured = _evenly(names, samples_measured)
    rng = np.random.default_rng(seed)
    foreground_values: list[list[np.ndarray]] = [[] for _ in range(interface.channels)]
    limits: list[list[tuple[float, float]]] = [[] for _ in range(interface.channels)]
    voxels = np.zeros(interface.classes, np.int64)
    present = np.zeros(interface.classes, np.int64)
    whole_numbers, boxes, centres = True, {}, []
    for name in tqdm(measured, desc="Measuring intensities", unit="sample", delay=2.0, disable=None, leave=False):
        sample = data_io.sample_loader(name, load_seg=True)
        assert sample.seg_data is not None
        data_io.require_classes(sample)
        labels = sample.seg_data[..., 0]
        whole_numbers &= sample.img_data.dtype.kind in "iub"
        boxes[name] = _box_shape(sample.img_data)
        counts = np.bincount(labels.ravel(order="K"), minlength=interface.classes)[: interface.classes]
        voxels += counts
        present += counts > 0
        centres.append(_class_centres(labels, interface.classes))
        flat = labels.ravel(order="F")
        # The label of voxels without annotation is not below the number of classes.
        foreground = np.flatnonzero((flat > 0) & (flat < interface.classes) if sample.scheme.has_ignored else flat)
        chosen = (
            rng.choice(foreground, VOXELS_PER_SAMPLE, replace=False)
            if len(foreground) > VOXELS_PER_SAMPLE
            else foreground
        )
        for channel in range(interface.channels):
            values = sample.img_data[..., channel].ravel(order="F")
            finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
            if finite.size:
                limits[channel].append((float(finite.min()), float(finite.max())))
            taken = values[chosen].astype(np.float64)
            foreground_values[channel].append(taken[np.isfinite(taken)])
    return Fingerprint(
        cases=len(names),
        shapes=tuple(shapes),
        spacings=tuple(known) if len(known) == len(names) else None,
        whole_numbers=bool(whole_numbers),
        intensities=tuple(
            _intensities(bounds, values) for bounds, values in zip(limits, foreground_values, strict=True)
        ),
        class_shares=tuple(float(f"{share:.4g}") for share in voxels / max(1, int(voxels.sum()))),
        class_cases=tuple(int(number) for number in present),
        measured=tuple(str(name) for name in measured),
        cropped_shapes=_cropped_shapes(data_io, names, shapes, boxes),
        orientations=tuple(str(one) for one in orientations) if all(orientations) else None,
        class_centres=tuple(centres),
    )


def _class_centres(labels: np.ndarray, classes: int) -> tuple[tuple[float, ...] | None, ...]:
    """Return the centre of each class, from 0 to 1 along each axis; large label maps are thinned out."""
    step = max(1, math.ceil((labels.size / _VOXELS_FOR_CENTRES) ** (1 / labels.ndim)))
    thinned = labels[(slice(None, None, step),) * labels.ndim]
    along = []
    for axis, size in enumerate(thinned.shape):
        planes = np.moveaxis(thinned, axis, 0).reshape(size, -1)
        counts = np.stack([np.bincount(plane, minlength=classes)[:classes] for plane in planes])
        along.append((np.arange(size) + 0.5) / size @ counts / np.maximum(counts.sum(0), 1))
    present = np.bincount(thinned.ravel(), minlength=classes)[:classes] > 0
    return tuple(
        tuple(float(f"{centre:.3g}") for centre in one) if found else None
        for one, found in zip(np.transpose(along), present, strict=True)
    )


def _cropped_shapes(
    data_io: Data_IO,
    names: Sequence[Hashable],
    shapes: Sequence[tuple[int, ...]],
    boxes: dict[Hashable, tuple[int, ...]],
) -> tuple[tuple[int, ...], ...] | None:
    """Return the shapes of all samples after cropping to what is not 0; None if no measured one gets smaller."""
    if all(boxes[name] == shape for name, shape in zip(names, shapes, strict=True) if name in boxes):
        return None
    for name in tqdm(names, desc="Measuring empty borders", unit="sample", delay=2.0, disable=None, leave=False):
        if name not in boxes:
            boxes[name] = _box_shape(data_io.sample_loader(name, load_seg=False).img_data)
    return tuple(boxes[name] for name in names)


def _box_shape(image: np.ndarray) -> tuple[int, ...]:
    return tuple(along.stop - along.start for along in nonzero_box(image))


def _spacing(extended: dict[str, Any], axes: int) -> tuple[float, ...] | None:
    spacing = extended.get("spacing")
    if spacing is None or len(spacing) != axes or not all(0 < float(size) < np.inf for size in spacing):
        return None
    return tuple(float(size) for size in spacing)


def _evenly(names: Sequence[Hashable], number: int) -> list[Hashable]:
    """Return some of the names, evenly spaced from the first to the last."""
    if len(names) <= number:
        return list(names)
    return [names[int(position)] for position in np.linspace(0, len(names) - 1, number).round()]


def _intensities(limits: Sequence[tuple[float, float]], foreground: Sequence[np.ndarray]) -> Intensities:
    values = np.concatenate(foreground) if foreground else np.zeros(0)
    if not values.size:  # no sample has foreground: use the limits of all voxels
        values = np.array([limit for pair in limits for limit in pair] or [0.0])
    low, high = np.percentile(values, (0.5, 99.5))
    numbers = (
        float(np.median([low for low, _ in limits])) if limits else 0.0,
        float(np.median([high for _, high in limits])) if limits else 0.0,
        *(float(low), float(high), float(values.mean()), float(values.std())),
    )
    return Intensities(*(float(f"{number:.6g}") for number in numbers))
