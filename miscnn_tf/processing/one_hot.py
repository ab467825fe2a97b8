"""Conversion of class probabilities to labels, and of labels to one-hot.

`decide_labels` decides the labels of every prediction from class probabilities; `postprocessing` chooses on which grid.
"""

from __future__ import annotations

import numpy as np

from miscnn_tf.data_loading.labels import label_dtype


def decide_labels(activation: np.ndarray) -> np.ndarray:
    """Return the most probable class of each voxel; of equally probable classes the lowest.

    Works plane by plane along the first axis, because numpy's ``argmax`` returns eight bytes per voxel.

    Args:
        activation: Class probabilities ``(x, y[, z], classes)``.

    Returns:
        Labels ``(x, y[, z])``, uint8, or uint16 above 256 classes.

    Example:
        >>> decide_labels(np.array([[[0.2, 0.8], [0.5, 0.5]]]))
        array([[1, 0]], dtype=uint8)
    """
    labels = np.empty(activation.shape[:-1], label_dtype(activation.shape[-1]))
    for position, plane in enumerate(activation):
        labels[position] = np.argmax(plane, axis=-1)
    return labels


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Convert labels ``(…)`` to float32 one-hot ``(…, classes)``.

    Example:
        >>> one_hot(np.array([2, 0]), classes=3)
        array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
    """
    return (labels[..., np.newaxis] == np.arange(classes, dtype=labels.dtype)).astype(np.float32)
