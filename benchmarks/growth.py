"""What ten times as many samples cost: start, memory and steps with 10, 100 and 1000 cases, in one run.

    python benchmarks/growth.py

Writes so many small phantoms (16x16x16 voxels, gzip NIfTI), and does with them what a training does before its first
step, each time in a process of its own: list, check, prepare (``prepare_subfunctions=True``), make the first batch. The
first start prepares every sample; the second one, which counts, finds them on disk. Prints one line of JSON, per number
of cases: seconds of each part and milliseconds per case (least of the rounds); memory that came with it (files that are
memory-mapped left out), and kilobytes per case beyond the smallest data set; and milliseconds of making a batch of 2
patches, all sizes in turn, with their ratio to the smallest data set's (median of the rounds' ratios).

Progress goes to stderr.
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
    """Blobs in noise."""
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
    """Write, start, time in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, nargs="+", default=[10, 100, 1000], help="(default: 10 100 1000)")
    parser.add_argument("--edge", type=int, default=16, help="voxels of a volume along each axis (default: 16)")
    parser.add_argument("--starts", type=int, default=3, help="how often each is started again (default: 3)")
    parser.add_argument("--rounds", type=int, default=9, help="how often steps are timed (default: 9)")
    parser.add_argument("--steps", type=int, default=200, help="of a round (default: 200)")
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
