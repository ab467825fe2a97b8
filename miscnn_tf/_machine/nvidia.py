"""Detection of an NVIDIA driver without TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: Files of an NVIDIA driver on Linux and in Windows' Linux subsystem (where /dev/dxg exists with any GPU).
NVIDIA_TRACES: Final = (
    Path("/dev/nvidia0"),
    Path("/dev/nvidiactl"),
    Path("/proc/driver/nvidia/version"),
    Path("/usr/lib/wsl/lib/libcuda.so.1"),
)


def has_nvidia_driver() -> bool:
    """Return True if files of an NVIDIA driver exist."""
    return any(trace.exists() for trace in NVIDIA_TRACES)
