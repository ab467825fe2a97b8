"""Settings of a network at one moment, as values and as the JSON of model files."""

from __future__ import annotations

import functools
import json
import logging
import platform
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import miscnn_tf
from miscnn_tf._base.configuration import comparable, describe, get_config, is_lambda, plain
from miscnn_tf.data_loading.interfaces.description import (
    annotation_format_of,
    class_names_of,
    describe_interface,
    label_values_of,
)
from miscnn_tf.data_loading.label_scheme import LabelScheme
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture import architectures
from miscnn_tf.neural_network.model_description import ARGUMENTS, AUGMENTATION_CLASS, FORMAT
from miscnn_tf.processing.components import ComponentStep
from miscnn_tf.processing.data_augmentation import Data_Augmentation, augmentations
from miscnn_tf.processing.preprocessor import SETTINGS, Preprocessor
from miscnn_tf.processing.subfunctions import subfunctions as known_subfunctions
from miscnn_tf.registry import Registry

logger = logging.getLogger(__name__)

# Parts of the description that do not determine the result of a training.
_NOT_OF_TRAINING = (
    "format",
    "written",
    "versions",
    "epochs_trained",
    "jit_compile",
    "label_values",
    "annotation_format",
)


@dataclass(frozen=True)
class NetworkSnapshot:
    """Settings of a network, without its weights.

    Args:
        preprocessor: The preprocessor.
        architecture: The architecture.
        channels: Channels of the input.
        classes: Classes of the output.
        three_dim: True for volumes.
        divisors: Divisors of the input size, one per spatial axis.
        learning_rate: The learning rate.
        changed: Optimizer and frozen layers as JSON types, if they differ from the defaults.
        loss: The loss.
        metrics: The metrics.
        trained_on: Names of the samples of the last training and its validation.
        precision: The requested precision; usually "auto", since another machine may choose another one.
        jit_compile: The requested use of XLA.
        epochs_trained: Number of epochs since the initial weights.
        start_digest: Digest of the initial weights if they were set; None for those of the seed.
        postprocessing: Steps that predicted label maps go through.
        model_card: Facts about a model from elsewhere.
    """

    preprocessor: Preprocessor
    architecture: Any
    channels: int
    classes: int
    scheme: LabelScheme
    three_dim: bool
    divisors: tuple[int, ...]
    learning_rate: float
    changed: Mapping[str, Any]
    loss: Any
    metrics: Sequence[Any]
    trained_on: Mapping[str, Sequence[Hashable]]
    precision: str
    jit_compile: bool | str
    epochs_trained: int
    start_digest: str | None
    postprocessing: tuple[ComponentStep, ...] = ()
    model_card: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the description in a model file."""
        return json.dumps(self._description(), indent=1)

    def training_settings(self) -> dict[str, Any]:
        """Return the settings, except seed, epochs and class weights, that determine the result of a training."""
        description = json.loads(self.to_json())
        for name in _NOT_OF_TRAINING:
            del description[name]
        for name in ("postprocessing", "model_card"):  # chosen after the training, and words about the model
            description.pop(name, None)
        if self.start_digest is not None:
            description["start"] = self.start_digest
        del description["preprocessor"]["seed"]  # drawn anew by each program that does not set it
        description["loss"] = _with_partial(self.loss, description["loss"])
        description["metrics"] = list(map(_with_partial, self.metrics, description["metrics"]))
        return {**description.pop("preprocessor"), **description}

    def _description(self) -> dict[str, Any]:
        preprocessor = self.preprocessor
        interface = preprocessor.data_io.interface
        return {
            "format": FORMAT,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {
                "miscnn_tf": miscnn_tf.__version__,
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "channels": self.channels,
            "classes": self.classes,
            "three_dim": self.three_dim,
            "interface": describe_interface(interface),
            "class_names": class_names_of(interface),
            # If missing: classes.
            **self.scheme.region_settings(),
            # The value of each class in predictions; null for class numbers.
            "label_values": label_values_of(interface),
            # The usual format of predictions; null unless DICOM annotations were read.
            "annotation_format": annotation_format_of(interface),
            "architecture": describe_known(self.architecture, architectures),
            # A list if the axes differ.
            "divisor": list(self.divisors) if len(set(self.divisors)) > 1 else self.divisors[0],
            "learning_rate": self.learning_rate,
            # If missing: Adam, and no layer frozen by the user.
            **self.changed,
            "loss": _serialised(self.loss),
            "metrics": [_serialised(metric) for metric in self.metrics],
            "trained_on": {
                kind: [index if isinstance(index, str | int) else str(index) for index in names]
                for kind, names in self.trained_on.items()
            },
            "precision": self.precision,
            "jit_compile": self.jit_compile,
            "epochs_trained": self.epochs_trained,
            # If missing: none.
            **({"postprocessing": [step.to_plain() for step in self.postprocessing]} if self.postprocessing else {}),
            **({"model_card": dict(self.model_card)} if self.model_card else {}),
            "preprocessor": {
                **{name: plain(getattr(preprocessor, name)) for name in (*ARGUMENTS, *SETTINGS)},
                # If missing: no cascade.
                **({} if preprocessor.previous_stage is None else {"previous_stage": preprocessor.previous_stage.path}),
                "subfunctions": [describe_known(step, known_subfunctions) for step in preprocessor.subfunctions],
                **_describe_augmentation(preprocessor.data_augmentation),
            },
        }


def describe_known(instance: object, registry: Registry[Any]) -> dict[str, Any]:
    """Return class name and configuration of an object; a warning and None instead of an unknown configuration."""
    name = registry.name_of(type(instance)) or type(instance).__name__
    try:
        return describe(instance, name)
    except ConfigurationError as reason:  # a finished training must not be lost
        logger.warning("the model file will not hold the settings of %s: %s", name, reason)
        return {"class_name": name, "config": None}


def _with_partial(function: Any, serialised: Any) -> Any:
    """Return what is compared of a loss or metric: also the arguments of a partial, which model files do not hold."""
    return comparable(function) if isinstance(function, functools.partial) else serialised


def _serialised(function: Any) -> Any:
    """Return a loss or metric as JSON types; None if it has no name, such as a lambda."""
    if isinstance(function, str):
        return function
    if is_lambda(function):
        return None
    try:
        serialised = keras.saving.serialize_keras_object(function)
        json.dumps(serialised)
    except Exception as reason:  # a custom object may raise any error, and a finished training must not be lost
        logger.warning("the model file will not hold %r: %s", function, reason)
        return None
    return serialised


def _describe_augmentation(augmentation: Data_Augmentation | None) -> dict[str, Any]:
    """Return the settings of an augmentation, and its class if it is the user's own."""
    if augmentation is None:
        return {"data_augmentation": None}
    cls = type(augmentation)
    try:
        config = get_config(augmentation)
    except ConfigurationError as reason:
        logger.warning("the model file will not hold all settings of %s: %s", cls.__name__, reason)
        config = Data_Augmentation.get_config(augmentation, inherited=True)
    own = {} if cls is Data_Augmentation else {AUGMENTATION_CLASS: augmentations.name_of(cls) or cls.__name__}
    return {"data_augmentation": config, **own}
