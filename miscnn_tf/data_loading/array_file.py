"""Arrays in ``.npy`` and ``.npz`` files; their headers are checked before memory is allocated."""

from __future__ import annotations

import math
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np

from miscnn_tf.data_loading.opening import open_regular
from miscnn_tf.errors import DataError

_ENDING = ".npy"
_STREAM_ERRORS = (OSError, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile)


def read_array(path: str | Path, advice: str, *, mmap: bool = False) -> np.ndarray:
    """Read a ``.npy`` file that holds one array and nothing else.

    Args:
        path: The file.
        advice: Advice for a damaged file, for the message.
        mmap: Leave the array on disk, as a read-only memory map.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is damaged: its length is not that of the array in its header, or it holds Python objects.

    Example:
        >>> read_array("predictions/case_00000.npy", "predict again")  # doctest: +SKIP
    """
    with open_regular(path) as file:
        try:
            shape, fortran, dtype = _header(file)
            start = file.tell()
            _require_length(shape, dtype, file.seek(0, 2) - start)
            if mmap and 0 not in shape:
                return np.memmap(file, dtype, "r", start, shape, "F" if fortran else "C")
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
        except _STREAM_ERRORS as error:
            raise DataError(f"{path} is damaged ({error}); {advice}") from error


def read_arrays(path: str | Path, advice: str, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read arrays of an ``.npz`` file that ``numpy.savez`` wrote; their checksums are verified.

    Args:
        path: The file.
        advice: Advice for a damaged file, for the message.
        names: The arrays to read; all by default.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is damaged, lacks one of them, or is compressed (``numpy.savez_compressed``).

    Example:
        >>> read_arrays("batches/0.batch_img.0.npz", "prepare the batches again")["batch"]  # doctest: +SKIP
    """
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                wanted = [f"{name}{_ENDING}" for name in names] if names is not None else archive.namelist()
                return {name.removesuffix(_ENDING): _member(archive, name) for name in wanted}
        except (*_STREAM_ERRORS, zlib.error) as error:
            raise DataError(f"{path} is damaged ({error}); {advice}") from error


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ValueError(f"{name} is compressed, or its two lengths in the archive differ")
    with archive.open(info) as stream:
        shape, _, dtype = _header(stream)
        _require_length(shape, dtype, info.file_size - stream.tell())
    with archive.open(info) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
        stream.read()  # to the end, where the checksum is compared
    return array


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, order and type of an array."""
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of the format is not known")
    try:
        with warnings.catch_warnings():
            # numpy repairs headers written by Python 2; this package never writes such files.
            warnings.simplefilter("error")
            shape, fortran, dtype = readers[version](stream)
    except Exception as error:  # numpy parses the header as a Python literal, which may raise any error
        raise ValueError(f"its header cannot be read: {type(error).__name__}: {str(error)[:200]}") from error
    if dtype.hasobject or dtype.itemsize == 0:
        raise ValueError(f"the array is of {dtype}, which is neither numbers nor text")
    return shape, fortran, dtype


def _require_length(shape: tuple[int, ...], dtype: np.dtype, there: int) -> None:
    if any(isinstance(size, bool) or size < 0 for size in shape):
        raise ValueError(f"the shape in its header is {shape}")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != there:
        raise ValueError(f"its header requires {claimed} bytes (shape {shape}, type {dtype}), but it has {there}")
