from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import tensorflow as tf

from miscnn_tf.neural_network import device_probe, hardware


def test_the_cpu_computes_and_the_answer_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    found = device_probe.probe()
    assert json.loads(json.dumps(found)) == found
    assert found["tensorflow"] == tf.__version__
    assert found["keras_backend"] == "tensorflow"
    cpu = found["devices"][0]
    assert (cpu["name"], cpu["kind"], cpu["error"]) == ("CPU:0", "CPU", None)
    chosen = hardware.choose_hardware()
    assert found["hardware"]["description"] == chosen.description
    assert found["hardware"]["precision"] == chosen.precision


def test_other_machines_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert device_probe.probe()["hardware"]["cluster"] == "worker 2 of 2: a:1, b:1"
    monkeypatch.setenv("TF_CONFIG", "a")
    assert "TF_CONFIG is not valid JSON" in device_probe.probe()["hardware"]["cluster"]


def test_a_device_that_does_not_compute_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> None:
        raise tf.errors.InternalError(None, None, "no kernel image\n is available")

    monkeypatch.setattr(tf.nn, "conv3d", broken)
    assert "no kernel image is available" in device_probe.probe()["devices"][0]["error"]
    monkeypatch.setattr(tf.nn, "conv3d", lambda image, *rest: tf.zeros((1, 3, 3, 3, 4), image.dtype))
    assert "gave 0 to 0 instead of 54" in device_probe.probe()["devices"][0]["error"]


def test_the_warning_of_an_unused_gpu_is_among_the_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for module in (hardware, device_probe):
        monkeypatch.setattr(module, "NVIDIA_TRACES", (tmp_path,))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    handlers = list(logging.getLogger("miscnn_tf.neural_network.hardware").handlers)
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU, and it is used")
    found = device_probe.probe()
    assert found["driver"] == str(tmp_path)
    assert [warning.split(" although")[0] for warning in found["warnings"]] == ["RUNNING ON THE CPU"]
    assert logging.getLogger("miscnn_tf.neural_network.hardware").handlers == handlers
