"""MGH files of FreeSurfer, ``.mgz`` and ``.mgh``; nibabel parses and writes the header."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from isal import igzip
from nibabel.freesurfer.mghformat import MGHError, MGHHeader, MGHImage
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from miscnn_tf._base.files import atomic_path, open_packed, read_up_to
from miscnn_tf.data_loading import geometry
from miscnn_tf.data_loading.formats._volumes.volume_format import LPS, VolumeFormat, lps_affine
from miscnn_tf.data_loading.formats.volume_info import VoxelGrid
from miscnn_tf.data_loading.formats.voxel_file import VoxelFile
from miscnn_tf.errors import ConfigurationError, DataError

_HEADER = 284
_VERSION = 1


def read_info(path: Path) -> VoxelFile:
    """Read the header of an MGH file.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is not an MGH file, or is damaged.
    """
    packing = "gzip" if path.name.lower().endswith(".mgz") else "raw"
    with open_packed(path, 0, packing) as stream:
        start = read_up_to(stream, _HEADER)
    if len(start) < _HEADER or int.from_bytes(start[:4], "big") != _VERSION:
        raise DataError(
            f"{path}: not an MGH file (it does not begin with its header of {_HEADER} bytes); copy or export it again"
        )
    try:
        # A message of nibabel about types that it may not know is followed by its error.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = MGHHeader(start, check=True)
            dtype = header.get_data_dtype()
            affine = np.asarray(header.get_affine(), dtype=np.float64)
            shape = tuple(int(size) for size in header["dims"])
    except (MGHError, HeaderDataError, WrapStructError, KeyError, ValueError) as error:
        raise DataError(f"{path}: the MGH header is damaged ({error}); export the file again") from error
    if min(shape) < 1:
        raise DataError(f"{path}: the shape in the header is {shape}, but each axis needs a voxel; export it again")
    if not geometry.is_usable(affine):
        raise DataError(f"{path}: the affine {affine[:3].tolist()} is not finite or spans no volume; export it again")
    shape = shape[:3] if shape[3] == 1 else shape
    return VoxelFile(path, shape, VoxelGrid.of(affine), dtype.newbyteorder(">"), _HEADER, packing=packing)


def write(path: Path, array: np.ndarray, facts: Mapping[str, Any]) -> None:
    """Write an array, atomically; see `VolumeFormat`."""
    if array.ndim == 2:
        array = array[:, :, np.newaxis]
    if array.dtype.kind in "iu" and array.dtype not in (np.uint8, np.int16, np.int32):
        if array.size and not -(2**31) <= array.min() <= array.max() < 2**31:
            raise ConfigurationError(f"{path}: MGH files hold 32-bit integers; use smaller values in label_map")
        array = array.astype(np.int32)
    image = MGHImage(array, LPS @ lps_affine(facts, 3))
    with atomic_path(path) as temporary, open(temporary, "wb") as raw:
        if not path.name.lower().endswith(".mgz"):
            image.to_stream(raw)
            return
        # Without name and time in the gzip header, the same labels give the same bytes.
        with igzip.IGzipFile(filename="", mode="wb", compresslevel=2, fileobj=raw, mtime=0) as packed:
            image.to_stream(packed)


FORMAT: Final[VolumeFormat] = VolumeFormat("MGH", (".mgz", ".mgh"), ".mgz", read_info, write)
