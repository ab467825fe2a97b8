"""Volumes of all file formats: one function each to read a header, check a size, read and write.

To add a format, write a module with a `VolumeFormat` in `_volumes`, and list it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading.file_names import ENDINGS, find_file, without_ending
from miscnn_tf.data_loading.formats import nifti_reader
from miscnn_tf.data_loading.formats._volumes import arrays, metaimage, mgh, nifti_pair, nrrd, tiff_stack
from miscnn_tf.data_loading.formats._volumes.volume_format import VolumeFormat
from miscnn_tf.data_loading.formats.nifti_writer import write_nifti
from miscnn_tf.data_loading.formats.volume_info import VolumeInfo
from miscnn_tf.errors import ConfigurationError

_NIFTI: Final = VolumeFormat("NIfTI", ENDINGS, ENDINGS[0], nifti_reader.read_info, write_nifti)

#: All formats; NIfTI is the usual one.
FORMATS: Final = (
    _NIFTI,
    nrrd.FORMAT,
    metaimage.FORMAT,
    mgh.FORMAT,
    nifti_pair.FORMAT,
    arrays.ARRAY,
    arrays.ARCHIVE,
    tiff_stack.FORMAT,
)

#: Endings of files that always are volumes (or slices of volumes), the usual one first. TIFF files may be either.
VOLUME_ENDINGS: Final = tuple(ending for one in FORMATS if one.recognises is None for ending in one.endings)

_SOMETIMES: Final = tuple(ending for one in FORMATS if one.recognises is not None for ending in one.endings)
#: Endings of all files that may be volumes.
ALL_ENDINGS: Final = (*VOLUME_ENDINGS, *_SOMETIMES)
#: Endings of the files that are written.
WRITTEN: Final = tuple(ending for one in FORMATS for ending in one.endings if ending not in one.headers)


def format_of(path: str | Path) -> VolumeFormat:
    """Return the format of a file by its ending; files with an unknown ending are read as NIfTI.

    Example:
        >>> format_of("scan.nrrd").name, format_of("scan.nii.gz").written
        ('NRRD', '.nii.gz')
    """
    name = Path(path).name
    return next((one for one in FORMATS if without_ending(name, one.endings) is not None), _NIFTI)


def is_volume(path: str | Path) -> bool:
    """Return True if a file is read as a volume, by its ending; TIFF files by their number of pages."""
    path = Path(path)
    if without_ending(path.name, VOLUME_ENDINGS) is not None:
        return True
    return any(
        one.recognises(path)
        for one in FORMATS
        if one.recognises is not None and path.name.lower().endswith(one.endings)
    )


def find_volume(stem: Path, *, any_case: bool = False) -> Path | None:
    """Find the volume ``<stem>.nii.gz``, ``<stem>.nrrd``, … of any format; None if there is none.

    If there are several, the first of `VOLUME_ENDINGS` is used, with a warning (`file_names.find_file`).

    Args:
        stem: The path without the ending.
        any_case: Whether the name before the ending is also compared case-insensitively.
    """
    found = find_file(stem.parent, stem.name, VOLUME_ENDINGS, any_case=any_case)
    if found is None:
        found = find_file(stem.parent, stem.name, _SOMETIMES, any_case=any_case)
        return found if found is not None and is_volume(found) else None
    return found


def volume_stem(path: Path) -> str | None:
    """Return the name of a volume without its ending; None if the file is not a volume."""
    stem = without_ending(path.name, ALL_ENDINGS)
    return stem if stem is not None and is_volume(path) else None


def prediction_ending(ending: str) -> str:
    """Return the ending of predictions of files with an ending, in the same format.

    Example:
        >>> prediction_ending(".mhd"), prediction_ending(".nii")
        ('.mha', '.nii.gz')
    """
    return format_of(f"x{ending}").written


def read_info(path: str | Path) -> VolumeInfo:
    """Read the header of a volume.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is not of the format that its ending names, or is damaged.
    """
    return format_of(path).read_info(Path(path))


def check_size(info: VolumeInfo) -> None:
    """Check that a file holds as much data as its header declares.

    Raises:
        DataError: If it does not.
    """
    info.check()


def read_voxels(info: VolumeInfo) -> np.ndarray:
    """Read the voxels into an array of ``info.shape`` and ``info.dtype``, in Fortran order.

    Raises:
        DataError: If the file is truncated, damaged, or smaller than its header claims.
    """
    return info.read()


def write_volume(path: str | Path, array: np.ndarray, facts: Mapping[str, Any]) -> None:
    """Write an array in the format of the ending, atomically, in the geometry of an image.

    Args:
        path: The file.
        array: ``(x, y[, z[, channels]])``, integers or floating (stored as float32).
        facts: The return value of `VolumeInfo.geometry`, also of another format.

    Raises:
        ConfigurationError: If the format is not written under this ending.
        StorageError: If the file cannot be written.
    """
    path = Path(path)
    one = format_of(path)
    if without_ending(path.name, WRITTEN) is None:
        raise ConfigurationError(
            f"{path}: files with this ending are not written; name the output {one.written}, or one of "
            f"{some_of(WRITTEN, 20)}"
        )
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    one.write(path, array, facts)


def files_of(path: Path) -> list[Path]:
    """Return a volume's file, and the data file that its header names.

    Raises:
        DataError: If the header cannot be read.
    """
    if not path.name.lower().endswith(format_of(path).headers):
        return [path]
    return list(read_info(path).files)
