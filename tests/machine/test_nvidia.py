from __future__ import annotations

from pathlib import Path

import pytest

from miscnn_tf._machine import nvidia


def test_what_other_drivers_leave_too_is_no_trace() -> None:
    assert all("nvidia" in path.name or "cuda" in path.name or "nvidia" in path.parts for path in nvidia.NVIDIA_TRACES)


def test_a_trace_of_the_driver_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "NVIDIA_TRACES", (tmp_path / "nvidia0", tmp_path / "version"))
    assert not nvidia.has_nvidia_driver()
    (tmp_path / "version").touch()
    assert nvidia.has_nvidia_driver()
