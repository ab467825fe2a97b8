"""Opening of data files: regular files only, compressed with gzip or not."""

from __future__ import annotations

import gzip
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from isal import igzip, isal_zlib

from miscnn_tf.errors import DataError, MissingDataError

# Without this flag, opening a named pipe blocks until its other end is opened. It has no effect on regular files.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)

_PACKED_PIECE = 2**12
_NIFTI_SIZES = (348, 540)
_GZIP_ERRORS: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, cast(type[Exception], isal_zlib.error))


def open_regular(path: str | Path, buffering: int = -1) -> BinaryIO:
    """Open a regular file for binary reading; links are followed.

    Other kinds are refused: a named pipe would block forever, and a device has no end.

    Args:
        path: The file.
        buffering: As for `open`.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is a folder, named pipe, socket or device, or cannot be read.

    Example:
        >>> open_regular("/dev/zero")
        Traceback (most recent call last):
        miscnn_tf.errors.DataError: /dev/zero: not a regular file but a character device; remove it from the data
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise MissingDataError(f"{path}: the file does not exist; check the path") from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check its type and permissions"
        ) from error
    except ValueError as error:  # a zero byte in the name
        raise DataError(f"{str(path)!r}: not the name of a file ({error}); correct it") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise DataError(f"{path}: not a regular file but a {_kind(mode)}; remove it from the data")
    return os.fdopen(descriptor, "rb", buffering)


def read_bounded(path: str | Path, most: int) -> bytes:
    """Read a regular file of limited size.

    Args:
        path: The file.
        most: Largest size, bytes.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is not a regular file, cannot be read, or is larger.

    Example:
        >>> read_bounded("run.json", 2**20)  # doctest: +SKIP
    """
    with open_regular(path) as file:
        try:
            content = file.read(most + 1)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the disk") from error
    if len(content) > most:
        raise DataError(f"{path}: larger than {most / 2**20:g} MiB, the limit for such files; replace it")
    return content


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "named pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")


@contextmanager
def open_unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading its unpacked bytes; gzip's checksum is compared at its end.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is not a regular file, is empty or damaged, or only one of name and content is gzip. This
            includes errors within the context.
    """
    with _open_raw(path) as (raw, gzipped):
        if not gzipped:
            yield raw
            return
        with igzip.IGzipFile(fileobj=raw, mode="rb") as unpacked:
            yield unpacked  # type: ignore[misc]


def first_bytes(path: Path, size: int) -> bytes:
    """Read the beginning of the unpacked file, without unpacking more than needed.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: As for `open_unpacked`.
    """
    with _open_raw(path) as (raw, gzipped):
        if not gzipped:
            return read_up_to(raw, size)
        unpacker = isal_zlib.decompressobj(wbits=31)
        found = b""
        while len(found) < size and (packed := unpacker.unused_data or raw.read(_PACKED_PIECE)):
            if unpacker.eof:  # the next member of a file made of several
                unpacker = isal_zlib.decompressobj(wbits=31)
                packed += raw.read(_PACKED_PIECE)
            found += unpacker.decompress(packed, size - len(found))
        return found


def read_up_to(stream: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, or fewer at the end."""
    found = b""
    while len(found) < size and (part := stream.read(size - len(found))):
        found += part
    return found


def file_size(path: Path) -> int:
    """Return the size of the stored file, bytes."""
    with open_regular(path, 0) as raw:
        return os.fstat(raw.fileno()).st_size


def size_in_trailer(path: Path) -> int:
    """Return the size of the last gzip member by its last four bytes, modulo 2**32."""
    with _open_raw(path) as (raw, _):
        raw.seek(-4, os.SEEK_END)
        return int(struct.unpack("<I", read_up_to(raw, 4))[0])


@contextmanager
def _open_raw(path: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """Open a file, and check that it is gzipped if and only if its name ends in .gz."""
    with open_regular(path, 0) as raw:
        try:
            magic = read_up_to(raw, 2)
            raw.seek(0)
            gzipped = magic == b"\x1f\x8b"
            named_gz = path.name.lower().endswith(".gz")
            if len(magic) < 2:
                raise DataError(f"{path}: the file is empty; copy or export it again")
            if named_gz and not gzipped:
                plain = struct.unpack("<H", magic)[0] in _NIFTI_SIZES or magic == b"\0\0"
                hint = "rename it to .nii" if plain else "copy or export it again"
                raise DataError(f"{path}: the name ends in .gz, but the file is not gzip-compressed; {hint}")
            if gzipped and not named_gz:
                raise DataError(f"{path}: the file is gzip-compressed; rename it to .nii.gz")
            yield raw, gzipped
        except _GZIP_ERRORS as error:
            raise DataError(
                f"{path}: the compressed file is truncated or damaged ({error}); copy or download it again"
            ) from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
