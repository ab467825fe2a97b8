"""Batches of patches, and their order: pure functions of seed, epoch and step, which loader threads cannot change."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from miscnn_tf.data_loading.memory_errors import memory_for
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.data_loading.sample_names import as_index_list
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.data_augmentation import Data_Augmentation
from miscnn_tf.processing.patching.patch_plan import PatchPlan, cut

#: Images and one-hot segmentations, or None, with the batch axis first.
Batch = tuple[np.ndarray, np.ndarray | None]

#: Returns the prepared sample with this name.
Prepared = Callable[[Hashable], Sample]

#: Keeps the streams of random numbers for different purposes apart.
_ORDER, _ITEM = 0, 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Share:
    """The part of every batch that this process works on, if several devices or machines train one network.

    A batch is split into contiguous parts, one per device; if they cannot be equal, the first ones have one item more.

    Args:
        of: Number of parts.
        first: The first part of this process.
        parts: Number of parts of this process.

    Example:
        >>> [list(part) for part in Share(of=3, first=1, parts=2).split(4)]
        [[2], [3]]
    """

    of: int = 1
    first: int = 0
    parts: int = 1

    def split(self, size: int) -> list[range]:
        """Return the places in a batch of `size` items of each of this process' parts."""
        borders = [part * (size // self.of) + min(part, size % self.of) for part in range(self.of + 1)]
        return [range(borders[part], borders[part + 1]) for part in range(self.first, self.first + self.parts)]

    def places(self, size: int) -> range:
        """Return the places of all of this process' parts."""
        each = self.split(size)
        return range(each[0].start, each[-1].stop)


class SamplingOrder:
    """The order of training items over epochs.

    Without `iterations`, an epoch goes once through all items, and its last batch is filled up from its beginning. With
    `iterations`, an epoch is that many batches, and the items follow each other over the epochs' borders, so that each
    is used equally often.

    Args:
        items: Number of items (samples × cycles, or patches).
        batch_size: Items per batch.
        iterations: Batches per epoch; None for as many as the items need.
        shuffle: Whether to draw the order anew for each pass.
        seed: Seed of everything drawn.
        full: Whether to fill up the last batch.

    Example:
        >>> order = SamplingOrder(10, 4)
        >>> [order.batch(0, step) for step in range(len(order))]
        [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
    """

    def __init__(
        self,
        items: int,
        batch_size: int,
        iterations: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        full: bool = True,
    ) -> None:
        self.items = items
        self.batch_size = batch_size
        self.iterations = iterations
        self.shuffle = shuffle
        self.seed = seed
        self.full = full

    def __len__(self) -> int:
        return -(-self.items // self.batch_size) if self.iterations is None else self.iterations

    def batch(self, epoch: int, step: int) -> list[int]:
        """Return the numbers of the items in batch `step` of `epoch`."""
        first = step * self.batch_size
        if self.iterations is not None:
            first += epoch * self.iterations * self.batch_size
            places = [divmod(first + k, self.items) for k in range(self.batch_size)]
        else:
            stop = first + self.batch_size
            if not self.full:
                stop = min(stop, self.items)
            places = [(epoch, place % self.items) for place in range(first, stop)]
        return [int(self._order(round_)[place]) for round_, place in places]

    def generator(self, epoch: int, step: int, place: int) -> np.random.Generator:
        """Return the random generator for the item at `place` of batch `step` of `epoch`."""
        return np.random.default_rng([_ITEM, self.seed, epoch, step, place])

    def _order(self, round_: int) -> np.ndarray | range:
        return _permutation(self.seed, round_, self.items) if self.shuffle else range(self.items)


@functools.lru_cache(maxsize=8)
def _permutation(seed: int, round_: int, items: int) -> np.ndarray:
    return np.random.default_rng([_ORDER, seed, round_]).permutation(items)


class TrainingBatches:
    """The training (or validation) batches of a list of samples, made by `Preprocessor.training_batches`.

    Args:
        plan: Settings of the patches.
        prepared: Returns a prepared sample with its label map.
        samples: Names of the samples.
        augmentation: Augmentation of the patches, or None.
        validation: Whether to give the same crops in every epoch, so that epochs can be compared. They differ from
            those of the training.
        shuffle: Whether to draw the order of the items anew for each epoch.
        iterations: Batches per epoch; None for once through all items.
        full: Whether to fill up the last batch of an epoch.
        share: The part of each batch to make; None for all of it.

    Raises:
        ConfigurationError: If the augmentation crops.
        DataError: If all patches are blank.
    """

    def __init__(
        self,
        plan: PatchPlan,
        prepared: Prepared,
        samples: Sequence[Hashable],
        augmentation: Data_Augmentation | None,
        *,
        validation: bool = False,
        shuffle: bool = False,
        iterations: int | None = None,
        full: bool = True,
        share: Share | None = None,
    ) -> None:
        self.plan = plan
        self.samples = as_index_list(samples)
        self.augmentation = augmentation
        self.validation = validation
        self.share = Share() if share is None else share
        self._prepared = prepared
        cycles = 1
        if augmentation is not None:
            cycles = augmentation.cycles
            if augmentation.cropping:
                raise ConfigurationError(
                    "Data_Augmentation.cropping is for its run() alone; the Preprocessor crops with "
                    "analysis='patchwise-crop' and patch_shape"
                )
        self._items = list(self._once()) * cycles
        if not self._items:
            raise DataError(
                "no patch of any sample holds anything but the skipped class; set patchwise_skip_blanks = False"
            )
        seed = plan.seed + 1 if validation else plan.seed
        self.order = SamplingOrder(len(self._items), plan.batch_size, iterations, shuffle, seed, full)

    def __len__(self) -> int:
        return len(self.order)

    def names(self, epoch: int, step: int) -> list[Hashable]:
        """Return the names of the samples in a batch."""
        return [self._items[item][0] for item in self.order.batch(self._epoch(epoch), step)]

    def batch(self, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return images, float32 ``(batch, x, y[, z], channels)``, and labels, ``(batch, x, y[, z])``.

        Labels are uint8 up to 256 classes.
        """
        epoch = self._epoch(epoch)
        batch = self.order.batch(epoch, step)
        # Of a last batch that is too small for all shares this one may be empty; it has the shape of an item even then.
        places = list(self.share.places(len(batch))) or [0]
        items = [batch[place] for place in places]
        patches = [
            self._patch(item, self.order.generator(epoch, step, place))
            for place, item in zip(places, items, strict=True)
        ]
        shapes = {image.shape[:-1]: self._items[item][0] for (image, _), item in zip(patches, items, strict=True)}
        if len(shapes) > 1:
            sizes = "; ".join(f"{name!r}: {shape}" for shape, name in list(shapes.items())[:4])
            raise ConfigurationError(
                f"whole images of different sizes cannot be in one batch ({sizes}): use batch_size=1, a Resize or "
                "Padding subfunction, or a patchwise analysis"
            )
        size = len(self.share.places(len(batch)))
        return np.stack([image for image, _ in patches])[:size], np.stack([labels for _, labels in patches])[:size]

    def _epoch(self, epoch: int) -> int:
        return 0 if self.validation else epoch

    def _once(self) -> Iterator[tuple[Hashable, tuple[int, ...] | None]]:
        for index in self.samples:
            if self.plan.analysis != "patchwise-grid":
                yield index, None
                continue
            starts = self.plan.grid_starts(self._prepared(index), training=not self.validation)
            if not starts:
                logger.info("sample %r: every patch is blank and left out", index)
            yield from ((index, start) for start in starts)

    def _patch(self, item: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        index, start = self._items[item]
        try:
            sample = self._prepared(index)
            if start is None:
                start = self.plan.training_start(sample, rng)
            shape = self.plan.patch_shape_for(sample.img_data.shape[:-1])
            with memory_for(index, f"a patch of {shape} voxels", lambda: sample.img_data.shape):
                patch = cut(sample, start, shape, rng, self.augmentation)
                return patch.image, patch.required_labels(sample)
        except Exception as error:
            error.add_note(f"while a patch of sample {index!r} was made")
            raise


class PredictionBatches:
    """All patches of each sample in grid order, each sample's in batches of their own.

    Made by `Preprocessor.prediction_batches`.

    Args:
        plan: Settings of the patches.
        prepared: Returns a prepared sample.
        samples: Names of the samples.
    """

    def __init__(self, plan: PatchPlan, prepared: Prepared, samples: Sequence[Hashable]) -> None:
        self.plan = plan
        self._prepared = prepared
        self._batches = [
            (index, first)
            for index in as_index_list(samples)
            for first in range(0, len(plan.grid(prepared(index).img_data.shape[:-1])), plan.batch_size)
        ]

    def __len__(self) -> int:
        return len(self._batches)

    def batch(self, step: int) -> np.ndarray:
        """Return images, float32 ``(batch, x, y[, z], channels)``."""
        index, first = self._batches[step]
        sample = self._prepared(index)
        last = min(first + self.plan.batch_size, len(self.plan.grid(sample.img_data.shape[:-1])))
        return np.stack(list(self.plan.patches(sample, range(first, last))))
