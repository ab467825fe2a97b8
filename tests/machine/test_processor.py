from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from miscnn_tf._machine import processor as machine

CPUINFO = """\
processor\t: 0
model name\t: A Fast Processor
flags\t\t: fpu avx2 fma avx512f avx512_bf16

processor\t: 1
model name\t: A Fast Processor
flags\t\t: fpu avx2 fma avx512f avx512_bf16
"""


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, output: str, code: int = 0) -> None:
    """A program that says what NVIDIA's would say."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\nexit {code}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine, "_CGROUP_CPU", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    found = machine.processor()
    assert found["model"] == "A Fast Processor"
    assert found["instructions"] == ["avx2", "fma", "avx512f", "avx512_bf16"]
    assert found["cores_usable"] == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.processor()["cores_usable"] == 8


def test_room(tmp_path: Path) -> None:
    here, nowhere = machine.room([tmp_path, tmp_path / "nowhere"])
    assert 0 < here["free_bytes"] <= here["total_bytes"]
    assert here["writable"]
    assert nowhere["free_bytes"] is None
    assert not nowhere["writable"]


def test_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(
        tmp_path, monkeypatch, "NVIDIA H100, 550.54.15, 81559 MiB, 3 MiB, 9.0\nNVIDIA A2, 550.54.15, 1 MiB, 0, 8.6"
    )
    found = machine.graphics()
    assert found["nvidia_smi"] == "works"
    assert [card["name"] for card in found["cards"]] == ["NVIDIA H100", "NVIDIA A2"]
    assert found["cards"][0]["driver_version"] == "550.54.15"
    assert found["cards"][0]["compute_cap"] == "9.0"


def test_a_broken_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, "Failed to initialize NVML: Driver/library version mismatch", code=18)
    found = machine.graphics()
    assert found["nvidia_smi"] == "fails"
    assert "version mismatch" in found["message"]
    assert found["cards"] == []


def test_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.graphics() == {"nvidia_smi": "not there", "message": None, "cards": []}


def test_what_other_drivers_leave_too_is_no_trace() -> None:
    assert all("nvidia" in path.name or "cuda" in path.name or "nvidia" in path.parts for path in machine.NVIDIA_TRACES)


def test_a_trace_of_the_driver_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "NVIDIA_TRACES", (tmp_path / "nvidia0", tmp_path / "version"))
    assert not machine.has_nvidia_driver()
    (tmp_path / "version").touch()
    assert machine.has_nvidia_driver()
