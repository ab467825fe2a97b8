"""Patches per second of our training pipeline beside nnU-Net's and MONAI's, timed in turn in one run.

    python benchmarks/loading.py
    python benchmarks/loading.py --rounds 3 --batches 50 --without monai

All make batches of augmented patches of the hippocampus MRI (z-scored, prepared before the clock runs) with as many
workers, and each is timed to the point where a training step gets them:

- ours: `Feed`, threads behind a ``tf.data.Dataset``; images by quadratic splines;
- nnU-Net's: ``nnUNetDatasetBlosc2`` and ``nnUNetDataLoader`` behind its ``NonDetMultiThreadedAugmenter``, processes,
  batchgeneratorsv2's transforms; images by linear interpolation;
- MONAI's: ``CacheDataset`` with ``RandCropByPosNegLabeld`` behind its ``DataLoader``, processes; places of the
  foreground and grids are cached; linear interpolation.

Augmentations differ in kind, hence two comparisons:

- ``default``: each as it comes. Ours: rotation by 15 degrees, scaling, brightness, contrast, gamma and noise, each with
  probability 0.15. nnU-Net's trainer: rotation by 30 degrees and scaling (0.2 each), noise, blur, brightness, contrast,
  low resolution, gamma, inverted gamma (0.1 to 0.3) and mirrors.
- ``alike``: in all three mirrors, rotation by 30 degrees, scaling by 0.7 to 1.4, brightness, contrast, gamma and noise,
  each with probability 0.2 (mirrors 0.5 per axis). MONAI draws rotation and scaling together. nnU-Net's blur and low
  resolution, which we do not have, are left out of it.

Prints one line of JSON: patches per second (median of the rounds), milliseconds of CPU time per patch, of all threads
and processes, and how many times as many patches per second ours makes (median of the rounds' ratios, which a busy
machine moves less than the times). nnU-Net and MONAI are installed into environments of their own the first time.
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
COMPARISONS = ("default", "alike")

#: What nnU-Net's trainer imports on the way to its loader, and no more: it also wants torchvision, for nothing of this.
NNUNET = (
    TORCH,
    "numpy scipy nibabel threadpoolctl tqdm pandas matplotlib seaborn einops",
    "scikit-image scikit-learn SimpleITK connected-components-3d blosc2",
    "--no-deps nnunetv2==2.8.1 batchgenerators==0.25.5 batchgeneratorsv2==0.3.6 acvl-utils==0.2.6 "
    "dynamic-network-architectures==0.4.4",
)
MONAI = (TORCH, "monai")


def main() -> None:
    """Time in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="hippocampus data (default: %(default)s)")
    parser.add_argument("--patch", type=int, nargs=3, default=[40, 56, 40], help="voxels (default: 40 56 40)")
    parser.add_argument("--batch-size", type=int, default=2, help="patches of a batch (default: 2)")
    parser.add_argument("--workers", type=int, default=2, help="threads, or processes (default: 2)")
    parser.add_argument("--batches", type=int, default=150, help="of a round (default: 150)")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is timed (default: 7)")
    parser.add_argument("--without", choices=["nnunet", "monai"], nargs="*", default=[], help="leave a side out")
    options = parser.parse_args()
    if not (options.data / "split.json").is_file():
        parser.error(f"there is no split.json in {options.data}; name the data set's folder with --data")
    pythons = {"miscnn_tf": Path(sys.executable)}
    if "nnunet" not in options.without:
        pythons["nnunet"] = python_with(*NNUNET)
    if "monai" not in options.without:
        pythons["monai"] = python_with(*MONAI)
    report = {comparison: compare(comparison, options, pythons) for comparison in COMPARISONS}
    print(json.dumps({"benchmark": "loading", "workers": options.workers, "patch": options.patch, **report}))


def compare(comparison: str, options: argparse.Namespace, pythons: dict[str, Path]) -> dict[str, Any]:
    """The figures of one comparison."""
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
            # MONAI has no augmentation of its own choice.
            if not (name == "monai" and comparison == "default")
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        cpu: dict[str, float] = {}
        before = {}
        for round_ in range(-1, options.rounds):
            for name, side in sides.items():
                if round_ == 0:
                    before[name] = side.cpu_seconds()
                # Those that had their turn fill their queues; nobody is to be timed beside that.
                time.sleep(0.5)
                seconds = side.ask("batches", count=options.batches)["seconds"]
                if round_ >= 0:  # the round before fills caches, and does not count
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
    """The volumes as ``<case>.image.npy`` and ``<case>.label.npy``, which need no library of a format."""
    for case in cases:
        for name, file in (("image", "imaging"), ("label", "segmentation")):
            volume = nib.load(data / "cases" / case / f"{file}.nii.gz")
            np.save(
                folder / f"{case}.{name}.npy", np.asarray(volume.dataobj, np.float32 if name == "image" else np.uint8)
            )


if __name__ == "__main__":
    main()
