"""Cost of ``fsync``: writing with and without it, measured in alternation.

    python benchmarks/durable.py

Write the largest outputs of commands: the state of a training after an epoch (arrays of the standard U-Net with 32
filters, depth 3, and its optimizer), and the compressed predictions of 100 hippocampus samples and of one large CT.
Print one line of JSON: median seconds with and without synchronising, the size, and the median ratio over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from miscnn_tf.data_loading.formats.nifti_writer import write_nifti
from miscnn_tf.runs.training_state_file import write_state

# Weights of the standard U-Net of `step.py`, and two moments of each weight in the optimizer.
STATE_VALUES = 3 * 5_650_000
GEOMETRY = {"affine": np.eye(4), "spacing": (1.0, 1.0, 1.0)}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="number of rounds (default: 9)")
    parser.add_argument("--folder", type=Path, help="folder on the disk to measure (default: the temporary folder)")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    arrays = {f"array {number}": rng.random(STATE_VALUES // 30, np.float32) for number in range(30)}
    small, large = (blobs(shape) for shape in ((36, 50, 36), (512, 512, 300)))
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        tasks: dict[str, Callable[[], Any]] = {
            "epoch state": lambda: write_state(folder / "state.npz", {}, arrays),
            "100 predictions": lambda: [write_nifti(folder / f"{n}.nii.gz", small, GEOMETRY) for n in range(100)],
            "one large prediction": lambda: write_nifti(folder / "large.nii.gz", large, GEOMETRY),
        }
        report: dict[str, Any] = {"benchmark": "durable", "rounds": options.rounds}
        for task, write in tasks.items():
            write()
            rounds = [(seconds(write, durable=True), seconds(write, durable=False)) for _ in range(options.rounds)]
            report[task] = {
                "with": round(statistics.median(one for one, _ in rounds), 3),
                "without": round(statistics.median(one for _, one in rounds), 3),
                "ratio": round(statistics.median(one / other for one, other in rounds), 2),
            }
        report["mb of state"] = round((folder / "state.npz").stat().st_size / 1e6)
    print(json.dumps(report))


def blobs(shape: tuple[int, ...]) -> np.ndarray:
    """Create a label map of a few round structures."""
    axes = np.ogrid[tuple(slice(-3, 3, length * 1j) for length in shape)]
    field = np.sin(axes[0] * 2) + np.cos(axes[1] * 3) + np.sin(axes[2])
    return (np.digitize(field, (0.5, 1.5))).astype(np.uint8)


def seconds(write: Callable[[], Any], *, durable: bool) -> float:
    """Measure the wall-clock time of `write`; without `durable`, ``fsync`` does nothing."""
    with mock.patch.object(os, "fsync", os.fsync if durable else lambda descriptor: None):
        begin = time.perf_counter()
        write()
        return time.perf_counter() - begin


if __name__ == "__main__":
    main()
