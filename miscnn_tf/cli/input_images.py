"""Inputs of ``miscnn-tf predict MODEL IN``: a file, a DICOM series, a folder of files, a data set."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from miscnn_tf._base.configuration import get_config
from miscnn_tf._base.messages import plural
from miscnn_tf.cli.data_set import enter_data_folder
from miscnn_tf.data_loading.dicom.recognition import is_dicom
from miscnn_tf.data_loading.file_names import ending_of, stem_of
from miscnn_tf.data_loading.formats.volumes import VOLUME_ENDINGS, is_volume
from miscnn_tf.data_loading.interfaces import get_data_interface_from_file_term, miscnn_data_interfaces
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.interfaces.description import label_values_of, regions_of, set_regions
from miscnn_tf.data_loading.interfaces.nifti_io import image_files
from miscnn_tf.data_loading.interfaces.paired_io import is_flat
from miscnn_tf.data_loading.label_values import label_map_of
from miscnn_tf.data_loading.layout_detection import find_interface
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError

logger = logging.getLogger(__name__)

#: nnU-Net's names of files with one channel each.
_CHANNEL: Final = re.compile(rf"(.+)_(\d{{4}})({'|'.join(map(re.escape, VOLUME_ENDINGS))})", re.IGNORECASE)


@dataclass(frozen=True)
class ImageSource:
    """An image to segment.

    Attributes:
        name: Name of its prediction.
        paths: Its file, its folder, or a file per channel.
    """

    name: str
    paths: tuple[Path, ...]

    @property
    def source(self) -> Path | list[Path]:
        """Argument of ``predict_file``."""
        return self.paths[0] if len(self.paths) == 1 else list(self.paths)

    @property
    def files(self) -> tuple[Path, ...]:
        """The image files; for a folder, the volumes of a sample."""
        return tuple(file for path in self.paths for file in (image_files(path) if path.is_dir() else (path,)))

    @property
    def is_volume(self) -> bool:
        """True for volumes, and a folder with them."""
        return is_volume(self.files[0])

    @property
    def is_dicom(self) -> bool:
        """True for a DICOM file, and a folder with a DICOM series."""
        first = self.paths[0]
        try:
            return _holds_dicom(first) if first.is_dir() else is_dicom(first)
        except DataError:  # reported for this image alone, when it is read
            return False


def find_images(path: str | Path, channels: int, trained: Abstract_IO | None = None) -> list[ImageSource] | None:
    """Return the images of a path; None for a folder that is a data set.

    Args:
        path: A file; or a folder with a DICOM series, with the files of one sample, or with a file (or one per channel)
            for each image.
        channels: Number of channels of an image.
        trained: The interface of the training, whose layout the folder of one sample may have.

    Raises:
        MissingDataError: If the path does not exist.
        DataError: If the number of files per image is not that of the channels.
    """
    path = Path(path)
    if not path.exists():
        raise MissingDataError(f"the image {path} does not exist; give a file or a folder")
    if not path.is_dir():
        return [ImageSource(stem_of(path), (path,))]
    if image_files(path) or _holds_dicom(path):
        return [ImageSource(path.resolve().name, (path,))]
    of_sample = {} if trained is None else trained.images_of_folder(Path(os.path.abspath(path)))
    if of_sample:
        return [ImageSource(name, images) for name, images in of_sample.items()]
    # Pipes are included, so that reading them raises an error instead of skipping an image.
    files = sorted(
        one for one in path.iterdir() if not one.is_dir() and not one.name.startswith(".") and _is_image(one)
    )
    if not files or is_flat(path):  # with masks beside the images
        return None
    return _with_channels(files, channels)


def data_set_interface(path: str | Path, trained: Abstract_IO, data: Mapping[str, Any] | None = None) -> Abstract_IO:
    """Return the interface for a data set: that of the training if it finds samples, otherwise a detected one.

    Args:
        path: The folder.
        trained: The interface that the model was trained with.
        data: Keys of ``[data]`` that override what is detected: "layout", "pattern" and "settings".

    Raises:
        DataError: If the layout of the folder is unknown, or its images do not fit the model.
    """
    given = dict(data or {})
    layout, settings = given.pop("layout", None), {**given.pop("settings", {}), **given}
    if layout in (None, miscnn_data_interfaces.name_of(type(trained))):
        try:
            own = _of_all_samples(trained, settings)
            if own is not None:
                own.initialize(str(path))
                return _of_all_samples(trained, settings) or own
        except (DataError, ConfigurationError):
            pass  # another layout
    # Layouts may distinguish samples with and without segmentations; use all.
    values = label_values_of(trained)
    classes: dict[str, Any] = {"classes": trained.classes, "part": "all", **settings}
    fitting = {"channels": trained.channels, "three_dim": trained.three_dim}
    label_map = None if values is None else label_map_of(values)
    try:
        interface = find_interface(path, layout, label_map=label_map, **{**fitting, **classes})
    except (DataError, ConfigurationError) as error:
        _require_fit(path, layout, classes, fitting, error)
        raise
    if trained.class_names is not None:
        interface.class_names = trained.class_names
    return set_regions(interface, regions_of(trained))


def _require_fit(
    path: str | Path, layout: str | None, given: Mapping[str, Any], fitting: Mapping[str, Any], reason: Exception
) -> None:
    """Require that the data have the channels and the dimension of a training; else the data cannot be read at all."""
    try:
        found = find_interface(path, layout, **given)
    except (DataError, ConfigurationError) as error:
        logger.debug("%s cannot be read with any channels or dimension: %s", path, error)
        return
    held = {"channels": found.channels, "three_dim": found.three_dim}
    if held != fitting:
        texts = [
            f"{'3D' if one['three_dim'] else '2D'} images with {plural(one['channels'], 'channel')}"
            for one in (held, fitting)
        ]
        raise DataError(
            f"{path} holds {texts[0]}, but the model was trained on {texts[1]}; give images like those of the "
            "training, or another model"
        ) from reason


def data_set_folder(path: Path, trained: Abstract_IO, data: Mapping[str, Any] | None = None) -> Path:
    """Return the folder of a data set, and print it if it is not the given one but in it.

    Args:
        path: The given folder.
        trained: The interface that the model was trained with, whose layout is looked for first.
        data: Keys of ``[data]``, as for `data_set_interface`.

    Raises:
        DataError: If several folders in it have a known layout.
    """
    given = dict(data or {})
    layout, settings = given.pop("layout", None), {**given.pop("settings", {}), **given}
    own = miscnn_data_interfaces.name_of(type(trained))
    if layout in (None, own) and own is not None:
        try:
            reader = _of_all_samples(trained, settings)
            if reader is not None:
                reader.initialize(str(path))
                return path
        except (DataError, ConfigurationError) as error:
            logger.debug("%s: not in the layout of the training: %s", path, error)
        inner = enter_data_folder(str(path), own, {**settings, "part": "all"})
        if Path(inner) != path:
            return Path(inner)
    return Path(enter_data_folder(str(path), layout, {**settings, "part": "all"}))


def with_settings(interface: Abstract_IO, settings: Mapping[str, Any]) -> Abstract_IO:
    """Return a new interface with other arguments.

    Raises:
        ConfigurationError: If it does not have one of them.
    """
    changed = type(interface).from_settings({**get_config(interface), **settings})
    changed.class_names = interface.class_names
    return set_regions(changed, regions_of(interface))


def _of_all_samples(trained: Abstract_IO, settings: Mapping[str, Any]) -> Abstract_IO | None:
    """Return the interface of a training for all samples of a folder: with and without labels.

    Args:
        trained: The interface; its pattern is not used.
        settings: Arguments that differ.
    """
    if miscnn_data_interfaces.name_of(type(trained)) is None:
        return None
    taken = get_config(trained)
    own = {name: value for name, value in {"pattern": None, "part": "all"}.items() if name in taken}
    return with_settings(trained, {**own, **settings})


def _with_channels(files: list[Path], channels: int) -> list[ImageSource]:
    matches = [_CHANNEL.fullmatch(file.name) for file in files]
    # case_0000.nii.gz is a name of nnU-Net if all files have such names; case_12.nii.gz is not.
    if not all(matches) or (channels == 1 and any(match and match[2] != "0000" for match in matches)):
        return [ImageSource(stem_of(file), (file,)) for file in files]
    found: dict[str, list[Path]] = {}
    for match, file in zip(matches, files, strict=True):
        assert match is not None
        found.setdefault(match[1], []).append(file)
    for name, paths in found.items():
        if len(paths) != channels:
            raise DataError(
                f"{paths[0].parent}: {name} has {len(paths)} files, but the model needs {channels}, one per channel: "
                f"{name}_0000.nii.gz, …"
            )
    return [ImageSource(name, tuple(paths)) for name, paths in found.items()]


def _is_image(path: Path) -> bool:
    return get_data_interface_from_file_term(ending_of(path)) is not None


def _holds_dicom(folder: Path) -> bool:
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("."))
    first = next(files, None)
    return first is not None and is_dicom(first)
