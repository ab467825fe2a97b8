"""Processor, disk space and NVIDIA driver of the machine, without TensorFlow."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

_CPUINFO = Path("/proc/cpuinfo")
_CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")
#: Instruction sets that affect the speed of networks.
_INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")

_NVIDIA_SMI = ("name", "driver_version", "memory.total", "memory.used", "compute_cap")
#: Files of an NVIDIA driver on Linux and in Windows' Linux subsystem (where /dev/dxg exists with any GPU).
NVIDIA_TRACES: Final = (
    Path("/dev/nvidia0"),
    Path("/dev/nvidiactl"),
    Path("/proc/driver/nvidia/version"),
    Path("/usr/lib/wsl/lib/libcuda.so.1"),
)


def processor() -> dict[str, Any]:
    """Return model, cores (of the machine, and usable by this process) and instruction sets."""
    text = ""
    with suppress(OSError):
        text = _CPUINFO.read_text(errors="replace")
    flags: set[str] = set()
    model = None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            flags.update(value.split())
        elif key.strip() == "model name" and model is None:
            model = value.strip()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with suppress(OSError, ValueError):  # limit of a container; "max" if there is none
        quota, period = _CGROUP_CPU.read_text().split()
        usable = min(usable or 1, max(1, round(int(quota) / int(period))))
    return {
        "model": model or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "cores_usable": usable,
        "instructions": [name for name in _INSTRUCTIONS if name in flags],
    }


def room(folders: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Return the free bytes of folders."""
    found = []
    for folder in folders:
        usage = None
        with suppress(OSError):
            usage = shutil.disk_usage(folder)
        found.append(
            {
                "folder": str(folder),
                "free_bytes": None if usage is None else usage.free,
                "total_bytes": None if usage is None else usage.total,
                "writable": os.access(folder, os.W_OK),
            }
        )
    return found


def graphics() -> dict[str, Any]:
    """Return the output of ``nvidia-smi``, which is part of NVIDIA's driver.

    Returns:
        ``{"nvidia_smi": "not there" | "works" | "fails", "message": …, "cards": [{"name": …, "driver_version": …}]}``.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return {"nvidia_smi": "not there", "message": None, "cards": []}
    command = [program, f"--query-gpu={','.join(_NVIDIA_SMI)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"nvidia_smi": "fails", "message": str(error), "cards": []}
    if done.returncode:
        return {"nvidia_smi": "fails", "message": (done.stdout + done.stderr).strip()[:500], "cards": []}
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
    cards = [dict(zip(_NVIDIA_SMI, row, strict=False)) for row in rows]
    return {"nvidia_smi": "works", "message": None, "cards": cards}


def has_nvidia_driver() -> bool:
    """Return True if files of an NVIDIA driver exist."""
    return any(trace.exists() for trace in NVIDIA_TRACES)
