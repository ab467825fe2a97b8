"""Plans of `miscnn_tf.experiment.network_plan` beside those of nnU-Net's planners, for data sets of many kinds."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from comparison import Comparison

from miscnn_tf.experiment.network_plan import (
    CONFIGURATIONS,
    PRESETS,
    SLICES,
    NetworkPlan,
    Plans,
    plan_configurations,
)

#: Kind of data set: shapes and spacings of some cases in our order of axes, channels, classes, share left by the crop.
DATA_SETS: dict[str, tuple[list[tuple[int, ...]], list[tuple[float, ...]], list[str], int, float]] = {
    "hippocampus MRI": ([(35, 51, 36), (34, 49, 35), (36, 50, 37)], [(1, 1, 1)] * 3, ["MRI"], 3, 1.0),
    "brain MRI, 4 contrasts": ([(138, 172, 140), (140, 170, 139)], [(1, 1, 1)] * 2, ["T1", "T1ce", "T2", "F"], 4, 0.4),
    "cine MRI, thick slices": (
        [(256, 216, 10), (216, 256, 9), (232, 288, 12)],
        [(1.56, 1.56, 10), (1.4, 1.4, 10), (1.37, 1.37, 5)],
        ["MRI"],
        4,
        1.0,
    ),
    "abdominal CT": (
        [(512, 512, 107), (512, 512, 90), (512, 512, 300)],
        [(0.78, 0.78, 3), (0.8, 0.8, 5), (0.7, 0.7, 1)],
        ["CT"],
        3,
        1.0,
    ),
    "liver CT": ([(512, 512, 432), (512, 512, 682)], [(0.77, 0.77, 1.0), (0.7, 0.7, 0.8)], ["CT"], 3, 1.0),
    "whole-body CT": ([(512, 512, 600), (500, 500, 900)], [(0.98, 0.98, 1.5), (1.0, 1.0, 1.2)], ["CT"], 105, 1.0),
    "prostate MRI": (
        [(320, 320, 20), (384, 384, 24), (256, 256, 19)],
        [(0.62, 0.62, 3.6), (0.5, 0.5, 4.0), (0.75, 0.75, 3.0)],
        ["T2", "ADC"],
        3,
        1.0,
    ),
    "sagittal thick slices": ([(11, 320, 320), (15, 448, 448)], [(4.4, 0.6, 0.6), (4.0, 0.5, 0.5)], ["MRI"], 6, 1.0),
    "coronal thick slices": ([(256, 30, 256)] * 3, [(0.9, 6.0, 0.9)] * 3, ["MRI"], 2, 1.0),
    "thick but many": ([(100, 100, 60)] * 4, [(0.7, 0.7, 2.5)] * 4, ["MRI"], 2, 1.0),
    "isotropic cube": ([(128, 128, 128)] * 5, [(1.0, 1.0, 1.0)] * 5, ["MRI"], 2, 1.0),
    "tiny cube": ([(9, 11, 7)] * 30, [(1.0, 1.0, 1.0)] * 30, ["MRI"], 2, 1.0),
    "flat": ([(300, 300, 5)] * 10, [(1.0, 1.0, 1.0)] * 10, ["MRI"], 2, 1.0),
    "huge microscopy": ([(1500, 1600, 1400)] * 3, [(0.004, 0.004, 0.0051)] * 3, ["EM"], 2, 1.0),
    "electron microscopy, thick": ([(1024, 1024, 100)] * 3, [(4, 4, 30)] * 3, ["noNorm"], 2, 1.0),
    "dose of radiotherapy": ([(200, 140, 110)] * 4, [(2.5, 2.5, 2.5)] * 4, ["CT", "dose"], 9, 1.0),
    "odd spacings": ([(97, 133, 61), (101, 120, 55)], [(1.1, 0.83, 2.1), (1.3, 0.9, 2.2)], ["PET"], 2, 0.7),
    "retina photographs": ([(999, 960)] * 20, [(1.0, 1.0)] * 20, ["rgb_to_0_1"] * 3, 2, 1.0),
    "small images": ([(64, 64)] * 50, [(1.0, 1.0)] * 50, ["grey"], 2, 1.0),
    "cells": ([(520, 696)] * 100, [(0.65, 0.65)] * 100, ["grey"], 2, 1.0),
    "X-rays": ([(2800, 2300), (3056, 2544), (2500, 2048)], [(0.14, 0.14)] * 3, ["grey"], 4, 1.0),
    "histology": ([(4000, 6000)] * 8, [(0.5, 0.5)] * 8, ["rgb_to_0_1"] * 3, 5, 1.0),
}

#: Presets and memory in GB; every kind of data is planned with the first and one of the others.
MEMORIES = (("plain", 8), ("plain", 24), ("plain", 80), ("plain", 4), ("residual_M", 8), ("residual_L", 24),
            ("residual_XL", 40))  # fmt: skip

#: The same plans for the tests, which run without nnU-Net.
TEST_FILE = Path(__file__).parents[2] / "tests" / "data" / "nnunet" / "plans.json"


def compare(python: str) -> list[Comparison]:
    """Compare all plans.

    Args:
        python: Interpreter of the environment with nnunetv2.
    """
    worst = {"spacing": 0.0, "patch": 0.0, "kernels and strides": 0.0, "features": 0.0, "batch": 0.0, "batch Dice": 0.0}
    plans = _plans(python)
    number = 0
    for kind, preset, memory, theirs in plans:
        ours = _ours(DATA_SETS[kind], preset, memory)
        for configuration in CONFIGURATIONS:
            if (configuration in ours.plans) != (configuration in theirs):
                print(f"  {kind}, {preset}, {memory} GB: only one has {configuration}: {ours.refusals}")
                worst = dict.fromkeys(worst, np.inf)
                continue
            if configuration not in theirs:
                continue
            found, number = ours.of(configuration), number + 1
            differences = _differences(found, theirs[configuration])
            for name, difference in differences.items():
                worst[name] = max(worst[name], difference)
            if any(difference > 1e-4 for difference in differences.values()):
                print(f"  {kind}, {preset}, {memory} GB, {configuration}: {differences}\n    ours {found}")
    text = f"of {len(DATA_SETS)} kinds of data, {number} plans"
    return [Comparison(f"planner: {name} {text}", value, 1e-4) for name, value in worst.items()]


def write_test_file(python: str) -> None:
    """Write nnU-Net's plans for the tests."""
    plans = [
        {
            "kind": kind,
            "shapes": DATA_SETS[kind][0],
            "spacings": DATA_SETS[kind][1],
            "classes": DATA_SETS[kind][3],
            "preset": preset,
            "memory_gb": memory,
            "configurations": {
                configuration: {name: value.tolist() for name, value in plan.items()}
                for configuration, plan in theirs.items()
            },
        }
        for kind, preset, memory, theirs in _plans(python)
    ]
    TEST_FILE.parent.mkdir(parents=True, exist_ok=True)
    TEST_FILE.write_text("[\n" + ",\n".join(map(json.dumps, plans)) + "\n]\n")


