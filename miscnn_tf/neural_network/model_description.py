"""Description in a model file: the settings besides the weights, read without TensorFlow and validated before use."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import h5py
from pydantic import BeforeValidator, Field, create_model

from miscnn_tf._base.configuration import build
from miscnn_tf._base.files import open_regular
from miscnn_tf._base.plain_limits import parse_json
from miscnn_tf._base.typed_data import Described, Document, require
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.interfaces import miscnn_data_interfaces
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.interfaces.description import (
    build_interface,
    general_interface,
    set_regions,
    with_label_values,
)
from miscnn_tf.data_loading.label_scheme import region_settings
from miscnn_tf.errors import (
    ConfigurationError,
    DataError,
    MissingDataError,
    MissingExtraError,
    ModelFileError,
    UnknownClassError,
)
from miscnn_tf.neural_network.hdf5_guard import check_hdf5
from miscnn_tf.processing.data_augmentation import SETTINGS as AUGMENTATION_SETTINGS
from miscnn_tf.processing.data_augmentation import SWITCHES, Data_Augmentation, augmentations
from miscnn_tf.processing.nnunet_augmentation import NnUNetAugmentation
from miscnn_tf.processing.patching.blending import MODES
from miscnn_tf.processing.patching.patch_plan import ANALYSES
from miscnn_tf.processing.preprocessor import SETTINGS, Preprocessor
from miscnn_tf.processing.subfunctions import subfunctions as known_subfunctions
from miscnn_tf.runs.previous_stage import PreviousStage

logger = logging.getLogger(__name__)

FORMAT: Final = 1
MEMBER: Final = "miscnn_tf.json"
HDF5: Final[tuple[str, ...]] = (".h5", ".hdf5")
#: Endings of model files.
ENDINGS: Final[tuple[str, ...]] = (".keras", *HDF5)
#: The key of an augmentation's class, if it is the user's own.
AUGMENTATION_CLASS: Final = "data_augmentation_class"
#: Settings that the constructor of Preprocessor takes; the others are set afterwards.
ARGUMENTS: Final = ("batch_size", "analysis", "patch_shape", "prepare_subfunctions", "seed")

#: Maximum bytes of a JSON member: 0.5 MB of compressed data can expand to 764 MB.
LARGEST: Final = 16 * 2**20
#: Allowed compression methods of members.
METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED: Final = 0x1
_ADVICE: Final = "write it again with dump()"

_Count = Annotated[int, Field(ge=0)]
_Positive = Annotated[int, Field(ge=1)]
# Switches that a program set to 1 or 0 were written as numbers.
_Flag = Annotated[bool, BeforeValidator(lambda value: bool(value) if type(value) is int and value in (0, 1) else value)]
_Range = Annotated[list[float], Field(min_length=2, max_length=2)]
_Serialised = str | dict[str, Any] | None


def _one_of(choices: Sequence[str]) -> Any:
    return Annotated[str, Field(pattern=f"^({'|'.join(choices)})$")]


def _augmentation_field(name: str) -> tuple[Any, None]:
    other = {
        "cycles": _Positive,
        "config_p_per_sample": Annotated[float, Field(ge=0, le=1)],
        "config_mirror_axes": list[_Count],
        "infaug_flip_list": list[_Positive],
        "cropping_patch_shape": list[_Positive] | None,
    }
    kind = other.get(name) or (_Range if isinstance(getattr(Data_Augmentation(), name), tuple) else _Flag)
    # Files of earlier versions lack newer settings.
    return kind, None


_FIELDS: Final[dict[str, Any]] = {name: _augmentation_field(name) for name in (*SWITCHES, *AUGMENTATION_SETTINGS)}
_Augmentation: Any = create_model("_Augmentation", __base__=Document, **_FIELDS)


class _Preprocessing(Document):
    batch_size: _Positive
    analysis: _one_of(ANALYSES)  # type: ignore[valid-type]
    patch_shape: Annotated[list[_Positive], Field(min_length=2, max_length=3)] | None
    prepare_subfunctions: _Flag
    seed: _Count
    patchwise_overlap: list[Annotated[float, Field(ge=0)]] | Annotated[float, Field(ge=0)]
    patchwise_blending: _one_of(MODES)  # type: ignore[valid-type]
    patchwise_skip_blanks: _Flag
    patchwise_skip_class: _Count
    patchwise_foreground: Annotated[float, Field(ge=0, le=1)]
    subfunctions: list[Described]
    data_augmentation: _Augmentation | None
    data_augmentation_class: str | None = None
    previous_stage: str | None = None


class _Trainable(Document):
    layers: Annotated[str, Field(pattern="^[01]*$")]
    weights: Annotated[str, Field(pattern="^[01]*$")]


class _Description(Document):
    versions: dict[str, str] | None = None
    channels: _Positive
    classes: _Positive
    three_dim: _Flag
    interface: Described
    class_names: list[str] | None = None
    label_values: list[int] | None = None
    annotation_format: Literal["seg", "rtstruct"] | None = None
    regions: dict[str, list[_Positive]] | None = None
    regions_class_order: list[_Positive] | None = None
    architecture: Described
    divisor: _Positive | Annotated[list[_Positive], Field(min_length=2, max_length=3)]
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    optimizer: Described | None = None
    validation_batches: _Positive | None = None
    best_by: Literal["val_loss", "val_pooled_dice"] = "val_loss"
    trainable: _Trainable | None = None
    loss: _Serialised
    metrics: list[_Serialised]
    trained_on: dict[str, list[str | int]]
    precision: str
    jit_compile: _Flag | Literal["auto"] = "auto"
    epochs_trained: _Count = 0
    postprocessing: list[dict[str, Any]] | None = None  # its steps are checked by steps_of()
    model_card: dict[str, str] | None = None
    preprocessor: _Preprocessing


class NoSamples(Data_IO):
    """Data_IO without samples, for a loaded model that predicts given files."""

    def _find_samples(self) -> list[Hashable]:
        return []


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read the description in a model file: preprocessing, classes, versions.

    Raises:
        MissingDataError: If the file does not exist.
        ModelFileError: If it is damaged, or was not written by `Neural_Network.dump`; the message names each key with
            an invalid value.
    """
    path = existing(path)
    with reading(path):
        data = _hdf5_text(path) if path.suffix in HDF5 else _zip_text(path)
        metadata: dict[str, Any] = parse_json(data, f"the description in {path}", _ADVICE)
        if not isinstance(metadata, dict) or metadata.get("format") != FORMAT or metadata["format"] is True:
            raise ModelFileError(
                f"{path} has the format {metadata.get('format') if isinstance(metadata, dict) else None!r}, but this "
                f"version of miscnn_tf reads {FORMAT}; update miscnn_tf"
            )
        require(_Description, metadata, f"the description in {path}", _ADVICE, error=ModelFileError)
    return metadata


