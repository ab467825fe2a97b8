"""The network over the windows of an image, in batches of one constant shape."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import cast

import keras
import numpy as np
import tensorflow as tf

from miscnn_tf.errors import MemoryBudgetError
from miscnn_tf.neural_network.hardware import is_lack_of_device_memory

logger = logging.getLogger(__name__)


class WindowPredictor:
    """Predicts windows in batches of one shape, so that the graph is traced (and compiled by XLA) once.

    Args:
        model: A model from ``(batch, x, y[, z], channels)`` to class probabilities.
        window_shape: Spatial shape of all windows; None in an axis that varies.
        channels: Channels of the image.
        batch_size: Windows per batch; a last, smaller batch is filled up with zeros.
        jit_compile: Whether XLA compiles the prediction.

    Attributes:
        batch_size: The same; halved where a batch does not fit into the device's memory.
        window_shape: The same.
        measured_bytes: What predicting a batch was found to take, by the shape of its windows; filled in by those who
            measure it.
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
        self.window_shape = window_shape
        self.measured_bytes: dict[tuple[int, ...], int] = {}

        def traced(batch_size: int) -> Callable[[tf.Tensor], tf.Tensor]:
            signature = tf.TensorSpec((batch_size, *window_shape, channels), tf.float32)

            @tf.function(input_signature=[signature], jit_compile=jit_compile)
            def predict(images: tf.Tensor) -> tf.Tensor:
                return tf.cast(model(images, training=False), tf.float32)

            # One graph, traced here: a tf.function that is called counts its traces over all networks of the process,
            # and warns of a group of them.
            return cast(Callable[[tf.Tensor], tf.Tensor], predict.get_concrete_function())

        self._traced = traced
        self._predict = traced(batch_size)

    def __call__(self, windows: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Class probabilities of each window, float32 ``(x, y[, z], classes)``, in order.

        Args:
            windows: Images ``(x, y[, z], channels)``, taken batch by batch.
        """
        windows = iter(windows)
        waiting: list[np.ndarray] = []
        while True:
            waiting += islice(windows, max(0, self.batch_size - len(waiting)))
            batch = waiting[: self.batch_size]
            if not batch:
                return
            try:
                outputs = self._predicted(batch)
            except tf.errors.OpError as error:
                if not is_lack_of_device_memory(error):
                    raise
                self._halve_batches(batch[0].shape[:-1], error)
                continue
            del waiting[: len(batch)], batch
            yield from outputs
            del outputs  # or it would live until the next one is made

    def _predicted(self, batch: Sequence[np.ndarray]) -> np.ndarray:
        images = np.zeros((self.batch_size, *batch[0].shape), np.float32)
        for place, window in enumerate(batch):
            images[place] = window
        outputs: np.ndarray = self._predict(tf.constant(images)).numpy()
        return outputs[: len(batch)]

    def _halve_batches(self, shape: tuple[int, ...], error: Exception) -> None:
        """Go on with smaller batches where one did not fit into the device's memory."""
        if self.batch_size == 1:
            raise MemoryBudgetError(
                f"one window of {shape} voxels does not fit into the device's memory. Choose a smaller patch_shape "
                "or a network of fewer filters, close other programs that use the device, or predict on the CPU "
                "(CUDA_VISIBLE_DEVICES=-1)"
            ) from error
        logger.warning(
            "%d windows of %s voxels do not fit into the device's memory at once; from here on it is %d at a time",
            *(self.batch_size, shape, self.batch_size // 2),
        )
        self.batch_size //= 2
        self._predict = self._traced(self.batch_size)


def prediction_batch_size(patch_shape: tuple[int, ...], batch_size: int, on_gpu: bool) -> int:
    """How many windows to predict at once.

    A GPU wants large batches. On a CPU one 3D window keeps all cores busy, and more of them only cost memory; small 2D
    patches are put together up to that size.
    """
    if on_gpu:
        return batch_size
    return int(np.clip(2**15 // int(np.prod(patch_shape)), 1, batch_size))
