"""What is written for a sample: labels or class probabilities, told apart in one place."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from miscnn_tf.data_loading.labels import check_labels, label_dtype
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError


def prediction_to_write(sample: Sample, where: str | Path) -> tuple[np.ndarray, bool]:
    """The prediction of a sample as it goes into a file.

    Args:
        sample: A sample with ``pred_data``: labels ``(x, y[, z][, 1])``, or probabilities ``(x, y[, z], classes)``.
        where: Where it is to be written, for messages.

    Returns:
        Labels ``(x, y[, z])`` as uint8 (uint16 above 256 classes) and False; or probabilities
        ``(x, y[, z], classes)`` as float32 and True.

    Raises:
        ConfigurationError: If there is no prediction, or its number of axes does not fit the sample.
        DataError: If labels are not whole numbers below 65536.
    """
    prediction = sample.pred_data
    if prediction is None:
        raise ConfigurationError(
            f"sample {sample.index!r} has no prediction to write to {where}: call add_prediction first"
        )
    if prediction.ndim == sample.ndim + 1 and prediction.shape[-1] > 1:
        return prediction.astype(np.float32, copy=False), True
    if prediction.ndim == sample.ndim + 1:
        prediction = prediction[..., 0]
    if prediction.ndim != sample.ndim:
        raise ConfigurationError(
            f"sample {sample.index!r}: the prediction has shape {prediction.shape}, but a {sample.ndim}D sample needs "
            f"{sample.ndim} axes, and one more for class probabilities"
        )
    dtype = label_dtype(sample.classes)
    if prediction.dtype == dtype and prediction.size:
        return prediction, False  # as our own predictions are; the check would make copies of a large map
    # Whatever the labels are, none may be lost in writing; whether they make sense for `classes` was settled before.
    widest = check_labels(prediction, max(sample.classes, 2**16), where)
    if widest.dtype != dtype and widest.size and int(widest.max()) <= np.iinfo(dtype).max:
        widest = widest.astype(dtype)
    return widest, False
