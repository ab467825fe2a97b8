"""Interfaces as plain data, for model files and run records, and the choice of the interface for a single file."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf._base.configuration import build, get_config
from miscnn_tf.data_loading.formats.volumes import is_volume
from miscnn_tf.data_loading.interfaces import (
    DICOM_interface,
    Image_interface,
    NIFTI_interface,
    get_data_interface_from_file_term,
    miscnn_data_interfaces,
)
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.label_keys import IGNORE_TEXT, has_colours, is_ignored
from miscnn_tf.data_loading.label_scheme import scheme_of
from miscnn_tf.data_loading.label_values import are_class_numbers, label_map_of
from miscnn_tf.data_loading.labels import AxesError, check_axes, has_ignored
from miscnn_tf.errors import ConfigurationError

logger = logging.getLogger(__name__)


def describe_interface(interface: Abstract_IO) -> dict[str, Any]:
    """Describe an interface as ``{"class_name": …, "config": …}``.

    Args:
        interface: One of this package is named by its key in the registry, another one by its class name.

    Returns:
        Plain data; ``"config"`` is None if the interface cannot be rebuilt from it, because its data are in memory or
        its class does not store its arguments.

    Example:
        >>> from miscnn_tf.data_loading.interfaces import NIFTI_interface
        >>> describe_interface(NIFTI_interface(classes=3))["class_name"]
        'NIFTI'
    """
    name = miscnn_data_interfaces.name_of(type(interface)) or type(interface).__name__
    try:
        # In-memory data are not a setting.
        config = None if name == "DICT" else get_config(interface)
    except ConfigurationError as reason:
        logger.debug("the interface is described only by its dimensions: %s", reason)
        config = None
    if config is not None and has_ignored(config.get("label_map")):
        config["label_map"] = {
            value: IGNORE_TEXT if is_ignored(label) else label for value, label in config["label_map"].items()
        }
    return {"class_name": name, "config": config}


def build_interface(
    description: Mapping[str, Any],
    known: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    regions: Mapping[str, Any] | None = None,
) -> Abstract_IO | None:
    """Rebuild an interface from the return value of `describe_interface`, without its data (`Data_IO` initialises it).

    Args:
        description: The return value of `describe_interface`.
        known: Further classes by name, beside the registered ones.
        class_names: Names of its classes.
        regions: Its regions, see `LabelScheme.region_settings`.

    Returns:
        The interface; None if the description is not sufficient, or its class is unknown.

    Raises:
        ConfigurationError: If it is not a description, or the class does not take what was stored.
    """
    classes = {**miscnn_data_interfaces, **(known or {})}
    described = isinstance(description, Mapping) and isinstance(description.get("class_name"), str)
    if described and "config" in description:
        cls = classes.get(description["class_name"])
        if cls is None or description["config"] is None:
            return None
    interface: Abstract_IO = build(description, classes, "interface")
    if class_names is not None:
        if not isinstance(class_names, list | tuple) or not all(isinstance(name, str) for name in class_names):
            raise ConfigurationError(f"class_names={class_names!r}, but it must be a list of texts")
        interface.class_names = tuple(class_names)
    return set_regions(interface, regions or {})


def set_regions(interface: Abstract_IO, regions: Mapping[str, Any]) -> Abstract_IO:
    """Set the regions of an interface, see `LabelScheme.region_settings`, and return it."""
    if regions:
        interface.regions, interface.regions_class_order = regions["regions"], regions["regions_class_order"]
    return interface


def label_values_of(interface: object) -> list[int] | None:
    """Return the value of each class in predictions that an interface writes; None if they are class numbers.

    Example:
        >>> from miscnn_tf.data_loading.interfaces import NIFTI_interface
        >>> label_values_of(NIFTI_interface(label_map={255: 1})), label_values_of(NIFTI_interface())
        ([0, 255], None)
    """
    # Interfaces that are not derived from Abstract_IO may lack the method.
    ask = getattr(interface, "values_of_classes", None)
    values = None if ask is None else ask()
    return None if values is None or are_class_numbers(values) else [int(value) for value in values]


def with_label_values(interface: Abstract_IO, values: Sequence[int] | None) -> Abstract_IO:
    """Make an interface that replaces another one write and read predictions in the same values.

    Args:
        interface: An interface of this package without a label map.
        values: The return value of `label_values_of` for the other one.

    Raises:
        ConfigurationError: If they are not one whole number per class, all different.
    """
    if values is None:
        return interface
    whole = isinstance(values, list | tuple) and all(type(value) is int for value in values)
    if not whole or len(set(values)) != len(values) or len(values) != interface.classes:
        raise ConfigurationError(
            f"label_values={values!r} must be {interface.classes} different whole numbers, one per class"
        )
    cls, config = type(interface), get_config(interface)
    # Volumes cannot hold colours; they get class numbers.
    if "label_map" not in config or (has_colours(values) and not interface.writes_file_termination(".png")):
        return interface
    made: Abstract_IO = cls(**{**config, "label_map": label_map_of(values)})
    made.class_names = interface.class_names
    return set_regions(made, regions_of(interface))


def class_names_of(interface: object) -> list[str] | None:
    """Return the class names of an interface; None if it only numbers them."""
    # Interfaces that are not derived from Abstract_IO may lack the attribute.
    names = getattr(interface, "class_names", None)
    return None if names is None else [str(name) for name in names]


def annotation_format_of(interface: object) -> str | None:
    """Return the format of the DICOM annotations that an interface has read as label maps; None if it read none."""
    # Interfaces that are not derived from Abstract_IO may lack the attribute.
    return getattr(interface, "annotation_format", None)


def scored_names_of(interface: Abstract_IO) -> list[str] | None:
    """Return the names of the rows of scores: the background and the regions, or the classes; None without names."""
    names = class_names_of(interface)
    return list(scheme_of(interface).scored_names(names or ())) if regions_of(interface) else names


def regions_of(interface: object) -> dict[str, Any]:
    """Return the regions of an interface, see `LabelScheme.region_settings`."""
    # Interfaces that are not derived from Abstract_IO may lack the method.
    ask = getattr(interface, "label_scheme", None)
    return {} if ask is None else dict(ask().region_settings())


def interface_for(interface: Abstract_IO, path: str | Path | Sequence[str | Path]) -> Abstract_IO:
    """Return the given interface if it reads a file, otherwise an interface of this package for the file's ending.

    Args:
        interface: The interface of the model.
        path: The file or folder; a list of files if each holds a channel.

    Raises:
        ConfigurationError: If no interface reads such files.
    """
    parts = [path] if isinstance(path, str | Path) else list(path)
    if not parts:
        raise ConfigurationError("image_path is an empty list; pass a file, or one file per channel")
    first = Path(parts[0])
    ending = _ending(first)
    # TIFF files are images or volumes.
    found = NIFTI_interface if is_volume(first) else get_data_interface_from_file_term(ending)
    knows = first.is_dir() or interface.check_file_termination(ending) or found is type(interface)
    if knows and type(interface).read_file is not Abstract_IO.read_file:
        return interface
    if found is None:
        raise ConfigurationError(f"no interface reads {first}: its ending {ending!r} is not known")
    if (found is DICOM_interface) != isinstance(interface, DICOM_interface):
        logger.warning(
            "%s is read by %s, but the model was trained on what %s reads: the axes of DICOM volumes are (slice, row, "
            "column), and those of other files may differ; check the result",
            first,
            found.__name__,
            type(interface).__name__,
        )
    general = general_interface(found, interface.channels, interface.classes, interface.three_dim)
    general.class_names = class_names_of(interface)
    set_regions(general, regions_of(interface))
    return with_label_values(general, label_values_of(interface))


def read_for_model(
    interface: Abstract_IO, path: str | Path | Sequence[str | Path], channels: int, three_dim: bool
) -> tuple[np.ndarray, dict[str, Any]]:
    """Read an image that a model segments.

    Args:
        interface: The result of `interface_for`.
        path: As there.
        channels: Number of channels that the model was trained on.
        three_dim: Whether it was trained on volumes.

    Raises:
        DataError: If the image cannot be read, or has other channels or another dimension.
    """
    try:
        image, extended = interface.read_file(path)
        check_axes(np.shape(image), three_dim, channels, path if isinstance(path, str | Path) else Path(path[0]).parent)
    except AxesError as error:
        raise error.for_model(channels, three_dim) from error
    return image, extended


def general_interface(cls: Any, channels: int, classes: int, three_dim: bool) -> Abstract_IO:
    """Build an interface of this package for images with these properties."""
    if issubclass(cls, Image_interface):
        return Image_interface(classes=classes, img_type="rgb" if channels == 3 else "grayscale")
    interface: Abstract_IO = cls(channels=channels, classes=classes, three_dim=three_dim)
    return interface


def _ending(path: Path) -> str:
    return "".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix
