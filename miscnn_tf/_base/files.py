"""Files: regular ones opened for reading, compressed with gzip or not, and atomic writing, restricted to a folder."""

from __future__ import annotations

import errno
import gzip
import io
import itertools
import os
import re
import shutil
import stat
import struct
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from isal import igzip, isal_zlib

from miscnn_tf._base.holder import DIGITS, Holder, this_process
from miscnn_tf.errors import DataError, MiscnnError, MissingDataError, StorageError

#: The last part of the name of a temporary folder.
UNFINISHED: Final = "unfinished"

_TEMPORARY = re.compile(rf"\.([0-9a-f]{{{DIGITS}}})[0-9a-f]{{{32 - DIGITS}}}\..+", re.DOTALL)
# A file of another machine, whose process cannot be checked, counts as abandoned after a day.
_ABANDONED_AFTER: Final = 24 * 3600.0
# Errors of file systems that do not support fsync, or not for folders.
_CANNOT_SYNCHRONIZE: Final = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)

_numbers = itertools.count()
_swept: set[str] = set()
_watcher: ContextVar[Callable[[Path, Path], None] | None] = ContextVar("_watcher", default=None)


# Without this flag, opening a named pipe blocks until its other end is opened. It has no effect on regular files.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_PACKED_PIECE = 2**12
_NIFTI_SIZES = (348, 540)
_GZIP_ERRORS: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, cast(type[Exception], isal_zlib.error))


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary file name beside `path`, which is renamed to `path` when the block ends without an error.

    The folder is created. The temporary name keeps the file's ending, by which libraries choose the format. A previous
    file at `path` is kept until the new one is complete, even if the power fails. Errors that do not concern the new
    file (of reading another one, for instance) are passed on unchanged.

    Args:
        path: The file.
        durable: Whether the file must survive a power failure.

    Raises:
        StorageError: If the folder or file cannot be written (no permission, no space, a file in the folder's place).

    Example:
        >>> with atomic_path("predictions/case_00000.nii.gz") as temporary:  # doctest: +SKIP
        ...     nibabel.save(image, temporary)
    """
    path = Path(path)
    # Names may have at most 255 bytes, so only the end of a long one is kept.
    temporary = temporary_beside(path, path.name[-40:])
    make_folder(path.parent)
    _sweep_once(path.parent)
    try:
        yield temporary
        watcher = _watcher.get()
        if watcher is not None:
            watcher(temporary, path)
        put_in_place(temporary, path, durable=durable)
    except OSError as error:
        if isinstance(error, MiscnnError) or _elsewhere(error, path.parent):
            raise
        raise StorageError(
            f"could not write {path}: {error.strerror or error}. Free space there: {_free_space(path.parent)}. Files "
            "written before are complete; choose another folder, or make room and run again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def put_in_place(temporary: Path, path: Path, *, durable: bool = True) -> None:
    """Rename a complete file or folder to its final name, safely against a power failure.

    The content is synchronised with the disk before renaming, and the new name before this function returns.

    Args:
        temporary: The file or folder.
        path: Its final name; an existing file is replaced.
        durable: Whether to synchronise.

    Raises:
        OSError: If it cannot be renamed, or the disk reports an error.
    """
    is_folder = temporary.is_dir()
    if durable:
        for part in (*temporary.rglob("*"), temporary) if is_folder else (temporary,):
            _synchronize(part)
    (os.rename if is_folder else os.replace)(temporary, path)
    if durable:
        _synchronize(path.parent)


def temporary_beside(path: Path, tail: str = UNFINISHED) -> Path:
    """Return a new name beside `path` for a temporary file or folder of this process, which the name identifies."""
    return path.with_name(f".{this_process().text}{next(_numbers) % 16 ** (32 - DIGITS):0{32 - DIGITS}x}.{tail}")


def is_abandoned(path: Path) -> bool:
    """Return True for a temporary file or folder whose process has ended or, if that is unknown, that is a day old."""
    match = _TEMPORARY.fullmatch(path.name)
    if match is None and not (path.name.startswith(".") and path.name.endswith(f".{UNFINISHED}")):
        return False
    holder = None if match is None else Holder.from_text(match[1])
    running = None if holder is None else holder.is_running
    return time.time() - path.lstat().st_mtime > _ABANDONED_AFTER if running is None else not running


def remove_abandoned_temporaries(folder: Path) -> None:
    """Remove the temporary files and folders in a folder whose processes, on this machine, have ended."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            holder = None if match is None else Holder.from_text(match[1])
            if holder is None or holder.is_running is not False:
                continue
            with suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)
                elif entry.name.endswith(f".{UNFINISHED}"):
                    shutil.rmtree(entry.path, ignore_errors=True)


