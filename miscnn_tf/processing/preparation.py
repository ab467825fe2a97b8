"""Prepare a sample from its files, and compute the key under which the prepared sample is stored.

All prepared samples are surveyed before a training: small ones, and classes that are missing or rare, are reported.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import uuid
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from miscnn_tf import __version__
from miscnn_tf._base.configuration import class_digest, describe, digest, plain
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.label_scheme import LabelScheme, scheme_of
from miscnn_tf.data_loading.labels import check_labels, count_voxels, whole_labels
from miscnn_tf.data_loading.sample import Sample, memory_for
from miscnn_tf.errors import ConfigurationError, DataError, GridError
from miscnn_tf.processing.patching.grid import class_locations
from miscnn_tf.processing.previous_segmentations import PreviousSegmentations
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

logger = logging.getLogger(__name__)

#: Maximum number of voxels of each class that are stored per sample, to draw patches around them.
LOCATIONS_PER_CLASS = 1000

_RUN = uuid.uuid4().hex


#: A class with a smaller share of all voxels is reported as rare.
RARE_SHARE = 1e-5


def run_subfunctions(sample: Sample, subfunctions: Sequence[Abstract_Subfunction], training: bool) -> None:
    """Apply the subfunctions in order.

    The position of each step is added to its records in ``sample.history``, and the spatial shapes before the first
    step and after each one are stored in ``sample.details["grids"]``.

    Raises:
        DataError: If the result is not an image, or the label map is not on the same grid, for instance because a
            user's step changes only one of them.
    """
    grids = []
    for position, subfunction in enumerate(subfunctions):
        before, shape = len(sample.history), sample.img_data.shape
        grids.append(shape[:-1])
        try:
            with memory_for(sample.index, f"preparing it by {type(subfunction).__name__}", shape):
                subfunction.preprocessing(sample, training=training)
        except Exception as error:
            error.add_note(f"while {type(subfunction).__name__} prepared the sample {sample.index!r}")
            raise
        for record in sample.history[before:]:
            record["position"] = position
    _require_one_grid(sample, subfunctions)
    sample.details["grids"] = [list(grid) for grid in (*grids, sample.img_data.shape[:-1])]


def prepare_sample(
    data_io: Data_IO,
    subfunctions: Sequence[Abstract_Subfunction],
    index: Hashable,
    load_seg: bool,
    loaded: Callable[[Sample], None] | None = None,
    previous_stage: PreviousSegmentations | None = None,
) -> Sample:
    """Load a sample, run the subfunctions, and add what cutting patches needs.

    Args:
        data_io: Source of the sample.
        subfunctions: The steps, in order.
        index: The sample's name.
        load_seg: Load and process its label map.
        loaded: Called with the sample before the first step.
        previous_stage: The segmentations that the previous stage of a cascade made.

    Returns:
        The sample, its image in the type that the steps left (an unchanged CT stays int16), its label map uint8 (uint16
        above 256 classes). Its details hold ``"fill"``, the lowest value of each channel, which is used outside the
        image, ``"voxels"``, the number of voxels of each class, ``"locations"``, some voxels of each foreground class
        (see `class_locations`), and ``"grids"`` (see `run_subfunctions`).

    Raises:
        LabelError: If a label is not below the number of classes; before any step.
        DataError: If the sample, or the result of the steps, cannot be used.
    """
    sample = data_io.sample_loader(index, load_seg=load_seg)
    data_io.require_classes(sample)
    if previous_stage is not None:
        sample.add_previous(previous_stage.load(data_io.interface, sample))
    if loaded is not None:
        loaded(sample)
    run_subfunctions(sample, subfunctions, training=load_seg)
    with memory_for(sample.index, "preparing it", lambda: sample.img_data.shape):
        if sample.seg_data is not None:
            where = f"{_after(sample, subfunctions)}: label map"
            sample.seg_data = check_labels(sample.seg_data, sample.scheme.labels, where)
        if sample.previous_data is not None:
            where = f"{_after(sample, subfunctions)}: segmentation of the previous stage"
            sample.previous_data = check_labels(sample.previous_data, sample.classes, where)
        for name in ("fill", "voxels", "locations"):
            sample.details.pop(name, None)  # a custom interface may use these keys, too
        complete(sample)
    return sample


def complete(sample: Sample) -> None:
    """Add the details that `prepare_sample` documents to a sample without them."""
    if sample.img_data.dtype.kind == "f" and sample.img_data.dtype.itemsize >= 4:
        sample.img_data = sample.img_data.astype(np.float32, copy=False)
    if "fill" not in sample.details:
        axes = tuple(range(sample.ndim))
        least = np.fmin.reduce(sample.img_data, axis=axes) if sample.img_data.size else np.zeros(sample.channels)
        sample.details["fill"] = np.nan_to_num(least).tolist()
    if sample.seg_data is not None and "locations" not in sample.details:
        sample.seg_data = whole_labels(sample.seg_data, f"sample {sample.index!r}: label map", sample.scheme.labels)
        sample.details["voxels"] = count_voxels(sample.seg_data[..., 0], sample.classes)
        sample.details["locations"] = patch_locations(sample.seg_data[..., 0], sample.scheme)


def patch_locations(labels: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """Draw voxels on which patches can be centred, of each foreground class or region; see `class_locations`.

    Regions are numbered from 1. Where voxels without annotation exist, all others have the number 0.
    """

    def drawn(labels: np.ndarray, classes: int) -> np.ndarray:
        # The draw depends only on the label map and its memory order, so that every process gets the same result.
        return class_locations(labels, classes, np.random.default_rng(0), LOCATIONS_PER_CLASS)

    def of_mask(mask: np.ndarray, number: int) -> np.ndarray:
        found = drawn(mask.view(np.uint8), 2)
        found[:, 0] = number
        return found

    parts = [of_mask(labels < scheme.classes, 0)] if scheme.has_ignored else []
    if scheme.regions:
        parts += [of_mask(np.isin(labels, region.labels), number) for number, region in enumerate(scheme.regions, 1)]
    else:
        parts.append(drawn(labels, scheme.classes))
    return np.concatenate(parts)


def _require_one_grid(sample: Sample, subfunctions: Sequence[Abstract_Subfunction]) -> None:
    image = sample.img_data
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "biuf" or image.ndim != sample.ndim + 1:
        raise DataError(
            f"{_after(sample, subfunctions)} is {_described(image)}, not an image: an array of numbers "
            f"({'x, y, z' if sample.three_dim else 'x, y'}, channels)"
        )
    maps = (("label map", "seg_data"), ("segmentation of the previous stage", "previous_data"))
    for (name, attribute), labels in zip(maps, (sample.seg_data, sample.previous_data), strict=True):
        if labels is None:
            continue
        if not isinstance(labels, np.ndarray) or labels.shape != (*image.shape[:-1], 1):
            raise GridError(
                f"{_after(sample, subfunctions)}: the image has shape {image.shape}, its {name} is "
                f"{_described(labels)}; a step that crops, flips or resamples sample.img_data has to do the same to "
                f"sample.{attribute}, {(*image.shape[:-1], 1)}"
            )


def _after(sample: Sample, subfunctions: Sequence[Abstract_Subfunction]) -> str:
    return f"sample {sample.index!r} after {', '.join(type(step).__name__ for step in subfunctions) or 'loading'}"


def _described(value: object) -> str:
    return f"an array of {value.dtype}, {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


class _Job(NamedTuple):
    data_io: Data_IO
    subfunctions: Sequence[Abstract_Subfunction]
    previous_stage: PreviousSegmentations | None


_job: _Job | None = None


def start_worker(
    data_io: Data_IO,
    subfunctions: Sequence[Abstract_Subfunction],
    previous_stage: PreviousSegmentations | None,
    lifeline: Connection,
) -> None:
    """Initialize a worker process for `prepare_in_worker`.

    Args:
        data_io: Source of the samples.
        subfunctions: The steps, in order.
        previous_stage: The segmentations that the previous stage of a cascade made.
        lifeline: Reading end of a pipe whose writing end only the main process holds. When the main process closes it
            or is killed, the worker ends at once.
    """
    global _job
    _job = _Job(data_io, subfunctions, previous_stage)
    # Ctrl-C in a terminal reaches every process; the main process handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    with suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)


def prepare_in_worker(index: Hashable, load_seg: bool) -> Sample:
    """Run `prepare_sample` in a worker process."""
    assert _job is not None, "start_worker() was not called in this process"
    return prepare_sample(_job.data_io, _job.subfunctions, index, load_seg=load_seg, previous_stage=_job.previous_stage)


class PreparationKey:
    """Key of a prepared sample, from all that decides its content: files, steps with their settings, package version.

    Args:
        data_io: Source of the samples.
        subfunctions: The steps, in order.
        previous_stage: The segmentations that the previous stage of a cascade made.

    Attributes:
        image_is_the_same: The image of a sample is the same for training and for prediction.
        obstacles: Reasons why another run cannot use these prepared samples; of the samples requested so far.
    """

    def __init__(
        self,
        data_io: Data_IO,
        subfunctions: Sequence[Abstract_Subfunction],
        previous_stage: PreviousSegmentations | None = None,
    ) -> None:
        self.data_io = data_io
        self._previous_stage = previous_stage
        self._known: dict[tuple[Hashable, bool], str] = {}
        self._sources: dict[Hashable, str] = {}
        self.image_is_the_same = all(step.same_image_in_training for step in subfunctions)
        interface, scheme = data_io.interface, scheme_of(data_io.interface)
        parts: list[object] = [interface, *subfunctions]
        identities = [_identity(part) for part in parts]
        self.obstacles = {
            f"the arguments of {type(part).__name__} are unknown: it must keep each constructor argument in an "
            "attribute of the same name, as plain data"
            for part, identity in zip(parts, identities, strict=True)
            if "unique" in identity
        }
        self._settings = digest(
            __version__,
            LOCATIONS_PER_CLASS,
            "grids",  # in the details since 0.2
            [type(interface).__name__, interface.channels, interface.classes, bool(interface.three_dim)],
            identities,
            [_attributes(subfunction) for subfunction in subfunctions],
            # Further arguments only where there are any, so that samples of earlier versions keep their key.
            *([scheme.to_plain()] if scheme != LabelScheme(interface.classes) else []),
        )

    def __call__(self, index: Hashable, load_seg: bool) -> str:
        """Return the key of a sample, computed once; it depends on the content of the sample's files."""
        known = self._known.get((index, load_seg))
        if known is None:
            known = self._known[index, load_seg] = self._key(index, load_seg)
        return known

    def knows(self, index: Hashable) -> bool:
        """Return whether the key of a sample is from an earlier look at its files."""
        return index in self._sources

    def require_same_source(self, index: Hashable) -> None:
        """Require that a sample was prepared from the files that its key was computed from.

        The files may have been replaced since then, for instance if prepared samples were removed and are prepared
        again. Other runs would use the sample in place of the earlier one.

        Raises:
            DataError: If the sample's files have changed.
        """
        before = self._sources.get(index)
        if before is not None and self.data_io.fingerprint(index) != before:
            raise DataError(
                f"sample {index!r}: its files have changed during the run, which used the earlier ones; start the run "
                "again"
            )

    def _key(self, index: Hashable, load_seg: bool) -> str:
        source = self.data_io.fingerprint(index)
        if source is None:
            self.obstacles.add(
                f"{type(self.data_io.interface).__name__}.fingerprint() returned None, so that a change of a sample's "
                "files would not be noticed"
            )
            source = f"unknown source, run {self.data_io.seed}"
        else:
            self._sources[index] = source
        # A further argument only of a cascade, so that samples of earlier versions keep their key.
        previous = [] if self._previous_stage is None else [self._previous_stage.fingerprint(index)]
        return digest(self._settings, source, str(index), load_seg, *previous)


