"""Settings of a model and its training as plain data, with which runs are compared and reported."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Protocol, runtime_checkable

import numpy as np

from miscnn_tf._base.configuration import comparable, digest
from miscnn_tf.data_loading.interfaces.description import label_values_of
from miscnn_tf.processing.preprocessor import SETTINGS


@runtime_checkable
class Grouped(Protocol):
    """A model that is a group of others.

    Attributes:
        models: The members.
    """

    models: list[Any]


def training_settings(model: Any, epochs: int, iterations: int | None) -> dict[str, Any]:
    """Return the settings that determine the result of a training besides the samples, as plain data.

    Callbacks are not included, since their effect is unknown. Functions and classes of the caller are included by name
    and arguments, not by code.

    Args:
        model: The model.
        epochs: Argument of the training.
        iterations: Argument of the training.
    """
    return {
        "epochs": int(epochs),
        "iterations": None if iterations is None else int(iterations),
        **model_settings(model),
    }


def model_settings(model: Any) -> dict[str, Any]:
    """Return the settings of a model and its preprocessing as plain data, without those of a single training.

    Args:
        model: The model, or an object with the same attributes.
    """
    preprocessor = model.preprocessor
    settings: dict[str, Any] = {}
    for name in ("architecture", "loss"):
        settings[name] = comparable(getattr(model, name, None))
    settings["metrics"] = [comparable(metric) for metric in getattr(model, "metrics", None) or []]
    rate = getattr(model, "learning_rate", None)
    settings["learning_rate"] = float(rate) if isinstance(rate, int | float | np.number) else comparable(rate)
    for name in SETTINGS:
        value = getattr(preprocessor, name, None)
        settings[name] = list(value) if isinstance(value, tuple | list) else value
    settings["subfunctions"] = [comparable(step) for step in getattr(preprocessor, "subfunctions", None) or []]
    settings["data_augmentation"] = comparable(getattr(preprocessor, "data_augmentation", None))
    previous_stage = getattr(preprocessor, "previous_stage", None)
    if previous_stage is not None:
        settings["previous_stage"] = previous_stage.path
    settings |= getattr(model, "settings_beyond_defaults", dict)()
    start = getattr(model, "start_digest", None)
    if start is not None:
        settings["start"] = start
    return settings


def model_facts(model: Any) -> dict[str, Any]:
    """Return the settings of a model, its number of weights, and the device that it runs on."""
    facts = model_settings(model)
    count = getattr(getattr(model, "model", None), "count_params", None)
    if callable(count):
        facts["weights"] = int(count())
    device = getattr(getattr(model, "hardware", None), "description", None)
    if device is not None:
        facts["device"] = str(device)
    return facts


def weights_digest(model: Any) -> str | None:
    """Return a digest of weights, settings and data folder of a model; None for a model without ``get_weights``.

    That of a group is made of those of its members.
    """
    if isinstance(model, Grouped):
        members = [weights_digest(member) for member in model.models]
        return None if None in members else digest(*members)
    get_weights = getattr(getattr(model, "model", None), "get_weights", None)
    if not callable(get_weights):
        return None
    weights = hashlib.blake2b(digest_size=16)
    for weight in get_weights():
        weights.update(np.ascontiguousarray(weight).tobytes())
    data_io = model.preprocessor.data_io
    parts: list[Any] = [weights.hexdigest(), model_settings(model), os.path.abspath(str(data_io.input_path))]
    values = label_values_of(data_io.interface)
    if values is not None:  # the same file values mean other classes with another label map
        parts.append(values)
    steps = getattr(model, "postprocessing", ())
    if steps:
        parts.append([step.to_plain() for step in steps])
    return digest(*parts)
