"""Files of Keras models: written with a description, read after checks of configuration and weights.

A ``.keras`` file is a zip archive with ``config.json`` and ``model.weights.h5``, a ``.h5`` file is an HDF5 file with
the configuration as an attribute, and a ``.weights.h5`` file holds only weights.
"""

from __future__ import annotations

import copy
import json
import logging
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from miscnn_tf._base.configuration import plain
from miscnn_tf._base.files import atomic_path
from miscnn_tf._machine.tensorflow_messages import without_logged
from miscnn_tf.data_loading.label_scheme import region_settings
from miscnn_tf.errors import ConfigurationError, ModelFileError
from miscnn_tf.neural_network.architecture import architectures
from miscnn_tf.neural_network.fine_tuning import fitting_weights
from miscnn_tf.neural_network.hdf5_guard import check_hdf5
from miscnn_tf.neural_network.model_description import (
    ENDINGS,
    HDF5,
    LARGEST,
    MEMBER,
    METHODS,
    existing,
    read_metadata,
    reading,
)
from miscnn_tf.neural_network.network_snapshot import NetworkSnapshot, describe_known
from miscnn_tf.neural_network.segmentation_model import SegmentationModel
from miscnn_tf.neural_network.trusted_classes import check_configuration
from miscnn_tf.processing.components import ComponentStep

logger = logging.getLogger(__name__)

_CONFIGURATION = "config.json"
_WEIGHTS = "model.weights.h5"
_MEMBERS = frozenset(("metadata.json", _CONFIGURATION, _WEIGHTS, MEMBER))
# Keras does not compress weights. In an archive that was compressed later, trained weights shrink little, but the zeros
# of a new optimizer's state do.
_LARGEST_RATIO = 20
_CHUNK = 2**20
_WITHOUT_HEAD = "; load(path, head=False), or load_head = false in [network], reads all but the output layer"
_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, EOFError)


@dataclass(frozen=True)
class LoadedWeights:
    """Weights of a file that fit a network.

    Args:
        path: The file.
        values: The arrays for ``model.set_weights``.
        epochs_trained: Number of epochs that they have been trained.
        with_optimizer: True if the file may hold the state of the network's optimizer.
    """

    path: Path
    values: list[np.ndarray]
    epochs_trained: int = 0
    with_optimizer: bool = False

    def restore_optimizer(self, model: keras.Model, learning_rate: float) -> None:
        """Set the state of a model's optimizer, if the file holds it.

        Args:
            model: The compiled model, with these weights.
            learning_rate: The learning rate of its network, which the optimizer keeps.

        Raises:
            ModelFileError: If the file is damaged.
        """
        if not self.with_optimizer:
            return
        optimizer = model.optimizer
        with reading(self.path), opened_weights(self.path) as file:
            optimizer.build(model.trainable_variables)
            inner = getattr(optimizer, "inner_optimizer", None)
            group = file.get("optimizer/vars")
            if inner is not None and "optimizer/inner_optimizer/vars" in file:
                inner.load_own_variables(file["optimizer/inner_optimizer/vars"])
                inner.learning_rate = learning_rate
            elif inner is None and group is not None and len(group) == len(optimizer.variables):
                optimizer.load_own_variables(group)
                optimizer.learning_rate = learning_rate
            else:
                logger.info("%s: holds no state of this optimizer; training continues with a new one", self.path)


def write_model(model: keras.Model, description: str, path: str | Path) -> None:
    """Write a model file, atomically.

    Args:
        model: The Keras model.
        description: The JSON of `NetworkSnapshot`.
        path: The file.

    Raises:
        ConfigurationError: If it does not end in ``.keras``, ``.h5`` or ``.hdf5``.
        StorageError: If it cannot be written.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise ConfigurationError(f"the model file {path} must end in .keras (or .h5, .hdf5)")
    with atomic_path(path) as temporary:
        if path.suffix == ".keras":
            model.save(temporary)
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.writestr(MEMBER, description)
        else:
            # Keras' HDF5 writer fails for a loss or metric without a configuration.
            with without_logged("absl", "as an HDF5 file"):  # MIScnn's scripts use it, and it is read as well
                model.save(temporary, include_optimizer=model.get_compile_config() is not None)
            with h5py.File(temporary, "a") as file:
                file.attrs["miscnn_tf"] = description


def store_postprocessing(path: str | Path, steps: Sequence[ComponentStep]) -> None:
    """Replace the postprocessing in a ``.keras`` model file, atomically; the rest of the file stays as it is.

    The file is not written if it holds these steps already.

    Raises:
        MissingDataError: If the file does not exist.
        ConfigurationError: If it does not end in ``.keras``.
        ModelFileError: If it is damaged.
        StorageError: If it cannot be written.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ConfigurationError(f"{path}: postprocessing is stored in .keras files; dump() the network as one")
    description = read_metadata(path)
    plain = [step.to_plain() for step in steps]
    if (description.get("postprocessing") or []) == plain:
        return
    description.pop("postprocessing", None)
    if plain:
        description["postprocessing"] = plain
    with reading(path), zipfile.ZipFile(path) as source:
        _check_members(source, path)
    with atomic_path(path) as temporary, zipfile.ZipFile(path) as source, zipfile.ZipFile(temporary, "w") as target:
        for member in source.infolist():
            if member.filename == MEMBER:
                target.writestr(MEMBER, json.dumps(description, indent=1))
                continue
            with source.open(member) as old, target.open(copy.copy(member), "w") as new:
                shutil.copyfileobj(old, new, _CHUNK)