@contextmanager
def watched_writes(watcher: Callable[[Path, Path], None]) -> Iterator[None]:
    """Call ``watcher(temporary, path)`` before a file that this package writes in the block gets its final name."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def make_folder(folder: str | Path) -> Path:
    """Create `folder` and missing parents, and return it.

    Raises:
        StorageError: If it cannot be created, or is not writable.
    """
    folder = Path(folder)
    try:
        missing = [] if folder.is_dir() else [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for each in missing:
            _synchronize(each.parent)
    except OSError as error:
        raise StorageError(
            f"could not create the folder {folder}: {error.strerror or error}; choose another"
        ) from error
    # A folder that another process has removed by now is reported by what writes into it.
    if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(f"the folder {folder} is not writable; choose another, or change its permissions")
    return folder


def inside(root: str | Path, index: Hashable, suffix: str = "") -> Path:
    """Return the path of `index` below `root`.

    Raises:
        DataError: If the index is empty, absolute, or outside `root` (``..``).

    Example:
        >>> inside("predictions", "case_00000", ".nii.gz").as_posix()
        'predictions/case_00000.nii.gz'
    """
    name = str(index)
    relative = Path(name)
    windows_drive = len(name) > 1 and name[1] == ":" and name[0].isalpha() and name[2:3] in ("\\", "/")
    if (
        not name.strip()
        or relative.is_absolute()
        or ".." in relative.parts
        or "\\" in name
        or "\0" in name
        or windows_drive
        or relative == Path(".")
    ):
        raise DataError(
            f"the sample index {name!r} cannot be a file name below {root}: it is empty, absolute or contains '..' "
            "or a backslash; rename the sample"
        )
    # Normalised, since "a/" and a suffix would otherwise become a file without a name in a folder "a".
    return Path(root) / (str(relative) + suffix)


def _sweep_once(folder: Path) -> None:
    """Remove abandoned temporaries in a folder before this process first writes into it."""
    name = os.path.abspath(folder)
    if name not in _swept:
        _swept.add(name)
        remove_abandoned_temporaries(folder)


def _synchronize(path: Path) -> None:
    """Synchronise a file, or the names in a folder, with the disk.

    Raises:
        OSError: If the disk reports an error.
    """
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return  # folders cannot be opened
    try:
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except PermissionError:
        if is_folder:
            return  # a folder may be writable but not readable
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNCHRONIZE:
            raise
    finally:
        os.close(descriptor)


def _elsewhere(error: OSError, folder: Path) -> bool:
    """Return True if an error names a file that is not in `folder`."""
    name = error.filename
    if not isinstance(name, str | os.PathLike):
        return False
    return not Path(os.path.abspath(name)).is_relative_to(os.path.abspath(folder))


def _free_space(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 2**20:.0f} MB"
    except OSError:
        return "unknown"


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


@contextmanager
def open_packed(path: Path, start: int, packing: str) -> Iterator[BinaryIO]:
    """Open the data that begin at a position of a file, unpacked; checksums are compared at their end.

    Args:
        path: The file.
        start: Position of the data, bytes.
        packing: "raw", "gzip" or "zlib".

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is not a regular file, or the data are damaged. This includes errors within the context.
    """
    with open_regular(path, 0) as raw:
        try:
            raw.seek(start)
            if packing == "raw":
                yield raw
            elif packing == "gzip":
                with igzip.IGzipFile(fileobj=raw, mode="rb") as unpacked:
                    yield unpacked  # type: ignore[misc]
            else:
                yield cast(BinaryIO, _Inflated(raw))
        except _GZIP_ERRORS as error:
            raise DataError(
                f"{path}: the compressed data are truncated or damaged ({error}); copy or download the file again"
            ) from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


class _Inflated(io.RawIOBase):
    """Unpacked bytes of a zlib stream."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._unpacker = isal_zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._unpacker.eof:
            packed = self._unpacker.unconsumed_tail or self._raw.read(_PACKED_PIECE)
            if not packed:
                raise EOFError("the compressed stream ends early")
            data = self._unpacker.decompress(packed, len(target))
            if data:
                target[: len(data)] = data
                return len(data)
        return 0


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
    with open_regular(path, 0) as raw:
        raw.seek(-min(4, os.fstat(raw.fileno()).st_size), os.SEEK_END)
        tail = read_up_to(raw, 4)
    return int.from_bytes(tail, "little")


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
