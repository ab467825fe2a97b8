"""The Preprocessor: from the names of samples to batches for the network, and from its output back to the image."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from copy import copy
from multiprocessing import get_all_start_methods, get_context
from numbers import Real
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from miscnn_tf.arguments import byte_count, whole_number
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.memory_errors import memory_for
from miscnn_tf.data_loading.prepared_store import PreparedStore
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.data_loading.sample_names import as_index_list
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.batches import Batch, make_batches
from miscnn_tf.processing.cutting import BoxSource, cut
from miscnn_tf.processing.daemon_threads import DaemonThreads
from miscnn_tf.processing.data_augmentation import Data_Augmentation
from miscnn_tf.processing.main_script import can_be_imported_by_workers
from miscnn_tf.processing.one_hot import one_hot
from miscnn_tf.processing.patching.blending import MODES, Blender, Slab
from miscnn_tf.processing.patching.slab_rows import cut_slabs
from miscnn_tf.processing.postprocessing import undo_subfunctions
from miscnn_tf.processing.preparation import (
    PreparationKey,
    complete,
    prepare_in_worker,
    prepare_sample,
    start_worker,
)
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction
from miscnn_tf.processing.survey import Surveyed, remarks, survey
from miscnn_tf.system_memory import system_memory

logger = logging.getLogger(__name__)

#: The attributes that, besides the subfunctions and the augmentation, decide what a network gets to see.
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

ANALYSES: Final = ("fullimage", "patchwise-crop", "patchwise-grid")

_DEFAULT_AUGMENTATION: Final = "default"

#: Threads that make batches may all ask for the store first.
_first_use = threading.Lock()


class Preprocessor:
    """Prepares samples, cuts patches, augments them, makes batches, and undoes all of it on predictions.

    Args:
        data_io: Where samples come from.
        batch_size: Patches (or images) per batch.
        subfunctions: Steps applied to each sample, in order, before the network, and undone in reverse after it.
        data_aug: Augmentation of training patches. Left out: `Data_Augmentation` with its defaults, made for this
            instance. None: no augmentation.
        prepare_subfunctions: Keep prepared samples on disk (below ``data_io.batch_path``), where the next run and the
            next fold find them. Otherwise they are kept in RAM up to `cache_bytes`, and beyond that on disk until the
            program ends. Either way a sample is decoded and prepared once.
        prepare_batches: Make the batches of one epoch before training, keep them on disk, and use the same in every
            epoch: crops and augmentation are then frozen. For networks that wait for very slow storage only.
        analysis: ``"fullimage"``: whole images. ``"patchwise-crop"``: one random patch per sample and step in training,
            prediction by grid. ``"patchwise-grid"``: all patches of a grid in training and prediction.
        patch_shape: Size of a patch in voxels, per axis; needed for the patchwise analyses.
        use_multiprocessing: Prepare samples in `mp_threads` processes instead of threads. The calling script then needs
            the usual ``if __name__ == "__main__":``; in one without it threads do the work, with a warning.
        seed: Seed of every draw (crops, augmentation, order). None draws one, which is kept in the attribute.
        cache_bytes: RAM for prepared samples, in bytes or as text such as ``"4GB"``; None for a quarter of the
            machine's.

    Attributes:
        patchwise_overlap: Overlap of neighbouring grid patches in voxels per axis, default ``(0, 0, 0)``. For
            prediction, half of the patch is usual.
        patchwise_blending: How overlapping predictions are merged: ``"gaussian"`` (the middle of a patch counts more,
            as in nnU-Net) or ``"average"``.
        patchwise_skip_blanks: Leave out training patches that hold nothing but `patchwise_skip_class`, default False.
        patchwise_skip_class: The class that makes a patch blank, default 0.
        patchwise_foreground: Share of random training patches that are drawn around a foreground voxel, so that small
            structures are seen, default 1/3 as in nnU-Net (Isensee et al. 2021). 0 for purely random patches.
        mp_threads: Threads, or processes with `use_multiprocessing`, that prepare samples, default 5.
        data_augmentation: The augmentation, or None.
        fullimage_divisor: Whole images are padded to multiples of this, one number or one per axis; the network
            sets it.
        cache: The store of prepared samples.

    Raises:
        ConfigurationError: (a ValueError) For an unknown analysis, a missing or unfit `patch_shape` or `batch_size`.

    Example:
        >>> pre_processor = Preprocessor(
        ...     data_io, batch_size=2, analysis="patchwise-crop", patch_shape=(80, 160, 160)
        ... )  # doctest: +SKIP
        >>> pre_processor.patchwise_overlap = (40, 80, 80)  # doctest: +SKIP
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
    ) -> None:
        if analysis not in ANALYSES:
            raise ConfigurationError(f"analysis={analysis!r} is not known; use one of {', '.join(map(repr, ANALYSES))}")
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
        self.patch_shape = self._checked_patch_shape(patch_shape)
        self.use_multiprocessing = use_multiprocessing
        self.seed = secrets.randbits(31) if seed is None else whole_number(seed, "seed")
        self.cache_bytes = (
            _quarter_of_memory() if cache_bytes is None else byte_count(cache_bytes, "cache_bytes", least=0)
        )

        self.patchwise_overlap: tuple[int, ...] | int = (0, 0, 0)
        self.patchwise_blending = "gaussian"
        self.patchwise_skip_blanks = False
        self.patchwise_skip_class = 0
        self.patchwise_foreground = 1 / 3
        self.mp_threads = 5
        self.fullimage_divisor: int | tuple[int, ...] = 1
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
        """What names prepared samples, from the settings as they are now."""
        return PreparationKey(self.data_io, self.subfunctions)

    def prepare_sample_subfunctions(
        self,
        index: Hashable,
        training: bool = True,
        *,
        keep: bool = True,
        key: PreparationKey | None = None,
        loaded: Callable[[Sample], None] | None = None,
    ) -> Sample:
        """The sample after all subfunctions: from the store, or made now and put there.

        Args:
            index: The sample's name.
            training: Whether its label map is needed.
            keep: Whether to put it into the store where it is not there yet.
            key: What `preparation_key` gave. Whoever asks for the same samples again and again hands it in, so that
                files are not looked at each time.
            loaded: Called with the sample before the first step, where it is not in the store.

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
            sample = prepare_sample(self.data_io, self.subfunctions, index, load_seg=training, loaded=loaded)
            if looked_at_before:
                key.require_same_source(index)
            return sample

        return self.cache.get(key(index, training), index, make) if keep else make()

    def run_subfunctions(self, indices_list: Sequence[Hashable], training: bool = True) -> list[Surveyed]:
        """Prepare all samples now, several at a time, with a progress bar.

        Bad samples are found here, before any training. Samples that are in the store already cost nothing.

        Returns:
            What was seen of each: its size before and after the subfunctions, and its voxels per class.
        """
        indices = as_index_list(indices_list)
        key, cache = self.preparation_key(), self.cache
        with self._executor() as (readers, processes):

            def prepare(index: Hashable) -> Surveyed:
                def make() -> Sample:
                    if processes is None:
                        return prepare_sample(self.data_io, self.subfunctions, index, load_seg=training)
                    try:
                        return processes.submit(prepare_in_worker, index, training).result()
                    except BrokenProcessPool as error:
                        raise DataError(
                            f"a process that prepared samples was killed, with sample {index!r} or another one, or "
                            "could not start. Causes are a class that is defined in a notebook, a script without "
                            'if __name__ == "__main__":, or too little memory: set use_multiprocessing=False, or lower '
                            f"mp_threads (now {self.mp_threads})"
                        ) from error

                with memory_for(index, "keeping it prepared"):
                    return survey(cache.get(key(index, training), index, make))

            surveyed: list[Surveyed] = []
            futures: list[Future[Surveyed]] = [readers.submit(prepare, index) for index in dict.fromkeys(indices)]
            try:
                # A bar that would be gone in a blink is noise.
                for future in tqdm(futures, desc="Preparing samples", unit="sample", delay=1.0):
                    surveyed.append(future.result())
            finally:
                for future in futures:
                    future.cancel()
        self._require_one_size(surveyed)
        for remark in remarks(surveyed, self.checked_patch_shape()):
            self._say_once(remark)
        if self.prepare_subfunctions:
            for obstacle in sorted(key.obstacles):
                self._say_once(f"the next run will not find these prepared samples again: {obstacle}")
        return surveyed

    def _say_once(self, remark: str) -> None:
        if remark not in self._said:
            self._said.add(remark)
            logger.warning("%s", remark)

    @contextmanager
    def _executor(self) -> Iterator[tuple[Executor, Executor | None]]:
        # More than there are processors would not be faster, but need more memory.
        number = min(whole_number(self.mp_threads, "mp_threads", least=1), os.cpu_count() or 1)
        with _prepare_threads(number) as threads:
            if not self.use_multiprocessing or not self._may_start_processes():
                yield threads, None
                return
            # Not fork: TensorFlow's threads do not survive it.
            context = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
            theirs, ours = context.Pipe(duplex=False)
            job = (self.data_io, self.subfunctions, theirs)
            with theirs, ours, ProcessPoolExecutor(number, context, start_worker, job) as processes:
                try:
                    yield threads, processes
                finally:
                    # Nobody waits any more for what they are at. If one was killed while it took a task, the others
                    # would wait forever for its lock, and the executor for them.
                    ours.close()

    def _may_start_processes(self) -> bool:
        if can_be_imported_by_workers():
            return True
        # MIScnn's scripts have no guard: they are to run nevertheless, with the same result.
        self._say_once(
            'use_multiprocessing=True needs if __name__ == "__main__": around what the script does, because each '
            "process imports the script; without it, samples are prepared in threads"
        )
        return False

    def _require_one_size(self, surveyed: Sequence[Surveyed]) -> None:
        if self.analysis != "fullimage" or self.batch_size == 1:
            return
        boxes = self.boxes()
        sizes = {boxes.window(sample.shape): sample.name for sample in surveyed}
        if len(sizes) > 1:
            first, second, *_ = sizes.items()
            raise ConfigurationError(
                f"whole images of different sizes cannot stand in one batch ({first[1]!r}: {first[0]}; {second[1]!r}: "
                f"{second[0]}): use batch_size=1, a Resize or Padding subfunction, or a patchwise analysis"
            )

    # ---------------------------------------------------------------- patches

    def boxes(self) -> BoxSource:
        """Where patches lie, from the settings as they are now."""
        return BoxSource(
            self.analysis,
            self.checked_patch_shape(),
            self._checked_overlap(),
            divisor=self.fullimage_divisor,
            foreground=self.patchwise_foreground,
            skip_class=self.patchwise_skip_class if self.patchwise_skip_blanks else None,
        )

    def analysis_patchwise_grid(
        self, sample: Sample, training: bool, data_aug: bool, rng: np.random.Generator | None = None
    ) -> list[tuple[np.ndarray, ...]]:
        """All patches of the sample's grid, in grid order, as ``(image,)`` or ``(image, one-hot)``."""
        boxes = self.boxes()
        return self._patches(sample, boxes.grid_starts(sample, training), boxes, training, data_aug, rng)

    def analysis_patchwise_crop(
        self, sample: Sample, data_aug: bool, rng: np.random.Generator | None = None
    ) -> list[tuple[np.ndarray, ...]]:
        """One random patch of the sample, as ``[(image, one-hot)]``."""
        rng = rng or self._generator()
        sample = _completed(sample)
        boxes = self.boxes()
        return self._patches(sample, [boxes.random_start(sample, rng)], boxes, True, data_aug, rng)

    def analysis_fullimage(
        self, sample: Sample, training: bool, data_aug: bool, rng: np.random.Generator | None = None
    ) -> list[tuple[np.ndarray, ...]]:
        """The whole image, as ``[(image,)]`` or ``[(image, one-hot)]``."""
        boxes = self.boxes()
        return self._patches(sample, [boxes.whole_start(sample)], boxes, training, data_aug, rng)

    def _patches(
        self,
        sample: Sample,
        starts: Sequence[tuple[int, ...]],
        boxes: BoxSource,
        training: bool,
        data_aug: bool,
        rng: np.random.Generator | None,
    ) -> list[tuple[np.ndarray, ...]]:
        sample = _completed(sample)
        window = boxes.window(sample.img_data.shape[:-1])
        augmentation = self.data_augmentation if data_aug else None
        rng = rng or self._generator()
        patches = [cut(sample, start, window, rng, augmentation) for start in starts]
        if not training:
            return [(patch.image,) for patch in patches]
        return [(patch.image, one_hot(patch.required_labels(sample), sample.classes)) for patch in patches]

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
        batches = make_batches(self, indices_list, training, validation, epoch=self._runs)
        if not self.prepare_batches:
            return list(batches)
        pointer = None
        for pointer, (images, segmentations) in enumerate(batches):
            self.data_io.backup_batches(images, segmentations, pointer)
        return pointer

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
        patches: Iterator[np.ndarray] | Callable[[Sequence[int]], Iterator[np.ndarray]],
        activation_output: bool = False,
        *,
        sections: int = 1,
    ) -> np.ndarray:
        """`postprocessing` for patches that come one by one, so that they need not all be held at once.

        Args:
            sample: The sample as the subfunctions left it.
            patches: Class probabilities of its patches in grid order; or a function that makes those of the patches
                with these numbers, which `sections` need.
            activation_output: Return probabilities instead of labels.
            sections: In how many sections of the second axis to work, each from the patches that reach it: that many
                times less memory, and patches on a border are made twice. The result is the same.

        Returns:
            Labels ``(x, y[, z])``, or probabilities ``(x, y[, z], classes)``, of the original image.
        """
        if not callable(patches) and sections > 1:
            raise ConfigurationError(f"sections={sections} needs a function that makes patches, not a stream of them")

        def open_slabs(columns: slice) -> Iterator[Slab]:
            return self._blended(sample, patches, sample.classes, columns)

        return undo_subfunctions(
            sample,
            self.subfunctions,
            open_slabs,
            sample.img_data.shape[:-1],
            sample.classes,
            activation_output=activation_output,
            sections=sections,
        )

    def assemble_maps(self, sample: Sample, patches: Iterator[np.ndarray], channels: int) -> np.ndarray:
        """Put maps of any kind together and onto the original image's grid, as class probabilities are.

        Args:
            sample: The sample as the subfunctions left it.
            patches: A map per patch, in grid order, each ``(*patch, channels)``.
            channels: Their last axis.

        Returns:
            float32 array ``(x, y[, z], channels)``.
        """
        return self.maps_to_image(sample, self._blended(sample, patches, channels), channels)

    def maps_to_image(self, sample: Sample, slabs: Iterable[Slab], channels: int) -> np.ndarray:
        """Bring maps of any kind from the preprocessed image's grid onto the original image's.

        Args:
            sample: The sample as the subfunctions left it.
            slabs: The maps, in consecutive slabs ``(rows, y[, z], channels)`` along the first axis.
            channels: Their last axis.

        Returns:
            float32 array ``(x, y[, z], channels)``.
        """
        shape = sample.img_data.shape[:-1]

        def open_slabs(columns: slice) -> Iterator[Slab]:
            return cut_slabs(iter(slabs), (slice(0, shape[0]), columns))

        return undo_subfunctions(sample, self.subfunctions, open_slabs, shape, channels, activation_output=True)

    def _blended(
        self,
        sample: Sample,
        patches: Iterator[np.ndarray] | Callable[[Sequence[int]], Iterator[np.ndarray]],
        channels: int,
        columns: slice | None = None,
    ) -> Iterator[Slab]:
        """Patches of the grid as slabs of the preprocessed image, or of these columns of its second axis."""
        image_shape = sample.img_data.shape[:-1]
        boxes = self.boxes()
        grid, offset = boxes.grid(image_shape), boxes.offset(image_shape)
        inner = [slice(before, before + size) for before, size in zip(offset, image_shape, strict=True)]
        outer = None
        if columns is not None and columns != slice(0, image_shape[1]):
            outer = inner[1] = slice(offset[1] + columns.start, offset[1] + columns.stop)
        if not callable(patches):
            # All of them come, whatever is asked for.
            blender = Blender(grid, channels, mode=self.patchwise_blending)
        else:
            blender = Blender(grid, channels, mode=self.patchwise_blending, columns=outer)
            patches = patches(blender.numbers)
            if outer is not None:
                inner[1] = slice(0, outer.stop - outer.start)
        return cut_slabs(blender.blend(_exactly(patches, len(blender.numbers), sample)), inner)

    # ---------------------------------------------------------------- checks

    def checked_patch_shape(self) -> tuple[int, ...] | None:
        """Return the current size of patches; None if whole images are analysed.

        Raises:
            ConfigurationError: If `patch_shape` was set to an invalid value.
        """
        return self._checked_patch_shape(self.patch_shape)

    def _checked_patch_shape(self, patch_shape: Sequence[int] | None) -> tuple[int, ...] | None:
        if self.analysis == "fullimage":
            return None
        axes = 3 if self.data_io.interface.three_dim else 2
        listed = isinstance(patch_shape, tuple | list) and len(patch_shape) == axes and _all_whole(patch_shape)
        if not listed or any(n < 1 for n in patch_shape or ()):
            raise ConfigurationError(
                f"patch_shape={patch_shape!r}: analysis={self.analysis!r} on {axes}D data needs a tuple of {axes} "
                f"positive whole numbers, such as {(64, 64, 32)[:axes]}"
            )
        return tuple(int(n) for n in patch_shape or ())

    def _checked_overlap(self) -> tuple[int, ...]:
        patch_shape = self.checked_patch_shape()
        if patch_shape is None:
            return ()
        axes = len(patch_shape)
        value = self.patchwise_overlap
        overlap = tuple(value)[:axes] if isinstance(value, Iterable) else (value,) * axes
        whole = len(overlap) == axes and _all_whole(overlap)
        if not whole or any(not 0 <= n < size for n, size in zip(overlap, patch_shape, strict=True)):
            raise ConfigurationError(
                f"patchwise_overlap={value!r} needs {axes} whole numbers, one per axis, each from 0 to less "
                f"than the patch's size ({patch_shape})"
            )
        if self.patchwise_blending not in MODES:
            raise ConfigurationError(
                f"patchwise_blending={self.patchwise_blending!r} must be one of {', '.join(map(repr, MODES))}"
            )
        return tuple(int(n) for n in overlap)

    def _generator(self) -> np.random.Generator:
        self._runs += 1
        return np.random.default_rng([self.seed, self._runs])

    def __getstate__(self) -> dict[str, Any]:
        # The store holds locks and open memory maps; another process makes its own.
        return {**self.__dict__, "_cache": None}


