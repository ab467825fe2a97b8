"""Folders for what shall not outlive the program, and an end to those that a killed program left behind.

Whoever has such a folder holds a lock on it, which the system takes away from a program that is gone, however it went.
Locks mean something within one running system only, so that its boot's number is part of the name: folders that
another machine made, or this one before it was started anew, are left to ``miscnn-tf cleanup``.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

from miscnn_tf.data_loading.storage import make_folder

logger = logging.getLogger(__name__)

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_HALF = 16  # hexadecimal digits: one half of a name is drawn, the other is the boot's


class SpillFolder:
    """A folder ``run-<32 hexadecimal digits>`` of this process.

    Args:
        parent: Where it is made.

    Attributes:
        path: The folder.

    Raises:
        StorageError: If it cannot be made.
    """

    def __init__(self, parent: Path) -> None:
        self._owner = os.getpid()
        self._descriptor: int | None = None
        while True:
            self.path = make_folder(parent / f"run-{secrets.token_hex(_HALF // 2)}{_boot()}")
            # Before it is locked, another process may take it for abandoned.
            with suppress(BlockingIOError, FileNotFoundError):
                self._descriptor = _lock(self.path)
                return

    def remove(self) -> None:
        """Remove the folder, and the one that it is in if nothing else is; not in a forked process."""
        if os.getpid() != self._owner:
            return
        _remove(self.path)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def remove_abandoned(folders: Iterable[Path]) -> None:
    """Remove those of these folders that processes made which are gone; where that is not sure, a folder stays."""
    boot = _boot()
    for folder in folders:
        if not (folder.name.startswith("run-") and folder.name.endswith(boot)):
            continue
        descriptor = None
        with suppress(BlockingIOError, FileNotFoundError):  # it is in use, or gone by now
            descriptor = _lock(folder)
        if descriptor is None:
            continue
        try:
            logger.info("removing %s, which a program that was killed has left", folder)
            _remove(folder)
        finally:
            os.close(descriptor)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()  # only if nothing else is in it


def _boot() -> str:
    try:
        return _BOOT.read_text().replace("-", "").strip()[-_HALF:]
    except OSError:  # such systems do not tell; nothing is ever taken for abandoned
        return secrets.token_hex(_HALF // 2)


def _lock(folder: Path) -> int | None:
    """The descriptor that holds the lock; None where there are no locks.

    Raises:
        BlockingIOError: If somebody else holds it.
        FileNotFoundError: If there is no such folder.
    """
    if fcntl is None:
        return None
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.stat(folder), os.fstat(descriptor)):
            raise FileNotFoundError(errno.ENOENT, "it was removed before it was locked", str(folder))
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if isinstance(error, BlockingIOError | FileNotFoundError):
            raise
        return None  # such file systems have none, NFS for one
    return descriptor
