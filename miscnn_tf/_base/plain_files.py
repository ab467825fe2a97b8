"""JSON files, tables and arrays of numbers: read with limits on size and nesting, and never as code."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from miscnn_tf._base.files import atomic_path, open_regular, read_bounded
from miscnn_tf._base.plain_limits import parse_json, real, shown
from miscnn_tf.errors import DataError, MissingDataError

#: The most bytes of a JSON document. Parsed it takes up to 20 times as much memory.
LARGEST: Final = 64 * 2**20

_LARGEST_TABLE: Final = 256 * 2**20
# Stricter than Python's int() and float(), which accept "1_0" and " 1".
_WHOLE: Final = re.compile(r"[0-9]{1,6}")
_REAL: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|nan|-?inf")
_ENDING = ".npy"
# Deflate compresses by at most 1032 to 1.
_DEFLATE_LIMIT, _SLACK = 1040, 2**16
_STREAM_ERRORS = (OSError, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile)


def write_json(path: str | Path, content: Any) -> None:
    """Write plain data as JSON, atomically.

    Raises:
        StorageError: If it cannot be written.
    """
    with atomic_path(path) as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False)
        # File names that are not UTF-8 contain surrogates, which JSON escapes.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_json(path: str | Path, origin: str, advice: str = "delete it and run again") -> Any:
    """Read a JSON file in UTF-8, -16 or -32.

    Args:
        path: The file.
        origin: Origin of the file, for the message: ``"split_folds() writes it"``.
        advice: Advice for a damaged file, for the message.

    Raises:
        MissingDataError: If it is missing.
        DataError: If it is damaged, larger than 64 MiB, nested more than 100 levels, has a key twice, or a number that
            is too large.
    """
    try:
        data = read_bounded(path, LARGEST)
    except MissingDataError:
        if os.path.lexists(path):  # a broken link
            raise
        raise MissingDataError(f"the file {path} does not exist; {origin}") from None
    return parse_json(data, path, advice)


def read_table(path: str | Path, delimiter: str = ",") -> list[dict[str, str]]:
    r"""Read a table as a dict of cells by column for each row.

    Args:
        path: The file, UTF-8; other bytes, as in the names of some samples, become surrogates.
        delimiter: Separator of the cells.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is not a regular file, or larger than 256 MiB.
        ValueError: If a column occurs twice, the number of cells in a row is not that of the columns, or the last line
            does not end in a line break, as in a truncated file.

    Example:
        >>> read_table("evaluation/fold_0/history.tsv", "\t")[0]["epoch"]  # doctest: +SKIP
        '1'
    """
    text = read_bounded(path, _LARGEST_TABLE).decode("utf-8-sig", "surrogateescape")
    if text and not text.endswith(("\n", "\r")):
        raise ValueError("the last line does not end in a line break: the file is truncated")
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if not rows:
        return []
    header, *cells = rows
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"the column {twice!r} occurs twice")
    for number, row in enumerate(cells, start=1):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} cells, but there are {len(header)} columns")
    return [dict(zip(header, row, strict=True)) for row in cells]


def whole_cell(text: str) -> int:
    """Parse a number from 0 to 999999 in a cell, in plain digits.

    Raises:
        ValueError: If it is not such a number.
    """
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a whole number from 0 to 999999")
    return int(text)


def real_cell(text: str) -> float:
    """Parse a number in a cell, including ``nan`` and ``inf``.

    Raises:
        ValueError: If it is not a number.
    """
    if not _REAL.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a number")
    return real(text)


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


def array_form(path: str | Path, advice: str) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Return shape and type of each array in a ``.npz`` file by name, or of the array in a ``.npy`` file as ``""``.

    Args:
        path: The file.
        advice: Advice for a damaged file, for the message.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is damaged, or holds Python objects.

    Example:
        >>> array_form("labels.npy", "save it again")  # doctest: +SKIP
        {'': ((64, 64, 30), dtype('uint8'))}
    """
    with open_regular(path) as file:
        try:
            if str(path).lower().endswith(_ENDING):
                shape, _, dtype = _header(file)
                start = file.tell()
                _require_length(shape, dtype, file.seek(0, 2) - start)
                return {"": (shape, dtype)}
            found = {}
            with zipfile.ZipFile(file) as archive:
                for info in archive.infolist():
                    with archive.open(info) as stream:
                        shape, _, dtype = _header(stream)
                        _require_length(shape, dtype, info.file_size - stream.tell())
                    found[info.filename.removesuffix(_ENDING)] = (shape, dtype)
            return found
        except (*_STREAM_ERRORS, zlib.error) as error:
            raise DataError(f"{path} is damaged ({error}); {advice}") from error


def read_packed_arrays(path: str | Path, advice: str, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Read arrays of an ``.npz`` file, compressed (``numpy.savez_compressed``) or not.

    Args:
        path: The file.
        advice: Advice for a damaged file, for the message.
        names: The arrays to read.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is damaged, or claims more bytes than its compressed size can hold.
    """
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return {name: _packed_member(archive, f"{name}{_ENDING}") for name in names}
        except (*_STREAM_ERRORS, zlib.error) as error:
            raise DataError(f"{path} is damaged ({error}); {advice}") from error


def _packed_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed by method {info.compress_type}, not Deflate")
    if info.file_size > info.compress_size * _DEFLATE_LIMIT + _SLACK:
        raise ValueError(f"{name} claims {info.file_size} bytes in {info.compress_size} compressed ones")
    with archive.open(info) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
        stream.read()  # to the end, where the checksum is compared
    return array


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
