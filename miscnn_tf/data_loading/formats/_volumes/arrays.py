"""Arrays of numpy: ``.npy``, and ``.npz`` with one array and, if known, the ``spacing``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from miscnn_tf._base.files import atomic_path
from miscnn_tf._base.plain_files import array_form, read_array, read_packed_arrays
from miscnn_tf.data_loading.formats._volumes.volume_format import VolumeFormat
from miscnn_tf.data_loading.formats.volume_info import VolumeInfo, VoxelGrid
from miscnn_tf.errors import DataError

_SPACING = "spacing"
_ADVICE = "copy or save it again"
_COLOURS = (3, 4)
_MOST_AXES = 4


@dataclass(frozen=True)
class ArrayInfo(VolumeInfo):
    """Header of an array.

    Attributes:
        stored_dtype: Its type in the file.
        member: Its name in an ``.npz`` file; None for ``.npy``.
    """

    stored_dtype: np.dtype
    member: str | None

    @property
    def dtype(self) -> np.dtype:
        """Type of the array that `read` returns: the file's integer type, uint8 for bool, otherwise float32."""
        if self.stored_dtype.kind == "b":
            return np.dtype(np.uint8)
        return np.dtype(np.float32) if self.stored_dtype.kind == "f" else self.stored_dtype.newbyteorder("=")

    def check(self) -> None:
        """Do nothing: the length of the file was compared with the header when that was read."""

    def read(self) -> np.ndarray:
        """Read the array, in Fortran order."""
        if self.member is None:
            array = read_array(self.path, _ADVICE)
        else:
            array = read_packed_arrays(self.path, _ADVICE, [self.member])[self.member]
        if array.shape != self.shape or array.dtype != self.stored_dtype:
            raise DataError(f"{self.path}: the file has changed while it was read; read it again")
        with np.errstate(over="ignore"):
            return np.asfortranarray(array.astype(self.dtype, copy=False))

    def form(self) -> tuple[int, bool]:
        """Return the number of channels, and whether it is a volume; (x, y, 3) and (x, y, 4) are colours."""
        return (self.shape[2], False) if self._in_colours else super().form()

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Number of voxels along three axes, without channels."""
        return (*self.shape[:2], 1) if self._in_colours else super().spatial_shape

    @property
    def _in_colours(self) -> bool:
        return len(self.shape) == 3 and self.shape[2] in _COLOURS


def read_info(path: Path) -> ArrayInfo:
    """Read the header of an array.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is damaged, holds objects of Python, or several arrays.
    """
    forms = array_form(path, _ADVICE)
    spacing = None
    if _SPACING in forms and len(forms) > 1:
        del forms[_SPACING]
        spacing = read_packed_arrays(path, _ADVICE, [_SPACING])[_SPACING].ravel()
        spacing = spacing.astype(np.float64) if spacing.dtype.kind in "iuf" else np.zeros(0)
    if len(forms) != 1:
        raise DataError(
            f"{path}: the file holds the arrays {', '.join(map(repr, forms)) or 'none'}, but an image or a label map "
            f"is one array, beside '{_SPACING}' at most; save each in a file"
        )
    ((member, (shape, dtype)),) = forms.items()
    if dtype.kind not in "biuf" or not 2 <= len(shape) <= _MOST_AXES or min(shape, default=0) < 1:
        raise DataError(
            f"{path}: the array is of {dtype} and shape {shape}, but numbers of shape (x, y[, z][, channels]) are "
            "needed"
        )
    if spacing is not None and not (len(spacing) in (2, 3) and np.isfinite(spacing).all() and (spacing > 0).all()):
        raise DataError(f"{path}: '{_SPACING}' is {spacing.tolist()}, but 2 or 3 voxel sizes in mm are needed")
    if spacing is not None:
        spacing = np.array([*spacing, 1.0][:3])
    return ArrayInfo(path, shape, VoxelGrid(None, spacing), dtype, member or None)


def write(path: Path, array: np.ndarray, facts: Mapping[str, Any]) -> None:
    """Write an array, atomically; see `VolumeFormat`."""
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".npy":
            np.save(temporary, array, allow_pickle=False)
            return
        arrays = {"data": array}
        if facts.get("spacing") is not None:
            arrays[_SPACING] = np.asarray(facts["spacing"])
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


ARRAY: Final[VolumeFormat] = VolumeFormat("numpy array", (".npy",), ".npy", read_info, write)
ARCHIVE: Final[VolumeFormat] = VolumeFormat("numpy archive", (".npz",), ".npz", read_info, write)
