"""MetaImage files of ITK: ``.mha``, and ``.mhd`` with a data file (``.raw``, ``.zraw``)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

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
from miscnn_tf.errors import DataError

_LARGEST_HEADER = 2**20
_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_NAMES = {code: name for name, code in _TYPES.items()}
_DATA = "ElementDataFile"
_TRUE, _FALSE = ("true", "t", "1"), ("false", "f", "0")


def read_info(path: Path) -> VoxelFile:
    """Read the header of a MetaImage file.

    Raises:
        MissingDataError: If the file, or its data file, does not exist.
        DataError: If it is not a MetaImage, is damaged, or of a kind that is not read.
    """
    fields, start = _header(path)
    axes = whole_numbers(_field(fields, "NDims", path), path, "NDims", 1)[0]
    if axes not in (2, 3, 4):
        raise DataError(f"{path}: NDims is {axes}, but volumes have 2, 3 or 4 (channels) axes; export it as a volume")
    sizes = whole_numbers(_field(fields, "DimSize", path), path, "DimSize", axes)
    channels = whole_numbers(fields.get("ElementNumberOfChannels", "1"), path, "ElementNumberOfChannels", 1)[0]
    if channels > 1 and axes == 4:
        raise DataError(f"{path}: a volume of four axes with {channels} channels each; save one axis of channels only")
    if not _flag(fields, "BinaryData", path, default=True):
        raise DataError(f"{path}: BinaryData is False (voxels as text); save the file in binary form")
    slope = numbers(fields.get("ElementToIntensityFunctionSlope", "1"), path, "ElementToIntensityFunctionSlope", 1)
    inter = numbers(fields.get("ElementToIntensityFunctionOffset", "0"), path, "ElementToIntensityFunctionOffset", 1)
    if (slope, inter) != ([1.0], [0.0]):
        raise DataError(
            f"{path}: ElementToIntensityFunctionSlope {slope[0]:g} and Offset {inter[0]:g} are not applied by ITK; "
            "apply them to the voxels and remove the fields"
        )
    shape = tuple(sizes)
    if channels > 1:
        shape = (*sizes, *[1] * (3 - axes), channels)
    elif axes == 4 and sizes[3] == 1:
        shape = shape[:3]
    packed = _flag(fields, "CompressedData", path, default=False)
    info = VoxelFile(
        path, shape, _grid(fields, axes, path), _dtype(fields, path), 0, start=start,
        packing="zlib" if packed else "raw", channels_first=channels > 1,
    )  # fmt: skip
    name = fields[_DATA]
    if name.upper() != "LOCAL":
        if name.upper().startswith("LIST") or "%" in name:
            raise DataError(f"{path}: {_DATA} is {name!r}, several files; export the volume as one .mha file")
        info = replace(info, data_path=data_file(path, name), start=0)
    skip = whole_numbers(fields.get("HeaderSize", "0"), path, "HeaderSize", 1, least=-1)[0]
    if skip == -1 and packed:
        raise DataError(f"{path}: HeaderSize -1 needs voxels without compression; export the file again")
    if skip == -1:
        return replace(info, start=max(0, file_size(info.voxel_path) - info.claimed))
    return replace(info, start=info.start + skip)


def write(path: Path, array: np.ndarray, facts: Mapping[str, Any]) -> None:
    """Write an array, atomically, in one file; see `VolumeFormat`."""
    axes = min(array.ndim, 3)
    affine = lps_affine(facts, axes)[:axes, [*range(axes), 3]]
    spacing = np.linalg.norm(affine[:, :axes], axis=0)
    code = array.dtype.str[1:]
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if array.ndim > axes:
        # Channels are the fastest axis.
        array = np.moveaxis(array, -1, 0)
    packer = zlib.compressobj(2)
    packed = [packer.compress(np.ascontiguousarray(plane).data.cast("B")) for plane in array.T] + [packer.flush()]
    lines = [
        "ObjectType = Image",
        f"NDims = {axes}",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = True",
        f"CompressedDataSize = {sum(map(len, packed))}",
        f"TransformMatrix = {_listed((affine[:, :axes] / spacing).T.ravel())}",
        f"Offset = {_listed(affine[:, axes])}",
        f"CenterOfRotation = {_listed(np.zeros(axes))}",
        f"ElementSpacing = {_listed(spacing)}",
        f"DimSize = {' '.join(map(str, array.shape[-axes:]))}",
        *([f"ElementNumberOfChannels = {array.shape[0]}"] if array.ndim > axes else []),
        f"ElementType = {_NAMES[code]}",
        f"{_DATA} = LOCAL",
    ]
    with atomic_path(path) as temporary, open(temporary, "wb") as raw:
        raw.write(("\n".join(lines) + "\n").encode("ascii"))
        raw.writelines(packed)


FORMAT: Final[VolumeFormat] = VolumeFormat("MetaImage", (".mha", ".mhd"), ".mha", read_info, write, headers=(".mhd",))


def _listed(values: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in values)


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields up to the last one, which names the data file, and the position after it."""
    fields: dict[str, str] = {}
    with open_regular(path) as file:
        while _DATA not in fields:
            line = file.readline(_LARGEST_HEADER)
            name, equals, value = line.decode("utf-8", "replace").partition("=")
            if not line.strip():
                if line:
                    continue
                raise DataError(f"{path}: the header has no {_DATA}: the file is truncated or not a MetaImage")
            if not equals or not name.strip().isprintable() or file.tell() > _LARGEST_HEADER:
                raise DataError(
                    f"{path}: not a MetaImage file (the header holds {line[:40]!r}, not 'key = value'); export it again"
                )
            name = {"ElementByteOrderMSB": "BinaryDataByteOrderMSB"}.get(name.strip(), name.strip())
            if fields.setdefault(name, value.strip()) != value.strip():
                raise DataError(f"{path}: the header holds {name} twice; export the file again")
        return fields, file.tell()


