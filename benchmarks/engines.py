"""Speed of other programs for trained networks, ONNX Runtime and OpenVINO, beside ours on a CPU, in turns.

    python benchmarks/engines.py

All predict one patch with the standard U-Net of the same weights: `Neural_Network.predict_array` in float32, and in
bfloat16 if the processor has it, and the programs with the file of `Neural_Network.export_onnx`. Print one line of
JSON: median seconds, median ratios to ours in float32 over the rounds, and the share of voxels with the label of ours
in float32. int8 is not measured: it needs a calibration on the user's data.

Progress is printed to stderr. The extra ``onnx`` is needed. The programs are installed into a separate environment in
the first run.
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

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import step_keras
from rivals import Rival, python_with
from step import low_precisions

HERE = Path(__file__).parent
OURS = "miscnn_tf float32"
REQUIREMENTS = ("openvino>=2025.0", "onnxruntime>=1.20")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filters", type=int, default=16, help="filters of the first level (default: 16)")
    parser.add_argument("--depth", type=int, default=3, help="number of times that the patch is halved (default: 3)")
    parser.add_argument("--patch", type=int, nargs=3, default=[96, 96, 64], help="patch shape (default: 96 96 64)")
    parser.add_argument(
        "--normalisation", choices=["batch", "instance"], default="instance", help="kind (default: instance)"
    )
    parser.add_argument("--rounds", type=int, default=6, help="number of rounds (default: 6)")
    options = parser.parse_args()
    settings = {**vars(options), "batch_size": 1, "classes": 3, "rate": 1e-3, "seed": 0}
    settings["threads"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = python_with(*REQUIREMENTS)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        network = step_keras.network({**settings, "precision": "float32"})
        step_keras.save_weights(network.model, Path(folder, "weights.npz"))
        network.export_onnx(Path(folder, "network.onnx"))
        volume = np.random.default_rng(0).standard_normal((*options.patch, 1), np.float32)
        np.save(Path(folder, "volume.npy"), volume)
        settings |= {"weights": f"{folder}/weights.npz", "volume": f"{folder}/volume.npy"}
        settings["onnx"] = f"{folder}/network.onnx"
        lower = low_precisions()
        programs = {
            f"miscnn_tf {one}": ("prediction_keras.py", sys.executable, {"precision": of_keras})
            for one, of_keras in (("float32", "float32"), *((one, f"mixed_{one}") for one in lower))
        }
        programs["ONNX Runtime float32"] = (
            "engines_onnx.py",
            python,
            {"engine": "onnxruntime", "precision": "float32"},
        )
        for one in ("float32", *lower):
            programs[f"OpenVINO {one}"] = ("engines_onnx.py", python, {"engine": "openvino", "precision": one})
        running = {
            name: stack.enter_context(Rival(HERE / script, interpreter, {**settings, **own}))
            for name, (script, interpreter, own) in programs.items()
        }
        labels, times = {}, {name: [] for name in running}
        for name, program in running.items():
            program.ask("predict", output=f"{folder}/labels.npy")  # prepares kernels, and is not measured
            labels[name] = np.load(f"{folder}/labels.npy")
        for number in range(options.rounds):
            for name, program in running.items():
                times[name].append(program.ask("predict")["seconds"])
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
        versions = {name: program.ready["version"] for name, program in running.items()}
    report = {
        "seconds": {name: round(statistics.median(values), 3) for name, values in times.items()},
        "to_ours": {
            name: round(statistics.median(a / b for a, b in zip(values, times[OURS], strict=True)), 2)
            for name, values in times.items()
        },
        "same_labels": {name: round(float(np.mean(own == labels[OURS])), 5) for name, own in labels.items()},
    }
    shown = {name: settings[name] for name in ("filters", "depth", "normalisation", "patch", "threads")}
    print(json.dumps({"benchmark": "engines", **shown, **report, "versions": versions}))


if __name__ == "__main__":
    main()
