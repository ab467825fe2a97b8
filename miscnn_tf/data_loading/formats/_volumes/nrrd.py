"""NRRD files, as 3D Slicer and ITK write them: ``.nrrd``, and ``.nhdr`` with a data file.

The format: https://teem.sourceforge.net/nrrd/format.html. Directions are converted like ITK does.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from isal import igzip

from miscnn_tf._base.files import atomic_path, file_size, open_regular
from miscnn_tf.data_loading.formats._volumes.volume_format import (
    VolumeFormat,
    data_file,
    lps_affine,
    lps_grid,
    numbers,
    whole_numbers,
)
from miscnn_tf.data_loading.formats.volume_info import VoxelGrid
from miscnn_tf.data_loading.formats.voxel_file import VoxelFile
from miscnn_tf.errors import DataError, RepeatedWarning

# Segmentations of 3D Slicer describe their segments in the header.
_LARGEST_HEADER = 2**22
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_CODES = {name: code for code, names in _TYPES.items() for name in names}
_NAMES = {code: names[-1] for code, names in _TYPES.items()}
# Signs of the axes of a space in left, posterior, superior. ITK takes other spaces as they are.
_SPACES = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-posterior-superior", "lps", "scanner-xyz", "3d-right-handed", ""), (1.0, 1.0, 1.0)),
}
_SPATIAL_KINDS = ("domain", "space")
_UNKNOWN_KINDS = ("???", "none")
_FIELDS = {
    name.replace(" ", ""): name
    for name in (
        *("type", "dimension", "sizes", "encoding", "endian", "kinds", "space", "space dimension", "space units"),
        *("space directions", "space origin", "spacings", "data file", "line skip", "byte skip"),
        # Without a meaning for voxels and grid.
        *(
            "content",
            "number",
            "block size",
            "thicknesses",
            "axis mins",
            "axis maxs",
            "centers",
            "centerings",
            "labels",
        ),
        *("units", "min", "max", "old min", "old max", "sample units", "measurement frame"),
    )
}
_ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}
_VECTOR = re.compile(r"\(([^()]*)\)|none", re.IGNORECASE)
_MILLIMETRES = ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "", "???")


def read_info(path: Path) -> VoxelFile:
    """Read the header of a NRRD file.

    Raises:
        MissingDataError: If the file, or its data file, does not exist.
        DataError: If it is not a NRRD file, is damaged, or of a kind that is not read.
    """
    fields, start = _header(path)
    dimension = whole_numbers(_field(fields, "dimension", path), path, "dimension", 1)[0]
    sizes = whole_numbers(_field(fields, "sizes", path), path, "sizes", dimension)
    channel_axis = _channel_axis(fields, dimension, path)
    spatial = [axis for axis in range(dimension) if axis != channel_axis]
    if len(spatial) not in (2, 3) or channel_axis not in (None, 0, dimension - 1):
        raise DataError(
            f"{path}: the sizes are {sizes}, of which {len(spatial)} axes are spatial; two or three are needed, before "
            "or after one of channels: export it as a volume"
        )
    packing = _ENCODINGS.get(_field(fields, "encoding", path).lower())
    if packing is None:
        raise DataError(f"{path}: the encoding is {fields['encoding']!r}; save the file with encoding raw or gzip")
    if whole_numbers(fields.get("line skip", "0"), path, "line skip", 1, least=0)[0]:
        raise DataError(f"{path}: line skip is {fields['line skip']}; export the file again as .nrrd")
    dtype = _dtype(fields, path)
    shape = tuple(sizes[axis] for axis in spatial)
    if channel_axis is not None:
        # NIfTI volumes have their channels in the fourth axis.
        shape = (*shape, *[1] * (3 - len(shape)), sizes[channel_axis]) if sizes[channel_axis] > 1 else shape
    info = VoxelFile(
        path, shape, _grid(fields, spatial, path), dtype, 0, start=start, packing=packing,
        channels_first=channel_axis == 0 and sizes[0] > 1,
    )  # fmt: skip
    if "data file" in fields:
        name = fields["data file"]
        if name.upper().startswith("LIST") or "%" in name:
            raise DataError(f"{path}: the voxels are in several files ({name!r}); export the volume as one .nrrd file")
        info = replace(info, data_path=data_file(path, name), start=0)
    skip = whole_numbers(fields.get("byte skip", "0"), path, "byte skip", 1, least=-1)[0]
    if skip == -1:
        if packing != "raw":
            raise DataError(f"{path}: byte skip -1 needs encoding raw, not {packing}; export the file again")
        return replace(info, start=max(0, file_size(info.voxel_path) - info.claimed))
    return replace(info, offset=skip)


def write(path: Path, array: np.ndarray, facts: Mapping[str, Any]) -> None:
    """Write an array, atomically; see `VolumeFormat`."""
    axes = min(array.ndim, 3)
    affine = lps_affine(facts, axes)[:axes, [*range(axes), 3]]
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    vectors = [_vector(affine[:, axis]) for axis in range(axes)]
    extra = array.ndim - axes
    lines = [
        "NRRD0005",
        "# Written by miscnn_tf",
        f"type: {_NAMES[array.dtype.str[1:]]}",
        f"dimension: {array.ndim}",
        "space: left-posterior-superior" if axes == 3 else f"space dimension: {axes}",
        f"sizes: {' '.join(map(str, array.shape))}",
        f"space directions: {' '.join([*vectors, *['none'] * extra])}",
        f"kinds: {' '.join(['domain'] * axes + ['list'] * extra)}",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(affine[:, axes])}",
    ]
    with atomic_path(path) as temporary, open(temporary, "wb") as raw:
        raw.write(("\n".join(lines) + "\n\n").encode("ascii"))
        # Without name and time in the gzip header, the same labels give the same bytes.
        with igzip.IGzipFile(filename="", mode="wb", compresslevel=2, fileobj=raw, mtime=0) as packed:
            for plane in array.T:
                packed.write(np.ascontiguousarray(plane).data.cast("B"))


FORMAT: Final[VolumeFormat] = VolumeFormat("NRRD", (".nrrd", ".nhdr"), ".nrrd", read_info, write, headers=(".nhdr",))


def _vector(values: np.ndarray) -> str:
    return f"({','.join(repr(float(value)) for value in values)})"


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields, in small letters, and the position after the blank line that ends the header."""
    with open_regular(path) as file:
        if not file.read(8).startswith(b"NRRD000"):
            raise DataError(f"{path}: not a NRRD file (it does not begin with NRRD000…); export it again")
        file.readline()
        fields: dict[str, str] = {}
        while True:
            line = file.readline(_LARGEST_HEADER)
            if file.tell() > _LARGEST_HEADER:
                raise DataError(f"{path}: the header is longer than 4 MB; export the file again")
            if not line.endswith(b"\n"):
                # The header of a detached file may end without a blank line.
                if line and not line.strip().startswith(b"#"):
                    _add(fields, line, path)
                return fields, file.tell()
            if not line.strip():
                return fields, file.tell()
            if not line.startswith(b"#"):
                _add(fields, line, path)


