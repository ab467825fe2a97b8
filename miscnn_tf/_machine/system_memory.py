"""Total and available memory, respecting container limits."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_MEMINFO = Path("/proc/meminfo")
#: Files with the limit and the usage of a container, for Linux' control groups v2 and v1.
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


class SystemMemory(NamedTuple):
    """Memory of the machine or the container.

    Attributes:
        total: Total memory in bytes; None if unknown.
        available: Bytes that a program can allocate without swapping; None if unknown.
    """

    total: int | None
    available: int | None


def system_memory() -> SystemMemory:
    """Return the current total and available memory.

    Example:
        >>> system_memory().total  # doctest: +SKIP
        25281855488
    """
    found = _numbers(_MEMINFO, 1024)
    total = found.get("MemTotal")
    if total is None:
        with suppress(AttributeError, ValueError, OSError):  # not a POSIX system
            total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available = found.get("MemAvailable")
    for limit_file, use_file in _CGROUPS:
        with suppress(OSError, ValueError):  # no such limit
            limit = int(limit_file.read_text())
            total = limit if total is None else min(total, limit)
            free = limit - _used(use_file)
            available = free if available is None else min(available, free)
    return SystemMemory(total, available)


def _used(use_file: Path) -> int:
    """Return the memory that a container cannot release: its usage without inactive file pages."""
    try:
        used = int(use_file.read_text())
    except (OSError, ValueError):
        return 0
    pages = _numbers(use_file.parent / "memory.stat")
    return max(0, used - pages.get("total_inactive_file", pages.get("inactive_file", 0)))


def _numbers(path: Path, unit: int = 1) -> dict[str, int]:
    """Read the lines ``name: number`` or ``name number`` of a file, if it exists."""
    found: dict[str, int] = {}
    with suppress(OSError):
        for line in path.read_text().splitlines():
            with suppress(ValueError):  # other lines
                name, number, *_ = line.replace(":", " ").split()
                found[name] = int(number) * unit
    return found
