"""The Preprocessor: settings, prepared samples, and batches; and from predicted patches back to the image."""

from __future__ import annotations

import logging
import math
import secrets
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from miscnn_tf._base.arguments import byte_count, sizes, whole_number
from miscnn_tf._base.representation import Represented
from miscnn_tf._machine.system_memory import system_memory
from miscnn_tf.data_loading.cache.prepared_store import PreparedStore
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.label_scheme import scheme_of
from miscnn_tf.data_loading.sample import Sample, as_index_list, memory_for
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.assembling import Patches, assemble
from miscnn_tf.processing.batches import Batch, PredictionBatches, Share, TrainingBatches
from miscnn_tf.processing.data_augmentation import SWITCHES, Data_Augmentation
from miscnn_tf.processing.main_script import can_be_imported_by_workers
from miscnn_tf.processing.parallel_preparation import prepare_in_parallel
from miscnn_tf.processing.patching.blending import MODES
from miscnn_tf.processing.patching.patch_plan import ANALYSES, PatchPlan, checked_overlap, checked_patch_shape, cut
from miscnn_tf.processing.preparation import PreparationKey, Surveyed, complete, prepare_sample, remarks, survey
from miscnn_tf.processing.previous_segmentations import PreviousSegmentations
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

logger = logging.getLogger(__name__)

#: The attributes that, besides the subfunctions and the augmentation, determine the input of a network.
SETTINGS: Final = (
    "batch_size",
    "analysis",
    "patch_shape",
    "patchwise_overlap",
    "patchwise_blending",
    "patchwise_skip_blanks",
    "patchwise_skip_class",
    "patchwise_foreground",
)

_DEFAULT_AUGMENTATION: Final = "default"

#: All loader threads may ask for the store first.
_first_use = threading.Lock()


