"""One NIfTI file, read without trusting it and written so that every viewer lays it over its image.

nibabel reads and checks the headers. The voxels are read here, since nothing may be allocated on the word of a
header, no volume may pass through float64, and gzip is several times faster through isal.
"""

from __future__ import annotations

import gzip
import logging
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel
import numpy as np
from isal import igzip, isal_zlib
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from miscnn_tf.data_loading import geometry, origin
from miscnn_tf.data_loading.file_names import find_file
from miscnn_tf.data_loading.storage import atomic_path
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError

#: The endings of NIfTI files, the usual one first.
ENDINGS = (".nii.gz", ".nii")

# nibabel mends small faults (the zero pixdim of a flat axis) and says so; our users need not hear of them.
_quiet = logging.getLogger(f"{__name__}.header")
_quiet.setLevel(logging.ERROR)

_CHUNK = 2**23
# Deflate cannot pack more than 1032 bytes into one; a claim beyond that is a lie that needs no reading.
_DEFLATE_LIMIT = 1040
_TRUSTED = 2**24
_SLACK = 2**16
_ESSENTIAL = ("dim", "datatype", "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
              "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z")  # fmt: skip
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_GZIP_ERRORS: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, cast(type[Exception], isal_zlib.error))


@dataclass(frozen=True)
class NiftiInfo:
    """What the header of a NIfTI file says, in millimetres.

    Attributes:
        path: The file.
        shape: Shape as stored, ``(x, y[, z[, channels]])``.
        stored_dtype: Type of the voxels in the file, with its byte order.
        offset: Where they begin, in bytes.
        slope: Factor on the stored values.
        inter: Added to them.
        affine: 4x4, voxel to millimetres.
        spacing: Voxel size of the three spatial axes, mm.
        qform: 4x4 of the qform where it says something else than `affine`, else None.
        qform_code: NIfTI code of the qform, 0 if there is none.
        sform_code: NIfTI code of the sform, 0 if there is none.
    """

    path: Path
    shape: tuple[int, ...]
    stored_dtype: np.dtype
    offset: int
    slope: float
    inter: float
    affine: np.ndarray
    spacing: np.ndarray
    qform: np.ndarray | None
    qform_code: int
    sform_code: int

    @property
    def compressed(self) -> bool:
        """Whether the file is gzipped."""
        return self.path.name.lower().endswith(".gz")

    @property
    def scaled(self) -> bool:
        """Whether stored values and voxel values differ."""
        return (self.slope, self.inter) != (1.0, 0.0)

    @property
    def dtype(self) -> np.dtype:
        """Type of the array that `read_voxels` returns: the file's integer type, otherwise float32."""
        native = self.stored_dtype.newbyteorder("=")
        return np.dtype(np.float32) if self.scaled or native.kind == "f" else native

    @property
    def voxels(self) -> int:
        """Number of stored values, channels included."""
        return int(np.prod([int(size) for size in self.shape], dtype=object))

    @property
    def claimed(self) -> int:
        """Size of the whole (unpacked) file according to the header, bytes."""
        return self.offset + self.voxels * self.stored_dtype.itemsize

    def geometry(self) -> dict[str, Any]:
        """The facts that `write_nifti` needs, as plain data and arrays."""
        facts: dict[str, Any] = {
            "affine": self.affine.copy(),
            "spacing": self.spacing.copy(),
            "qform_code": self.qform_code,
            "sform_code": self.sform_code,
        }
        if self.qform is not None:
            facts["qform"] = self.qform.copy()
        return facts


def is_nifti(path: str | Path) -> bool:
    """Whether the name ends as NIfTI files do."""
    return str(path).lower().endswith(ENDINGS)


def ending_of(path: Path) -> str:
    """The ending of an image's name, in small letters; ``".nii.gz"`` with both its parts."""
    return next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), path.suffix.lower())


def stem_of(path: Path) -> str:
    """The name without the ending."""
    return path.name[: len(path.name) - len(ending_of(path))]