def _identity(instance: object) -> dict[str, Any]:
    """Return class, arguments and code of an object; if its class does not keep the arguments, an id of its own."""
    try:
        description = describe(instance)
    except ConfigurationError as reason:
        logger.info("%s", reason)
        description = {"class_name": type(instance).__name__, "unique": _unique(instance)}
    # The code is looked at each time: IPython's autoreload, or running a notebook's cell again, changes a class in use.
    return {**description, "code": class_digest(type(instance))}


def _attributes(subfunction: Abstract_Subfunction) -> dict[str, Any]:
    """Return the public attributes that are plain data; some may have been set after the constructor."""
    found = {}
    for name, value in vars(subfunction).items():
        if not name.startswith("_"):
            with suppress(ConfigurationError):  # not a setting
                found[name] = plain(value)
    return found


def _unique(instance: object) -> str:
    # A change of plain attributes changes the result. The address is unique within a process only: in the next process
    # another instance may have it, and would find the samples of this one on disk.
    return f"{_RUN} {id(instance)} {sorted((name, repr(value)) for name, value in vars(instance).items())}"


class Surveyed(NamedTuple):
    """Summary of a prepared sample.

    Attributes:
        name: Name (index) of the sample.
        shape: Spatial shape of the prepared image.
        original: Spatial shape of the image as it was read.
        voxels: Voxels per class; None without a label map.
    """

    name: Hashable
    shape: tuple[int, ...]
    original: tuple[int, ...]
    voxels: Sequence[int] | None


