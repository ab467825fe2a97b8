"""The Keras part of a model file: a configuration and weights, checked before Keras reads them.

``.keras`` is a zip archive with ``config.json`` and ``model.weights.h5``. ``.h5`` is one HDF5 file with the
configuration as an attribute. ``.weights.h5`` holds weights alone.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras

from miscnn_tf.errors import ModelFileError
from miscnn_tf.neural_network.hdf5_guard import check_hdf5
from miscnn_tf.neural_network.model_description import HDF5, LARGEST, MEMBER, METHODS
from miscnn_tf.neural_network.segmentation_model import SegmentationModel
from miscnn_tf.neural_network.trusted_classes import check_configuration

_CONFIGURATION = "config.json"
_WEIGHTS = "model.weights.h5"
_MEMBERS = frozenset(("metadata.json", _CONFIGURATION, _WEIGHTS, MEMBER))
# Keras stores weights as they are. A file that was packed again may be smaller, but float numbers do not shrink much;
# the zeros of an optimizer that has not started do.
_LARGEST_RATIO = 20
_CHUNK = 2**20
_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, EOFError)


def holds_weights_alone(path: Path) -> bool:
    """Whether a file is what ``save_weights`` or ``ModelCheckpoint(save_weights_only=True)`` writes."""
    return path.name.endswith(".weights.h5")


@contextmanager
def opened_weights(path: Path) -> Iterator[h5py.File]:
    """The HDF5 file with the weights, open for reading, known to hold nothing but numbers of its own.

    Raises:
        ModelFileError: If the file is damaged, or holds something that weights never need (see `check_hdf5`).
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
    """Replace the weights of a model by those of a file for the same architecture; all of them, or none.

    Raises:
        ModelFileError: If the file is damaged, or its weights have other names or shapes.
    """
    with opened_weights(path):
        pass
    before = model.get_weights()
    try:
        # The same layers without an optimizer, whose state Keras would read as well, and refuse if it is another one.
        keras.Model(model.inputs, model.outputs).load_weights(path)
    except Exception as error:  # Keras raises anything from KeyError to OSError for weights that do not fit
        model.set_weights(before)
        raise ModelFileError(
            f"{path}: holds the weights of another architecture than this network's ({_first_line(error)}); build the "
            "Neural_Network with the architecture of the file, or read all of it with miscnn_tf.load_model"
        ) from error


def read_model(path: Path, custom_objects: Mapping[str, Any]) -> keras.Model:
    """Make the Keras model of a file by its configuration.

    Args:
        path: A ``.keras``, ``.h5`` or ``.hdf5`` file.
        custom_objects: Classes and functions of the user's own, by name.

    Raises:
        ModelFileError: If the file is damaged, or names a class that is neither known nor allowed.
    """
    with opened_weights(path) as weights:
        configuration = weights.attrs.get("model_config") if path.suffix in HDF5 else _member(path, _CONFIGURATION)
    if configuration is None:
        raise ModelFileError(f"{path}: holds weights, but no model; load it into a network of the same architecture")
    # .h5 files look the model's class up by its bare name.
    objects = {"SegmentationModel": SegmentationModel, **custom_objects}
    try:
        check_configuration(_without_compilation(json.loads(configuration)), objects, path)
        return keras.saving.load_model(path, custom_objects=objects, compile=False, safe_mode=True)
    except ModelFileError:
        raise
    except Exception as error:  # Keras raises anything from KeyError to OSError for a damaged or unknown file
        raise ModelFileError(
            f"{path}: Keras could not read it ({error}). If it has layers of your own, register them with "
            "keras.saving.register_keras_serializable or pass custom_objects={'Name': Name}; else the file is damaged"
        ) from error


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Make sure that an archive holds a model and nothing else, each member whole and of a plausible size."""
    names = [member.filename for member in archive.infolist()]
    if len(set(names)) < len(names) or not set(names) <= _MEMBERS:
        odd = next(name for name in names if name not in _MEMBERS or names.count(name) > 1)
        raise ModelFileError(
            f"{path}: the archive holds {odd!r}, or holds it twice; a model file has {', '.join(sorted(_MEMBERS))}, "
            "each once"
        )
    for member in archive.infolist():
        packed = member.compress_size * _LARGEST_RATIO + _CHUNK
        largest = packed if member.filename == _WEIGHTS else min(LARGEST, packed)
        if member.flag_bits & 1:
            raise ModelFileError(f"{path}: {member.filename} is encrypted; model files are not")
        if member.compress_type not in METHODS:
            raise ModelFileError(
                f"{path}: {member.filename} is compressed by the method {member.compress_type}, which is not deflate"
            )
        if member.file_size > largest:
            raise ModelFileError(
                f"{path}: {member.filename} claims {member.file_size} bytes, packed into {member.compress_size}; at "
                f"most {largest} are plausible"
            )
        # To the end, where the checksum is compared: Keras jumps through the file, and compares none.
        with archive.open(member) as stream:
            while stream.read(_CHUNK):
                pass


def _member(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def _without_compilation(configuration: Any) -> Any:
    """A configuration less the part that is not read: what the model was compiled with."""
    if not isinstance(configuration, dict):
        raise ValueError("the configuration is not a JSON object")
    return {key: value for key, value in configuration.items() if key != "compile_config"}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
