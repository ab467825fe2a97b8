from __future__ import annotations

import pytest

from miscnn_tf._machine.system_memory import SystemMemory
from miscnn_tf.experiment import planner
from miscnn_tf.experiment.planner import Machine, this_machine


def test_memory_depends_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "system_memory", lambda: SystemMemory(64 * 2**30, 2**30))
    monkeypatch.setattr(planner, "has_nvidia_driver", lambda: True)
    cards = [{"name": "A", "memory.total": "81559 MiB"}, {"name": "B", "memory.total": "24564 MiB"}]
    monkeypatch.setattr(planner, "graphics", lambda: {"cards": cards})
    assert this_machine() == Machine(gpu=True, memory_gb=24)
    monkeypatch.setattr(planner, "graphics", lambda: {"cards": [{"name": "A", "memory.total": "[N/A]"}]})
    assert this_machine() == Machine(gpu=True, memory_gb=8)
    monkeypatch.setattr(planner, "graphics", lambda: {"cards": []})
    assert this_machine() == Machine(gpu=True, memory_gb=8)
    monkeypatch.setattr(planner, "has_nvidia_driver", lambda: False)
    assert this_machine() == Machine(gpu=False, memory_gb=4)
    monkeypatch.setattr(planner, "system_memory", lambda: SystemMemory(6 * 2**30, 2**30))
    assert this_machine() == Machine(gpu=False, memory_gb=3)
    monkeypatch.setattr(planner, "system_memory", lambda: SystemMemory(None, None))
    assert this_machine() == Machine(gpu=False, memory_gb=4)
    assert this_machine(20) == Machine(gpu=False, memory_gb=20)
