from __future__ import annotations

import pytest

from miscnn_tf.planning import machine
from miscnn_tf.planning.machine import this_machine
from miscnn_tf.planning.plan import Machine


def test_memory_depends_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_machine_gb", lambda: 64.0)
    monkeypatch.setattr(machine, "has_nvidia_driver", lambda: True)
    assert this_machine() == Machine(gpu=True, memory_gb=8)
    monkeypatch.setattr(machine, "has_nvidia_driver", lambda: False)
    assert this_machine() == Machine(gpu=False, memory_gb=4)
    monkeypatch.setattr(machine, "_machine_gb", lambda: 6.0)
    assert this_machine() == Machine(gpu=False, memory_gb=3)
    assert this_machine(20) == Machine(gpu=False, memory_gb=20)
