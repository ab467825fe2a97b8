"""What ``miscnn-tf predict MODEL IN`` may be given: a file, a DICOM series, a folder of files, a data set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from miscnn_tf.configuration import get_config
from miscnn_tf.data_loading.dicom.recognition import is_dicom
from miscnn_tf.data_loading.file_names import ending_of, is_nifti, stem_of
from miscnn_tf.data_loading.interfaces import get_data_interface_from_file_term, miscnn_data_interfaces
from miscnn_tf.data_loading.interfaces.abstract_io import Abstract_IO
from miscnn_tf.data_loading.interfaces.description import label_values_of
from miscnn_tf.data_loading.interfaces.nifti_io import image_files
from miscnn_tf.data_loading.interfaces.paired_io import is_flat
from miscnn_tf.data_loading.label_values import label_map_of
from miscnn_tf.data_loading.layouts import find_interface
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError

#: nnU-Net's names of files that hold a channel each.
_CHANNEL: Final = re.compile(r"(.+)_(\d{4})(\.nii(?:\.gz)?)", re.IGNORECASE)


@dataclass(frozen=True)
class ImageSource:
    """One image.

    Attributes:
        name: What its prediction is called.
        paths: Its file, its folder, or a file per channel.
    """

    name: str
    paths: tuple[Path, ...]

    @property
    def source(self) -> Path | list[Path]:
        """As ``predict_file`` takes it."""
        return self.paths[0] if len(self.paths) == 1 else list(self.paths)

    @property
    def files(self) -> tuple[Path, ...]:
        """The image files themselves; of a folder those of a sample in NIfTI files."""
        return tuple(file for path in self.paths for file in (image_files(path) if path.is_dir() else (path,)))

    @property
    def is_nifti(self) -> bool:
        """Whether it is, or is in, NIfTI files."""
        return is_nifti(self.paths[0]) or bool(image_files(self.paths[0]))

    @property
    def is_dicom(self) -> bool:
        """Whether it is a folder with a DICOM series, or a file of one."""
        first = self.paths[0]
        return _holds_dicom(first) if first.is_dir() else is_dicom(first)


def find_images(path: str | Path, channels: int) -> list[ImageSource] | None:
    """The images that a path names directly; None where it is a folder that has to be read as a data set.

    Args:
        path: A file; or a folder with a DICOM series, with the files of one sample, or with a file (or one per channel)
            for each image.
        channels: How many channels an image has.

    Raises:
        MissingDataError: If there is nothing there.
        DataError: If files of channels are missing.
    """
    path = Path(path)
    if not path.exists():
        raise MissingDataError(f"there is no image {path}; give a file or a folder")
    if not path.is_dir():
        return [ImageSource(stem_of(path), (path,))]
    if image_files(path) or _holds_dicom(path):
        return [ImageSource(path.resolve().name, (path,))]
    # Pipes among them: reading one reports it, where leaving it out would lose an image without a word.
    files = sorted(
        one for one in path.iterdir() if not one.is_dir() and not one.name.startswith(".") and _is_image(one)
    )
    if not files or is_flat(path):  # masks lie among the images
        return None
    return _with_channels(files, channels)


def data_set_interface(path: str | Path, trained: Abstract_IO) -> Abstract_IO:
    """The interface for a folder that is a data set: the one of the training where it finds samples, else what fits.

    Args:
        path: The folder.
        trained: The interface that the model was trained with.

    Raises:
        DataError: If the folder is laid out in no known way, or its images do not fit the model.
    """
    own = _of_all_samples(trained)
    if own is not None:
        try:
            own.initialize(str(path))
        except (DataError, ConfigurationError):
            pass  # it has another layout
        else:
            return _of_all_samples(trained) or own
    # Where a layout tells samples with segmentations from others, all are wanted.
    values = label_values_of(trained)
    return find_interface(
        path,
        channels=trained.channels,
        classes=trained.classes,
        three_dim=trained.three_dim,
        label_map=None if values is None else label_map_of(values),
        part="all",
    )


def _of_all_samples(trained: Abstract_IO) -> Abstract_IO | None:
    """The interface of a training, for whatever samples a folder has: without pattern, with and without labels."""
    if miscnn_data_interfaces.name_of(type(trained)) is None:
        return None
    config = get_config(trained)
    if "pattern" in config:
        config["pattern"] = None
    if "part" in config:
        config["part"] = "all"
    interface = type(trained)(**config)
    interface.class_names = trained.class_names
    return interface


def _with_channels(files: list[Path], channels: int) -> list[ImageSource]:
    matches = [_CHANNEL.fullmatch(file.name) for file in files]
    # case_0000.nii.gz is a name of nnU-Net's where all files have such one; case_12.nii.gz is none.
    if not all(matches) or (channels == 1 and any(match and match[2] != "0000" for match in matches)):
        return [ImageSource(stem_of(file), (file,)) for file in files]
    found: dict[str, list[Path]] = {}
    for match, file in zip(matches, files, strict=True):
        assert match is not None
        found.setdefault(match[1], []).append(file)
    for name, parts in found.items():
        if len(parts) != channels:
            raise DataError(
                f"{parts[0].parent}: {name} has {len(parts)} files, but the model needs {channels}, one per channel: "
                f"{name}_0000.nii.gz, …"
            )
    return [ImageSource(name, tuple(parts)) for name, parts in found.items()]


def _is_image(path: Path) -> bool:
    return get_data_interface_from_file_term(ending_of(path)) is not None


def _holds_dicom(folder: Path) -> bool:
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("."))
    first = next(files, None)
    return first is not None and is_dicom(first)
