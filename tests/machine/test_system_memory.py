from __future__ import annotations

import os
from pathlib import Path

import pytest

from miscnn_tf._machine import system_memory as module
from miscnn_tf._machine.system_memory import SystemMemory, system_memory


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 4000 kB, of which 3000 are free, and a folder for the container's files."""
    (tmp_path / "meminfo").write_text("MemTotal:  4000 kB\nMemFree:  100 kB\n\nMemAvailable:  3000 kB\n")
    monkeypatch.setattr(module, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(module, "_CGROUPS", ((tmp_path / "max", tmp_path / "current"),))
    return tmp_path


def test_a_machine(container: Path) -> None:
    assert system_memory() == SystemMemory(4000 * 1024, 3000 * 1024)


def test_a_container_without_a_limit(container: Path) -> None:
    (container / "max").write_text("max\n")
    (container / "current").write_text(f"{3900 * 1024}\n")
    assert system_memory() == SystemMemory(4000 * 1024, 3000 * 1024)


def test_a_container_may_use_what_is_left_of_its_limit(container: Path) -> None:
    (container / "max").write_text(f"{1000 * 1024}\n")
    assert system_memory() == SystemMemory(1000 * 1024, 1000 * 1024)
    (container / "current").write_text(f"{700 * 1024}\n")
    assert system_memory() == SystemMemory(1000 * 1024, 300 * 1024)


@pytest.mark.parametrize("name", ["inactive_file", "total_inactive_file"])
def test_pages_of_files_that_nobody_uses_are_free(container: Path, name: str) -> None:
    (container / "max").write_text(f"{1000 * 1024}\n")
    (container / "current").write_text(f"{700 * 1024}\n")
    (container / "memory.stat").write_text(f"anon {100 * 1024}\n{name} {600 * 1024}\n")
    assert system_memory().available == 900 * 1024


def test_a_limit_beyond_the_machine_changes_nothing(container: Path) -> None:
    (container / "max").write_text(f"{2**62}\n")
    assert system_memory() == SystemMemory(4000 * 1024, 3000 * 1024)


def test_a_system_that_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEMINFO", tmp_path / "nothing")
    monkeypatch.setattr(module, "_CGROUPS", ())
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert system_memory() == SystemMemory(None, None)


def test_this_machine() -> None:
    memory = system_memory()
    assert memory.total is not None
    assert memory.available is None or 0 < memory.available <= memory.total
