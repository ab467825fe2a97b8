"""From a `DataGenerator` to the tf.data pipeline that a training reads, and an end to all of it."""

from __future__ import annotations

import tensorflow as tf

from miscnn_tf.data_loading.labels import label_dtype
from miscnn_tf.neural_network.data_generator import DataGenerator
from miscnn_tf.neural_network.loader import BatchLoader


class Feed:
    """The batches of a `DataGenerator`, made ahead by threads, as a ``tf.data.Dataset``.

    Args:
        batches: Gives labels, not one-hot.
        epochs: The epochs to go through.
        workers: Threads that make batches.
        queue_size: Batches that are made ahead.

    Attributes:
        loader: Makes the batches, and knows how long they were waited for.
        dataset: Pairs of images float32 ``(batch, x, y[, z], channels)`` and labels uint8 ``(batch, x, y[, z])``
            (uint16 above 256 classes).
    """

    def __init__(self, batches: DataGenerator, epochs: range, workers: int, queue_size: int) -> None:
        self.batches = batches
        self.loader = BatchLoader(batches.batch, len(batches), epochs, workers, queue_size)
        preprocessor = batches.preprocessor
        interface = preprocessor.data_io.interface
        window = preprocessor.checked_patch_shape() or (None,) * (3 if interface.three_dim else 2)
        # The last batch of a validation may be smaller.
        size = None if batches.validation else len(batches.share.places(preprocessor.batch_size))
        signature = (
            tf.TensorSpec((size, *window, interface.channels), tf.float32),
            tf.TensorSpec((size, *window), label_dtype(interface.classes)),
        )
        batches_ahead = tf.data.Dataset.from_generator(self.loader.stream, output_signature=signature).prefetch(1)
        options = tf.data.Options()
        # Its thread sleeps for up to a minute, which delays the end of a training, and nothing needs tuning.
        options.autotune.enabled = False
        self.dataset = batches_ahead.with_options(options)

    def close(self) -> None:
        """End the threads, and remove what was written to disk for this training."""
        self.loader.close()
        self.batches.remove_batches()
