"""Scaling with the number of samples: start, memory and steps with 10, 100 and 1000 samples.

    python benchmarks/growth.py

Write small phantoms (16x16x16 voxels, gzip NIfTI), and run the start of a training with them in a separate process:
list, check, prepare (``prepare_subfunctions=True``), create the first batch. The first start prepares every sample; the
second one, which is measured, finds them on disk. Print one line of JSON, per number of samples: seconds of each part
and milliseconds per sample (minimum over the rounds); additional memory without memory-mapped files, and kilobytes per
sample relative to the smallest data set; and milliseconds per batch of 2 patches, all sizes in alternation, with the
median over the rounds of the ratio to the smallest data set.

Progress is printed to stderr.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from rivals import Rival

PROGRAM = Path(__file__).parent / "growth_start.py"


def write_cases(folder: Path, cases: int, edge: int) -> None:
    """Write noisy images of blobs."""
    rng = np.random.default_rng(0)
    for number in range(cases):
        labels = np.zeros((edge,) * 3, np.uint8)
        corner = rng.integers(0, edge // 2, 3)
        labels[tuple(slice(first, first + edge // 2) for first in corner)] = 1
        image = (100 * labels + rng.normal(0, 20, labels.shape)).astype(np.int16)
        case = folder / f"case_{number:05d}"
        case.mkdir(parents=True)
        nib.save(nib.Nifti1Image(image, np.eye(4)), case / "imaging.nii.gz")
        nib.save(nib.Nifti1Image(labels, np.eye(4)), case / "segmentation.nii.gz")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cases", type=int, nargs="+", default=[10, 100, 1000], help="numbers of samples (default: 10 100 1000)"
    )
    parser.add_argument("--edge", type=int, default=16, help="edge of a volume in voxels (default: 16)")
    parser.add_argument("--starts", type=int, default=3, help="number of measured starts (default: 3)")
    parser.add_argument("--rounds", type=int, default=9, help="number of rounds (default: 9)")
    parser.add_argument("--steps", type=int, default=200, help="steps per round (default: 200)")
    options = parser.parse_args()
    report: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        sides = {}
        for cases in options.cases:
            folder = Path(name) / str(cases)
            print(f"{cases} cases", file=sys.stderr, flush=True)
            write_cases(folder / "data", cases, options.edge)
            settings = {"folder": str(folder), "patch": [options.edge // 2] * 3}

            def start(settings: dict[str, Any] = settings) -> dict[str, Any]:
                with Rival(PROGRAM, sys.executable, settings) as program:
                    return program.ready

            first = start()
            again = [start() for _ in range(options.starts)]
            parts = {part: min(one["seconds"][part] for one in again) for part in first["seconds"]}
            report[str(cases)] = {
                "first_start_ms_per_case": round(1000 * first["seconds"]["all"] / cases, 2),
                "second_start_seconds": {part: round(seconds, 4) for part, seconds in parts.items()},
                "second_start_ms_per_case": round(1000 * parts["all"] / cases, 2),
                "memory_mb": round(statistics.median(one["bytes"] for one in again) / 1e6, 1),
            }
            sides[str(cases)] = stack.enter_context(Rival(PROGRAM, sys.executable, settings))
        times: dict[str, list[float]] = {size: [] for size in sides}
        for counts in [False] + [True] * options.rounds:
            for size, side in sides.items():
                seconds = side.ask("steps", count=options.steps)["seconds"]
                if counts:
                    times[size].append(1000 * seconds / options.steps)
    smallest = str(options.cases[0])
    for size, figures in report.items():
        more = int(size) - int(smallest)
        if more:
            figures["kb_per_case"] = round(1000 * (figures["memory_mb"] - report[smallest]["memory_mb"]) / more, 2)
        ratios = (one / other for one, other in zip(times[size], times[smallest], strict=True))
        figures["step_ms"] = round(statistics.median(times[size]), 3)
        figures["step_ratio"] = round(statistics.median(ratios), 2)
    print(json.dumps({"benchmark": "growth", "cases": report}))


if __name__ == "__main__":
    main()
