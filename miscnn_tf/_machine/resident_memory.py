"""Resident memory of this process."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from miscnn_tf.errors import ConfigurationError

_STATUS = Path("/proc/self/status")
_INTERVAL = 0.001


def resident_bytes() -> int:
    """Return the resident memory in bytes (VmRSS of ``/proc/self/status``).

    Raises:
        ConfigurationError: On systems without this file.
    """
    try:
        lines = _STATUS.read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])
    except (OSError, StopIteration, ValueError, IndexError):
        raise ConfigurationError(
            f"{_STATUS} does not have the resident memory of the process; a memory budget needs Linux"
        ) from None


class PeakWatch:
    """Context manager that measures the growth of the resident memory, every millisecond.

    VmHWM is not used, because it is the peak since the start of the program, and resetting it would affect others.

    Attributes:
        growth: Bytes by which the peak exceeds the initial value; valid after the block.

    Example:
        >>> with PeakWatch() as watch:  # doctest: +SKIP
        ...     network(image)
        >>> watch.growth  # doctest: +SKIP
        123456789
    """

    def __enter__(self) -> Self:
        self._before = self._most = resident_bytes()
        self.growth = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name="peak of memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self.growth = max(self._most, resident_bytes()) - self._before

    def _look(self) -> None:
        while not self._end.wait(_INTERVAL):
            self._most = max(self._most, resident_bytes())
