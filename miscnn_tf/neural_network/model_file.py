"""Model files: the Keras model with a JSON description of everything else that prediction needs.

A ``.keras`` file is a zip archive, to which this package adds the member ``miscnn_tf.json`` with interface,
preprocessing, patches, classes and versions of the libraries. Keras can read the file, too. In ``.h5`` files the same
JSON is an attribute. The description contains no code, and classes that it names are not imported.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import platform
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import keras
import numpy as np
import tensorflow as tf

import miscnn_tf
from miscnn_tf.configuration import build, comparable, describe, get_config, plain
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import (
    DICOM_interface,
    get_data_interface_from_file_term,
)
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.interfaces.description import (
    class_names_of,
    describe_interface,
    label_values_of,
    with_label_values,
)
from miscnn_tf.data_loading.storage import atomic_path
from miscnn_tf.errors import ConfigurationError, ModelFileError
from miscnn_tf.neural_network import keras_file
from miscnn_tf.neural_network.architecture import architectures
from miscnn_tf.neural_network.architecture.abstract_architecture import Abstract_Architecture
from miscnn_tf.neural_network.fine_tuning import fitting_weights
from miscnn_tf.neural_network.model_description import (
    ARGUMENTS,
    AUGMENTATION_CLASS,
    FORMAT,
    HDF5,
    MEMBER,
    NoSamples,
    existing,
    general_interface,
    make_interface,
    make_preprocessor,
    read_metadata,
    reading,
)
from miscnn_tf.neural_network.optimizer import OptimizerRecipe
from miscnn_tf.neural_network.segmentation_model import SegmentationModel
from miscnn_tf.neural_network.trainable import TrainableSet
from miscnn_tf.processing.data_augmentation import Data_Augmentation, augmentations
from miscnn_tf.processing.preprocessor import SETTINGS
from miscnn_tf.processing.subfunctions import subfunctions as known_subfunctions
from miscnn_tf.registry import Registry

if TYPE_CHECKING:
    from miscnn_tf.neural_network.model import Neural_Network
    from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

logger = logging.getLogger(__name__)

#: Endings of model files.
ENDINGS = (".keras", *HDF5)

_WITHOUT_HEAD = "; load(path, head=False), or load_head = false in [network], reads all but the output layer"


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
        """A number that suits every spatial axis."""
        return self._divisor if isinstance(self._divisor, int) else math.lcm(*self._divisor)

    def divisors(self, n_axes: int) -> tuple[int, ...]:
        """What each spatial axis must be divisible by."""
        return (self._divisor,) * n_axes if isinstance(self._divisor, int) else self._divisor

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"config": self.config, "divisor": plain(self._divisor)}

    def create_model(self, input_shape: Sequence[int | None], n_labels: int = 2) -> keras.Model:
        """The model of the file, with initial weights."""
        model: keras.Model = SegmentationModel.from_config(dict(self.config))
        return model


# ---------------------------------------------------------------- writing


def write(network: Neural_Network, path: str | Path) -> None:
    """Write a model file, atomically.

    Raises:
        ConfigurationError: If the ending is none of ``.keras``, ``.h5``, ``.hdf5``.
        StorageError: If it cannot be written.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise ConfigurationError(f"the model file {path} must end in .keras (or .h5, .hdf5)")
    text = describe_network(network)
    with atomic_path(path) as temporary:
        if path.suffix == ".keras":
            network.model.save(temporary)
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.writestr(MEMBER, text)
        else:
            # Keras' HDF5 writer fails for a loss or metric without a configuration.
            describable = network.model.get_compile_config() is not None
            network.model.save(temporary, include_optimizer=describable)
            with h5py.File(temporary, "a") as file:
                file.attrs["miscnn_tf"] = text


