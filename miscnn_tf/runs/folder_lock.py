"""Lock on a run folder, so that one run at a time writes into it.

The lock is a file in the folder with the process that holds it. If the file system supports locks, the process also
locks the file, and the operating system releases this lock when the process ends. Otherwise the process is identified
by its id, its start time and the boot of the machine. A stale lock of a process on another machine cannot be detected;
the error message names the file to delete.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

from miscnn_tf._base.files import atomic_path, make_folder, put_in_place, remove_abandoned_temporaries
from miscnn_tf._base.holder import Holder, this_process
from miscnn_tf._base.plain_limits import parse_json
from miscnn_tf.errors import DataError, FolderInUseError, StorageError
from miscnn_tf.runs.names import LOCK_FILE, PREDICTIONS_FOLDER, RUNS_WITHIN

logger = logging.getLogger(__name__)

_LONGEST = 4096
_HELD_BY_ANOTHER = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_ATTEMPTS = 40
_PAUSE = 0.05  # seconds between two of them
_SETTLING = 0.5  # seconds after which two processes that replaced the same lock both read the last one written
_BEING_WRITTEN = 10.0  # seconds after which the creator of an empty lock file is assumed to have ended


@dataclass
class _Lock:
    path: Path
    descriptor: int
    thread: int
    process: int
    made_folder: bool
    depth: int = 0


_held: dict[str, _Lock] = {}
_guard = threading.Lock()


@contextmanager
def locked_folder(folder: str | Path) -> Iterator[Path]:
    """Hold the lock on a folder; re-entrant in the same thread.

    Temporary files of killed processes in the folder are removed first.

    Args:
        folder: The folder; created if missing. It is removed in the end if it was created here and is empty.

    Raises:
        FolderInUseError: If another process, or another thread, holds the lock.
        StorageError: If the folder cannot be written.

    Example:
        >>> with locked_folder("evaluation"):  # doctest: +SKIP
        ...     cross_validation(samples, model)
    """
    folder = Path(folder)
    key = os.path.realpath(folder)
    with _guard:
        lock = _held.get(key)
        if lock is None or lock.process != os.getpid():
            lock = _held[key] = _acquire(folder)
            _sweep(folder)
        elif lock.thread != threading.get_ident():
            raise FolderInUseError(
                f"the folder {folder} is in use by another thread of this process; choose another folder, or wait "
                "until that thread has finished"
            )
        lock.depth += 1
    try:
        yield folder
    finally:
        with _guard:
            lock.depth -= 1
            if not lock.depth and lock.process == os.getpid():
                del _held[key]
                _release(lock)


def move_aside(folder: str | Path) -> None:
    """Rename a folder to a dated name beside it and create an empty one; do nothing if the folder is empty.

    A warning with the new name, such as ``evaluation_2026-11-30_19-45-00``, is logged.

    Args:
        folder: The folder. This thread must hold its lock, and keeps it.

    Raises:
        StorageError: If the folder cannot be renamed; it is then unchanged.
        FolderInUseError: If another process locked the new empty folder.
    """
    folder = Path(folder)
    if all(path.name == LOCK_FILE for path in folder.iterdir()):
        return
    place = folder.resolve()
    if Path.cwd().is_relative_to(place):
        raise StorageError(f"could not move {place} aside: it is the working directory; start in another folder")
    target = _dated(folder if folder.name not in ("", "..") else place)
    with _guard:
        lock = _held[os.path.realpath(folder)]
        try:
            put_in_place(folder, target)
        except OSError as error:
            raise StorageError(
                f"could not move {folder} to {target}: {error.strerror or error}; move it yourself, or choose another "
                "folder for the new results"
            ) from error
        (target / LOCK_FILE).unlink(missing_ok=True)
        os.close(lock.descriptor)
        lock.descriptor, lock.made_folder = _take(make_folder(folder) / LOCK_FILE), True
    logger.warning("the earlier results in %s were moved to %s", folder, target)


def holder_of(folder: str | Path) -> str | None:
    """Describe the process that holds the lock on a folder; None if it is not locked."""
    path = Path(folder) / LOCK_FILE
    try:
        descriptor = _open(path)
    except OSError:
        return None
    try:
        has_lock, content = _lock(descriptor), _read(descriptor)
        return _described(content) if has_lock is False or _is_held(content, has_lock, descriptor) else None
    finally:
        os.close(descriptor)


def _acquire(folder: Path) -> _Lock:
    is_new = not folder.exists()
    for remaining in reversed(range(_ATTEMPTS)):
        path = make_folder(folder) / LOCK_FILE
        try:
            descriptor = _take(path)
            break
        except OSError as error:
            if isinstance(error, FolderInUseError):
                raise
            if isinstance(error, FileNotFoundError) and remaining:
                continue  # the process that created the folder has just removed it
            raise StorageError(
                f"could not lock the folder {folder}: {error.strerror or error}; make room, check {path}, or "
                "choose another folder"
            ) from error
    return _Lock(path, descriptor, threading.get_ident(), os.getpid(), is_new)


def _take(path: Path) -> int:
    """Take the lock and return its file descriptor.

    Raises:
        FolderInUseError: If another process holds the lock.
        OSError: If the file cannot be opened or written.
    """
    content: dict[str, Any] = {}
    for _ in range(_ATTEMPTS):
        is_new = True
        try:
            descriptor = _open(path, os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            is_new = False
            try:
                descriptor = _open(path)
            except FileNotFoundError:  # released in between
                continue
        mine = False
        try:
            has_lock, content = _lock(descriptor), _read(descriptor)
            if has_lock is False:
                holder = _holder(content)
                if holder is not None and holder.is_running is not False:
                    raise _in_use(path, content)
                time.sleep(_PAUSE)  # another process is taking or checking it
                continue
            if not _is_still(path, descriptor):
                continue
            if not is_new and _is_held(content, has_lock, descriptor):
                raise _in_use(path, content)
            if content:
                logger.warning("%s was left by %s, which has ended", path, _described(content))
            if has_lock or is_new:
                _write(descriptor)
                mine = True
                return descriptor
            return _replace(path)
        except OSError as error:
            if is_new and not isinstance(error, FolderInUseError):
                path.unlink(missing_ok=True)
            raise
        finally:
            if not mine:
                os.close(descriptor)
    raise _in_use(path, content)


def _replace(path: Path) -> int:
    """Replace a stale lock on a file system without locks; of several processes that do so, one succeeds."""
    with atomic_path(path) as temporary:
        temporary.write_text(_content(), encoding="utf-8")
    time.sleep(_SETTLING)
    descriptor = _open(path)
    content = _read(descriptor)
    if content.get("holder") == this_process().text:
        return descriptor
    os.close(descriptor)
    raise _in_use(path, content)


def _release(lock: _Lock) -> None:
    if fcntl is None:
        os.close(lock.descriptor)  # Windows cannot delete an open file
    with suppress(OSError):
        # Delete it while it is locked, so that no other process takes it in between.
        if fcntl is None or _is_still(lock.path, lock.descriptor):
            lock.path.unlink()
    if fcntl is not None:
        os.close(lock.descriptor)
    if lock.made_folder:
        with suppress(OSError):  # not empty
            lock.path.parent.rmdir()


def _open(path: Path, flags: int = 0) -> int:
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return descriptor


def _lock(descriptor: int) -> bool | None:
    """Lock the open file and return True, or False if it is locked already; None if the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD_BY_ANOTHER else None
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _is_held(content: dict[str, Any], has_lock: bool | None, descriptor: int) -> bool:
    """Return True if the process named in a lock file may still hold it, although the file itself is not locked."""
    holder = _holder(content)
    if holder is None:
        # With file locks, a running holder would have locked the file.
        return has_lock is None and time.time() - os.fstat(descriptor).st_mtime < _BEING_WRITTEN
    if holder == this_process():  # an earlier release could not delete it
        return False
    running = holder.is_running
    if running is None and has_lock and holder.same_kernel:  # file locks are shared between containers
        return False
    return running is not False


