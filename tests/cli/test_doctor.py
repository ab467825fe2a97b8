from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from miscnn_tf._machine import dependencies
from miscnn_tf._machine import processor as machine
from miscnn_tf.cli import doctor as doctor_command
from miscnn_tf.cli import main as cli

GOOD: dict[str, Any] = {
    "tensorflow": "2.21.0",
    "keras": "3.15.1",
    "keras_backend": "tensorflow",
    "built_with": {"cuda": "12.5.1", "cudnn": "9"},
    "driver": None,
    "devices": [
        {"name": "CPU:0", "kind": "CPU", "model": None, "compute_capability": None, "seconds": 0.1, "error": None}
    ],
    "hardware": {
        "description": "CPU, float32, XLA off",
        "strategy": "DefaultStrategy",
        "devices_used": 1,
        "precision": "float32",
        "xla": False,
    },
    "bfloat16_instructions": False,
    "warnings": [],
    "said": [],
}
GPU = {
    "name": "GPU:0",
    "kind": "GPU",
    "model": "NVIDIA H100",
    "compute_capability": "9.0",
    "seconds": 2.0,
    "error": None,
}
RUN = subprocess.run
CARD = {"name": "NVIDIA H100", "driver_version": "550.54.15", "memory.total": "81559 MiB"}
LOUD = "RUNNING ON THE CPU although this machine has an NVIDIA driver (/dev/nvidia0): TensorFlow sees no GPU"


class Doctor:
    """The command on a machine that each test describes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.probe = copy.deepcopy(GOOD)
        self.graphics: dict[str, Any] = {"nvidia_smi": "not there", "message": None, "cards": []}
        self.required = [{"name": "numpy", "wanted": ">=2.0", "installed": "2.4.0", "fits": True}]
        self.capsys = capsys
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(doctor_command, "probe_devices", lambda: self.probe)
        monkeypatch.setattr(machine, "graphics", lambda: self.graphics)
        monkeypatch.setattr(dependencies, "required", lambda: self.required)
        monkeypatch.setattr(dependencies, "nvidia_packages", dict)

    def run(self, *options: str) -> tuple[int, str]:
        code = cli.main(["doctor", *options])
        return code, self.capsys.readouterr().out


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(monkeypatch, capsys)


def test_a_healthy_machine_is_0_and_everything_is_shown(doctor: Doctor) -> None:
    code, text = doctor.run()
    assert code == 0
    assert text.splitlines()[0] == "No problems found."
    for part in ("CPU, float32, XLA off", "precision", "cores", "memory", "disk", "numpy", "2.4.0", "miscnn_tf[dicom]"):
        assert part in text
    assert "CUDA 12.5.1, cuDNN 9" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_gpu_that_nobody_uses_is_said_loudly_in_the_first_line(doctor: Doctor) -> None:
    doctor.probe["driver"] = "/dev/nvidia0"
    doctor.probe["warnings"] = [LOUD]
    doctor.graphics = {"nvidia_smi": "works", "message": None, "cards": [CARD]}
    code, text = doctor.run()
    assert code == 1
    assert text.startswith("PROBLEM  RUNNING ON THE CPU although")
    assert "550.54.15" in text


def test_a_card_that_only_nvidia_smi_sees_is_said_too(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    doctor.graphics = {"nvidia_smi": "works", "message": None, "cards": [CARD]}
    code, text = doctor.run()
    assert (code, text.startswith("PROBLEM  RUNNING ON THE CPU")) == (1, True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    code, text = doctor.run()
    assert code == 0
    assert "hidden by CUDA_VISIBLE_DEVICES" in text


def test_a_gpu_that_is_used_is_fine(doctor: Doctor) -> None:
    doctor.probe["devices"].append(GPU)
    doctor.graphics = {"nvidia_smi": "works", "message": None, "cards": [CARD]}
    doctor.probe["driver"] = "/dev/nvidia0"
    doctor.probe["hardware"] |= {"description": "1 GPU NVIDIA H100, mixed_float16, XLA on", "xla": True}
    code, text = doctor.run()
    assert code == 0
    assert "NVIDIA H100, 9.0, works (2.0 s)" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"devices": [{**GPU, "error": "InternalError: no kernel image"}]}, "GPU:0 fails: InternalError"),
        ({"keras_backend": "torch"}, "Keras uses torch; unset KERAS_BACKEND"),
    ],
)
def test_what_is_broken_is_1(doctor: Doctor, change: dict[str, Any], said: str) -> None:
    doctor.probe |= change
    code, text = doctor.run()
    assert code == 1
    assert said in " ".join(text.split())


def test_a_tensorflow_that_does_not_start(doctor: Doctor) -> None:
    doctor.probe = {"failed": "it was killed by SIGILL", "said": []}
    code, text = doctor.run()
    assert code == 1
    assert text.startswith("PROBLEM  TensorFlow cannot be imported: it was killed by SIGILL")
    assert "processor" in text  # all that can be known without it is there


def test_missing_and_old_packages_and_a_broken_driver(doctor: Doctor) -> None:
    doctor.required = [
        {"name": "scipy", "wanted": ">=1.15", "installed": "1.2", "fits": False},
        {"name": "isal", "wanted": ">=1.7", "installed": None, "fits": False},
    ]
    doctor.graphics = {"nvidia_smi": "fails", "message": "version mismatch", "cards": []}
    code, text = doctor.run()
    assert code == 1
    text = " ".join(text.split())
    assert "scipy is 1.2, but >=1.15 is required" in text
    assert "isal is missing, but >=1.7 is required" in text
    assert "nvidia-smi fails: version mismatch" in text


def test_json_is_for_programs(doctor: Doctor) -> None:
    code, text = doctor.run("--json")
    report = json.loads(text)
    assert code == 0
    assert report["problems"] == []
    assert report["tensorflow"]["hardware"]["precision"] == "float32"
    assert report["memory"]["total_bytes"] > 0
    assert set(report["extras"]) >= {"dicom", "gpu", "onnx"}


def test_nobodys_name_is_in_the_report(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "erika"))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "erika" / "cuda"))
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", "secret")
    _, text = doctor.run()
    assert "erika" not in text
    assert "~/cuda" in text
    assert "secret" not in text


def run_probe_as(monkeypatch: pytest.MonkeyPatch, code: str) -> dict[str, Any]:
    """`probe_devices` where the program that it starts is another one."""
    monkeypatch.setattr(subprocess, "run", lambda command, **options: RUN([sys.executable, "-c", code], **options))
    return doctor_command.probe_devices()


def test_a_probe_that_is_killed_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run_probe_as(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    assert found["failed"].startswith("it was killed by SIGILL; TensorFlow may need instructions")
    found = run_probe_as(monkeypatch, "raise ImportError('no module named tensorflow')")
    assert found["failed"] == "ImportError: no module named tensorflow"


def test_what_tensorflow_says_of_cuda_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "2026-11-24 10:00:00.1: W external/xla/gpu_device.cc:2343] Cannot dlopen some GPU libraries."
    code = f"import sys; print('nothing', file=sys.stderr); print({line!r}, file=sys.stderr); print('{{}}')"
    assert run_probe_as(monkeypatch, code)["said"] == ["Cannot dlopen some GPU libraries."]


@pytest.mark.slow
def test_the_whole_command_in_a_process_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "miscnn_tf", "doctor", "--json"], capture_output=True, text=True, check=False
    )
    report = json.loads(done.stdout)
    assert done.returncode == (1 if report["problems"] else 0)
    assert report["tensorflow"]["devices"][0]["error"] is None