def describe_network(network: Neural_Network) -> str:
    """All that a model file says besides the weights, as JSON."""
    preprocessor = network.preprocessor
    description = {
        "format": FORMAT,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "miscnn_tf": miscnn_tf.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "channels": network.channels,
        "classes": network.classes,
        "three_dim": network.three_dim,
        "interface": describe_interface(preprocessor.data_io.interface),
        "class_names": class_names_of(preprocessor.data_io.interface),
        # The value of each class in predictions; null where they are class numbers.
        "label_values": label_values_of(preprocessor.data_io.interface),
        "architecture": _describe_known(network.architecture, architectures),
        # A list where the axes differ.
        "divisor": list(network.divisors) if len(set(network.divisors)) > 1 else network.divisors[0],
        "learning_rate": network.learning_rate,
        # If missing: Adam, and no layer frozen by the user.
        **network.settings_beyond_defaults(),
        "loss": _serialised(network.loss),
        "metrics": [_serialised(metric) for metric in network.metrics],
        "trained_on": {
            kind: [index if isinstance(index, str | int) else str(index) for index in names]
            for kind, names in network.trained_on.items()
        },
        # What was asked for, usually "auto": the next machine may be another one.
        "precision": network.precision,
        "jit_compile": network.jit_compile,
        "epochs_trained": network.epochs_trained,
        "preprocessor": {
            **{name: plain(getattr(preprocessor, name)) for name in (*ARGUMENTS, *SETTINGS)},
            "subfunctions": [_describe_known(step, known_subfunctions) for step in preprocessor.subfunctions],
            **_describe_augmentation(preprocessor.data_augmentation),
        },
    }
    return json.dumps(description, indent=1)


def training_settings(network: Neural_Network) -> dict[str, Any]:
    """Return the settings, except seed, epochs and class weights, that determine the result of a training."""
    description = json.loads(describe_network(network))
    for name in ("format", "written", "versions", "epochs_trained", "jit_compile", "label_values"):
        del description[name]
    if network.start_digest is not None:
        description["start"] = network.start_digest
    del description["preprocessor"]["seed"]  # it is drawn anew by each program that does not give one
    description["loss"] = _with_partial(network.loss, description["loss"])
    description["metrics"] = list(map(_with_partial, network.metrics, description["metrics"]))
    return {**description.pop("preprocessor"), **description}


def _with_partial(function: Any, serialised: Any) -> Any:
    """What is compared of a loss or metric: the arguments of a partial, too, which a model file cannot hold."""
    return comparable(function) if isinstance(function, functools.partial) else serialised


def _serialised(function: Any) -> Any:
    """Return a loss or metric as JSON types; None if it has no name, such as a lambda."""
    if isinstance(function, str):
        return function
    if getattr(function, "__name__", None) == "<lambda>":
        return None
    try:
        serialised = keras.saving.serialize_keras_object(function)
        json.dumps(serialised)
    except Exception as reason:  # a custom object may raise any error, and a finished training must not be lost
        logger.warning("the model file will not hold %r: %s", function, reason)
        return None
    return serialised


def warn_of_unnamed(network: Neural_Network) -> None:
    """Log a warning for a loss or metrics that a model file cannot hold."""
    parts = {"the loss": network.loss, **{f"metric {place}": one for place, one in enumerate(network.metrics, 1)}}
    lambdas = [what for what, part in parts.items() if getattr(part, "__name__", None) == "<lambda>"]
    if lambdas:
        logger.warning(
            "%s: a lambda cannot be stored in a model file; model files are written without it. Define it with def, so "
            "that load_model() can restore it",
            ", ".join(lambdas),
        )


def _describe_augmentation(augmentation: Data_Augmentation | None) -> dict[str, Any]:
    """Return the settings of an augmentation, and the class if it is the user's own."""
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


def _describe_known(instance: object, registry: Registry[Any]) -> dict[str, Any]:
    """Describe an object; one that cannot be described does not keep a finished training from being saved."""
    name = registry.name_of(type(instance)) or type(instance).__name__
    try:
        return describe(instance, name)
    except ConfigurationError as reason:
        logger.warning("the model file will not hold the settings of %s: %s", name, reason)
        return {"class_name": name, "config": None}


# ---------------------------------------------------------------- reading


