"""Identification of the process that holds a temporary file or a folder, across processes and restarts."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_MACHINE: Final = Path("/etc/machine-id")
_NAMESPACE: Final = Path("/proc/self/ns/pid")

#: Number of hexadecimal digits of `Holder.text`.
DIGITS: Final = 27
_TEXT = re.compile(r"([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{6})([0-9a-f]{5})")


@dataclass(frozen=True)
class Holder:
    """Identity of a process, with which other processes on the same machine can check whether it is running.

    Attributes:
        machine: Digest of host name and machine id.
        boot: Digest of the machine's boot.
        namespace: Digits of the process-id namespace, which differs between containers.
        process: The process id.
        started: Start time in clock ticks, since process ids are reused.
    """

    machine: str
    boot: str
    namespace: str
    process: int
    started: int

    @property
    def text(self) -> str:
        """The holder as 27 hexadecimal digits."""
        return f"{self.machine}{self.boot}{self.namespace}{self.process:06x}{self.started:05x}"

    @classmethod
    def from_text(cls, text: str) -> Holder | None:
        """Parse a holder from its text; None if the text is invalid."""
        parts = _TEXT.fullmatch(text)
        return None if parts is None else cls(parts[1], parts[2], parts[3], int(parts[4], 16), int(parts[5], 16))

    @property
    def same_kernel(self) -> bool:
        """True if the process was started under the running kernel, also in another container."""
        return bool(self.boot.strip("0")) and self.boot == this_process().boot

    @property
    def is_running(self) -> bool | None:
        """True if the process is still running; None if this is unknown."""
        own = this_process()
        if self == own:
            return True
        if self.machine != own.machine:
            return None
        if self.boot != own.boot:
            return False
        if self.namespace != own.namespace or os.name == "nt":  # os.kill would end a process there
            return None
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except (OSError, OverflowError):  # a process of another user
            pass
        state, started = _state(self.process)
        return state not in ("Z", "X") and started in (None, self.started)


def this_process() -> Holder:
    """Return the holder that identifies the running process."""
    return _holder(os.getpid())


@cache
def _holder(process: int) -> Holder:
    machine = _digest(f"{socket.gethostname()}\n{_read(_MACHINE)}", 8)
    boot = _read(_BOOT)
    namespace = 0
    with suppress(OSError):
        namespace = _NAMESPACE.stat().st_ino
    return Holder(
        machine,
        _digest(boot, 4) if boot else "0000",
        f"{namespace % 16**4:04x}",
        process % 16**6,
        _state(process)[1] or 0,
    )


def _state(process: int) -> tuple[str, int | None]:
    """Return state and start time of a process on Linux; ``("", None)`` if unknown."""
    try:
        # The name of the program, in parentheses, may contain spaces and parentheses.
        fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], int(fields[19]) % 16**5
    except (OSError, ValueError, IndexError):
        return "", None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""


def _digest(text: str, digits: int) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()[:digits]
