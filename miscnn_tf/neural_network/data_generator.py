"""A Keras sequence of batches."""

from __future__ import annotations

import uuid
from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np

from miscnn_tf.data_loading.sample_names import as_index_list
from miscnn_tf.processing.batches import PredictionBatches, TrainingBatches
from miscnn_tf.processing.one_hot import one_hot
from miscnn_tf.processing.preprocessor import Preprocessor
from miscnn_tf.processing.schedule import Share


class DataGenerator(keras.utils.PyDataset):
    """The batches of a list of samples, for training, validation or prediction.

    Each batch depends on the preprocessor's seed, the epoch and its place alone, so that it is the same whichever
    worker makes it, and however often. A sequence can be iterated more than once.

    Args:
        sample_list: Names of the samples.
        preprocessor: Makes the batches.
        training: Whether to give label maps too. Every batch is full: the last one of an epoch is filled up from the
            epoch's beginning.
        validation: Whether to leave the augmentation out, and give the same crops in every epoch. The last batch may be
            smaller, so that every sample counts once.
        shuffle: Whether to draw the order anew in each epoch.
        iterations: Batches per epoch; None for once through all samples (times the augmentation's cycles).
        labels: Give labels as uint8 ``(batch, x, y[, z])`` instead of one-hot.
        share: The part of each training batch that is made, where other machines make the rest; left out: all of it.

    Example:
        >>> batches = DataGenerator(samples, pre_processor, training=True)  # doctest: +SKIP
        >>> images, segmentations = batches[0]  # doctest: +SKIP
    """

    def __init__(
        self,
        sample_list: Sequence[Hashable],
        preprocessor: Preprocessor,
        training: bool = False,
        validation: bool = False,
        shuffle: bool = False,
        iterations: int | None = None,
        *,
        labels: bool = False,
        share: Share | None = None,
    ) -> None:
        super().__init__()
        self.share = Share() if share is None else share
        self.sample_list = as_index_list(sample_list)
        self.preprocessor = preprocessor
        self.training = training or validation
        self.validation = validation
        self.shuffle = shuffle
        self.iterations = iterations
        self.labels = labels
        self.epoch = 0
        self._on_disk = preprocessor.prepare_batches and self.training
        self._name = uuid.uuid4().hex[:8]
        self._batches: TrainingBatches | PredictionBatches
        if self.training:
            # On disk lie the batches of once through all samples, of which an epoch takes as many as it needs.
            steps = None if self._on_disk else iterations
            self._batches = TrainingBatches(
                preprocessor, self.sample_list, validation, shuffle, steps, full=not validation, share=self.share
            )
        else:
            self._batches = PredictionBatches(preprocessor, self.sample_list)
        if self._on_disk:
            self._write_batches()

    def __len__(self) -> int:
        return self.iterations if self._on_disk and self.iterations is not None else len(self._batches)

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return len(self)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        return self.batch(self.epoch, index)

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def batch(self, epoch: int, step: int) -> Any:
        """Batch `step` of `epoch`: ``(images, segmentations)`` in training, ``images`` in prediction."""
        if isinstance(self._batches, PredictionBatches):
            return self._batches.batch(step)
        images, labels = self._read_batch(epoch, step) if self._on_disk else self._batches.batch(epoch, step)
        return images, labels if self.labels else one_hot(labels, self.preprocessor.data_io.interface.classes)

    def names(self, epoch: int, step: int) -> list[Hashable]:
        """The samples in a training batch."""
        assert isinstance(self._batches, TrainingBatches)
        return self._batches.names(0, self._place(epoch, step)) if self._on_disk else self._batches.names(epoch, step)

    def on_epoch_end(self) -> None:
        """Go on to the next epoch's order, crops and augmentation."""
        self.epoch += 1

    def remove_batches(self) -> None:
        """Remove what ``prepare_batches`` wrote to disk."""
        if not self._on_disk:
            return
        data_io = self.preprocessor.data_io
        for place in range(len(self._batches)):
            data_io.batch_cleanup(self._pointer(place))
        if data_io.delete_batchDir:
            with suppress(OSError):  # other files are in it
                Path(data_io.batch_path).rmdir()

    def _place(self, epoch: int, step: int) -> int:
        return (epoch * len(self) + step) % len(self._batches)

    # Several generators may write to one folder.
    def _pointer(self, place: int) -> str:
        return f"{self._name}-{place}"

    def _write_batches(self) -> None:
        assert isinstance(self._batches, TrainingBatches)
        try:
            for place in range(len(self._batches)):
                images, labels = self._batches.batch(0, place)
                self.preprocessor.data_io.backup_batches(images, labels, self._pointer(place))
        except BaseException:
            self.remove_batches()
            raise

    def _read_batch(self, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        data_io, pointer = self.preprocessor.data_io, self._pointer(self._place(epoch, step))
        return data_io.batch_load(pointer, img=True), data_io.batch_load(pointer, img=False)
