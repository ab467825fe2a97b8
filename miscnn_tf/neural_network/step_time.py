"""Time of a training step on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import keras
import numpy as np

from miscnn_tf.data_loading.labels import label_dtype

_FEWEST: Final = 3
_MOST: Final = 20
_SECONDS: Final = 2.0


def seconds_per_step(model: keras.Model, shape: Sequence[int | None], channels: int, classes: int) -> float:
    """Measure a training step with random patches; the weights of the model are those of no training afterwards.

    Args:
        model: The compiled model of a network, on one device.
        shape: Batch size and spatial shape of the patches, ``(batch, x, y[, z])``.
        channels: Channels of the images.
        classes: Number of classes.

    Returns:
        The median of several steps, without the first one, in which TensorFlow compiles.

    Example:
        >>> shape = (preprocessor.batch_size, *network.window_shape)  # doctest: +SKIP
        >>> seconds_per_step(network.model, shape, network.channels, network.classes)  # doctest: +SKIP
        0.21
    """
    rng = np.random.default_rng(0)
    sizes = [size or 1 for size in shape]
    images = rng.standard_normal((*sizes, channels), dtype=np.float32)
    labels = rng.integers(classes, size=sizes).astype(label_dtype(classes))
    model.train_on_batch(images, labels)
    times: list[float] = []
    while len(times) < _FEWEST or (sum(times) < _SECONDS and len(times) < _MOST):
        begin = time.perf_counter()
        model.train_on_batch(images, labels)
        times.append(time.perf_counter() - begin)
    return float(np.median(times))