def _field(fields: Mapping[str, str], name: str, path: Path) -> str:
    if name not in fields:
        raise DataError(f"{path}: the header has no {name}: the file is damaged or not a MetaImage; export it again")
    return fields[name]


def _flag(fields: Mapping[str, str], name: str, path: Path, *, default: bool) -> bool:
    text = fields.get(name, str(default)).lower()
    if text not in _TRUE + _FALSE:
        raise DataError(f"{path}: {name} is {text!r}, but True or False is needed; export the file again")
    return text in _TRUE


def _dtype(fields: Mapping[str, str], path: Path) -> np.dtype:
    name = _field(fields, "ElementType", path)
    if name.removesuffix("_ARRAY") not in _TYPES:
        # MET_LONG has 4 or 8 bytes, depending on the machine that wrote the file.
        raise DataError(f"{path}: ElementType {name!r} is not one of {', '.join(_TYPES)}; export the file again")
    big = _flag(fields, "BinaryDataByteOrderMSB", path, default=False)
    return np.dtype(_TYPES[name.removesuffix("_ARRAY")]).newbyteorder(">" if big else "<")


def _grid(fields: Mapping[str, str], axes: int, path: Path) -> VoxelGrid:
    spatial = min(axes, 3)
    spacing = numbers(fields.get("ElementSpacing", "1 " * axes), path, "ElementSpacing", axes)
    steps = np.eye(axes)
    matrix = _first(fields, ("TransformMatrix", "Rotation", "Orientation"))
    if matrix is not None:
        # A row is the direction of an axis.
        steps = np.array(numbers(matrix, path, "TransformMatrix", axes**2)).reshape(axes, axes)
    origin = numbers(_first(fields, ("Offset", "Position", "Origin")) or "0 " * axes, path, "Offset", axes)
    directions = (steps * np.array(spacing)[:, np.newaxis])[:spatial, :spatial]
    return lps_grid(directions, origin[:spatial], path, "TransformMatrix and ElementSpacing")


def _first(fields: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((fields[name] for name in names if name in fields), None)
