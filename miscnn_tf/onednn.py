"""oneDNN, TensorFlow's fast kernels for processors: asked for before TensorFlow is imported, which looks only then."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

#: What TensorFlow reads.
VARIABLE = "TF_ENABLE_ONEDNN_OPTS"

#: Linux' description of the processor.
CPUINFO = Path("/proc/cpuinfo")
# With any of these TensorFlow takes oneDNN without being asked (`IsMKLEnabled` in its tsl/util/util.cc).
_BY_ITSELF = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}


def ask_for_onednn() -> None:
    """Have TensorFlow compute by oneDNN, unless it was imported before, or the user's environment says otherwise.

    By itself TensorFlow takes oneDNN only on processors with instructions for neural networks, since its roundings
    differ from those of the older kernels. On others, laptops of a few years ago among them, a convolution of volumes
    with its gradients takes six times as long without it, a training step three times (``benchmarks/step.py``).
    """
    if "tensorflow" not in sys.modules and platform.machine() in {"x86_64", "AMD64"}:
        os.environ.setdefault(VARIABLE, "1")


def comes_too_late(environment: Mapping[str, str] = os.environ, cpuinfo: Path | None = None) -> bool:
    """Whether TensorFlow was imported before this package, and computes without oneDNN because of that.

    Args:
        environment: Where it is asked for.
        cpuinfo: Linux' description of the processor; where there is none, the answer is no.
    """
    flags = cpu_flags(cpuinfo)
    return VARIABLE not in environment and "avx" in flags and not flags & _BY_ITSELF


def computes(environment: Mapping[str, str] = os.environ, cpuinfo: Path | None = None) -> bool:
    """Whether TensorFlow's graphs compute by oneDNN; no where that is not certain.

    Args:
        environment: Where it is asked for.
        cpuinfo: Linux' description of the processor.
    """
    if sys.platform == "darwin" or platform.machine() not in {"x86_64", "AMD64"}:
        return False
    asked = environment.get(VARIABLE)
    return bool(cpu_flags(cpuinfo) & _BY_ITSELF) if asked is None else asked.lower() in {"1", "true"}


def cpu_flags(cpuinfo: Path | None = None) -> set[str]:
    """The instructions that the processor has, by Linux' names; empty where it does not say them.

    Args:
        cpuinfo: Linux' description of the processor.
    """
    try:
        text = (cpuinfo or CPUINFO).read_text(errors="replace")
    except OSError:
        return set()
    return {flag for line in text.splitlines() if line.startswith("flags") for flag in line.partition(":")[2].split()}