def read_weights(
    path: str | Path,
    model: keras.Model,
    network: NetworkSnapshot,
    custom_objects: Mapping[str, Any] | None = None,
    *,
    head: bool = True,
) -> LoadedWeights:
    """Read the weights of a file for a network.

    Args:
        path: The file.
        model: The network's Keras model. Its weights may be replaced.
        network: Settings of the network.
        custom_objects: Custom layers by name.
        head: False for a file with other classes or channels (see `Neural_Network.load`).

    Raises:
        MissingDataError: If the file does not exist.
        ModelFileError: If it is damaged, or has another number of channels or classes.
    """
    path = existing(path)
    own = dict(custom_objects or {})
    with reading(path):
        metadata = _metadata_if_any(path)
        if not head and not holds_weights_alone(path):
            source = read_model(path, own)
            if len(source.input_shape) == len(model.input_shape):
                return LoadedWeights(path, fitting_weights(model, source, path))
        if holds_weights_alone(path) or _has_architecture_of(network, metadata):
            load_weights(model, path)
            values = model.get_weights()
        else:
            values = _weights_of_model(model, path, own)
        same = not metadata or all(
            metadata.get(name) == network.changed.get(name) for name in ("optimizer", "trainable")
        )
        if not same:
            logger.info("%s: frozen layers or optimizer differ; the optimizer's state is not read", path)
        return LoadedWeights(path, values, int(metadata.get("epochs_trained", 0)), same and path.suffix == ".keras")


def holds_weights_alone(path: Path) -> bool:
    """Return True for a file of ``save_weights`` or ``ModelCheckpoint(save_weights_only=True)``, by its name."""
    return path.name.endswith(".weights.h5")


@contextmanager
def opened_weights(path: Path) -> Iterator[h5py.File]:
    """Open the HDF5 file with the weights for reading, after its check.

    Raises:
        ModelFileError: If the file is damaged, or does not pass `check_hdf5`.
    """
    try:
        if path.suffix in HDF5:
            with h5py.File(path, "r") as file:
                check_hdf5(file, path.stat().st_size, path)
                yield file
            return
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
            with archive.open(_WEIGHTS) as stream, h5py.File(stream, "r") as file:
                check_hdf5(file, archive.getinfo(_WEIGHTS).file_size, path)
                yield file
    except ModelFileError:
        raise
    except _DAMAGE as error:
        raise ModelFileError(f"{path}: not a model file, or damaged ({error}); write it again with dump()") from error


def load_weights(model: keras.Model, path: Path) -> None:
    """Replace all weights of a model by those of a file for the same architecture.

    Raises:
        ModelFileError: If the file is damaged, or its weights have other names or shapes; the model is unchanged.
    """
    with opened_weights(path):
        pass
    before = model.get_weights()
    try:
        # A model without an optimizer: Keras would also read the optimizer's state, and fail for another optimizer.
        keras.Model(model.inputs, model.outputs).load_weights(path)
    except Exception as error:  # Keras raises errors from KeyError to OSError for weights that do not fit
        model.set_weights(before)
        raise ModelFileError(
            f"{path}: the weights do not fit the architecture of this network ({_first_line(error)}); build the "
            "Neural_Network with the architecture of the file, or load the whole file with miscnn_tf.load_model"
        ) from error