def interface_of(path: str | Path) -> Abstract_IO:
    """Return the interface that a model was trained with, without data.

    If its class is unknown, it is replaced by an interface of this package for such images.

    Raises:
        MissingDataError: If the file does not exist.
        ModelFileError: If it is damaged.
    """
    metadata = read_metadata(path)
    with reading(Path(path)):
        return make_interface(metadata, {})


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Convert errors of parsers and constructors for a damaged model file to one that names the file.

    Raises:
        ModelFileError: Instead of all errors except those that name a missing file, package or class.
    """
    try:
        yield
    except (ModelFileError, MissingDataError, MissingExtraError, UnknownClassError, MemoryError):
        raise
    except ConfigurationError as error:
        raise ModelFileError(f"{path} cannot be used: {error}") from error
    except DataError as error:
        raise ModelFileError(str(error)) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ModelFileError(f"{path} is not a model file, or is damaged ({reason}); {_ADVICE}") from error


def _zip_text(path: Path) -> bytes:
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        if MEMBER not in archive.namelist():
            raise _foreign(path)
        return _member(archive, MEMBER)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read a member with JSON, and verify its checksum."""
    info = archive.getinfo(name)
    if archive.namelist().count(name) > 1:
        raise ValueError(f"{name} occurs twice")
    if info.flag_bits & _ENCRYPTED:
        raise ValueError(f"{name} is encrypted")
    if info.compress_type not in METHODS:
        raise ValueError(f"{name} is compressed by the method {info.compress_type}, which is not deflate")
    with archive.open(info) as stream:
        # The size in the archive's directory may be wrong, so the data are limited.
        data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"{name} has more than {LARGEST // 2**20} MiB")
    return data


def _hdf5_text(path: Path) -> str | bytes:
    with h5py.File(path, "r") as file:
        check_hdf5(file, path.stat().st_size, path)
        if "miscnn_tf" not in file.attrs:
            raise _foreign(path)
        text = file.attrs["miscnn_tf"]
    if not isinstance(text, str | bytes) or len(text) > LARGEST:
        raise ValueError(f"its description is {type(text).__name__}, or has more than {LARGEST // 2**20} MiB")
    return text