def survey(sample: Sample) -> Surveyed:
    """Return the summary of a prepared sample."""
    return Surveyed(sample.index, sample.img_data.shape[:-1], sample.shape[:-1], sample.details.get("voxels"))


def remarks(samples: Sequence[Surveyed], patch_shape: tuple[int, ...] | None) -> list[str]:
    """Return remarks for the user, one sentence or two each.

    Args:
        samples: All samples of the training.
        patch_shape: Spatial shape of the patches; None for whole images.
    """
    found = []
    if patch_shape is not None:
        # Some padding is normal: patches are as large as the median image, and divisible.
        small = [sample for sample in samples if any(2 * n < m for n, m in zip(sample.shape, patch_shape, strict=True))]
        if small:
            found.append(
                f"{len(small)} of {len(samples)} samples are less than half as large as patch_shape={patch_shape}, "
                f"such as {small[0].name!r} with {small[0].shape} voxels: they are padded for the network, and "
                "predictions are cropped back. A smaller patch_shape is faster"
            )
    labelled = [sample.voxels for sample in samples if sample.voxels is not None]
    if labelled:
        counts = np.array(labelled, np.int64)
        total = int(counts.sum())
        for label in range(1, counts.shape[1]):
            voxels, cases = int(counts[:, label].sum()), int(np.count_nonzero(counts[:, label]))
            if voxels == 0:
                found.append(
                    f"class {label} has no voxel in any of the {len(labelled)} samples, so it cannot be learned; check "
                    "classes and label_map of the interface"
                )
            elif voxels < RARE_SHARE * total:
                found.append(
                    f"class {label} is rare: {voxels} of {total} voxels, in {cases} of {len(labelled)} samples. If its "
                    "Dice stays at 0, raise patchwise_foreground of the Preprocessor, or use class_weight"
                )
    return found