@contextmanager
def _prepare_threads(number: int) -> Iterator[Executor]:
    threads = DaemonThreads(number, "prepare")
    try:
        yield threads
    except Exception:
        threads.shutdown()
        raise
    except BaseException:  # after Ctrl-C the results are not needed
        threads.shutdown(wait=False, cancel_futures=True)
        raise
    else:
        threads.shutdown()


def _all_whole(values: Iterable[Any]) -> bool:
    return all(isinstance(value, Real) and value % 1 == 0 for value in values)  # 8.0 too: half of a patch


def _completed(sample: Sample) -> Sample:
    """The sample with what cutting needs; the caller's own stays as it is, and may go through further steps."""
    own = copy(sample)
    own.details = dict(sample.details)
    complete(own)
    return own


def _exactly(patches: Iterator[np.ndarray], number: int, sample: Sample) -> Iterator[np.ndarray]:
    seen = 0
    for patch in patches:
        seen += 1
        if seen <= number:
            yield patch
        del patch  # or it would live until the next one is predicted
    if seen != number:
        raise ConfigurationError(
            f"sample {sample.index!r} has {number} patches of this grid, but {seen} were predicted; predict all "
            "patches in grid order, with the patch_shape and patchwise_overlap that the preprocessor has now"
        )


def _quarter_of_memory() -> int:
    total = system_memory().total
    return (8 * 2**30 if total is None else total) // 4