def read_model(path: Path, custom_objects: Mapping[str, Any]) -> keras.Model:
    """Load the Keras model of a file, built from its configuration.

    Args:
        path: A ``.keras``, ``.h5`` or ``.hdf5`` file.
        custom_objects: The user's classes and functions by name.

    Raises:
        ModelFileError: If the file is damaged, or names a class that is not allowed.
    """
    with opened_weights(path) as weights:
        configuration = weights.attrs.get("model_config") if path.suffix in HDF5 else _member(path, _CONFIGURATION)
    if configuration is None:
        raise ModelFileError(f"{path}: holds weights, but no model; load it into a network of the same architecture")
    # .h5 files have class names without a package.
    objects = {"SegmentationModel": SegmentationModel, **custom_objects}
    try:
        check_configuration(_without_compilation(json.loads(configuration)), objects, path)
        return keras.saving.load_model(path, custom_objects=objects, compile=False, safe_mode=True)
    except ModelFileError:
        raise
    except Exception as error:  # Keras raises errors from KeyError to OSError for damaged or unknown files
        raise ModelFileError(
            f"{path}: Keras could not read it ({error}). If it has custom layers, register them with "
            "keras.saving.register_keras_serializable or pass custom_objects={'Name': Name}; otherwise it is damaged"
        ) from error


def _metadata_if_any(path: Path) -> dict[str, Any]:
    """Return the description of a file; empty if `Neural_Network.dump` did not write it."""
    try:
        return read_metadata(path)
    except ModelFileError as reason:
        logger.info("%s", reason)
        return {}


def _has_architecture_of(network: NetworkSnapshot, metadata: Mapping[str, Any]) -> bool:
    """Return True if a file describes this network's architecture, so that only its weights must be read."""
    ours = describe_known(network.architecture, architectures)
    input_output = (network.channels, network.classes, network.three_dim)
    return (
        ours["config"] is not None
        and metadata.get("architecture") == plain(ours)
        and tuple(metadata.get(name) for name in ("channels", "classes", "three_dim")) == input_output
        and ("previous_stage" in metadata["preprocessor"]) == (network.preprocessor.previous_stage is not None)
        and region_settings(metadata) == network.scheme.region_settings()
    )


def _weights_of_model(model: keras.Model, path: Path, own: Mapping[str, Any]) -> list[np.ndarray]:
    """Build the Keras model of a file and return its weights, after a check that they fit `model`."""
    source = read_model(path, own)
    have, need = ((one.input_shape[-1], one.outputs[0].shape[-1], len(one.input_shape) - 2) for one in (source, model))
    if have != need:
        raise ModelFileError(
            f"{path} holds a {have[2]}D model with {have[0]} channel(s) and {have[1]} classes, but this network is "
            f"{need[2]}D with {need[0]} channel(s) and {need[1]} classes{_WITHOUT_HEAD if have[2] == need[2] else ''}"
        )
    if [weight.shape for weight in source.weights] != [weight.shape for weight in model.weights]:
        raise ModelFileError(
            f"{path} holds another architecture than this network's; build the Neural_Network with the architecture "
            "of the file, or read all of it with miscnn_tf.load_model"
        )
    weights: list[np.ndarray] = source.get_weights()
    return weights


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Require that an archive holds only the members of a model file, complete and of plausible sizes."""
    names = [member.filename for member in archive.infolist()]
    if len(set(names)) < len(names) or not set(names) <= _MEMBERS:
        odd = next(name for name in names if name not in _MEMBERS or names.count(name) > 1)
        raise ModelFileError(
            f"{path}: the archive holds {odd!r}, or holds it twice; a model file has at most one each of "
            f"{', '.join(sorted(_MEMBERS))}. Do not use this file"
        )
    for member in archive.infolist():
        packed = member.compress_size * _LARGEST_RATIO + _CHUNK
        largest = packed if member.filename == _WEIGHTS else min(LARGEST, packed)
        if member.flag_bits & 1:
            raise ModelFileError(f"{path}: {member.filename} is encrypted; write the model again with dump()")
        if member.compress_type not in METHODS:
            raise ModelFileError(
                f"{path}: {member.filename} is compressed by the method {member.compress_type}, which is not deflate; "
                "compress the archive with deflate, or write the model again with dump()"
            )
        if member.file_size > largest:
            raise ModelFileError(
                f"{path}: {member.filename} claims {member.file_size} bytes, packed into {member.compress_size}; at "
                f"most {largest} are plausible. Do not use this file"
            )
        # Read to the end, where zipfile compares the checksum; Keras reads parts of the file and does not compare it.
        with archive.open(member) as stream:
            while stream.read(_CHUNK):
                pass


def _member(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def _without_compilation(configuration: Any) -> Any:
    """Return a configuration without the compile settings, which are not read."""
    if not isinstance(configuration, dict):
        raise ValueError("the configuration is not a JSON object")
    return {key: value for key, value in configuration.items() if key != "compile_config"}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
