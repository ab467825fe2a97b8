"""oneDNN, TensorFlow's fast CPU kernels, which must be enabled before TensorFlow is imported."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

#: Environment variable that TensorFlow reads on import.
VARIABLE = "TF_ENABLE_ONEDNN_OPTS"

#: Linux' description of the processor.
CPUINFO = Path("/proc/cpuinfo")
# CPU flags with which TensorFlow uses oneDNN by default (`IsMKLEnabled` in its tsl/util/util.cc).
_BY_ITSELF = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}


def ask_for_onednn() -> None:
    """Enable oneDNN, unless TensorFlow is imported already, or the environment sets it.

    By default, TensorFlow uses oneDNN only on processors with instructions for neural networks, because its rounding
    differs from that of the older kernels. On other processors, such as those of older laptops, 3D convolutions with
    their gradients take six times as long without it, and a training step takes three times as long
    (``benchmarks/step.py``).
    """
    if "tensorflow" not in sys.modules and platform.machine() in {"x86_64", "AMD64"}:
        os.environ.setdefault(VARIABLE, "1")


def comes_too_late(environment: Mapping[str, str] = os.environ, cpuinfo: Path | None = None) -> bool:
    """Return True if TensorFlow does not use oneDNN because it was imported before this package.

    Args:
        environment: Environment variables.
        cpuinfo: Linux' description of the processor; without one the result is False.
    """
    flags = cpu_flags(cpuinfo)
    return VARIABLE not in environment and "avx" in flags and not flags & _BY_ITSELF


def computes(environment: Mapping[str, str] = os.environ, cpuinfo: Path | None = None) -> bool:
    """Return True if TensorFlow's graphs certainly use oneDNN.

    Args:
        environment: Environment variables.
        cpuinfo: Linux' description of the processor.
    """
    if sys.platform == "darwin" or platform.machine() not in {"x86_64", "AMD64"}:
        return False
    asked = environment.get(VARIABLE)
    return bool(cpu_flags(cpuinfo) & _BY_ITSELF) if asked is None else asked.lower() in {"1", "true"}


def cpu_flags(cpuinfo: Path | None = None) -> set[str]:
    """Return the instruction sets of the processor by their names in Linux, if known.

    Args:
        cpuinfo: Linux' description of the processor.
    """
    try:
        text = (cpuinfo or CPUINFO).read_text(errors="replace")
    except OSError:
        return set()
    return {flag for line in text.splitlines() if line.startswith("flags") for flag in line.partition(":")[2].split()}
