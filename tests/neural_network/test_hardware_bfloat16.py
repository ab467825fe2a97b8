"""Which processors compute bfloat16, and how fast."""

import pytest
import tensorflow as tf

from miscnn_tf.neural_network import hardware
from miscnn_tf.neural_network.hardware import bfloat16_speedup, cpu_computes_bfloat16


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("avx512f avx512_bf16", True), ("amx_bf16 amx_tile", True), ("avx512f avx512bw", False), ("xavx512_bf16y", False)],
)
def test_the_instructions_are_read(tmp_path, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"model name\t: x\nflags\t\t: {flags}\n")
    assert cpu_computes_bfloat16(tmp_path / "cpuinfo") is expected


def test_without_a_description_of_the_processor_the_answer_is_no(tmp_path):
    assert cpu_computes_bfloat16(tmp_path / "missing") is False


def test_it_is_measured_once_and_quickly(monkeypatch):
    seconds = iter([*range(0, 100)])
    monkeypatch.setattr(hardware.time, "perf_counter", lambda: float(next(seconds)))
    calls = []
    monkeypatch.setattr(hardware, "_convolve", lambda dtype: calls.append(dtype.name))
    bfloat16_speedup.cache_clear()
    try:
        assert bfloat16_speedup() == 1.0
        assert bfloat16_speedup() == 1.0
    finally:
        bfloat16_speedup.cache_clear()
    assert calls == ["float32", "bfloat16"] * 6


def test_the_fastest_rounds_are_compared(monkeypatch):
    now = [0.0]
    took = {"float32": iter([9.0, 3.0, 2.0, 4.0, 3.0, 3.0]), "bfloat16": iter([9.0, 1.0, 5.0, 1.5, 2.0, 2.0])}

    def convolve(dtype):
        now[0] += next(took[dtype.name])

    monkeypatch.setattr(hardware, "_convolve", convolve)
    monkeypatch.setattr(hardware.time, "perf_counter", lambda: now[0])
    bfloat16_speedup.cache_clear()
    try:
        assert bfloat16_speedup() == 2.0
    finally:
        bfloat16_speedup.cache_clear()


def test_this_machine_can_be_measured():
    assert 0.05 < bfloat16_speedup() < 20


def test_where_onednn_refuses_bfloat16_float32_is_chosen(monkeypatch):
    """Defect: with ONEDNN_MAX_CPU_ISA=AVX2 on a newer processor, making a network failed."""

    def convolve(dtype):
        if dtype == tf.bfloat16:
            raise tf.errors.AbortedError(None, None, "could not create a primitive descriptor")

    monkeypatch.setattr(hardware, "_convolve", convolve)
    monkeypatch.setattr(hardware, "cpu_computes_bfloat16", lambda: True)
    bfloat16_speedup.cache_clear()
    try:
        assert bfloat16_speedup() == 0
        assert hardware._cpu_precision(deterministic=False)[0] == "float32"
    finally:
        bfloat16_speedup.cache_clear()
