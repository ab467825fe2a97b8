"""Batches of patches: what stands in them, and making one. Used by `Preprocessor.run` and by the `DataGenerator`."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from miscnn_tf.data_loading.memory_errors import memory_for
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.data_loading.sample_names import as_index_list
from miscnn_tf.errors import ConfigurationError, DataError
from miscnn_tf.processing.cutting import cut
from miscnn_tf.processing.one_hot import one_hot
from miscnn_tf.processing.schedule import Schedule, Share

if TYPE_CHECKING:
    from miscnn_tf.processing.preprocessor import Preprocessor

#: Images and one-hot segmentations, or None, with the batch axis first.
Batch = tuple[np.ndarray, np.ndarray | None]

logger = logging.getLogger(__name__)


class TrainingBatches:
    """The training (or validation) batches of a list of samples, each a pure function of epoch and step.

    Args:
        preprocessor: Makes the patches.
        samples: Names of the samples.
        validation: Without augmentation, and every epoch the same crops, so that epochs can be compared.
        shuffle: Whether to draw the order of the items anew for each epoch.
        iterations: Batches per epoch; None for once through all items.
        full: Whether the last batch of an epoch is filled up.
        share: The part of each batch that is made; left out: all of it.
    """

    def __init__(
        self,
        preprocessor: Preprocessor,
        samples: Sequence[Hashable],
        validation: bool = False,
        shuffle: bool = False,
        iterations: int | None = None,
        full: bool = True,
        share: Share | None = None,
    ) -> None:
        self.preprocessor = preprocessor
        self.share = Share() if share is None else share
        self.samples = as_index_list(samples)
        self.validation = validation
        self.boxes = preprocessor.boxes()
        self._keys = preprocessor.preparation_key()
        self.augmentation = None if validation else preprocessor.data_augmentation
        cycles = 1
        if self.augmentation is not None:
            cycles = self.augmentation.cycles
            if self.augmentation.cropping:
                raise ConfigurationError(
                    "Data_Augmentation.cropping is for its run() alone; the Preprocessor crops with "
                    "analysis='patchwise-crop' and patch_shape"
                )
        self._items = list(self._once()) * cycles
        if not self._items:
            raise DataError(
                "no patch of any sample holds anything but the skipped class; set patchwise_skip_blanks = False"
            )
        # Validation crops differ from training's, and stay the same from epoch to epoch.
        seed = preprocessor.seed + 1 if validation else preprocessor.seed
        self.schedule = Schedule(len(self._items), preprocessor.batch_size, iterations, shuffle, seed, full)

    def __len__(self) -> int:
        return len(self.schedule)

    def names(self, epoch: int, step: int) -> list[Hashable]:
        """The samples in a batch."""
        return [self._items[item][0] for item in self.schedule.batch(self._epoch(epoch), step)]

    def batch(self, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Images float32 ``(batch, x, y[, z], channels)``; labels ``(batch, x, y[, z])``, uint8 up to 256 classes."""
        epoch = self._epoch(epoch)
        batch = self.schedule.batch(epoch, step)
        # Of a last batch that is too small for all there may be nothing left; the shape of nothing is that of an item.
        places = list(self.share.places(len(batch))) or [0]
        items = [batch[place] for place in places]
        patches = [
            self._patch(item, self.schedule.generator(epoch, step, place))
            for place, item in zip(places, items, strict=True)
        ]
        shapes = {image.shape[:-1]: self._items[item][0] for (image, _), item in zip(patches, items, strict=True)}
        if len(shapes) > 1:
            sizes = "; ".join(f"{name!r}: {shape}" for shape, name in list(shapes.items())[:4])
            raise ConfigurationError(
                f"whole images of different sizes cannot stand in one batch ({sizes}): use batch_size=1, a Resize or "
                "Padding subfunction, or a patchwise analysis"
            )
        size = len(self.share.places(len(batch)))
        return np.stack([image for image, _ in patches])[:size], np.stack([labels for _, labels in patches])[:size]

    def _epoch(self, epoch: int) -> int:
        return 0 if self.validation else epoch

    def _once(self) -> Iterator[tuple[Hashable, tuple[int, ...] | None]]:
        for index in self.samples:
            if self.boxes.analysis != "patchwise-grid":
                yield index, None
                continue
            starts = self.boxes.grid_starts(self._sample(index), training=not self.validation)
            if not starts:
                logger.info("sample %r: every patch is blank and left out", index)
            yield from ((index, start) for start in starts)

    def _sample(self, index: Hashable) -> Sample:
        return self.preprocessor.prepare_sample_subfunctions(index, training=True, key=self._keys)

    def _patch(self, item: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        index, start = self._items[item]
        try:
            sample = self._sample(index)
            if start is None:
                start = self.boxes.training_start(sample, rng)
            window = self.boxes.window(sample.img_data.shape[:-1])
            with memory_for(index, f"a patch of {window} voxels", lambda: sample.img_data.shape):
                patch = cut(sample, start, window, rng, self.augmentation)
                return patch.image, patch.required_labels(sample)
        except Exception as error:
            error.add_note(f"while a patch of sample {index!r} was made")
            raise


class PredictionBatches:
    """All patches of each sample in grid order, each sample's in batches of their own.

    Args:
        preprocessor: Makes the patches.
        samples: Names of the samples.
    """

    def __init__(self, preprocessor: Preprocessor, samples: Sequence[Hashable]) -> None:
        self.preprocessor = preprocessor
        self.boxes = preprocessor.boxes()
        self._keys = preprocessor.preparation_key()
        self._batches: list[tuple[Hashable, int]] = []
        for index in as_index_list(samples):
            shape = self._sample(index).img_data.shape[:-1]
            self._batches += [
                (index, first) for first in range(0, len(self.boxes.grid(shape)), preprocessor.batch_size)
            ]

    def __len__(self) -> int:
        return len(self._batches)

    def batch(self, step: int) -> np.ndarray:
        """Images float32 ``(batch, x, y[, z], channels)``."""
        index, first = self._batches[step]
        sample = self._sample(index)
        window = self.boxes.window(sample.img_data.shape[:-1])
        starts = self.boxes.grid_starts(sample)[first : first + self.preprocessor.batch_size]
        return np.stack([cut(sample, start, window).image for start in starts])

    def _sample(self, index: Hashable) -> Sample:
        return self.preprocessor.prepare_sample_subfunctions(index, training=False, key=self._keys)


def make_batches(
    preprocessor: Preprocessor, samples: Sequence[Hashable], training: bool, validation: bool, epoch: int
) -> Iterator[Batch]:
    """All batches of one pass over the samples, the last one possibly smaller, label maps as one-hot float32."""
    if not training:
        prediction = PredictionBatches(preprocessor, samples)
        yield from ((prediction.batch(step), None) for step in range(len(prediction)))
        return
    batches = TrainingBatches(preprocessor, samples, validation, full=False)
    classes = preprocessor.data_io.interface.classes
    for step in range(len(batches)):
        images, labels = batches.batch(epoch, step)
        yield images, one_hot(labels, classes)
