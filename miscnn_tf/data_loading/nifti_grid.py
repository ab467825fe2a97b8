"""Voxel grid of a NIfTI header: qform, sform, voxel sizes and units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf.data_loading import geometry
from miscnn_tf.errors import DataError

#: Bits of ``xyzt_units`` for the unit of length; the others are for that of time.
LENGTH_BITS = 7
#: NIfTI's code of millimetres.
MILLIMETRES = 2
_IN_MILLIMETRES = {0: 1.0, 1: 1000.0, MILLIMETRES: 1.0, 3: 0.001}
_LAST_FORM_CODE = 5
# Quaternions with norms of up to 1.001 were rounded to three decimals; niftilib and ITK scale any norm to 1.
_QUATERNION_ROUNDING = 1e-3


@dataclass(frozen=True)
class NiftiGrid:
    """Voxel grid in millimetres.

    Attributes:
        affine: 4x4, voxel to millimetres.
        spacing: Voxel size of the three spatial axes, mm.
        qform: 4x4 of the qform where it differs from `affine`, else None.
        qform_code: NIfTI code of the qform, 0 if it is missing or unusable.
        sform_code: NIfTI code of the sform, 0 if there is none.
        xyzt_units: NIfTI code of the units in the file.
    """

    affine: np.ndarray
    spacing: np.ndarray
    qform: np.ndarray | None
    qform_code: int
    sform_code: int
    xyzt_units: int


def in_millimetres(xyzt_units: int) -> float | None:
    """Return the length in millimetres of the unit in a header, None for a code that NIfTI does not define.

    Headers without a unit are assumed to be in millimetres.

    Example:
        >>> in_millimetres(3), in_millimetres(2 + 8), in_millimetres(7)
        (0.001, 1.0, None)
    """
    return _IN_MILLIMETRES.get(int(xyzt_units) & LENGTH_BITS)


def read_grid(header: Any, stored: Any, shape: Sequence[int], path: Path) -> NiftiGrid:
    """Derive the grid from a header: from the sform, else the qform, else the voxel sizes alone, like nibabel.

    Args:
        header: nibabel's header after its repairs.
        stored: The header before repairs, which hide faults that readers treat differently.
        shape: Shape of the image.
        path: The file, for messages.

    Raises:
        DataError: If the form that gives the affine cannot be used, or the unit is not defined.
    """
    units = int(stored["xyzt_units"])
    millimetres = in_millimetres(units)
    if millimetres is None:
        raise DataError(
            f"{path}: the header's xyzt_units is {units}, whose unit of length {units & LENGTH_BITS} is not defined in "
            "NIfTI; set it to 2 (millimetres), 1 (metres) or 3 (microns)"
        )
    sform, sform_fault = _sform(header, stored)
    qform, qform_fault = _qform(header, stored)
    if sform_fault:
        other = f", nor can the qform: {qform_fault}" if qform_fault else ""
        advice = "set sform_code to 0 if the qform is correct" if qform is not None else "correct the sform or qform"
        raise DataError(f"{path}: the sform, which gives the affine, cannot be used: {sform_fault}{other}; {advice}")
    if sform is None and qform_fault:
        raise DataError(
            f"{path}: the qform, which gives the affine, cannot be used: {qform_fault}; correct the sform or qform"
        )
    affine = next((form for form in (sform, qform) if form is not None), None)
    if affine is None:
        affine = np.asarray(header.get_base_affine(), dtype=np.float64)
        fault = _size_fault(stored, min(len(shape), 3)) or _matrix_fault(affine)
        if fault:
            raise DataError(f"{path}: neither sform nor qform is set, and {fault}; set a valid sform or qform")
    scale = np.diag([millimetres] * 3 + [1.0])
    affine = scale @ affine
    other_form = None if qform is None or sform is None else scale @ qform
    spatial = (*shape, 1, 1)[:3]
    if other_form is not None and not geometry.grid_difference(spatial, affine, spatial, other_form, tolerance=1e-3):
        other_form = None
    return NiftiGrid(
        affine=affine,
        spacing=_spacing(header, affine, millimetres),
        qform=other_form,
        qform_code=0 if qform is None else int(stored["qform_code"]),
        sform_code=0 if sform is None else int(stored["sform_code"]),
        xyzt_units=units,
    )


def _sform(header: Any, stored: Any) -> tuple[np.ndarray | None, str | None]:
    """Return the sform, or its fault; neither if it is not set."""
    code = int(stored["sform_code"])
    if code <= 0:
        return None, None
    if code > _LAST_FORM_CODE:
        return None, f"sform_code is {code}, but NIfTI defines 0 to {_LAST_FORM_CODE}"
    matrix = np.asarray(header.get_sform(), dtype=np.float64)
    fault = _matrix_fault(matrix)
    return (None, fault) if fault else (matrix, None)


def _qform(header: Any, stored: Any) -> tuple[np.ndarray | None, str | None]:
    """Return the qform, or its fault; neither if it is not set."""
    code = int(stored["qform_code"])
    if code <= 0:
        return None, None
    if code > _LAST_FORM_CODE:
        return None, f"qform_code is {code}, but NIfTI defines 0 to {_LAST_FORM_CODE}"
    qfac = float(stored["pixdim"][0])
    if qfac < 0 and qfac != -1:
        # nibabel reads it as 1, niftilib and ITK as -1.
        return None, f"pixdim[0] (qfac) is {qfac:g}, but 1 or -1 is needed"
    fault = _size_fault(stored, 3)
    if fault:
        return None, fault
    quaternion = np.array([float(header[f"quatern_{letter}"]) for letter in "bcd"])
    norm = float(np.linalg.norm(quaternion))
    if not norm <= 1 + _QUATERNION_ROUNDING:
        return None, f"quatern_b, quatern_c and quatern_d have the norm {norm:.9g}, but at most 1 is possible"
    if norm > 1:
        header = header.copy()
        for letter, value in zip("bcd", quaternion / norm, strict=True):
            header[f"quatern_{letter}"] = value
    matrix = np.asarray(header.get_qform(), dtype=np.float64)
    fault = _matrix_fault(matrix)
    return (None, fault) if fault else (matrix, None)


def _size_fault(stored: Any, axes: int) -> str | None:
    """Return the fault of the voxel sizes, if any; readers interpret negative ones differently."""
    for axis in range(1, axes + 1):
        size = float(stored["pixdim"][axis])
        if not 0 <= size < np.inf:
            return f"pixdim[{axis}] is {size:g}, but a voxel size is positive and finite"
    return None


def _matrix_fault(matrix: np.ndarray) -> str | None:
    if geometry.is_usable(matrix):
        return None
    return f"the affine {matrix[:3].tolist()} is not finite or spans no volume"


def _spacing(header: Any, affine: np.ndarray, millimetres: float) -> np.ndarray:
    """Return the voxel sizes of the header, or those of the affine if they contradict it."""
    from_affine = geometry.spacing_of(affine)
    zooms = [float(zoom) * millimetres for zoom in header.get_zooms()[:3]]
    zooms += from_affine.tolist()[len(zooms) :]
    spacing = geometry.exact_spacing(zooms)
    agree = np.isfinite(spacing).all() and np.allclose(spacing, from_affine, rtol=1e-3)
    return spacing if agree else from_affine
