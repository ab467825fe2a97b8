"""The network over the windows of an image, in batches of one constant shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import keras
import numpy as np
import tensorflow as tf


class WindowPredictor:
    """Predicts windows in batches of one shape, so that the graph is traced (and compiled by XLA) once.

    Args:
        model: A model from ``(batch, x, y[, z], channels)`` to class probabilities.
        window_shape: Spatial shape of all windows; None in an axis that varies.
        channels: Channels of the image.
        batch_size: Windows per batch; a last, smaller batch is filled up with zeros.
        jit_compile: Whether XLA compiles the prediction.
    """

    def __init__(
        self,
        model: keras.Model,
        window_shape: tuple[int | None, ...],
        channels: int,
        batch_size: int = 1,
        jit_compile: bool = False,
    ) -> None:
        self.batch_size = batch_size
        signature = tf.TensorSpec((batch_size, *window_shape, channels), tf.float32)

        @tf.function(input_signature=[signature], jit_compile=jit_compile)
        def predict(images: tf.Tensor) -> tf.Tensor:
            return tf.cast(model(images, training=False), tf.float32)

        # One graph, traced here: a tf.function that is called counts its traces over all networks of the process, and
        # warns of a group of them.
        self._predict = predict.get_concrete_function()

    def __call__(self, windows: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Class probabilities of each window, float32 ``(x, y[, z], classes)``, in order.

        Args:
            windows: Images ``(x, y[, z], channels)``, taken batch by batch.
        """
        windows = iter(windows)
        while batch := list(islice(windows, self.batch_size)):
            images = np.zeros((self.batch_size, *batch[0].shape), np.float32)
            for place, window in enumerate(batch):
                images[place] = window
            yield from self._predict(tf.constant(images)).numpy()[: len(batch)]


def prediction_batch_size(patch_shape: tuple[int, ...], batch_size: int, on_gpu: bool) -> int:
    """How many windows to predict at once.

    A GPU wants large batches. On a CPU one 3D window keeps all cores busy, and more of them only cost memory; small 2D
    patches are put together up to that size.
    """
    if on_gpu:
        return batch_size
    return int(np.clip(2**15 // int(np.prod(patch_shape)), 1, batch_size))
