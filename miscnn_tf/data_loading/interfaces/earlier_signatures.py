"""Interfaces written for MIScnn 1.1 and 1.2, whose methods had other arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from miscnn_tf._base.deprecation import deprecated
from miscnn_tf.data_loading.interfaces.abstract_io import prediction_to_write
from miscnn_tf.data_loading.sample import Sample

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
# Names of the second argument of ``save_prediction(pred, index)``; today it is the output path.
_INDEX = ("index", "i", "idx", "sample_index")


def with_current_arguments(save_prediction: Callable[..., None]) -> Callable[[Sample, str | Path], None]:
    """Return an interface's `save_prediction`, callable with a sample and a path also if it has earlier arguments.

    MIScnn 1.1 and 1.2 called ``save_prediction(pred, index)`` or ``save_prediction(pred, index, output_path)`` with the
    array of the prediction and the name of the sample.

    Args:
        save_prediction: The method of an interface.

    Example:
        >>> from miscnn_tf.data_loading.interfaces import NIFTI_interface
        >>> interface = NIFTI_interface()
        >>> with_current_arguments(interface.save_prediction) == interface.save_prediction
        True
    """
    try:
        parameters = list(inspect.signature(save_prediction).parameters.values())
    except (TypeError, ValueError):  # of functions in C
        return save_prediction
    names = [one.name for one in parameters if one.kind in _POSITIONAL and one.default is one.empty]
    if len(names) < 2 or names[1] not in _INDEX:
        return save_prediction

    def write(sample: Sample, output_path: str | Path) -> None:
        array, _ = prediction_to_write(sample, output_path)
        arguments: list[Any] = [array, sample.index, output_path]
        save_prediction(*arguments[: len(names)])

    write.__qualname__ = f"the signature ({', '.join(names)}) of {save_prediction.__qualname__}"
    return deprecated(
        "(sample, output_path) with sample.pred_data and sample.index",
        since="0.2",
        removed_in="1.0",
        defined_by=save_prediction,
    )(write)
