"""Time of a training step on this machine."""

from __future__ import annotations

import time
from typing import Final

import numpy as np

from miscnn_tf.neural_network.model import Neural_Network

_FEWEST: Final = 3
_MOST: Final = 20
_SECONDS: Final = 2.0


def seconds_per_step(network: Neural_Network) -> float:
    """Measure a training step with random patches; the weights of the network are those of no training afterwards.

    Args:
        network: The network, on one device.

    Returns:
        The median of several steps, without the first one, in which TensorFlow compiles.

    Example:
        >>> seconds_per_step(network)  # doctest: +SKIP
        0.21
    """
    rng = np.random.default_rng(0)
    shape = (network.preprocessor.batch_size, *(size or 1 for size in network.window_shape))
    images = rng.standard_normal((*shape, network.channels), dtype=np.float32)
    labels = rng.integers(network.classes, size=shape, dtype=np.uint8)
    network.model.train_on_batch(images, labels)
    times: list[float] = []
    while len(times) < _FEWEST or (sum(times) < _SECONDS and len(times) < _MOST):
        begin = time.perf_counter()
        network.model.train_on_batch(images, labels)
        times.append(time.perf_counter() - begin)
    return float(np.median(times))
