"""TensorFlow's fast kernels for processors are asked for in time, and it is told where that was too late."""

import logging
import os
import platform
import subprocess
import sys

import pytest

from miscnn_tf._machine.onednn import VARIABLE, comes_too_late, computes
from miscnn_tf.neural_network import hardware
from miscnn_tf.neural_network.hardware import choose_hardware

on_x86 = pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="asked for on x86 alone")


def in_a_new_program(script: str, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**inherited, **environment}
    )
    return done.stdout.strip()


@on_x86
def test_tensorflow_computes_with_it():
    # What it computes with is told by no public name; on processors with fewer instructions it is False by itself.
    script = """
import miscnn_tf
from tensorflow.python.util import _pywrap_util_port
print(_pywrap_util_port.IsMklEnabled())
"""
    assert in_a_new_program(script) == "True"


@on_x86
@pytest.mark.parametrize(("environment", "expected"), [({}, "1"), ({VARIABLE: "0"}, "0")])
def test_what_the_user_says_holds(environment, expected):
    script = f"import os, miscnn_tf; print(os.environ[{VARIABLE!r}])"
    assert in_a_new_program(script, **environment) == expected


def test_what_would_have_no_effect_is_not_said():
    # Or it could not be told from what was there before TensorFlow was imported.
    script = f"""
import os, sys, types
sys.modules["tensorflow"] = types.ModuleType("tensorflow")
import miscnn_tf
print({VARIABLE!r} in os.environ)
"""
    assert in_a_new_program(script) == "False"


@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        ("sse4_2 avx avx2 fma", {}, True),
        ("sse4_2 avx avx2 fma", {VARIABLE: "1"}, False),
        ("sse4_2 avx avx2 fma", {VARIABLE: "0"}, False),
        ("avx avx2 avx512f avx512_vnni", {}, False),
        ("avx avx2 avx_vnni", {}, False),
        ("fp asimd", {}, False),
    ],
)
def test_it_came_too_late_where_tensorflow_does_not_take_it_by_itself(tmp_path, flags, environment, expected):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"model name\t: x\nflags\t\t: {flags}\n")
    assert comes_too_late(environment, cpuinfo) is expected
    assert comes_too_late({}, tmp_path / "missing") is False


@on_x86
@pytest.mark.skipif(sys.platform == "darwin", reason="not there")
@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        ("avx avx2 fma", {}, False),
        ("avx avx2 fma", {VARIABLE: "1"}, True),
        ("avx avx2 avx512f avx512_vnni", {}, True),
        ("avx avx2 avx512f avx512_vnni", {VARIABLE: "0"}, False),
    ],
)
def test_whether_it_computes_is_known(tmp_path, flags, environment, expected):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"flags\t\t: {flags}\n")
    assert computes(environment, cpuinfo) is expected


def test_it_does_not_compute_on_other_processors(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert computes({VARIABLE: "1"}) is False


@pytest.mark.parametrize("late", [True, False])
def test_a_network_says_that_it_came_too_late(late, monkeypatch, caplog):
    monkeypatch.setattr(hardware, "comes_too_late", lambda: late)
    with caplog.at_level(logging.WARNING, logger="miscnn_tf"):
        choose_hardware()
    assert ("import miscnn_tf first" in caplog.text) is late
