"""Patches per second of the training pipelines of miscnn_tf, nnU-Net and MONAI, measured in alternation.

    python benchmarks/loading.py
    python benchmarks/loading.py --rounds 3 --batches 50 --without monai

All create batches of augmented patches of the hippocampus MRI (z-scored, prepared before the measurement) with the same
number of workers. The time is measured at the input of a training step:

- miscnn_tf: `Feed`, threads behind a ``tf.data.Dataset``; images by quadratic splines;
- nnU-Net's: ``nnUNetDatasetBlosc2`` and ``nnUNetDataLoader`` behind its ``NonDetMultiThreadedAugmenter``, processes,
  batchgeneratorsv2's transforms; images by linear interpolation;
- MONAI's: ``CacheDataset`` with ``RandCropByPosNegLabeld`` behind its ``DataLoader``, processes; foreground positions
  and grids are cached; linear interpolation.

Augmentations differ, hence three comparisons:

- ``default``: the defaults of each. miscnn_tf: rotation by 15 degrees, scaling, brightness, contrast, gamma and noise,
  each with probability 0.15. nnU-Net's trainer: rotation by 30 degrees and scaling (0.2 each), noise, blur, brightness,
  contrast, low resolution, gamma, inverted gamma (0.1 to 0.3) and mirrors.
- ``nnunet``: that of nnU-Net's trainer in both (`NnUNetAugmentation`), images by linear interpolation.
- ``alike``: in all three mirrors, rotation by 30 degrees, scaling by 0.7 to 1.4, brightness, contrast, gamma and noise,
  each with probability 0.2 (mirrors 0.5 per axis). MONAI draws rotation and scaling together. nnU-Net's blur and low
  resolution are omitted.

Print one line of JSON: patches per second (median over the rounds), milliseconds of CPU time per patch of all threads
and processes, and the ratio of the patches per second of miscnn_tf to each (median over the rounds, which is less
affected by other programs than the times). nnU-Net and MONAI are installed into separate environments in the first run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from rivals import TORCH, Rival, python_with

HERE = Path(__file__).parent
DATA = HERE.resolve().parents[1] / "shared" / "data" / "hippocampus"
COMPARISONS = ("default", "nnunet", "alike")

#: Packages that nnU-Net's trainer imports for its loader. Its other dependencies are not used here.
NNUNET = (
    TORCH,
    "numpy scipy nibabel threadpoolctl tqdm pandas matplotlib seaborn einops",
    "scikit-image scikit-learn SimpleITK connected-components-3d blosc2",
    "--no-deps nnunetv2==2.8.1 batchgenerators==0.25.5 batchgeneratorsv2==0.3.6 acvl-utils==0.2.6 "
    "dynamic-network-architectures==0.4.4",
)
MONAI = (TORCH, "monai")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="hippocampus data (default: %(default)s)")
    parser.add_argument("--patch", type=int, nargs=3, default=[40, 56, 40], help="patch shape (default: 40 56 40)")
    parser.add_argument("--batch-size", type=int, default=2, help="patches per batch (default: 2)")
    parser.add_argument("--workers", type=int, default=2, help="threads or processes (default: 2)")
    parser.add_argument("--batches", type=int, default=150, help="batches per round (default: 150)")
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds (default: 7)")
    parser.add_argument("--without", choices=["nnunet", "monai"], nargs="*", default=[], help="omit a library")
    options = parser.parse_args()
    if not (options.data / "split.json").is_file():
        parser.error(f"{options.data} does not have split.json; give the folder of the data set with --data")
    pythons = {"miscnn_tf": Path(sys.executable)}
    if "nnunet" not in options.without:
        pythons["nnunet"] = python_with(*NNUNET)
    if "monai" not in options.without:
        pythons["monai"] = python_with(*MONAI)
    report = {comparison: compare(comparison, options, pythons) for comparison in COMPARISONS}
    print(json.dumps({"benchmark": "loading", "workers": options.workers, "patch": options.patch, **report}))


def compare(comparison: str, options: argparse.Namespace, pythons: dict[str, Path]) -> dict[str, Any]:
    """Run one comparison."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        cases = json.loads((options.data / "split.json").read_text(encoding="utf-8"))["TRAINING"]
        write_arrays(options.data, cases, Path(folder))
        settings = {
            "augmentation": comparison,
            "data": str(options.data.resolve()),
            "cases": cases,
            "folder": folder,
            "patch": options.patch,
            "batch_size": options.batch_size,
            "workers": options.workers,
        }
        sides = {
            name: stack.enter_context(Rival(HERE / f"loading_{name}.py", python, settings))
            for name, python in pythons.items()
            # MONAI does not have default augmentations.
            if not (name == "monai" and comparison != "alike")
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        cpu: dict[str, float] = {}
        before = {}
        for round_ in range(-1, options.rounds):
            for name, side in sides.items():
                if round_ == 0:
                    before[name] = side.cpu_seconds()
                # Wait until the queues of the others are full, so that they do not affect the measurement.
                time.sleep(0.5)
                seconds = side.ask("batches", count=options.batches)["seconds"]
                if round_ >= 0:  # round -1 fills caches, and is not counted
                    rates[name].append(options.batches * options.batch_size / seconds)
                    print(f"{comparison}, {name}: {rates[name][-1]:.1f} patches/s", file=sys.stderr, flush=True)
        for name, side in sides.items():
            patches = options.rounds * options.batch_size * (options.batches + side.ready["skipped"])
            cpu[name] = 1000 * (side.cpu_seconds() - before[name]) / patches
    return {
        "patches_per_second": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "cpu_ms_per_patch": {name: round(value, 2) for name, value in cpu.items()},
        "times_as_many_as": {
            name: round(statistics.median(a / b for a, b in zip(rates["miscnn_tf"], values, strict=True)), 2)
            for name, values in rates.items()
            if name != "miscnn_tf"
        },
        "versions": {name: side.ready["version"] for name, side in sides.items()},
    }


def write_arrays(data: Path, cases: list[str], folder: Path) -> None:
    """Write the volumes as ``<case>.image.npy`` and ``<case>.label.npy``, which numpy can read."""
    for case in cases:
        for name, file in (("image", "imaging"), ("label", "segmentation")):
            volume = nib.load(data / "cases" / case / f"{file}.nii.gz")
            np.save(
                folder / f"{case}.{name}.npy", np.asarray(volume.dataobj, np.float32 if name == "image" else np.uint8)
            )


if __name__ == "__main__":
    main()