class Preprocessor(Represented):
    """Prepare samples, cut patches, augment them, make batches, and undo all of it on predictions.

    Networks read its settings, as a `PatchPlan` each, and never change them: several can share a preprocessor.

    Args:
        data_io: Source of the samples.
        batch_size: Patches (or images) per batch.
        subfunctions: Steps applied to each sample, in order, before the network, and undone in reverse after it.
        data_aug: Augmentation of training patches; None for no augmentation. Default: `Data_Augmentation` with its
            defaults, made for this instance.
        prepare_subfunctions: Keep prepared samples on disk (below ``data_io.batch_path``) for the next run and the next
            fold. Otherwise they are kept in RAM up to `cache_bytes`, and beyond that on disk until the program ends.
            Either way a sample is decoded and prepared once.
        prepare_batches: Make the batches of one epoch before training, keep them on disk, and use the same in every
            epoch: crops and augmentation are then frozen. Only for very slow storage.
        analysis: ``"fullimage"``: whole images. ``"patchwise-crop"``: one random patch per sample and step in training,
            prediction by grid. ``"patchwise-grid"``: all patches of a grid in training and prediction.
        patch_shape: Size of a patch in voxels, per axis; needed for the patchwise analyses.
        use_multiprocessing: Prepare samples in `mp_threads` processes instead of threads. The calling script then needs
            the usual ``if __name__ == "__main__":``; in one without it threads do the work, with a warning.
        seed: Seed of every draw (crops, augmentation, order). None draws one, which is kept in the attribute.
        cache_bytes: RAM for prepared samples, in bytes or as text such as ``"4GB"``; None for a quarter of the
            machine's.
        previous_stage: Segmentations that the previous stage of a cascade made, a `PreviousStage`. They become further
            channels of the patches, one per foreground class.

    Attributes:
        patchwise_overlap: Overlap of neighbouring grid patches per axis, in voxels or as a fraction of the patch
            (``0.5``), default ``(0, 0, 0)``. For prediction, half of the patch is usual.
        patchwise_blending: How overlapping predictions are merged: ``"gaussian"`` (the middle of a patch counts more,
            as in nnU-Net), ``"average"``, or ``"nnunet"``: Gaussian weights, patches that are distributed evenly over
            each axis, and the mean of what the last layer computes before its softmax or sigmoid, over patches, flips
            and the members of a group. It gives the predictions of nnU-Net's models; trained networks differ little.
        patchwise_skip_blanks: Leave out training patches that hold nothing but `patchwise_skip_class`, default False.
        patchwise_skip_class: Class of blank patches, default 0.
        patchwise_foreground: Share of random training patches that are drawn around a foreground voxel, so that small
            structures are seen, default 1/3 as in nnU-Net (Isensee et al. 2021). 0 for purely random patches.
        mp_threads: Threads, or processes with `use_multiprocessing`, that prepare samples, default 5.
        data_augmentation: The augmentation, or None.
        fullimage_divisor: Pad whole images to multiples of this, one number or one per axis, default 1. A network pads
            them to the smallest common multiple of this and of its own divisors.
        cache: The store of prepared samples.

    Raises:
        ConfigurationError: (a ValueError) For an unknown analysis, a missing or unfit `patch_shape` or `batch_size`.

    Example:
        >>> pre_processor = Preprocessor(
        ...     data_io, batch_size=2, analysis="patchwise-crop", patch_shape=(80, 160, 160)
        ... )  # doctest: +SKIP
        >>> pre_processor.patchwise_overlap = 0.5  # doctest: +SKIP
    """

    def __init__(
        self,
        data_io: Data_IO,
        batch_size: int,
        subfunctions: Sequence[Abstract_Subfunction] = (),
        data_aug: Data_Augmentation | str | None = _DEFAULT_AUGMENTATION,
        prepare_subfunctions: bool = False,
        prepare_batches: bool = False,
        analysis: str = "patchwise-crop",
        patch_shape: Sequence[int] | None = None,
        use_multiprocessing: bool = False,
        *,
        seed: int | None = None,
        cache_bytes: int | str | None = None,
        previous_stage: PreviousSegmentations | None = None,
    ) -> None:
        if analysis not in ANALYSES:
            raise _unknown_analysis(analysis)
        self.data_io = data_io
        self.batch_size = whole_number(batch_size, "batch_size", least=1)
        self.subfunctions = list(subfunctions)
        for step in self.subfunctions:
            if isinstance(step, type) or not isinstance(step, Abstract_Subfunction):
                raise ConfigurationError(
                    f"subfunctions must be instances of Abstract_Subfunction, got {step!r}"
                    + (" (a class: add parentheses)" if isinstance(step, type) else "")
                )
        if isinstance(data_aug, str):
            if data_aug != _DEFAULT_AUGMENTATION:
                raise ConfigurationError(f"data_aug={data_aug!r} must be a Data_Augmentation, or None for none")
            data_aug = Data_Augmentation()
        if data_aug is not None and not isinstance(data_aug, Data_Augmentation):
            raise ConfigurationError(f"data_aug must be a Data_Augmentation, or None for none; got {data_aug!r}")
        self.data_augmentation: Data_Augmentation | None = data_aug
        self.prepare_subfunctions = prepare_subfunctions
        self.prepare_batches = prepare_batches
        self.analysis = analysis
        self.patch_shape = checked_patch_shape(patch_shape, analysis, self._axes)
        self.use_multiprocessing = use_multiprocessing
        self.seed = secrets.randbits(31) if seed is None else whole_number(seed, "seed")
        self.cache_bytes = (
            _quarter_of_memory() if cache_bytes is None else byte_count(cache_bytes, "cache_bytes", least=0)
        )

        self.previous_stage = previous_stage

        self.patchwise_overlap: tuple[float, ...] | float = (0, 0, 0)
        self.patchwise_blending = "gaussian"
        self.patchwise_skip_blanks = False
        self.patchwise_skip_class = 0
        self.patchwise_foreground = 1 / 3
        self.mp_threads = 5
        self.fullimage_divisor: int | Sequence[int] = 1
        self._cache: PreparedStore | None = None
        self._runs = 0
        self._said: set[str] = set()

    # ---------------------------------------------------------------- prepared samples

    @property
    def cache(self) -> PreparedStore:
        """The store of prepared samples, made on first use."""
        with _first_use:
            if self._cache is None:
                folder = "prepared" if self.prepare_subfunctions else f"{self.data_io.seed}.prepared"
                self._cache = PreparedStore(
                    Path(self.data_io.batch_path) / folder, self.cache_bytes, persistent=self.prepare_subfunctions
                )
            return self._cache

    @cache.setter
    def cache(self, store: PreparedStore | None) -> None:
        if store is not None and not isinstance(store, PreparedStore):
            raise ConfigurationError(f"cache must be a PreparedStore, or None for a new one; got {store!r}")
        self._cache = store

    def preparation_key(self) -> PreparationKey:
        """Return the object that names prepared samples, for the present settings."""
        return PreparationKey(self.data_io, self.subfunctions, self.previous_stage)

    def prepare_sample_subfunctions(
        self,
        index: Hashable,
        training: bool = True,
        *,
        keep: bool = True,
        key: PreparationKey | None = None,
        loaded: Callable[[Sample], None] | None = None,
    ) -> Sample:
        """Return the sample after all subfunctions: from the store, or made now and put there.

        Args:
            index: The sample's name.
            training: Whether its label map is needed.
            keep: Whether to put it into the store if it is missing there.
            key: Result of `preparation_key`. Pass one for repeated calls, so that the sample's files are examined once.
            loaded: Called with the sample before the first step, if it is not in the store.

        Returns:
            A sample whose arrays may be memory-mapped and are read-only.
        """
        key = key or self.preparation_key()
        looked_at_before = key.knows(index)
        if not training and key.image_is_the_same:
            trained_on = self.cache.peek(key(index, True), index)
            if trained_on is not None:
                trained_on.seg_data = None
                return trained_on

        def make() -> Sample:
            sample = prepare_sample(
                self.data_io, self.subfunctions, index, training, loaded, previous_stage=self.previous_stage
            )
            if looked_at_before:
                key.require_same_source(index)
            return sample

        return self.cache.get(key(index, training), index, make) if keep else make()

    def run_subfunctions(
        self, indices_list: Sequence[Hashable], training: bool = True, *, plan: PatchPlan | None = None
    ) -> list[Surveyed]:
        """Prepare all samples now, several at a time, with a progress bar.

        Bad samples are found here, before any training. Samples that are in the store cost nothing.

        Args:
            indices_list: Names of the samples.
            training: Whether label maps are needed.
            plan: Settings of the patches that will be cut; None: those of `plan`.

        Returns:
            A summary of each: its size before and after the subfunctions, and its voxels per class.
        """
        indices = as_index_list(indices_list)
        plan = self.plan() if plan is None else plan
        if training and self.previous_stage is not None:
            self.previous_stage.require(indices)
        key, cache = self.preparation_key(), self.cache

        def keep(index: Hashable, make: Callable[[], Sample]) -> Surveyed:
            with memory_for(index, "keeping it prepared"):
                return survey(cache.get(key(index, training), index, make))

        surveyed = prepare_in_parallel(
            *(indices, self.data_io, self.subfunctions, training, keep, self.mp_threads),
            use_processes=self.use_multiprocessing and self._may_start_processes(),
            previous_stage=self.previous_stage,
        )
        _require_one_size(surveyed, plan)
        for remark in remarks(surveyed, plan.patch_shape):
            self._warn_once(remark)
        if self.prepare_subfunctions:
            for obstacle in sorted(key.obstacles):
                self._warn_once(f"the next run will not find these prepared samples again: {obstacle}")
        return surveyed

    def _warn_once(self, remark: str) -> None:
        if remark not in self._said:
            self._said.add(remark)
            logger.warning("%s", remark)

    def _may_start_processes(self) -> bool:
        if can_be_imported_by_workers():
            return True
        # MIScnn's scripts have no guard; they must run too, with the same result.
        self._warn_once(
            'use_multiprocessing=True needs if __name__ == "__main__": around what the script does, because each '
            "process imports the script; without it, samples are prepared in threads"
        )
        return False

    # ---------------------------------------------------------------- patches

    def _description(self) -> dict[str, Any]:
        augmentation = self.data_augmentation
        enabled = [
            name for name in SWITCHES if name != "cycles" and augmentation is not None and getattr(augmentation, name)
        ]
        return {
            "samples": f"{len(self.data_io.indices_list)} in {self.data_io.input_path}",
            "subfunctions": ", ".join(map(repr, self.subfunctions)) or "none",
            "augmentation": ", ".join(enabled) or "none",
            **({} if self.previous_stage is None else {"previous_stage": self.previous_stage.path}),
            "analysis": self.analysis,
            "patch_shape": self.patch_shape,
            "patchwise_overlap": self.patchwise_overlap,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    def plan(self, divisors: Sequence[int] | None = None) -> PatchPlan:
        """Return the present settings of patches as a value.

        Args:
            divisors: The sizes of a network's input must be multiples of these, one number per axis; None without a
                network.

        Raises:
            ConfigurationError: If a setting was set to an invalid value.

        Example:
            >>> patches = pre_processor.plan(network.divisors).patches(sample)  # doctest: +SKIP
            >>> [patch.shape for patch in patches]  # doctest: +SKIP
        """
        if self.analysis not in ANALYSES:
            raise _unknown_analysis(self.analysis)
        patch_shape = self.checked_patch_shape()
        overlap = checked_overlap(self.patchwise_overlap, patch_shape)
        if patch_shape is not None and self.patchwise_blending not in MODES:
            raise ConfigurationError(
                f"patchwise_blending={self.patchwise_blending!r} must be one of {', '.join(map(repr, MODES))}"
            )
        return PatchPlan(
            self.analysis,
            patch_shape,
            overlap,
            self.patchwise_blending,
            self._divisors(divisors) if patch_shape is None else (),
            self.patchwise_foreground,
            self.patchwise_skip_class if self.patchwise_skip_blanks else None,
            self.batch_size,
            self.seed,
        )

    def _divisors(self, divisors: Sequence[int] | None) -> tuple[int, ...]:
        """Return the smallest common multiples of `fullimage_divisor` and the divisors of a network."""
        own = self.fullimage_divisor
        own = sizes([own] * self._axes if isinstance(own, int) else own, "fullimage_divisor")
        if len(own) != self._axes:
            raise ConfigurationError(
                f"fullimage_divisor={self.fullimage_divisor!r} needs one number, or {self._axes}, one per axis"
            )
        return own if divisors is None else tuple(math.lcm(*pair) for pair in zip(own, divisors, strict=True))

    def checked_patch_shape(self) -> tuple[int, ...] | None:
        """Return the current size of patches; None if whole images are analysed.

        Raises:
            ConfigurationError: If `patch_shape` was set to an invalid value.
        """
        return checked_patch_shape(self.patch_shape, self.analysis, self._axes)

    @property
    def input_channels(self) -> int:
        """Channels of the patches: those of the images, and in a cascade one per foreground class."""
        interface = self.data_io.interface
        return int(interface.channels) + (0 if self.previous_stage is None else int(interface.classes) - 1)

    @property
    def _axes(self) -> int:
        return 3 if self.data_io.interface.three_dim else 2

    def analysis_patchwise_grid(
        self, sample: Sample, training: bool, data_aug: bool, rng: np.random.Generator | None = None
    ) -> list[tuple[np.ndarray, ...]]:
        """Return all patches of the sample's grid, in grid order, as ``(image,)`` or ``(image, one-hot)``."""
        plan = self.plan()
        return self._patches(sample, plan.grid_starts(sample, training), plan, training, data_aug, rng)

    def analysis_patchwise_crop(
        self, sample: Sample, data_aug: bool, rng: np.random.Generator | None = None
    ) -> list[tuple[np.ndarray, ...]]:
        """Return one random patch of the sample, as ``[(image, one-hot)]``."""
        rng = rng or self._generator()
        sample = _completed(sample)
        plan = self.plan()
        return self._patches(sample, [plan.random_start(sample, rng)], plan, True, data_aug, rng)

    def analysis_fullimage(
        self, sample: Sample, training: bool, data_aug: bool, rng: np.random.Generator | None = None
    ) -> list[tuple[np.ndarray, ...]]:
        """Return the whole image, as ``[(image,)]`` or ``[(image, one-hot)]``."""
        plan = self.plan()
        return self._patches(sample, [plan.whole_start(sample)], plan, training, data_aug, rng)

    def _patches(
        self,
        sample: Sample,
        starts: Sequence[tuple[int, ...]],
        plan: PatchPlan,
        training: bool,
        data_aug: bool,
        rng: np.random.Generator | None,
    ) -> list[tuple[np.ndarray, ...]]:
        sample = _completed(sample)
        shape = plan.patch_shape_for(sample.img_data.shape[:-1])
        augmentation = self.data_augmentation if data_aug else None
        rng = rng or self._generator()
        patches = [cut(sample, start, shape, rng, augmentation) for start in starts]
        if not training:
            return [(patch.image,) for patch in patches]
        return [(patch.image, sample.scheme.encode(patch.required_labels(sample))) for patch in patches]

    def _generator(self) -> np.random.Generator:
        self._runs += 1
        return np.random.default_rng([self.seed, self._runs])

    # ---------------------------------------------------------------- batches

    def run(
        self, indices_list: Sequence[Hashable], training: bool = True, validation: bool = False
    ) -> list[Batch] | int | None:
        """Make all batches of the samples, once through.

        Args:
            indices_list: Names of the samples.
            training: Whether label maps are needed; without, the batches are for prediction: all patches of each sample
                in grid order, each sample's in batches of their own.
            validation: Whether to leave the augmentation out.

        Returns:
            ``[(images, one-hot segmentations or None), …]``, both float32 with the batch axis first; the last batch may
            be smaller. With `prepare_batches` they go to disk, and the number (pointer) of the last one is returned.
        """
        self._runs += 1
        if training:
            made = self.training_batches(indices_list, validation=validation, full=False)
            scheme = scheme_of(self.data_io.interface)
            pairs = (made.batch(self._runs, step) for step in range(len(made)))
            batches: Iterator[Batch] = ((images, scheme.encode(labels)) for images, labels in pairs)
        else:
            predicted = self.prediction_batches(indices_list)
            batches = ((predicted.batch(step), None) for step in range(len(predicted)))
        if not self.prepare_batches:
            return list(batches)
        pointer = None
        for pointer, (images, segmentations) in enumerate(batches):
            self.data_io.backup_batches(images, segmentations, pointer)
        return pointer

    def training_batches(
        self,
        samples: Sequence[Hashable],
        *,
        plan: PatchPlan | None = None,
        validation: bool = False,
        shuffle: bool = False,
        iterations: int | None = None,
        full: bool = True,
        share: Share | None = None,
    ) -> TrainingBatches:
        """Return the batches of samples, each a pure function of epoch and step.

        Args:
            samples: Names of the samples.
            plan: Settings of the patches; None: those of `plan`.
            validation: Whether to leave the augmentation out, and give the same crops in every epoch.
            shuffle: Whether to draw the order anew for each epoch.
            iterations: Batches per epoch; None for once through all samples.
            full: Whether to fill up the last batch of an epoch.
            share: The part of each batch to make; None for all of it.
        """
        return TrainingBatches(
            self.plan() if plan is None else plan,
            self._prepared(training=True),
            samples,
            None if validation else self.data_augmentation,
            validation=validation,
            shuffle=shuffle,
            iterations=iterations,
            full=full,
            share=share,
        )

    def prediction_batches(self, samples: Sequence[Hashable], plan: PatchPlan | None = None) -> PredictionBatches:
        """Return the batches of all patches of samples, in grid order.

        Args:
            samples: Names of the samples.
            plan: Settings of the patches; None: those of `plan`.
        """
        return PredictionBatches(self.plan() if plan is None else plan, self._prepared(training=False), samples)

    def _prepared(self, training: bool) -> Callable[[Hashable], Sample]:
        return partial(self.prepare_sample_subfunctions, training=training, key=self.preparation_key())

    # ---------------------------------------------------------------- predictions

    def postprocessing(
        self, sample: Sample | Hashable, prediction: np.ndarray | Sequence[np.ndarray], activation_output: bool = False
    ) -> np.ndarray:
        """Put predicted patches together and undo everything that was done to the sample.

        Args:
            sample: The sample as the subfunctions left it, or its name.
            prediction: Class probabilities of its patches in grid order, ``(patches, x, y[, z], classes)``; for full
                images a batch of one.
            activation_output: Return probabilities instead of labels.

        Returns:
            Labels ``(x, y[, z])``, or probabilities ``(x, y[, z], classes)``, of the original image.
        """
        if not isinstance(sample, Sample):
            sample = self.prepare_sample_subfunctions(sample, training=False)
        return self.assemble(sample, iter(prediction), activation_output)

    def assemble(
        self,
        sample: Sample,
        patches: Patches,
        activation_output: bool = False,
        *,
        plan: PatchPlan | None = None,
        sections: int = 1,
    ) -> np.ndarray:
        """`postprocessing` for patches that come one by one: see `miscnn_tf.processing.assembling.assemble`."""
        plan = self.plan() if plan is None else plan
        return assemble(sample, patches, plan, self.subfunctions, activation_output, sections=sections)

    def __getstate__(self) -> dict[str, Any]:
        # The store holds locks and open memory maps; another process makes its own.
        return {**self.__dict__, "_cache": None}


def _unknown_analysis(analysis: object) -> ConfigurationError:
    return ConfigurationError(f"analysis={analysis!r} is not known; use one of {', '.join(map(repr, ANALYSES))}")


def _require_one_size(surveyed: Sequence[Surveyed], plan: PatchPlan) -> None:
    if plan.analysis != "fullimage" or plan.batch_size == 1:
        return
    shapes = {plan.patch_shape_for(sample.shape): sample.name for sample in surveyed}
    if len(shapes) > 1:
        first, second, *_ = shapes.items()
        raise ConfigurationError(
            f"whole images of different sizes cannot be in one batch ({first[1]!r}: {first[0]}; {second[1]!r}: "
            f"{second[0]}): use batch_size=1, a Resize or Padding subfunction, or a patchwise analysis"
        )


def _completed(sample: Sample) -> Sample:
    """Return a copy of the sample with all that cutting needs; further steps may change the caller's own."""
    own = copy(sample)
    own.details = dict(sample.details)
    complete(own)
    return own


def _quarter_of_memory() -> int:
    total = system_memory().total
    return (8 * 2**30 if total is None else total) // 4