def _foreign(path: Path) -> ModelFileError:
    return ModelFileError(
        f"{path} was not written by Neural_Network.dump and has no preprocessing settings. Build the Preprocessor and "
        "the Neural_Network yourself, and call its load() for the weights"
    )


def existing(path: str | Path) -> Path:
    """Return the path of a model file that exists and can be read.

    Raises:
        MissingDataError: If the file does not exist.
        ModelFileError: If it cannot be read, for example without permission.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"the model file {path} does not exist")
    with reading(path):
        open_regular(path).close()  # h5py and Keras report an unreadable file as damaged
    return path


# ---------------------------------------------------------------- building


def make_interface(metadata: Mapping[str, Any], own: Mapping[str, Any]) -> Abstract_IO:
    """Build the interface of a description, or one of this package for such images if its class is unknown.

    Args:
        metadata: The description, from `read_metadata`.
        own: Classes by name, in addition to registered ones.

    Raises:
        ConfigurationError: If the class does not take the stored settings, or the interface has other channels, classes
            or dimensions than the model.
    """
    names = metadata.get("class_names")
    channels, classes, three_dim = (metadata[name] for name in ("channels", "classes", "three_dim"))
    regions = region_settings(metadata)
    interface = build_interface(metadata["interface"], own, names, regions)
    if interface is None:
        name = "NIFTI" if three_dim or channels not in (1, 3) else "IMG"
        logger.info("the interface %r is unknown; files are read by %s", metadata["interface"]["class_name"], name)
        interface = general_interface(miscnn_data_interfaces[name], channels, classes, three_dim)
        interface = with_label_values(interface, metadata.get("label_values"))  # files of earlier versions lack it
        if names is not None:
            interface.class_names = tuple(names)
        set_regions(interface, regions)
    interface.annotation_format = metadata.get("annotation_format")  # files of earlier versions lack it
    for name in ("channels", "classes", "three_dim"):
        found = getattr(interface, name)
        if found is not None and found != metadata[name]:
            raise ConfigurationError(f"{name} is {metadata[name]!r}, but {found!r} in the interface's configuration")
    return interface


def make_preprocessor(
    settings: Mapping[str, Any],
    data_io: Data_IO,
    subfunctions: Sequence[Any] | None,
    own: Mapping[str, Any],
) -> Preprocessor:
    """Build the preprocessor of a description.

    Args:
        settings: ``read_metadata(…)["preprocessor"]``.
        data_io: The Data_IO of the samples.
        subfunctions: The steps, if the file could not store them; otherwise None.
        own: Classes by name, in addition to registered ones.

    Raises:
        UnknownClassError: If the class of a step is unknown, or its settings are not in the file.
        ConfigurationError: If the settings are invalid.
    """
    if subfunctions is None:
        known = {**known_subfunctions, **own}
        lost = [step["class_name"] for step in settings["subfunctions"] if step["config"] is None]
        if lost:
            raise UnknownClassError(
                f"the model file does not hold the settings of the subfunction {lost[0]!r}; pass "
                "subfunctions=[…] with all steps, as in training"
            )
        subfunctions = [build(step, known, "subfunction") for step in settings["subfunctions"]]
    preprocessor = Preprocessor(
        data_io,
        subfunctions=subfunctions,
        data_aug=_make_augmentation(settings, own),
        # Files of other networks lack it.
        previous_stage=PreviousStage(settings["previous_stage"]) if settings.get("previous_stage") else None,
        **{name: settings[name] for name in ARGUMENTS},
    )
    for name in set(SETTINGS) - set(ARGUMENTS):
        value = settings[name]
        setattr(preprocessor, name, tuple(value) if isinstance(value, list) else value)
    preprocessor.plan()  # finds an overlap that does not fit the patch
    return preprocessor


def _make_augmentation(settings: Mapping[str, Any], own: Mapping[str, Any]) -> Data_Augmentation | None:
    config, name = settings["data_augmentation"], settings.get(AUGMENTATION_CLASS)
    if config is None:
        return None
    known = {**augmentations, **own}
    if name is None or name in known:
        augmentation: Data_Augmentation = build(
            {"class_name": name or "Data_Augmentation", "config": config},
            {"Data_Augmentation": Data_Augmentation, "nnunet": NnUNetAugmentation, **known},
            "augmentation",
        )
        return augmentation
    logger.warning(
        "the augmentation %r is unknown, so further training would use Data_Augmentation; register its class with "
        "miscnn_tf.processing.data_augmentation.augmentations, or pass custom_objects={%r: …}",
        *(name, name),
    )
    inherited = Data_Augmentation().get_config()
    return Data_Augmentation.from_config({key: value for key, value in config.items() if key in inherited})