def find_nifti(stem: Path, *, any_case: bool = False) -> Path | None:
    """``<stem>.nii.gz`` or ``<stem>.nii``, in any case of letters; None if neither is there.

    Where both are there the compressed one is taken, with a warning (`file_names.find_file`).

    Args:
        stem: The path without the ending.
        any_case: Whether the name before the ending, too, may be in any case of letters.
    """
    return find_file(stem.parent, stem.name, ENDINGS, any_case=any_case)


def read_info(path: str | Path) -> NiftiInfo:
    """Read the header of a NIfTI file (a few hundred bytes).

    Raises:
        MissingDataError: If there is no such file.
        DataError: If it is no NIfTI file, or holds voxels that are no image (RGB, complex numbers).
    """
    path = Path(path)
    header = _parse(_first_bytes(path, 540), path)
    try:
        shape = tuple(int(size) for size in header.get_data_shape())
        stored = header.get_data_dtype()
        slope, inter = header.get_slope_inter()
        qform, qform_code = header.get_qform(coded=True)
        sform, sform_code = header.get_sform(coded=True)
        affine = header.get_best_affine()
        unit = header.get_xyzt_units()[0]
    except (HeaderDataError, ValueError, KeyError) as error:
        raise DataError(f"{path}: the NIfTI header is damaged ({error}); export the file again") from error
    if stored.kind not in "iuf":
        kind = "RGB colours" if stored.fields else "complex numbers" if stored.kind == "c" else str(stored)
        raise DataError(
            f"{path}: the voxels are {kind}, which is no image to segment; save one number per voxel, colours as "
            "channels in the fourth axis"
        )
    if not shape or min(shape) < 1:
        raise DataError(
            f"{path}: the header gives the shape {shape}; a NIfTI image has at least one voxel on each axis"
        )
    offset = float(header["vox_offset"])
    least = header.single_vox_offset
    if not np.isfinite(offset) or offset < 0 or (0 < offset < least):
        raise DataError(
            f"{path}: the header says that the voxels begin at byte {offset:g}, which cannot be; export it again"
        )
    scale = np.diag([*[_MILLIMETRES.get(unit, 1.0)] * 3, 1.0])
    affine = scale @ np.asarray(affine, dtype=np.float64)
    if not geometry.is_usable(affine):
        raise DataError(
            f"{path}: the header's affine is not finite or spans no volume ({affine[:3].tolist()}); set a right sform "
            "or qform"
        )
    other = scale @ np.asarray(qform, dtype=np.float64) if qform is not None and sform is not None else None
    spatial = (shape + (1, 1))[:3]
    if other is not None and geometry.grid_difference(spatial, affine, spatial, other, tolerance=1e-3) is None:
        other = None
    return NiftiInfo(
        path=path,
        shape=_without_empty_axes(shape),
        stored_dtype=stored,
        offset=max(int(offset), least),
        slope=1.0 if slope is None else slope,
        inter=0.0 if inter is None else inter,
        affine=affine,
        spacing=_spacing(header, affine, scale[0, 0]),
        qform=other,
        qform_code=int(qform_code),
        sform_code=int(sform_code),
    )


def check_size(info: NiftiInfo) -> None:
    """Make sure that the file holds as much as its header claims.

    Compressed files say their unpacked size in the last bytes; only where that does not fit is the file unpacked,
    piece by piece, to be sure.

    Raises:
        DataError: If it does not.
    """
    size = os.stat(info.path).st_size
    if not info.compressed:
        if size < info.claimed:
            raise _too_short(info, size)
        return
    if info.claimed > size * _DEFLATE_LIMIT + _SLACK:
        raise _too_short(info, None)
    if not _trailer_fits(info):
        with _opened(info.path) as stream:
            held = 0
            while held < info.claimed:
                part = len(stream.read(min(_CHUNK, info.claimed - held)))
                if not part:
                    raise _too_short(info, held)
                held += part


