"""Reader of NIfTI files: header, voxel grid and voxels.

nibabel parses headers; values that other readers interpret differently are rejected. nibabel is not used to read
voxels, because it allocates memory according to the header, which may be damaged, and converts volumes to float64.
"""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from miscnn_tf._base.files import file_size, first_bytes, open_regular, open_unpacked, size_in_trailer
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

# nibabel repairs and logs small faults (zero pixdim of a flat axis), which do not concern users.
_quiet = logging.getLogger(f"{__name__}.header")
_quiet.setLevel(logging.ERROR)

_HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
_MOST_AXES = 7

_CHUNK = 2**23
# Deflate compresses by at most 1032 to 1; larger claims are refused without reading the file.
_DEFLATE_LIMIT = 1040
_TRUSTED = 2**24
_SLACK = 2**16
_MOST_TRAILING = 2**28
_FLOAT64_BYTES = 8


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
            "qform_code": self.grid.qform_code,
            "sform_code": self.grid.sform_code,
            "xyzt_units": self.grid.xyzt_units,
        }
        if self.grid.qform is not None:
            facts["qform"] = self.grid.qform.copy()
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


def check_size(info: NiftiInfo) -> None:
    """Check that the file holds as much data as its header declares.

    The last bytes of compressed files hold their unpacked size; only if it does not match is the file unpacked, in
    pieces.

    Raises:
        DataError: If it does not.
    """
    _check_claim(info)
    if info.compressed and not _trailer_fits(info):
        with open_unpacked(info.path) as stream:
            _skip(stream, info, info.claimed)


def read_voxels(info: NiftiInfo) -> np.ndarray:
    """Read the voxels in one pass through the file, into an array of the final type.

    Memory grows with the data in the file, not with the size that the header declares.

    Returns:
        Array of ``info.shape`` and ``info.dtype``, in the file's (Fortran) order.

    Raises:
        DataError: If the file is truncated, damaged, or smaller than its header claims.
    """
    _check_claim(info)
    trusted = not info.compressed or _trailer_fits(info)
    flat = np.empty(info.voxels if trusted else min(info.voxels, _TRUSTED), info.dtype)
    direct = not info.scaled and info.dtype == info.stored_dtype
    piece = max(1, _CHUNK // (info.stored_dtype.itemsize if direct else _FLOAT64_BYTES))
    scratch = None if direct else np.empty(min(info.voxels, piece), info.stored_dtype)
    done = 0
    with open_unpacked(info.path) as stream:
        _skip(stream, info, info.offset)
        while done < info.voxels:
            if done == flat.size:
                flat = np.concatenate([flat, np.empty(min(flat.size, info.voxels - flat.size), info.dtype)])
            part = flat[done : done + piece]
            source = part if scratch is None else scratch[: part.size]
            _fill(stream, source, info, done)
            if scratch is not None:
                _convert(source, part, info)
            done += part.size
        if info.compressed:
            _read_to_end(stream, info)
    return flat.reshape(info.shape, order="F")


def map_voxels(info: NiftiInfo) -> np.ndarray:
    """Map the stored values of an uncompressed file, read-only, without scaling and in the file's byte order.

    Raises:
        DataError: If the file is smaller than its header claims.
    """
    check_size(info)
    with open_regular(info.path, 0) as raw:
        return np.memmap(raw, info.stored_dtype, "r", offset=info.offset, shape=info.shape, order="F")


def scaled_values(stored: np.ndarray, info: NiftiInfo) -> np.ndarray:
    """Convert a part of `map_voxels` to voxel values, in a new array of ``info.dtype``."""
    values = np.empty(stored.shape, info.dtype)
    _convert(stored, values, info)
    return values


def stored_bytes(info: NiftiInfo) -> Iterator[bytes]:
    """Yield the stored values as bytes, in pieces, as far as the file holds them."""
    with open_unpacked(info.path) as stream:
        _skip(stream, info, info.offset)
        left = info.claimed - info.offset
        while left and (part := stream.read(min(left, _CHUNK))):
            left -= len(part)
            yield part


def _check_claim(info: NiftiInfo) -> None:
    size = file_size(info.path)
    if info.compressed and info.claimed > size * _DEFLATE_LIMIT + _SLACK:
        raise _too_short(info, None)
    if not info.compressed and info.claimed > size:
        raise _too_short(info, size)


def _trailer_fits(info: NiftiInfo) -> bool:
    return size_in_trailer(info.path) == info.claimed % 2**32


def _skip(stream: BinaryIO, info: NiftiInfo, size: int) -> None:
    left = size
    while left:
        part = len(stream.read(min(left, _CHUNK)))
        if not part:
            raise _too_short(info, size - left)
        left -= part


def _fill(stream: BinaryIO, target: np.ndarray, info: NiftiInfo, done: int) -> None:
    view = memoryview(target.data).cast("B")
    filled = 0
    while filled < len(view):
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise _too_short(info, info.offset + done * info.stored_dtype.itemsize + filled)
        filled += count


def _read_to_end(stream: BinaryIO, info: NiftiInfo) -> None:
    """Read the rest of the file after the voxels, so that gzip compares its checksum.

    With a damaged header, much more than a few bytes may follow. There is a limit, since a kilobyte may expand to a
    megabyte.
    """
    limit = max(_MOST_TRAILING, info.claimed)
    piece = bytearray(_SLACK)
    found = 0
    while count := stream.readinto(piece):  # type: ignore[attr-defined]
        found += count
        if found > limit:
            raise DataError(
                f"{info.path}: the header declares far less data than the file holds (shape {info.shape} of "
                f"{info.stored_dtype.name}, {info.claimed} bytes; more than {limit} bytes follow): the header is "
                "damaged; copy or export the file again"
            )


def _convert(source: np.ndarray, target: np.ndarray, info: NiftiInfo) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        if info.scaled:
            # In float64, in pieces, so that large integers times a slope keep the precision of float32.
            np.copyto(target, source.astype(np.float64) * info.slope + info.inter, casting="same_kind")
        else:
            np.copyto(target, source, casting="same_kind")


def _too_short(info: NiftiInfo, held: int | None) -> DataError:
    claim = f"shape {info.shape} of {info.stored_dtype.name}, {info.claimed} bytes"
    found = f"the file holds {held}" if held is not None else "a file of this size cannot hold that"
    return DataError(
        f"{info.path}: the header declares more data than the file holds ({claim}; {found}): the file is truncated or "
        "its header damaged; copy or export it again"
    )