def _add(fields: dict[str, str], line: bytes, path: Path) -> None:
    text = line.decode("utf-8", "replace").strip()
    if ":=" in text and (": " not in text or text.index(":=") < text.index(": ")):
        return  # a key and a value of the user
    name, colon, value = text.partition(":")
    if not colon:
        raise DataError(f"{path}: the header holds the line {text[:60]!r}, which is not a field; export the file again")
    # Names may be written without their blank.
    known = _FIELDS.get(name.strip().lower().replace(" ", ""))
    if known is None:
        raise DataError(f"{path}: the header holds {name[:40]!r}, which is not a field of NRRD; export the file again")
    name = known
    if fields.setdefault(name, value.strip()) != value.strip():
        raise DataError(f"{path}: the header holds the field {name!r} twice; export the file again")


def _field(fields: Mapping[str, str], name: str, path: Path) -> str:
    if name not in fields:
        raise DataError(f"{path}: the header has no field {name!r}: the file is truncated or damaged; export it again")
    return fields[name]


def _dtype(fields: Mapping[str, str], path: Path) -> np.dtype:
    name = " ".join(_field(fields, "type", path).lower().split())
    if name not in _CODES:
        raise DataError(f"{path}: the voxels are of type {name!r}, but numbers are needed; export the file again")
    dtype = np.dtype(_CODES[name])
    order = fields.get("endian", "" if dtype.itemsize > 1 else "little").lower()
    if order not in ("little", "big"):
        raise DataError(f"{path}: endian is {order!r}, but little or big is needed; export the file again")
    return dtype.newbyteorder("<" if order == "little" else ">")


