"""The benchmarks run and print what they promise; how fast anything is, is not asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(*arguments: str) -> dict[str, Any]:
    """The line of JSON that a benchmark prints."""
    result = subprocess.run(
        [sys.executable, *arguments], cwd=BENCHMARKS, capture_output=True, text=True, timeout=900, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    line: dict[str, Any] = json.loads(result.stdout)
    return line


@pytest.mark.slow
def test_hippocampus(hippocampus):
    # Epochs, not minutes: what a busy machine reaches in a minute is no property of the code.
    report = run("hippocampus.py", "--epochs", "4", "--data", str(hippocampus))
    assert report["cases"] == 40
    assert report["steps"] == 100
    assert set(report["dice"]) == {"0", "1", "2"}
    means = [report["dice"][label]["mean"] for label in "12"]
    assert report["mean_foreground_dice"] == pytest.approx(sum(means) / 2, abs=1e-3)
    assert 0.6 < report["mean_foreground_dice"] < 1
    assert 0 <= report["share_waiting_for_data"] < 0.5


@pytest.mark.slow
def test_start():
    report = run("start.py")
    assert 0 < report["share_of_importing_tensorflow"]["import miscnn_tf"] < 0.5
    assert report["seconds"]["python"] < report["seconds"]["import tensorflow"]


@pytest.mark.slow
def test_start_of_a_training(hippocampus):
    training = run("start.py", "--training", "--data", str(hippocampus))["training"]
    parts = ("imports", "building", "preparing", "first_step")
    assert min(training[part] for part in parts) > 0
    assert training["seconds"] == pytest.approx(sum(training[part] for part in parts), rel=0.2)
    # Tracing is in the first step alone.
    assert training["second_step"] < training["first_step"]


@pytest.mark.slow
def test_loading(hippocampus):
    report = run("loading.py", "--rounds", "1", "--batches", "10", "--data", str(hippocampus))
    assert set(report["default"]["patches_per_second"]) == {"miscnn_tf", "nnunet"}
    assert set(report["alike"]["patches_per_second"]) == {"miscnn_tf", "nnunet", "monai"}
    for comparison in (report["default"], report["alike"]):
        assert min(comparison["patches_per_second"].values()) > 0
        assert min(comparison["cpu_ms_per_patch"].values()) > 0
        assert set(comparison["times_as_many_as"]) == set(comparison["patches_per_second"]) - {"miscnn_tf"}


@pytest.mark.slow
def test_large_volumes():
    small, large = "64x64x40", "128x128x80"
    arguments = ("--sizes", small, large, "--patch", "24", "24", "16", "--rounds", "1", "--batches", "2")
    report = run("large_volumes.py", *arguments)
    for where in ("in_memory", "memory_mapped"):
        assert report[where][small]["ratio"] == 1
        assert report[where][large]["ms_per_patch"] > 0
    cold = report["memory_mapped"][large].get("cold")  # where the system says what it holds in memory
    if cold is not None:
        assert 0 < cold["patches_mb"] <= cold["pages_mb"]
        # Nothing but the pages that the patches lie in; less, where the file system keeps its files in memory.
        assert cold["brought_mb"] <= cold["pages_mb"] + 0.1


@pytest.mark.slow
def test_growth():
    report = run("growth.py", "--cases", "4", "12", "--starts", "1", "--rounds", "1", "--steps", "3")["cases"]
    assert set(report) == {"4", "12"}
    assert report["4"]["step_ratio"] == 1
    for figures in report.values():
        assert figures["first_start_ms_per_case"] > 0
        parts = figures["second_start_seconds"]
        assert parts["all"] == pytest.approx(sum(parts[part] for part in set(parts) - {"all"}), abs=1e-3)


def test_augmentation():
    report = run("augmentation.py", "--rounds", "1")
    assert len(report["transforms"]) == 9
    assert all(figures["ratio"] > 0 for figures in report["transforms"].values())
    assert report["orders"]["3"] == {"time": 1, "difference": 0}
    assert report["orders"]["2"]["difference"] < 0.1 * report["orders"]["1"]["difference"]


@pytest.mark.slow
def test_architectures():
    report = run("architectures.py", "--filters", "4", "--depth", "2", "--edge", "8", "--rounds", "1")
    assert len(report["weights"]) >= 9
    for ratios in (report["step_to_standard"], report["prediction_to_standard"]):
        assert ratios["unet_standard"] == 1
        assert min(ratios.values()) > 0


@pytest.mark.slow
def test_step(hippocampus):
    size = ("--filters", "2", "--depth", "1", "--rounds", "1", "--steps", "1")
    report = run("step.py", *size, "--dice-steps", "3", "--seeds", "0", "1", "--data", str(hippocampus))
    assert min(report["seconds_per_step"].values()) > 0
    assert report["step_to_torch_float32"]["miscnn_tf float32"] > 0
    # The same batches from the same weights: after three steps rounding is all that can differ.
    for torch, ours in zip(report["dice"]["torch float32"], report["dice"]["miscnn_tf float32"], strict=True):
        assert abs(ours - torch) < 0.005
    assert abs(report["dice_minus_torch_float32"]["miscnn_tf float32"]) < 0.005
    first, second = report["dice"]["torch float32"]
    assert 0 < first < 1
    assert first != second  # other weights, other batches


@pytest.mark.slow
@pytest.mark.parametrize("normalisation", ["batch", "instance"])
def test_prediction(normalisation):
    shape = ("--shape", "24", "32", "16", "--patch", "16", "16", "8")
    size = ("--filters", "4", "--depth", "2", "--rounds", "1", "--normalisation", normalisation)
    report = run("prediction.py", *shape, *size)
    assert report["patches"] == 2 * 3 * 3
    # The same network, patches and weights: but for ties all labels are the same.
    assert min(value for name, value in report["same_labels"].items() if "bfloat16" not in name) > 0.999
    assert min(report["to_monai"].values()) > 0
    assert report["peak_gflops"]["float32"] > 0


@pytest.mark.slow
def test_memory():
    sizes = ["--size", "64", "64", "40", "--patch", "32", "32", "16"]
    report = run("memory.py", *sizes, "--classes", "2", "5", "--spacing", "1.5", "0", "--budget", "3GB")
    assert [(case["classes"], case["spacing"], case["budget"]) for case in report["cases"]] == [
        (classes, spacing, budget) for classes in (2, 5) for spacing in (1.5, 0) for budget in (None, "3GB")
    ]
    for case in report["cases"]:
        assert 0 < case["before_gb"] <= case["until_gb"]["read"] <= case["until_gb"]["written"] <= case["peak_gb"]
        assert case["probabilities_gb"] == pytest.approx(4 * case["classes"] * 64 * 64 * 40 / 1e9, abs=1e-3)
        if case["budget"]:
            assert case["slabs"] == 1
            assert case["peak_gb"] <= case["estimate_gb"] <= 3
