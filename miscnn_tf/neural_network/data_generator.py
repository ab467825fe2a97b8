"""Batches for training: a Keras sequence, loader threads that prepare them, and the pipeline that ``fit`` reads.

The number of loader threads is the argument ``workers`` of `Neural_Network`; `training.Training` passes it to `Feed`.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import keras
import numpy as np
import tensorflow as tf

from miscnn_tf._base.arguments import whole_number
from miscnn_tf.data_loading.label_scheme import scheme_of
from miscnn_tf.data_loading.sample import as_index_list
from miscnn_tf.processing.batches import PredictionBatches, Share, TrainingBatches
from miscnn_tf.processing.patching.patch_plan import PatchPlan
from miscnn_tf.processing.preprocessor import Preprocessor

T = TypeVar("T")


class DataGenerator(keras.utils.PyDataset):
    """A Keras sequence of the batches of a list of samples, for training, validation or prediction.

    Each batch depends only on the preprocessor's seed, the epoch and its place: it is the same in every thread. A
    sequence can be iterated more than once.

    Args:
        sample_list: Names of the samples.
        preprocessor: Makes the batches.
        training: Return label maps as well. Every batch is full: the last one of an epoch is filled up from the
            epoch's beginning.
        validation: Whether to leave the augmentation out, and give the same crops in every epoch. The last batch may be
            smaller, so that every sample counts once, unless `iterations` is given.
        shuffle: Whether to draw the order anew in each epoch; for validation, once for all epochs.
        iterations: Batches per epoch; None for one pass over all samples (times the augmentation's cycles).
        labels: Give labels as uint8 ``(batch, x, y[, z])`` instead of one-hot.
        share: The part of each training batch to make, if other machines make the rest; None for all of it.
        plan: Settings of the patches, such as ``network.plan`` for whole images in a network that pads them; None:
            those of the preprocessor.

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
        plan: PatchPlan | None = None,
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
            self._batches = preprocessor.training_batches(
                self.sample_list,
                plan=plan,
                validation=validation,
                shuffle=shuffle,
                # The files hold the batches of one pass over all samples; each epoch takes as many as it needs. Those
                # of a validation are the same in each epoch.
                iterations=iterations if validation or not self._on_disk else None,
                full=not validation,
                share=self.share,
            )
        else:
            self._batches = preprocessor.prediction_batches(self.sample_list, plan)
        self.plan = self._batches.plan
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
        """Return batch `step` of `epoch`: ``(images, segmentations)`` in training, ``images`` in prediction."""
        if isinstance(self._batches, PredictionBatches):
            return self._batches.batch(step)
        images, labels = self._read_batch(epoch, step) if self._on_disk else self._batches.batch(epoch, step)
        return images, labels if self.labels else scheme_of(self.preprocessor.data_io.interface).encode(labels)

    def names(self, epoch: int, step: int) -> list[Hashable]:
        """Return the names of the samples in a training batch."""
        assert isinstance(self._batches, TrainingBatches)
        return self._batches.names(0, self._place(epoch, step)) if self._on_disk else self._batches.names(epoch, step)

    def on_epoch_end(self) -> None:
        """Continue with the next epoch's order, crops and augmentation."""
        self.epoch += 1

    def remove_batches(self) -> None:
        """Remove the files that ``prepare_batches`` wrote."""
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


class BatchLoader(Generic[T]):
    """Call ``fetch(epoch, step)`` ahead of the consumer, in threads, and yield the results in order.

    Args:
        fetch: Makes one batch. It must depend only on its arguments.
        steps: Batches per epoch.
        epochs: The epochs to go through.
        workers: Number of loader threads.
        queue_size: Number of batches to make ahead.

    Attributes:
        waited: Seconds that the consumer spent waiting, without the first batch of each stream.
        error: Error that `fetch` raised; the stream raises it too, but TensorFlow turns it into one of its own.
    """

    def __init__(
        self,
        fetch: Callable[[int, int], T],
        steps: int,
        epochs: range,
        workers: int = 1,
        queue_size: int = 2,
    ) -> None:
        self.fetch = fetch
        self.steps = steps
        self.epochs = epochs
        self.workers = whole_number(workers, "workers", least=1)
        # Batches that are being made count as queued: fewer would leave threads idle.
        self.queue_size = max(whole_number(queue_size, "batch_queue_size", least=1), self.workers)
        self.waited = 0.0
        self.error: BaseException | None = None
        self._closed = False
        self._executors: list[ThreadPoolExecutor] = []
        self._lock = threading.Lock()  # TensorFlow reads a stream in a thread of its own

    def stream(self) -> Iterator[T]:
        """Yield all batches from the first epoch on. Each call starts anew."""
        places = ((epoch, step) for epoch in self.epochs for step in range(self.steps))
        pending: deque[Future[T]] = deque()
        executor = ThreadPoolExecutor(self.workers, thread_name_prefix="batches")
        self._executors.append(executor)

        def refill() -> None:
            with self._lock:
                while not self._closed and len(pending) < self.queue_size and (place := next(places, None)) is not None:
                    pending.append(executor.submit(self.fetch, *place))

        try:
            first = True
            refill()
            while pending and not self._closed:
                begin = time.perf_counter()
                try:
                    batch = pending.popleft().result()
                except BaseException as error:
                    if self._closed and isinstance(error, CancelledError):
                        return
                    self.error = error
                    raise
                if not first:
                    self.waited += time.perf_counter() - begin
                first = False
                # Before this batch is yielded, so that making the next ones overlaps with using it.
                refill()
                yield batch
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            self._executors.remove(executor)

    def close(self) -> None:
        """End every stream and its threads, even if a traceback holds the stream."""
        with self._lock:
            self._closed = True
            for executor in tuple(self._executors):
                executor.shutdown(wait=False, cancel_futures=True)


class Feed:
    """The batches of a `DataGenerator`, made ahead by loader threads, as a ``tf.data.Dataset``.

    Args:
        batches: Gives labels, not one-hot.
        epochs: The epochs to go through.
        workers: Number of loader threads.
        queue_size: Number of batches to make ahead.

    Attributes:
        loader: Makes the batches, and measures the time spent waiting for them.
        dataset: Pairs of images float32 ``(batch, x, y[, z], channels)`` and labels uint8 ``(batch, x, y[, z])``
            (uint16 above 256 classes).
    """

    def __init__(self, batches: DataGenerator, epochs: range, workers: int, queue_size: int) -> None:
        self.batches = batches
        self.loader = BatchLoader(batches.batch, len(batches), epochs, workers, queue_size)
        interface, plan = batches.preprocessor.data_io.interface, batches.plan
        shape = plan.patch_shape or (None,) * (3 if interface.three_dim else 2)
        # The last batch of a validation may be smaller.
        size = None if batches.validation else len(batches.share.places(plan.batch_size))
        signature = (
            tf.TensorSpec((size, *shape, batches.preprocessor.input_channels), tf.float32),
            tf.TensorSpec((size, *shape), scheme_of(interface).dtype),
        )
        batches_ahead = tf.data.Dataset.from_generator(self.loader.stream, output_signature=signature).prefetch(1)
        options = tf.data.Options()
        # The autotuner's thread sleeps for up to a minute, which delays the end of a training.
        options.autotune.enabled = False
        self.dataset = batches_ahead.with_options(options)

    def close(self) -> None:
        """End the threads, and remove the batches on disk."""
        self.loader.close()
        self.batches.remove_batches()
