"""Reading of model files into networks.

A model file is the Keras model with a JSON description of everything else that prediction needs. A ``.keras`` file is a
zip archive, to which this package adds the member ``miscnn_tf.json`` with interface, preprocessing, patches, classes
and versions of the libraries. Keras can read the file, too. In ``.h5`` files the same JSON is an attribute. The
description contains no code, and classes that it names are not imported.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from miscnn_tf._base.configuration import build, plain
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.neural_network.architecture import architectures
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.neural_network.compiled_model import TrainableSet
from miscnn_tf.neural_network.keras_file import read_model
from miscnn_tf.neural_network.model import Neural_Network
from miscnn_tf.neural_network.model_description import (
    NoSamples,
    make_interface,
    make_preprocessor,
    read_metadata,
    reading,
)
from miscnn_tf.neural_network.optimizer import OptimizerRecipe
from miscnn_tf.neural_network.segmentation_model import SegmentationModel
from miscnn_tf.processing.components import steps_of
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

logger = logging.getLogger(__name__)


class LoadedArchitecture(Abstract_Architecture):
    """Architecture of a model file whose class is unknown; it only builds the model of the file.

    Args:
        config: Keras' configuration of the model.
        divisor: Divisor of the sizes: one number for all spatial axes, or one for each.
    """

    def __init__(self, config: Mapping[str, Any], divisor: int | Sequence[int] = 1) -> None:
        self.config = config
        self._divisor = divisor if isinstance(divisor, int) else tuple(divisor)

    @property
    def divisor(self) -> int:
        """Divisor for every spatial axis."""
        return self._divisor if isinstance(self._divisor, int) else math.lcm(*self._divisor)

    def divisors(self, n_axes: int) -> tuple[int, ...]:
        """Return the divisor of each spatial axis."""
        return (self._divisor,) * n_axes if isinstance(self._divisor, int) else self._divisor

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"config": self.config, "divisor": plain(self._divisor)}

    def create_model(self, input_shape: Sequence[int | None], n_labels: int = 2) -> keras.Model:
        """Build the model of the file, with initial weights."""
        model: keras.Model = SegmentationModel.from_config(dict(self.config))
        return model


def load_model(
    path: str | Path,
    data_io: Data_IO | None = None,
    subfunctions: Sequence[Abstract_Subfunction] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> Neural_Network:
    """Read a model file into a `Neural_Network` that predicts with the preprocessing it was trained with.

    Args:
        path: The file, from `Neural_Network.dump`.
        data_io: Samples to predict by name, or to train on; not needed for single files and arrays.
        subfunctions: The steps, if the file could not store them (a warning was logged when it was written).
        custom_objects: Subfunctions, architectures and layers of your own by class name, unless they are registered.

    Returns:
        A network for `Neural_Network.predict_file` and `Neural_Network.predict_array`, and with a `data_io` for all
        other methods.

    Raises:
        MissingDataError: If the file does not exist.
        ModelFileError: If it is damaged or from another program, or its description has invalid values; the message
            names each.
        UnknownClassError: (a ConfigurationError) If it needs a class that is not known here.

    Example:
        >>> model = miscnn_tf.load_model("model.keras")  # doctest: +SKIP
        >>> model.predict_file("scan.nii.gz", "seg.nii.gz")  # doctest: +SKIP
    """
    metadata = read_metadata(path)
    own = dict(custom_objects or {})
    with reading(Path(path)):
        if data_io is None:
            data_io = NoSamples(make_interface(metadata, own), "")
        steps = steps_of(metadata.get("postprocessing"), metadata["classes"])
        preprocessor = make_preprocessor(metadata["preprocessor"], data_io, subfunctions, own)
        architecture = _build_architecture(metadata, own)
        if architecture is None:
            architecture = LoadedArchitecture(read_model(Path(path), own).get_config(), metadata["divisor"])
        with keras.saving.custom_object_scope(own):
            network = Neural_Network(
                preprocessor,
                architecture,
                learning_rate=metadata["learning_rate"],
                optimizer=_build_optimizer(metadata, own, path),
                precision=metadata["precision"],
                jit_compile=metadata.get("jit_compile", "auto"),  # files of earlier versions lack it
                **{name: metadata[name] for name in ("validation_batches", "best_by") if name in metadata},
            )
        loss = _deserialised(metadata["loss"], own)
        if loss is None:
            logger.warning("%s does not hold its loss: set .loss before training on (now: tversky_loss)", path)
        else:
            network.loss = loss
        metrics = [_deserialised(metric, own) for metric in metadata["metrics"]]
        network.metrics = [metric for metric in metrics if metric is not None]
        network.trained_on = metadata["trained_on"]
        if metadata.get("trainable") is not None:
            TrainableSet.of_description(metadata["trainable"]).set(network.model)
        network.load(path, custom_objects)
        network.postprocessing, network.model_card = steps, metadata.get("model_card") or {}
    return network


def _build_optimizer(metadata: Mapping[str, Any], own: Mapping[str, Any], path: str | Path) -> Any:
    """Return the optimizer of a file; None for the default, and for an unknown one, which prediction does not need."""
    try:
        recipe = OptimizerRecipe.of_description(metadata.get("optimizer"), own)
    except ConfigurationError as reason:
        logger.warning("%s: %s. Further training would use Adam", path, reason)
        return None
    return None if recipe == OptimizerRecipe() else recipe.make(metadata["learning_rate"])


def _build_architecture(metadata: Mapping[str, Any], own: Mapping[str, Any]) -> Abstract_Architecture | None:
    description = metadata["architecture"]
    known = {**architectures, **own}
    if description["config"] is None or description["class_name"] not in known:
        return None
    architecture: Abstract_Architecture = build(description, known, "architecture")
    return architecture


def _deserialised(serialised: Any, own: Mapping[str, Any]) -> Any:
    if serialised is None or isinstance(serialised, str):
        return serialised
    try:
        return keras.saving.deserialize_keras_object(serialised, custom_objects=dict(own), safe_mode=True)
    except Exception as reason:  # Keras raises errors of any kind for an invalid description
        logger.warning("a loss or metric of the model file is not known here: %s", reason)
        return None