def read_voxels(info: NiftiInfo) -> np.ndarray:
    """Read the voxels: once through the file, straight into an array of the final type.

    Memory grows with what the file really holds, never with what the header claims.

    Returns:
        Array of ``info.shape`` and ``info.dtype``, in the file's (Fortran) order.

    Raises:
        DataError: If the file is truncated, damaged, or smaller than its header claims.
    """
    size = os.stat(info.path).st_size
    packing = _DEFLATE_LIMIT if info.compressed else 1
    if info.claimed > size * packing + (_SLACK if info.compressed else 0):
        raise _too_short(info, None if info.compressed else size)
    trusted = not info.compressed or _trailer_fits(info)
    flat = np.empty(info.voxels if trusted else min(info.voxels, _TRUSTED), info.dtype)
    direct = info.dtype == info.stored_dtype
    scratch = None if direct else np.empty(min(info.voxels, _CHUNK // info.stored_dtype.itemsize), info.stored_dtype)
    done = 0
    with _opened(info.path) as stream:
        _skip(stream, info)
        while done < info.voxels:
            if done == flat.size:
                flat = np.concatenate([flat, np.empty(min(flat.size, info.voxels - flat.size), info.dtype)])
            part = flat[done : done + (_CHUNK // info.stored_dtype.itemsize)]
            source = part if scratch is None else scratch[: part.size]
            _fill(stream, source, info, done)
            if scratch is not None:
                _convert(source, part, info)
            done += part.size
        if info.compressed:
            # To the end, where gzip compares its checksum; but unpacking no bomb that hangs on behind the voxels.
            _read_up_to(stream, _SLACK)
    return flat.reshape(info.shape, order="F")


def map_voxels(info: NiftiInfo) -> np.ndarray:
    """The stored values of an uncompressed file as a read-only memory map, not yet scaled or turned into native order.

    Raises:
        DataError: If the file is smaller than its header claims.
    """
    check_size(info)
    return np.memmap(info.path, info.stored_dtype, "r", offset=info.offset, shape=info.shape, order="F")


def scaled_values(stored: np.ndarray, info: NiftiInfo) -> np.ndarray:
    """Voxel values of a part of `map_voxels`: an array of its own, of ``info.dtype``."""
    values = np.empty(stored.shape, info.dtype)
    _convert(stored, values, info)
    return values


def write_nifti(path: str | Path, array: np.ndarray, facts: Mapping[str, Any]) -> None:
    """Write an array as NIfTI, atomically, with qform and sform set and millimetres as the unit.

    The codes are the source's. Where the source has both forms unset, they stay so, since every viewer then makes up
    its own grid, and makes up the same for both files. A sheared affine, which a qform cannot express, goes into the
    sform only. The header's description says that this package wrote the file (`was_written_here`).

    Args:
        path: Name ending in ``.nii.gz`` or ``.nii``.
        array: ``(x, y[, z[, channels]])``, integers or floating (stored as float32).
        facts: ``"affine"``, and ``"spacing"``, ``"qform"``, ``"qform_code"``, ``"sform_code"`` where known; what
            `NiftiInfo.geometry` gives.

    Raises:
        ConfigurationError: If the name has another ending.
        StorageError: If the file cannot be written.
    """
    path = Path(path)
    if not is_nifti(path):
        raise ConfigurationError(f"{path}: NIfTI files end in .nii.gz or .nii; name the output so")
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    kind = nibabel.Nifti2Image if max(array.shape) > np.iinfo(np.int16).max else nibabel.Nifti1Image
    image = kind(array, None)
    _set_geometry(image.header, facts)
    image.header["descrip"] = origin.mark(origin.checksum_of([_essence(image.header), array]))
    with atomic_path(path) as temporary, open(temporary, "wb") as raw:
        if not path.name.lower().endswith(".gz"):
            image.to_stream(raw)
            return
        # No name and no time in the gzip header: the same labels give the same bytes.
        with igzip.IGzipFile(filename="", mode="wb", compresslevel=2, fileobj=raw, mtime=0) as packed:
            image.to_stream(packed)


def was_written_here(path: str | Path) -> bool:
    """Whether `write_nifti` wrote this file, and nobody has changed it since.

    Raises:
        DataError: If it cannot be read.
    """
    path = Path(path)
    header = _parse(_first_bytes(path, 540), path)
    line = bytes(header["descrip"].tobytes()).rstrip(b"\0").decode("latin-1")
    if not origin.is_mark(line):
        return False
    info = read_info(path)

    def parts() -> Iterator[bytes]:
        yield _essence(header)
        with _opened(path) as stream:
            _skip(stream, info)
            left = info.claimed - info.offset
            while left and (part := stream.read(min(left, _CHUNK))):
                left -= len(part)
                yield part

    return origin.matches(line, origin.checksum_of(parts()))


def _essence(header: Any) -> bytes:
    """What of a header makes an image another one: shape, type and place."""
    return b"".join(header[name].tobytes() for name in _ESSENTIAL)


def _set_geometry(header: Any, facts: Mapping[str, Any]) -> None:
    affine = facts.get("affine")
    spacing = facts.get("spacing")
    if affine is None:
        sizes = [1.0] * 3 if spacing is None else [*map(float, spacing), 1.0][:3]
        affine = np.diag([*sizes, 1.0])
    affine = np.asarray(affine, dtype=np.float64)
    qform = np.asarray(facts.get("qform", affine), dtype=np.float64)
    qform_code, sform_code = int(facts.get("qform_code", 1)), int(facts.get("sform_code", 1))
    unset = qform_code == 0 and sform_code == 0
    header.set_xyzt_units("mm")
    # The zooms alone place a file without forms, so that they are the source's to the bit.
    zooms = geometry.spacing_of(affine)
    header.set_qform(qform, 0 if unset else qform_code or sform_code)
    stored = header.get_qform()
    reach = np.max(np.abs(stored - qform)[:3, :3]) / zooms.min()
    if not reach < 1e-3:
        header.set_qform(None, 0)
    header.set_sform(affine, 0 if unset else sform_code or qform_code)
    sizes = list(header.get_zooms())
    sizes[:3] = zooms[: len(sizes)]
    header.set_zooms(sizes)


def _spacing(header: Any, affine: np.ndarray, millimetres: float) -> np.ndarray:
    """The zooms; the affine's where these contradict it, as the affine is what places the voxels."""
    from_affine = geometry.spacing_of(affine)
    zooms = [float(zoom) * millimetres for zoom in header.get_zooms()[:3]]
    zooms += from_affine.tolist()[len(zooms) :]
    spacing = geometry.exact_spacing(zooms)
    agree = np.isfinite(spacing).all() and np.allclose(spacing, from_affine, rtol=1e-3)
    return spacing if agree else from_affine


def _without_empty_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """At most four axes: trailing axes of 1 go, and so does a time axis of 1 before a vector axis."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 4:
        shape = shape[:3] + tuple(size for size in shape[3:] if size > 1)
    return shape


def _parse(start: bytes, path: Path) -> Any:
    sizes = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
    found = next(
        (order + "i" for order in "<>" if len(start) >= 4 and struct.unpack(order + "i", start[:4])[0] in sizes), None
    )
    if found is None:
        raise DataError(f"{path}: this is no NIfTI file (it does not begin with a NIfTI header); export it again")
    size = struct.unpack(found, start[:4])[0]
    if len(start) < size:
        raise DataError(
            f"{path}: the file ends within its header ({len(start)} of {size} bytes); copy or export it again"
        )
    if (start[344:347] if size == 348 else start[4:7]) in (b"ni1", b"ni2"):
        raise DataError(f"{path}: this is the header of an .hdr/.img pair; convert the pair to one .nii.gz file")
    try:
        header = sizes[size](start[:size], endianness=found[0], check=False)
        header.check_fix(logger=_quiet)
    except (HeaderDataError, WrapStructError, ValueError) as error:
        raise DataError(f"{path}: the NIfTI header is damaged ({error}); export the file again") from error
    return header


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The unpacked bytes of the file; what goes wrong in reading them becomes an error that names it."""
    with _raw(path) as (raw, gzipped):
        if not gzipped:
            yield raw
            return
        with igzip.IGzipFile(fileobj=raw, mode="rb") as unpacked:
            yield unpacked  # type: ignore[misc]


@contextmanager
def _raw(path: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """The bytes of the file, and whether they are gzipped, as the name has to say."""
    try:
        with open(path, "rb", buffering=0) as raw:
            magic = raw.read(2)
            raw.seek(0)
            gzipped = magic == b"\x1f\x8b"
            named_gz = path.name.lower().endswith(".gz")
            if len(magic) < 2:
                raise DataError(f"{path}: the file is empty; copy or export it again")
            if named_gz and not gzipped:
                plain = struct.unpack("<H", magic)[0] in (348, 540) or magic == b"\0\0"
                hint = "rename it to .nii" if plain else "copy or export it again"
                raise DataError(f"{path}: the name ends in .gz, but the file is not gzip-compressed; {hint}")
            if gzipped and not named_gz:
                raise DataError(f"{path}: the file is gzip-compressed; rename it to .nii.gz")
            yield raw, gzipped
    except FileNotFoundError:
        raise MissingDataError(f"{path}: there is no such file; check the path") from None
    except _GZIP_ERRORS as error:
        raise DataError(
            f"{path}: the compressed file is truncated or damaged ({error}); copy or download it again"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: could not be read ({error.strerror or error})") from error


def _first_bytes(path: Path, size: int) -> bytes:
    """The beginning of the unpacked file, without unpacking a whole buffer of it as a reader would."""
    with _raw(path) as (raw, gzipped):
        if not gzipped:
            return _read_up_to(raw, size)
        unpacker = isal_zlib.decompressobj(wbits=31)
        found = b""
        while len(found) < size and not unpacker.eof and (packed := raw.read(2**12)):
            found += unpacker.decompress(packed, size - len(found))
        return found


def _read_up_to(stream: BinaryIO, size: int) -> bytes:
    found = b""
    while len(found) < size and (part := stream.read(size - len(found))):
        found += part
    return found


def _skip(stream: BinaryIO, info: NiftiInfo) -> None:
    left = info.offset
    while left:
        part = len(stream.read(min(left, _CHUNK)))
        if not part:
            raise _too_short(info, info.offset - left)
        left -= part


def _fill(stream: BinaryIO, target: np.ndarray, info: NiftiInfo, done: int) -> None:
    view = memoryview(target.data).cast("B")
    filled = 0
    while filled < len(view):
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise _too_short(info, info.offset + done * info.stored_dtype.itemsize + filled)
        filled += count


def _convert(source: np.ndarray, target: np.ndarray, info: NiftiInfo) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        if info.scaled:
            # In float64, a piece at a time: large integers times a slope keep all that float32 can hold.
            np.copyto(target, source.astype(np.float64) * info.slope + info.inter, casting="same_kind")
        else:
            np.copyto(target, source, casting="same_kind")


def _trailer_fits(info: NiftiInfo) -> bool:
    with open(info.path, "rb") as raw:
        raw.seek(-4, os.SEEK_END)
        held = struct.unpack("<I", raw.read(4))[0]
    return bool(held == info.claimed % 2**32)


def _too_short(info: NiftiInfo, held: int | None) -> DataError:
    claim = f"shape {info.shape} of {info.stored_dtype.name}, {info.claimed} bytes"
    found = f"the file holds {held}" if held is not None else "a file of this size cannot hold that"
    return DataError(
        f"{info.path}: the header claims more data than the file holds ({claim}; {found}): the file is truncated or "
        "its header damaged; copy or export it again"
    )