def _plans(python: str) -> list[tuple[str, str, float, dict[str, dict[str, np.ndarray]]]]:
    """Return nnU-Net's plans in our order of axes: kind of data, preset, memory, plan by configuration."""
    others = itertools.cycle(MEMORIES[1:])
    wanted = [(kind, *memory) for kind in DATA_SETS for memory in (MEMORIES[0], next(others))]
    reference = Path(__file__).with_name("_reference_planner.py")
    given = json.dumps([_for_nnunet(DATA_SETS[kind], preset, memory) for kind, preset, memory in wanted])
    done = subprocess.run([python, str(reference)], input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    plans = json.loads(done.stdout)
    return [(*key, _in_our_order(plan, len(DATA_SETS[key[0]][0][0]))) for key, plan in zip(wanted, plans, strict=True)]


def _for_nnunet(data: tuple[Any, ...], preset: str, memory: float) -> dict[str, Any]:
    shapes, spacings, channels, classes, cropped = data
    flat = len(shapes[0]) == 2
    return {
        # nnU-Net's readers reverse the axes, and give images a first axis of one voxel.
        "shapes": [[*([1] if flat else []), *shape[::-1]] for shape in shapes],
        "spacings": [[*([999] if flat else []), *map(float, spacing[::-1])] for spacing in spacings],
        "channels": channels,
        "classes": classes,
        "cropped": cropped,
        "preset": preset,
        "memory_gb": memory,
    }


def _ours(data: tuple[Any, ...], preset: str, memory: float) -> Plans:
    shapes, spacings, _, classes, _ = data
    return plan_configurations(PRESETS[preset], shapes, spacings, classes, memory)


def _in_our_order(plans: dict[str, Any], axes: int) -> dict[str, dict[str, np.ndarray]]:
    return {name: _configuration(plans, name, axes) for name in CONFIGURATIONS if name in plans["configurations"]}


def _configuration(plans: dict[str, Any], name: str, axes: int) -> dict[str, np.ndarray]:
    """Return a plan; one for slices of volumes without the axis across them, which it also leaves out."""
    theirs = plans["configurations"][name]
    network = theirs["architecture"]["arch_kwargs"]
    order = np.arange(2)[::-1] if axes == 2 else np.array(plans["transpose_backward"])[::-1]
    if axes == 3 and name == SLICES:
        order = order[order > 0] - 1

    def ordered(numbers: Any) -> np.ndarray:
        return np.asarray(numbers)[..., order]

    return {
        "spacing": ordered(theirs["spacing"]),
        "patch": ordered(theirs["patch_size"]),
        "strides": ordered(network["strides"]),
        "kernel_sizes": ordered(network["kernel_sizes"]),
        "blocks": np.array(network.get("n_conv_per_stage", network.get("n_blocks_per_stage"))),
        "features": np.array(network["features_per_stage"]),
        "batch": np.array(theirs["batch_size"]),
        "batch_dice": np.array(theirs["batch_dice"]),
    }


def _differences(found: NetworkPlan, theirs: dict[str, np.ndarray]) -> dict[str, float]:
    topology, axes = found.topology, list(found.network_axes)
    return {
        "spacing": _largest(np.array(found.spacing)[axes], theirs["spacing"]),
        "patch": _largest(np.array(found.patch_shape)[axes], theirs["patch"]),
        "kernels and strides": max(
            _largest(np.array(topology.strides)[:, axes], theirs["strides"]),
            _largest(np.array(topology.kernel_sizes)[:, axes], theirs["kernel_sizes"]),
            _largest(found.preset.blocks(len(topology.strides)), theirs["blocks"]),
        ),
        "features": _largest(found.features, theirs["features"]),
        "batch": _largest(found.batch_size, theirs["batch"]),
        "batch Dice": _largest(found.batch_dice, theirs["batch_dice"]),
    }


def _largest(ours: Any, theirs: Any) -> float:
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    return float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else np.inf
