"""Header of a NIfTI file, parsed by nibabel; fields that readers interpret differently are refused."""

from __future__ import annotations

import logging
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from miscnn_tf.data_loading.nifti_grid import NiftiGrid, read_grid
from miscnn_tf.data_loading.packed_file import first_bytes
from miscnn_tf.errors import DataError

# nibabel repairs and logs small faults (zero pixdim of a flat axis), which do not concern users.
_quiet = logging.getLogger(f"{__name__}.header")
_quiet.setLevel(logging.ERROR)

_HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
_MOST_AXES = 7


@dataclass(frozen=True)
class NiftiInfo:
    """Header of a NIfTI file, in millimetres.

    Attributes:
        path: The file.
        shape: Shape as stored, ``(x, y[, z[, channels]])``.
        stored_dtype: Type of the voxels in the file, with its byte order.
        offset: Position of the first voxel, bytes.
        slope: Factor of the stored values.
        inter: Offset that is added to them.
        grid: Voxel grid.
    """

    path: Path
    shape: tuple[int, ...]
    stored_dtype: np.dtype
    offset: int
    slope: float
    inter: float
    grid: NiftiGrid

    @property
    def affine(self) -> np.ndarray:
        """Matrix from voxels to millimetres, 4x4."""
        return self.grid.affine

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size of the three spatial axes, mm."""
        return self.grid.spacing

    @property
    def qform(self) -> np.ndarray | None:
        """Matrix of the qform, 4x4, if it differs from `affine`, else None."""
        return self.grid.qform

    @property
    def qform_code(self) -> int:
        """NIfTI code of the qform, 0 if it is missing or unusable."""
        return self.grid.qform_code

    @property
    def sform_code(self) -> int:
        """NIfTI code of the sform, 0 if it is missing."""
        return self.grid.sform_code

    @property
    def compressed(self) -> bool:
        """True if the file is gzipped."""
        return self.path.name.lower().endswith(".gz")

    @property
    def scaled(self) -> bool:
        """True if stored values and voxel values differ."""
        return (self.slope, self.inter) != (1.0, 0.0)

    @property
    def dtype(self) -> np.dtype:
        """Type of the array that `read_voxels` returns: the file's integer type, otherwise float32."""
        native = self.stored_dtype.newbyteorder("=")
        return np.dtype(np.float32) if self.scaled or native.kind == "f" else native

    @property
    def voxels(self) -> int:
        """Number of stored values, channels included."""
        return math.prod(self.shape)

    @property
    def claimed(self) -> int:
        """Size of the whole (unpacked) file according to the header, bytes."""
        return self.offset + self.voxels * self.stored_dtype.itemsize

    def geometry(self) -> dict[str, Any]:
        """Return the facts that `write_nifti` needs, as plain data and arrays."""
        facts: dict[str, Any] = {
            "affine": self.affine.copy(),
            "spacing": self.spacing.copy(),
            "qform_code": self.qform_code,
            "sform_code": self.sform_code,
            "xyzt_units": self.grid.xyzt_units,
        }
        if self.qform is not None:
            facts["qform"] = self.qform.copy()
        return facts


def read_info(path: str | Path) -> NiftiInfo:
    """Read the header of a NIfTI file (a few hundred bytes).

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is not a NIfTI file, or holds voxels that are not an image (RGB, complex numbers).
    """
    path = Path(path)
    stored = stored_header(path)
    header = stored.copy()
    try:
        header.check_fix(logger=_quiet)
        shape = tuple(int(size) for size in header.get_data_shape())
        dtype = header.get_data_dtype()
    except (HeaderDataError, WrapStructError, ValueError, KeyError) as error:
        raise DataError(f"{path}: the NIfTI header is damaged ({error}); export the file again") from error
    if dtype.kind not in "iuf":
        kind = "RGB colours" if dtype.fields else "complex numbers" if dtype.kind == "c" else str(dtype)
        raise DataError(
            f"{path}: the voxels are {kind}, but one number per voxel is needed; save colours as channels in the "
            "fourth axis"
        )
    if not shape or min(shape) < 1:
        raise DataError(
            f"{path}: the shape in the header is {shape}, but each axis needs at least one voxel; export the file again"
        )
    slope, inter = _scaling(stored, path)
    return NiftiInfo(
        path=path,
        shape=_without_empty_axes(shape),
        stored_dtype=dtype,
        offset=int(stored["vox_offset"]),
        slope=slope,
        inter=inter,
        grid=read_grid(header, stored, shape, path),
    )


def stored_header(path: Path) -> Any:
    """Read the header of a file without repairs, after checking that nibabel can interpret its fields.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If the file does not begin with the header of a NIfTI file.
    """
    start = first_bytes(path, max(_HEADERS))
    order = next(
        (each for each in "<>" if len(start) >= 4 and struct.unpack(f"{each}i", start[:4])[0] in _HEADERS), None
    )
    if order is None:
        raise DataError(f"{path}: not a NIfTI file (it does not begin with a NIfTI header); export it again")
    size = struct.unpack(f"{order}i", start[:4])[0]
    if len(start) < size:
        raise DataError(
            f"{path}: the file ends within its header ({len(start)} of {size} bytes); copy or export it again"
        )
    if (start[344:347] if size == 348 else start[4:7]) in (b"ni1", b"ni2"):
        raise DataError(f"{path}: this is the header of an .hdr/.img pair; convert the pair to one .nii.gz file")
    header = _HEADERS[size](start[:size], endianness=order, check=False)
    axes = int(header["dim"][0])
    if not 1 <= axes <= _MOST_AXES:
        raise DataError(
            f"{path}: the NIfTI header is damaged (dim[0], the number of axes of the shape, is {axes}, not 1 to "
            f"{_MOST_AXES}); export the file again"
        )
    offset, least = float(header["vox_offset"]), header.single_vox_offset
    if not (math.isfinite(offset) and offset.is_integer() and offset >= least):
        # Including 0, for which nibabel reads from byte 0, niftilib and ITK from byte 348.
        raise DataError(
            f"{path}: vox_offset, the position of the voxels, is {offset:.9g}, but must be a whole number of at least "
            f"{least}; export the file again"
        )
    return header


def _scaling(header: Any, path: Path) -> tuple[float, float]:
    """Return slope and intercept; a slope of 0, or of NaN as nibabel writes it, means unscaled."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(inter)):
        raise DataError(
            f"{path}: the NIfTI header is damaged (scl_slope {slope:g}, scl_inter {inter:g}; both must be finite); "
            "export the file again"
        )
    return slope, inter


def _without_empty_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Reduce to at most four axes: remove trailing axes of 1, and a time axis of 1 before a vector axis."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 4:
        shape = shape[:3] + tuple(size for size in shape[3:] if size > 1)
    return shape