def _holder(content: dict[str, Any]) -> Holder | None:
    return Holder.from_text(str(content.get("holder")))


def _read(descriptor: int) -> dict[str, Any]:
    """Return the content of a lock file; empty if the file is empty or damaged."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        content = parse_json(os.read(descriptor, _LONGEST), LOCK_FILE, "delete it")
    except DataError:
        return {}
    return content if isinstance(content, dict) else {}


def _write(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, _content().encode())


def _content() -> str:
    return json.dumps(
        {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "holder": this_process().text,
        }
    )


def _described(content: dict[str, Any]) -> str:
    if not content:
        return "another process"
    return f"process {content.get('process')} on {content.get('host')} (since {content.get('since')})"


def _in_use(path: Path, content: dict[str, Any]) -> FolderInUseError:
    return FolderInUseError(
        f"the folder {path.parent} is in use by {_described(content)}. Wait until it has ended, or choose another "
        f"folder; if that process no longer runs, delete {path}"
    )


def _dated(folder: Path) -> Path:
    name = f"{folder.name}_{datetime.now():%Y-%m-%d_%H-%M-%S}"
    names = (name, *(f"{name}_{number}" for number in range(2, 1000)))
    return next(path for path in map(folder.with_name, names) if not path.exists())


def _sweep(folder: Path) -> None:
    """Remove temporary files of killed processes in a run folder and in those of its folds."""
    remove_abandoned_temporaries(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        inner = [
            entry.path
            for entry in entries
            if (entry.name == PREDICTIONS_FOLDER or RUNS_WITHIN.fullmatch(entry.name))
            and entry.is_dir(follow_symlinks=False)
        ]
        for path, _, _ in (step for each in inner for step in os.walk(each)):
            remove_abandoned_temporaries(Path(path))


def _forget() -> None:
    """Drop all locks in a forked process, which would otherwise keep them after its parent has ended."""
    global _guard
    _guard = threading.Lock()
    for lock in _held.values():
        with suppress(OSError):
            os.close(lock.descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
