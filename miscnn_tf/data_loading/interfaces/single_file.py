"""Choice of the interface that reads or writes a single file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from miscnn_tf.data_loading.interfaces import DICOM_interface, Image_interface, get_data_interface_from_file_term
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.interfaces.description import label_values_of, with_label_values
from miscnn_tf.errors import ConfigurationError

logger = logging.getLogger(__name__)


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
    knows = first.is_dir() or interface.check_file_termination(ending)
    if knows and type(interface).read_file is not Abstract_IO.read_file:
        return interface
    found = get_data_interface_from_file_term(ending)
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
    return with_label_values(general, label_values_of(interface))


def require_ending(interface: Abstract_IO, path: str | Path) -> None:
    """Require that an interface writes files with this ending.

    Raises:
        ConfigurationError: If it does not.
    """
    ending = _ending(Path(path))
    # Interfaces that are not derived from Abstract_IO have only the older of the two methods.
    writes = getattr(interface, "writes_file_termination", interface.check_file_termination)
    if not writes(ending):
        raise ConfigurationError(
            f"output_path={str(path)!r}: {type(interface).__name__} writes no files that end in {ending!r}; give the "
            "result the ending of its image"
        )


def general_interface(cls: Any, channels: int, classes: int, three_dim: bool) -> Abstract_IO:
    """Build an interface of this package for images with these properties."""
    if issubclass(cls, Image_interface):
        return Image_interface(classes=classes, img_type="rgb" if channels == 3 else "grayscale")
    interface: Abstract_IO = cls(channels=channels, classes=classes, three_dim=three_dim)
    return interface


def _ending(path: Path) -> str:
    return "".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix
