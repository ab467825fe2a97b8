"""Pairs of files ``.hdr`` and ``.img``: NIfTI, and Analyze 7.5 without directions."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from miscnn_tf.data_loading.file_names import ENDINGS, find_file
from miscnn_tf.data_loading.formats._volumes.volume_format import VolumeFormat, lps_grid
from miscnn_tf.data_loading.formats.nifti_reader import (
    check_axes_field,
    check_type_and_shape,
    header_start,
    info_of,
    without_empty_axes,
)
from miscnn_tf.data_loading.formats.nifti_writer import write_nifti
from miscnn_tf.data_loading.formats.voxel_file import VoxelFile
from miscnn_tf.errors import DataError, MissingDataError, RepeatedWarning

_PAIRS = {348: nibabel.nifti1.Nifti1PairHeader, 540: nibabel.nifti2.Nifti2PairHeader}
_MAGIC = {348: (slice(344, 347), b"ni1"), 540: (slice(4, 7), b"ni2")}


def read_info(path: Path) -> VoxelFile:
    """Read the header of a pair.

    Raises:
        MissingDataError: If one of the two files does not exist.
        DataError: If the header is damaged, or of a kind that is not read.

    Warns:
        RepeatedWarning: If it is an Analyze header, which does not store directions.
    """
    size, order, start = header_start(path)
    data_path = find_file(path.parent, path.name[: -len(".hdr")], (".img",))
    if data_path is None:
        raise MissingDataError(f"{path}: the data file {path.stem}.img does not exist; copy it beside the header")
    place, magic = _MAGIC[size]
    if start[place] == magic:
        header = _PAIRS[size](start[:size], endianness=order, check=False)
        check_axes_field(header, path)
        _check_offset(header, path)
        return info_of(header, path, data_path)
    if size != 348 or start[place] == b"n+1":
        raise DataError(f"{path}: not the header of a pair of files; rename it to .nii, or export it again")
    return _analyze(start, order, path, data_path)


FORMAT: Final[VolumeFormat] = VolumeFormat(
    "NIfTI or Analyze pair", (".hdr",), ENDINGS[0], read_info, write_nifti, headers=(".hdr",)
)


def _check_offset(header: Any, path: Path) -> None:
    offset = float(header["vox_offset"])
    if not (math.isfinite(offset) and offset.is_integer() and offset >= 0):
        raise DataError(
            f"{path}: vox_offset, the position of the voxels, is {offset:.9g}, but must be a whole number of at least "
            "0; export the file again"
        )


def _analyze(start: bytes, order: str, path: Path, data_path: Path) -> VoxelFile:
    """Return the facts of an Analyze header; its directions are those that ITK assumes."""
    stored = nibabel.AnalyzeHeader(start[:348], endianness=order, check=False)
    check_axes_field(stored, path)
    _check_offset(stored, path)
    try:
        shape = tuple(int(size) for size in stored.get_data_shape())
        dtype = stored.get_data_dtype()
    except (HeaderDataError, WrapStructError, ValueError, KeyError) as error:
        raise DataError(f"{path}: the Analyze header is damaged ({error}); export the file again") from error
    check_type_and_shape(dtype, shape, path)
    if path.with_suffix(".mat").exists():
        raise DataError(
            f"{path}: {path.stem}.mat holds the directions of this Analyze file, which are not read; convert the file "
            "to .nii.gz with SPM or nibabel"
        )
    sizes = [float(size) for size in stored["pixdim"][1 : 1 + min(len(shape), 3)]]
    warnings.warn(
        RepeatedWarning(
            f"{path}: Analyze files do not store which side is left; the axes are read as left, posterior, superior, "
            "as in ITK and 3D Slicer. Check the sides, and convert the files to .nii.gz",
            key="directions of Analyze files",
        ),
        stacklevel=2,
    )
    grid = lps_grid(np.diag([*sizes, 1.0, 1.0][:3]), [0.0] * 3, path, "pixdim")
    return VoxelFile(
        path, without_empty_axes(shape), grid, dtype, int(stored["vox_offset"]), data_path=data_path, packing="raw"
    )
