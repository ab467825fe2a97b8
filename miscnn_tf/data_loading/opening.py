"""Opening of data files, with a check that they are regular files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from miscnn_tf.errors import DataError, MissingDataError

# Without this flag, opening a named pipe blocks until its other end is opened. It has no effect on regular files.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


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
