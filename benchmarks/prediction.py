"""Speed of predictions compared with MONAI, with the same network, measured in alternation.

    python benchmarks/prediction.py

`Neural_Network.predict_array` and MONAI's ``sliding_window_inference`` segment 256x256x128 voxels in patches of
96x96x64 with half overlap and Gaussian weights, to labels. Both use the standard U-Net with the same weights. MONAI
runs with channels first, as in its documentation, and with channels last, which is faster on CPUs. Print one line of
JSON: median seconds, median ratios to MONAI over the rounds, peak memory of each process (total, without memory-mapped
libraries, and of the prediction), the share of voxels with the same label (with uniform weights), and the share of this
machine's peak, measured by large matrix products, that the networks reach: operations of the convolutions per second of
the whole prediction.

Progress is printed to stderr. PyTorch and MONAI are installed into a separate environment in the first run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import step_keras
from rivals import TORCH, Rival, python_with
from step import low_precisions

from miscnn_tf.processing.patching.grid import PatchGrid

HERE = Path(__file__).parent
CLASSES = 3
REFERENCE, FASTEST, OURS = "MONAI", "MONAI channels last", "miscnn_tf float32"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filters", type=int, default=16, help="filters of the first level (default: 16)")
    parser.add_argument("--depth", type=int, default=3, help="number of times that the volume is halved (default: 3)")
    parser.add_argument(
        "--shape", type=int, nargs=3, default=[256, 256, 128], help="shape of the volume (default: 256 256 128)"
    )
    parser.add_argument("--patch", type=int, nargs=3, default=[96, 96, 64], help="patch shape (default: 96 96 64)")
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    parser.add_argument(
        "--normalisation", choices=["batch", "instance"], default="batch", help="kind of normalisation (default: batch)"
    )
    parser.add_argument("--rounds", type=int, default=2, help="number of rounds (default: 2)")
    options = parser.parse_args()
    settings = {
        "filters": options.filters,
        "depth": options.depth,
        "normalisation": options.normalisation,
        "compile": options.compile,
        "batch_size": 1,
        "patch": options.patch,
        "classes": CLASSES,
        "rate": 1e-3,
        "seed": 0,
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
    python = python_with(TORCH, "monai")
    sides = {
        REFERENCE: ("prediction_monai.py", python, {"precision": "float32", "layout": "first"}),
        FASTEST: ("prediction_monai.py", python, {"precision": "float32", "layout": "last"}),
        OURS: ("prediction_keras.py", sys.executable, {"precision": "float32"}),
    }
    for low in low_precisions():
        sides[f"{FASTEST} {low}"] = ("prediction_monai.py", python, {"precision": low, "layout": "last"})
        sides[f"miscnn_tf {low}"] = ("prediction_keras.py", sys.executable, {"precision": f"mixed_{low}"})
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        model = step_keras.network({**settings, "precision": "float32"}).model
        step_keras.save_weights(model, Path(folder, "weights.npz"))
        _write_volume(Path(folder, "volume.npy"), options.shape)
        settings |= {"weights": f"{folder}/weights.npz", "volume": f"{folder}/volume.npy"}
        programs = {
            name: stack.enter_context(Rival(HERE / program, other, {**settings, **own}))
            for name, (program, other, own) in sides.items()
        }
        report = measured(programs, folder, options.rounds)
        patches = len(PatchGrid(options.shape, options.patch, [size // 2 for size in options.patch]))
        report |= share_of_peak(programs, report["seconds"], patches * step_keras.operations(model))
        versions = {name: programs[name].ready["version"] for name in (REFERENCE, OURS)}
    shown = ("filters", "depth", "normalisation", "compile", "patch", "threads")
    print(
        json.dumps(
            {
                "benchmark": "prediction",
                **{name: settings[name] for name in shown},
                "shape": options.shape,
                "patches": patches,
                **report,
                "versions": {"monai": versions[REFERENCE], "tensorflow": versions[OURS]},
            }
        )
    )


def measured(programs: dict[str, Rival], folder: str, rounds: int) -> dict[str, Any]:
    """Measure seconds, ratios, memory, and the agreement of the labels."""
    before = {name: program.peak_bytes() for name, program in programs.items()}
    labels, peaks, private = {}, {}, {}
    for number, (name, program) in enumerate(programs.items()):
        output = f"{folder}/{number}.npy"
        with program.private_memory() as own:
            program.ask("predict")  # builds graphs, and is not measured
        peaks[name], private[name] = program.peak_bytes(), max(own)
        # Uniform weights, because MONAI limits Gaussian weights to at least 1/1000.
        program.ask("predict", output=output, mode="constant")
        labels[name] = np.load(output)
        print(f"{name} is ready", file=sys.stderr, flush=True)
    times: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds):
        for name, program in programs.items():
            times[name].append(program.ask("predict")["seconds"])
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return {
        "seconds": {name: round(statistics.median(values), 2) for name, values in times.items()},
        "to_monai": _ratios(times, REFERENCE),
        "to_monai_channels_last": _ratios(times, FASTEST),
        "peak_gb": {name: round(value / 2**30, 2) for name, value in peaks.items()},
        "peak_gb_without_libraries": {name: round(value / 2**30, 2) for name, value in private.items()},
        "peak_gb_of_prediction": {name: round((value - before[name]) / 2**30, 2) for name, value in peaks.items()},
        "same_labels": {name: round(float(np.mean(own == labels[REFERENCE])), 5) for name, own in labels.items()},
    }


def _precision(side: str) -> str:
    last = side.rpartition(" ")[2]
    return last if last in ("bfloat16", "float16") else "float32"


def _ratios(times: dict[str, list[float]], reference: str) -> dict[str, float]:
    rounds = {
        name: [own / other for own, other in zip(values, times[reference], strict=True)]
        for name, values in times.items()
    }
    return {name: round(statistics.median(ratios), 3) for name, ratios in rounds.items() if name != reference}


def share_of_peak(programs: dict[str, Rival], seconds: dict[str, float], work: float) -> dict[str, Any]:
    """Measure the peak of the machine, and return the share of it that the convolutions reach."""
    peak = programs[OURS].ask("peak")
    return {
        "peak_gflops": {dtype: round(value / 1e9, 1) for dtype, value in peak.items()},
        "gflop": round(work / 1e9, 1),
        "share_of_peak": {name: round(work / taken / peak[_precision(name)], 3) for name, taken in seconds.items()},
    }


def _write_volume(path: Path, shape: list[int]) -> None:
    """Write a noisy ball."""
    rng = np.random.default_rng(0)
    axes = np.ogrid[tuple(slice(-1, 1, complex(0, size)) for size in shape)]
    ball = sum(axis**2 for axis in axes) < 0.5
    np.save(path, (ball + 0.3 * rng.standard_normal(shape)).astype(np.float32)[..., np.newaxis])


if __name__ == "__main__":
    main()