def load_model(
    path: str | Path,
    data_io: Data_IO | None = None,
    subfunctions: Sequence[Abstract_Subfunction] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
) -> Neural_Network:
    """Read a model file into a `Neural_Network` that predicts with the preprocessing it was trained with.

    Args:
        path: What `Neural_Network.dump` wrote.
        data_io: Samples to predict by name, or to train on; not needed for single files and arrays.
        subfunctions: The steps, where the file could not store them (it warned when it was written).
        custom_objects: Subfunctions, architectures and layers of your own by class name, where they are not registered.

    Returns:
        A network; `Neural_Network.predict_file`, `Neural_Network.predict_array`, and with a `data_io` everything else.

    Raises:
        MissingDataError: If there is no such file.
        ModelFileError: If it is damaged or from another program, or its description has a value that cannot be; each is
            named.
        UnknownClassError: (a ConfigurationError) If it needs a class that is not known here.

    Example:
        >>> model = miscnn_tf.load_model("model.keras")  # doctest: +SKIP
        >>> model.predict_file("scan.nii.gz", "seg.nii.gz")  # doctest: +SKIP
    """
    from miscnn_tf.neural_network.model import Neural_Network

    metadata = read_metadata(path)
    own = dict(custom_objects or {})
    with reading(Path(path)):
        if data_io is None:
            data_io = NoSamples(make_interface(metadata, own), "")
        preprocessor = make_preprocessor(metadata["preprocessor"], data_io, subfunctions, own)
        architecture = _build_architecture(metadata, own)
        if architecture is None:
            config = keras_file.read_model(Path(path), own).get_config()
            architecture = LoadedArchitecture(config, metadata["divisor"])
        with keras.saving.custom_object_scope(own):
            network = Neural_Network(
                preprocessor,
                architecture,
                learning_rate=metadata["learning_rate"],
                optimizer=_build_optimizer(metadata, own, path),
                precision=metadata["precision"],
                jit_compile=metadata.get("jit_compile", "auto"),  # files of earlier versions lack it
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
    return network


def read_into(
    network: Neural_Network, path: str | Path, custom_objects: Mapping[str, Any] | None = None, *, head: bool = True
) -> None:
    """Read the weights of a file into a network, and the optimizer's state if the optimizer is the same.

    Args:
        network: The network.
        path: The file.
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
        if not head and not keras_file.holds_weights_alone(path):
            model = keras_file.read_model(path, own)
            if len(model.input_shape) == len(network.model.input_shape):
                network.take_over(fitting_weights(network.model, model, path), epochs_trained=0)
                return
        if keras_file.holds_weights_alone(path) or _has_architecture_of(network, metadata):
            keras_file.load_weights(network.model, path)
            weights = network.model.get_weights()
        else:
            weights = _weights_of_model(network, path, own)
        network.take_over(weights, int(metadata.get("epochs_trained", 0)))
        if _has_settings_of(network, metadata):
            if path.suffix == ".keras":
                _restore_optimizer(network, path)
        else:
            logger.info("%s: the frozen layers or the optimizer differ; the optimizer's state is not read", path)


def _has_settings_of(network: Neural_Network, metadata: Mapping[str, Any]) -> bool:
    """Return True if a file has the state of this network's optimizer for the same trained layers."""
    if not metadata:
        return True
    as_built = network.trainable_as_built.describe()
    trained = metadata.get("trainable") or as_built
    optimizer = network.settings_beyond_defaults().get("optimizer")
    return trained == TrainableSet.of(network.model).describe() and metadata.get("optimizer") == optimizer


def _has_architecture_of(network: Neural_Network, metadata: Mapping[str, Any]) -> bool:
    """Return True if a file describes this network's architecture, so that only its weights must be read."""
    ours = _describe_known(network.architecture, architectures)
    input_output = (network.channels, network.classes, network.three_dim)
    return (
        ours["config"] is not None
        and metadata.get("architecture") == plain(ours)
        and tuple(metadata.get(name) for name in ("channels", "classes", "three_dim")) == input_output
    )


def _weights_of_model(network: Neural_Network, path: Path, own: Mapping[str, Any]) -> list[np.ndarray]:
    """Build the Keras model of a file and return its weights, after a check that they fit the network."""
    model = keras_file.read_model(path, own)
    have = (model.input_shape[-1], model.output_shape[-1], len(model.input_shape))
    need = (network.channels, network.classes, 5 if network.three_dim else 4)
    if have != need:
        raise ModelFileError(
            f"{path} holds a {have[2] - 2}D model with {have[0]} channel(s) and {have[1]} classes, but this network is "
            f"{need[2] - 2}D with {need[0]} channel(s) and {need[1]} classes"
            + (_WITHOUT_HEAD if have[2] == need[2] else "")
        )
    weights: list[np.ndarray] = model.get_weights()
    if [weight.shape for weight in weights] != [weight.shape for weight in network.initialization_weights]:
        raise ModelFileError(
            f"{path} holds another architecture than this network's; build the Neural_Network with the architecture "
            "of the file, or read all of it with miscnn_tf.load_model"
        )
    return weights


def _metadata_if_any(path: Path) -> dict[str, Any]:
    """Return the description of a file; empty if `Neural_Network.dump` did not write it."""
    try:
        return read_metadata(path)
    except ModelFileError as reason:
        logger.info("%s", reason)
        return {}


def interface_for(interface: Abstract_IO, path: str | Path | Sequence[str | Path]) -> Abstract_IO:
    """The interface that reads a file: the given one where it knows the ending, else ours for that ending.

    Raises:
        ConfigurationError: If no interface reads such files.
    """
    parts = [path] if isinstance(path, str | Path) else list(path)
    if not parts:
        raise ConfigurationError("image_path is an empty list; hand in a file, or one file per channel")
    first = Path(parts[0])
    ending = _ending(first)
    knows = first.is_dir() or interface.check_file_termination(ending)
    if knows and type(interface).read_file is not Abstract_IO.read_file:
        return interface
    found = get_data_interface_from_file_term(ending)
    if found is None:
        raise ConfigurationError(f"no interface reads {first}: its ending {ending!r} is not known")
    if (found is DICOM_interface) != isinstance(interface, DICOM_interface):
        logger.warning(
            "%s is read by %s, but the model was trained on what %s reads: the axes of DICOM volumes are (slice, row, "
            "column), and those of other files may run otherwise; check the result",
            first,
            found.__name__,
            type(interface).__name__,
        )
    general = general_interface(found, interface.channels, interface.classes, interface.three_dim)
    return with_label_values(general, label_values_of(interface))


def require_ending(interface: Abstract_IO, path: str | Path) -> None:
    """Refuse to write a file whose ending is not one of the interface's.

    Raises:
        ConfigurationError: If it is not.
    """
    ending = _ending(Path(path))
    # An interface that is not derived from ours has the older of the two methods.
    writes = getattr(interface, "writes_file_termination", interface.check_file_termination)
    if not writes(ending):
        raise ConfigurationError(
            f"output_path={str(path)!r}: {type(interface).__name__} writes no files that end in {ending!r}; name the "
            "result like the image it is made from"
        )


def _ending(path: Path) -> str:
    return "".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix


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
    except Exception as reason:  # Keras raises anything for a description that is none
        logger.warning("a loss or metric of the model file is not known here: %s", reason)
        return None


def _restore_optimizer(network: Neural_Network, path: Path) -> None:
    optimizer = network.model.optimizer
    optimizer.build(network.model.trainable_variables)
    with keras_file.opened_weights(path) as file:
        inner = getattr(optimizer, "inner_optimizer", None)
        group = file.get("optimizer/vars")
        if inner is not None and "optimizer/inner_optimizer/vars" in file:
            inner.load_own_variables(file["optimizer/inner_optimizer/vars"])
            group = None if group is None or len(group) != len(optimizer.variables) else group
            rate_of = inner
        elif inner is None and group is not None and len(group) == len(optimizer.variables):
            optimizer.load_own_variables(group)
            rate_of = optimizer
        else:
            logger.info("%s holds no state of this optimizer; training goes on with a fresh one", path)
            return
    rate_of.learning_rate = network.learning_rate
