"""Whether there is an NVIDIA driver, found out without starting TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: What an NVIDIA driver leaves on Linux, and under Windows' Linux subsystem (whose /dev/dxg is there with any GPU).
NVIDIA_TRACES: Final = (
    Path("/dev/nvidia0"),
    Path("/dev/nvidiactl"),
    Path("/proc/driver/nvidia/version"),
    Path("/usr/lib/wsl/lib/libcuda.so.1"),
)


def has_nvidia_driver() -> bool:
    """Whether an NVIDIA driver has left a trace on this machine."""
    return any(trace.exists() for trace in NVIDIA_TRACES)
