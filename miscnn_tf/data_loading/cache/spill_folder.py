"""Temporary folders that are removed when the program ends, and removal of those that killed programs left behind.

A process holds a lock on its folder; the operating system releases it when the process ends for any reason. Locks are
valid only within one running system, so the folder's name contains the boot's number: folders of other machines, and
those made before a restart, are left to ``miscnn-tf cleanup``.
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

from miscnn_tf._base.files import make_folder

logger = logging.getLogger(__name__)

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_HALF = 16  # hexadecimal digits: one half of a name is random, the other is the boot's


class SpillFolder:
    """A folder ``run-<32 hexadecimal digits>`` of this process.

    Args:
        parent: The folder in which it is created.

    Attributes:
        path: The folder.

    Raises:
        StorageError: If it cannot be created.
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
        """Remove the folder, and its parent if that is empty then; do nothing in a forked process."""
        if os.getpid() != self._owner:
            return
        _remove(self.path)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def remove_abandoned(folders: Iterable[Path]) -> None:
    """Remove the folders whose processes have ended; keep a folder if that is uncertain."""
    boot = _boot()
    for folder in folders:
        if not (folder.name.startswith("run-") and folder.name.endswith(boot)):
            continue
        descriptor = None
        with suppress(BlockingIOError, FileNotFoundError):  # in use, or removed meanwhile
            descriptor = _lock(folder)
        if descriptor is None:
            continue
        try:
            logger.info("removing %s, left by a killed program", folder)
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
    except OSError:  # unknown on this system, so no folder counts as abandoned
        return secrets.token_hex(_HALF // 2)


def _lock(folder: Path) -> int | None:
    """Lock a folder and return the descriptor; None if the system has no locks.

    Raises:
        BlockingIOError: If another process holds the lock.
        FileNotFoundError: If the folder does not exist.
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
        return None  # some file systems, such as NFS, have no locks
    return descriptor
