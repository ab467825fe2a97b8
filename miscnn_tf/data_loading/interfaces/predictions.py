"""Conversion of predictions to the values in files, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from miscnn_tf.data_loading.label_values import reading_map, to_values
from miscnn_tf.data_loading.labels import check_labels, label_dtype
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import ConfigurationError


def prediction_to_write(
    sample: Sample, where: str | Path, values: Sequence[int] | None = None
) -> tuple[np.ndarray, bool]:
    """Convert the prediction of a sample for writing to a file.

    Args:
        sample: A sample with ``pred_data``: labels ``(x, y[, z][, 1])``, or probabilities ``(x, y[, z], classes)``.
        where: The output file, for messages.
        values: The value of each class in the files (`Abstract_IO.values_of_classes`); None for class numbers.

    Returns:
        Labels ``(x, y[, z])`` and False; or probabilities ``(x, y[, z], classes)`` as float32 and True. Class numbers
        are uint8 (uint16 above 256 classes), other values the smallest type that holds all of them.

    Raises:
        ConfigurationError: If the prediction is missing, or its number of axes does not match the sample.
        DataError: If labels are not whole numbers below 65536, or one has no value.
    """
    labels, activation = _prediction_of(sample, where)
    return (labels if activation or values is None else to_values(labels, values, where)), activation


def prediction_labels(
    array: np.ndarray,
    classes: int,
    where: str | Path,
    label_map: Mapping[int, int] | None,
    values: Sequence[int],
) -> np.ndarray:
    """Convert a stored prediction to class numbers: the inverse of `prediction_to_write`.

    Predictions that hold class numbers, as earlier versions wrote them, are read as well; see
    `label_values.reading_map`.

    Args:
        array: The stored values.
        classes: Number of classes, background included.
        where: The file or sample, for messages.
        label_map: Labels for values in the segmentations.
        values: The value of each class in the files.

    Returns:
        Labels of the same shape, uint8 (uint16 above 256 classes).

    Raises:
        LabelError: If it holds values that are not a class.
    """
    return check_labels(array, classes, where, reading_map(label_map, values))


def _prediction_of(sample: Sample, where: str | Path) -> tuple[np.ndarray, bool]:
    """Return the prediction as class numbers or probabilities, and whether it is the latter."""
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
        return prediction, False  # already checked, and checking again would copy a large map
    # Only the range of the type is checked here; labels were checked against `classes` before.
    widest = check_labels(prediction, max(sample.classes, 2**16), where)
    if widest.dtype != dtype and widest.size and int(widest.max()) <= np.iinfo(dtype).max:
        widest = widest.astype(dtype)
    return widest, False