def _channel_axis(fields: Mapping[str, str], dimension: int, path: Path) -> int | None:
    """Return the axis that is not spatial, by directions and kinds; None if there is none."""
    directions = _directions(fields, dimension, path)
    kinds = fields.get("kinds", "").lower().split()
    if kinds and len(kinds) != dimension:
        raise DataError(f"{path}: kinds has {len(kinds)} entries for {dimension} axes; export the file again")
    other = [axis for axis, step in enumerate(directions or []) if step is None]
    if not other and kinds:
        known = (*_SPATIAL_KINDS, *_UNKNOWN_KINDS)
        other = [axis for axis, kind in enumerate(kinds) if kind not in known]
    if len(other) > 1 or dimension - len(other) > 3:
        raise DataError(
            f"{path}: of {dimension} axes, {dimension - len(other)} are spatial (kinds: "
            f"{' '.join(kinds) or 'missing'}); two or three are needed, and at most one of channels: export it as a "
            "volume"
        )
    return other[0] if other else None


def _directions(fields: Mapping[str, str], dimension: int, path: Path) -> list[list[float] | None] | None:
    if "space directions" not in fields:
        return None
    text = fields["space directions"]
    read = [
        None if match[1] is None else numbers(match[1].replace(",", " "), path, "space directions")
        for match in _VECTOR.finditer(text)
    ]
    # Older writers mark an axis that is not spatial by NaN.
    steps = [None if step is None or np.isnan(step).all() else step for step in read]
    if len(steps) != dimension or len({len(step) for step in steps if step is not None}) != 1:
        raise DataError(
            f"{path}: space directions is {text[:120]!r}, but {dimension} vectors of one length are needed; export the "
            "file again"
        )
    return steps


def _grid(fields: Mapping[str, str], spatial: list[int], path: Path) -> VoxelGrid:
    space = fields.get("space", "").lower()
    if space not in _SPACES:
        raise DataError(f"{path}: the space is {space!r}; export the file in left-posterior-superior")
    signs = _SPACES[space]
    dimension = whole_numbers(_field(fields, "dimension", path), path, "dimension", 1)[0]
    steps = _directions(fields, dimension, path)
    if steps is None:
        given = numbers(fields.get("spacings", "1 " * dimension), path, "spacings", dimension)
        sizes = [given[axis] for axis in spatial]
        if not all(0 < size < math.inf for size in sizes):
            raise DataError(f"{path}: spacings is {fields['spacings']!r}, but voxel sizes are positive and finite")
        vectors = np.diag([*sizes, 1.0][:3])[: len(sizes)].tolist()
    else:
        vectors = [step for axis in spatial if (step := steps[axis]) is not None]
    origin = [0.0] * 3
    if "space origin" in fields:
        given = numbers(re.sub(r"[(),]", " ", fields["space origin"]), path, "space origin", len(vectors[0]))
        origin = [*given, 0.0][:3]
    _warn_of_units(fields, path)
    signed = [[sign * value for sign, value in zip(signs, step, strict=False)] for step in vectors]
    return lps_grid(signed, [sign * value for sign, value in zip(signs, origin, strict=True)], path, "space directions")


def _warn_of_units(fields: Mapping[str, str], path: Path) -> None:
    units = [unit.strip().lower() for unit in re.findall(r'"([^"]*)"', fields.get("space units", ""))]
    others = [unit for unit in units if unit not in _MILLIMETRES]
    if others:
        warnings.warn(
            RepeatedWarning(
                f"{path}: space units is {fields['space units']}, but voxel sizes are read as millimetres, as ITK and "
                "3D Slicer do; export the file in millimetres",
                key="units of NRRD files",
            ),
            stacklevel=2,
        )
