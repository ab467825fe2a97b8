"""oneDNN, TensorFlow's fast kernels for CPUs, which must be enabled before TensorFlow is imported."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

#: Environment variable that TensorFlow reads at import.
VARIABLE = "TF_ENABLE_ONEDNN_OPTS"

_CPUINFO = Path("/proc/cpuinfo")
# With any of these CPU flags TensorFlow uses oneDNN by default (`IsMKLEnabled` in its tsl/util/util.cc).
_BY_ITSELF = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}


def ask_for_onednn() -> None:
    """Enable oneDNN, unless TensorFlow was imported before or the user's environment sets the variable.

    By default TensorFlow uses oneDNN only on processors with instructions for neural networks, because its rounding
    differs from that of the older kernels. On others, such as laptops of a few years ago, a 3D convolution with its
    gradients takes six times as long without it, a training step three times (``benchmarks/step.py``).
    """
    if "tensorflow" not in sys.modules and platform.machine() in {"x86_64", "AMD64"}:
        os.environ.setdefault(VARIABLE, "1")


def comes_too_late(environment: Mapping[str, str] = os.environ, cpuinfo: Path | None = None) -> bool:
    """Return True if TensorFlow was imported before this package and therefore computes without oneDNN.

    Args:
        environment: The environment variables.
        cpuinfo: Linux' description of the processor; False without one.
    """
    flags = cpu_flags(cpuinfo)
    return VARIABLE not in environment and "avx" in flags and not flags & _BY_ITSELF


def computes(environment: Mapping[str, str] = os.environ, cpuinfo: Path | None = None) -> bool:
    """Return True if TensorFlow's graphs certainly compute with oneDNN.

    Args:
        environment: The environment variables.
        cpuinfo: Linux' description of the processor.
    """
    if sys.platform == "darwin" or platform.machine() not in {"x86_64", "AMD64"}:
        return False
    asked = environment.get(VARIABLE)
    return bool(cpu_flags(cpuinfo) & _BY_ITSELF) if asked is None else asked.lower() in {"1", "true"}


def cpu_flags(cpuinfo: Path | None = None) -> set[str]:
    """Return the CPU flags by Linux' names; empty if unknown.

    Args:
        cpuinfo: Linux' description of the processor.
    """
    try:
        text = (cpuinfo or _CPUINFO).read_text(errors="replace")
    except OSError:
        return set()
    return {flag for line in text.splitlines() if line.startswith("flags") for flag in line.partition(":")[2].split()}
