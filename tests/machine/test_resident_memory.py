from __future__ import annotations

import time

import numpy as np
import pytest

from miscnn_tf._machine import resident_memory
from miscnn_tf._machine.resident_memory import PeakWatch, resident_bytes
from miscnn_tf.errors import ConfigurationError

MANY = 200 * 10**6


def test_what_is_written_to_becomes_resident():
    before = resident_bytes()
    array = np.ones(MANY, np.uint8)
    assert 0.9 * MANY < resident_bytes() - before < 1.3 * MANY
    del array


def test_a_watch_sees_what_is_gone_again():
    with PeakWatch() as watch:
        array = np.ones(MANY, np.uint8)
        time.sleep(0.05)
        del array
        time.sleep(0.05)
    assert 0.9 * MANY < watch.growth < 1.3 * MANY


def test_a_system_that_does_not_say_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(resident_memory, "_STATUS", tmp_path / "missing")
    with pytest.raises(ConfigurationError, match="needs Linux"):
        resident_bytes()
