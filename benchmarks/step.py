"""Speed of a training step compared with PyTorch, with the same network and batch, measured in alternation.

    python benchmarks/step.py
    python benchmarks/step.py --filters 16 --dice-steps 500 --seeds 0 1 2
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python benchmarks/step.py --compile  # as on a processor with AVX2

The network is the standard U-Net (Dice + cross-entropy, Adam), trained by `Neural_Network` with ``fit``, and in PyTorch
with channels last, which is its fastest layout on CPUs (on GPUs with cuDNN's search for the fastest algorithms and the
fused Adam; with ``--compile`` through torch.compile). Both use the same number of threads and initial weights, and the
first GPU if there is one (and PyTorch's build has CUDA). They are measured in float32 and in the mixed precisions that
the hardware supports. Print one line of JSON: seconds of a step (median over the rounds of the minimum of a round),
operations of its convolutions, and ratios to PyTorch in float32. A ratio is the median over the rounds, which is less
affected by other programs than times.

With ``--dice-steps``, both also train for this number of steps on the same augmented batches of real MRI, with a linear
decrease of the learning rate to zero, and the mean Dice of the foreground classes of the validation samples is
compared. Several ``--seeds`` repeat it with other weights and batches, and the differences are averaged, because the
Dice of one training varies by thousandths with changes as small as Adam's epsilon.

Progress is printed to stderr. PyTorch is installed into a separate environment in the first run.
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
import tensorflow as tf
from hippocampus import CLASSES, DATA, PATCH_SHAPE
from rivals import TORCH, Rival, python_with

import miscnn_tf
from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.evaluation.detailed_validation import compute_dice
from miscnn_tf.neural_network.data_generator import DataGenerator
from miscnn_tf.neural_network.hardware import cpu_computes_bfloat16
from miscnn_tf.processing.subfunctions import Normalization

HERE = Path(__file__).parent
RATE = 1e-3
REFERENCE = "torch float32"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filters", type=int, default=32, help="filters of the first level (default: 32)")
    parser.add_argument("--depth", type=int, default=3, help="number of times that the volume is halved (default: 3)")
    parser.add_argument("--batch-size", type=int, default=2, help="patches per batch (default: 2)")
    parser.add_argument("--patch", type=int, nargs=3, default=PATCH_SHAPE, help="patch shape (default: 40 56 40)")
    parser.add_argument(
        "--layout",
        choices=["last", "first"],
        default="last",
        help="position of the channels in PyTorch (default: last)",
    )
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    parser.add_argument(
        "--normalisation", choices=["batch", "instance"], default="batch", help="kind of normalisation (default: batch)"
    )
    parser.add_argument("--rounds", type=int, default=10, help="number of rounds (default: 10)")
    parser.add_argument("--steps", type=int, default=3, help="steps per round (default: 3)")
    parser.add_argument(
        "--dice-steps", type=int, default=0, help="number of training steps to compare Dice (default: 0)"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="random seeds of these trainings (default: 0)"
    )
    parser.add_argument("--data", type=Path, default=DATA, help="hippocampus data (default: %(default)s)")
    options = parser.parse_args()
    settings = {
        "filters": options.filters,
        "depth": options.depth,
        "normalisation": options.normalisation,
        "layout": options.layout,
        "compile": options.compile,
        "batch_size": options.batch_size,
        "patch": options.patch,
        "classes": CLASSES,
        "rate": RATE,
        "seed": 0,
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
    torch = python_with(TORCH, "numpy")
    sides = {
        REFERENCE: ("step_torch.py", torch, "float32"),
        "miscnn_tf float32": ("step_keras.py", sys.executable, "float32"),
    }
    for low in low_precisions():
        sides[f"torch {low}"] = ("step_torch.py", torch, low)
        sides[f"miscnn_tf {low}"] = ("step_keras.py", sys.executable, f"mixed_{low}")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        weights = Path(folder, "weights.npz")
        model = step_keras.network({**settings, "precision": "float32"}).model
        step_keras.save_weights(model, weights)
        programs = {
            name: stack.enter_context(
                Rival(HERE / program, python, {**settings, "weights": str(weights), "precision": precision})
            )
            for name, (program, python, precision) in sides.items()
        }
        report: dict[str, Any] = {"benchmark": "step", **settings, "weights": model.count_params()}
        # Each gradient of a convolution, by its input and by its kernel, costs as much as the convolution.
        report["gflop"] = round(3 * options.batch_size * step_keras.operations(model) / 1e9, 1)
        report |= timed(programs, Path(folder), settings, options.rounds, options.steps)
        report["versions"] = {"torch": programs[REFERENCE].ready["version"],
                              "tensorflow": programs["miscnn_tf float32"].ready["version"]}  # fmt: skip
    if options.dice_steps:
        report |= compared(sides, settings, options.dice_steps, options.seeds, options.data)
    print(json.dumps(report))


def low_precisions() -> list[str]:
    """Return the precisions of this machine other than float32."""
    if tf.config.list_physical_devices("GPU"):
        return ["float16", "bfloat16"]
    # oneDNN's variable limits the instructions that both libraries use, here to those of older processors.
    limited = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper().startswith(("SSE", "AVX2"))
    return ["bfloat16"] if cpu_computes_bfloat16() and not limited else []


def timed(
    programs: dict[str, Rival], folder: Path, settings: dict[str, Any], rounds: int, steps: int
) -> dict[str, Any]:
    """Measure the seconds of a step, and their ratios to the reference."""
    rng = np.random.default_rng(0)
    shape = (settings["batch_size"], *settings["patch"])
    batch = folder / "batch.npz"
    images = rng.normal(size=(*shape, 1)).astype(np.float32)
    np.savez(batch, images=images, labels=rng.integers(0, settings["classes"], shape, dtype=np.uint8))
    times: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, program in programs.items():
            # The first step of a call follows the work of others, and is not counted.
            taken = program.ask("steps", batch=str(batch), count=steps + 1)[1:]
            if number:  # the first round builds graphs
                times[name].append(min(taken))
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    ratios = {
        name: statistics.median(own / other for own, other in zip(values, times[REFERENCE], strict=True))
        for name, values in times.items()
        if name != REFERENCE
    }
    return {
        "seconds_per_step": {name: round(statistics.median(values), 3) for name, values in times.items()},
        "step_to_torch_float32": {name: round(value, 3) for name, value in ratios.items()},
    }


def compared(
    sides: dict[str, tuple[str, Any, str]], settings: dict[str, Any], steps: int, seeds: list[int], data: Path
) -> dict[str, Any]:
    """Measure the mean foreground Dice of both after the same steps on the same batches, for each seed."""
    dice: dict[str, list[float]] = {name: [] for name in sides}
    for seed in seeds:
        for name, value in compared_once(sides, {**settings, "seed": seed}, steps, data).items():
            dice[name].append(value)
    differences = {name: np.subtract(values, dice[REFERENCE]).mean() for name, values in dice.items()}
    return {
        "dice_steps": steps,
        "seeds": seeds,
        "dice": {name: [round(value, 4) for value in values] for name, values in dice.items()},
        "dice_minus_torch_float32": {name: round(float(value), 4) for name, value in differences.items()},
    }


def compared_once(
    sides: dict[str, tuple[str, Any, str]], settings: dict[str, Any], steps: int, data: Path
) -> dict[str, float]:
    """Measure it for one seed."""
    split = json.loads((data / "split.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        interface = NIFTI_interface(channels=1, classes=CLASSES)
        preprocessor = miscnn_tf.Preprocessor(
            miscnn_tf.Data_IO(interface, str(data / "cases"), batch_path=f"{folder}/store"),
            batch_size=settings["batch_size"],
            subfunctions=[Normalization(mode="z-score")],
            analysis="patchwise-crop",
            patch_shape=settings["patch"],
            seed=settings["seed"],
        )
        batches = _write_batches(preprocessor, split["TRAINING"], steps, folder)
        cases = _write_cases(preprocessor, split["VALIDATION"], 2 ** settings["depth"], folder)
        weights = folder / "weights.npz"
        step_keras.save_weights(step_keras.network({**settings, "precision": "float32"}).model, weights)
        rates = [RATE * (1 - number / steps) for number in range(steps)]
        dice = {}
        for name, (program, python, precision) in sides.items():
            print(f"seed {settings['seed']}, {name}: {steps} steps", file=sys.stderr, flush=True)
            with Rival(HERE / program, python, {**settings, "weights": str(weights), "precision": precision}) as side:
                side.ask("train", batches=batches, rates=rates)
                outputs = [f"{path}.{name}.npy" for path in cases.values()]
                side.ask("predict", images=list(cases.values()), outputs=outputs)
            scores = []
            for index, output in zip(cases, outputs, strict=True):
                truth = np.asarray(interface.load_segmentation(index))
                inside = tuple(slice(0, size) for size in truth.shape[:3])
                scores.append(compute_dice(truth.reshape(truth.shape[:3]), np.load(output)[inside], CLASSES)[1:])
            dice[name] = float(np.nanmean(scores))
    return dice


def _write_batches(preprocessor: Any, samples: list[str], steps: int, folder: Path) -> list[str]:
    generator = DataGenerator(samples, preprocessor, training=True, shuffle=True, iterations=steps, labels=True)
    paths = []
    for number in range(steps):
        images, labels = generator.batch(0, number)
        paths.append(f"{folder}/batch_{number}.npz")
        np.savez(paths[-1], images=images, labels=labels)
    return paths


def _write_cases(preprocessor: Any, samples: list[str], multiple: int, folder: Path) -> dict[str, str]:
    """Write the prepared validation images, padded at their ends with their minimum to multiples for the depth."""
    paths = {}
    for index in samples:
        image = preprocessor.prepare_sample_subfunctions(index, training=False, keep=False).img_data
        widths = [(0, -size % multiple) for size in image.shape[:3]]
        paths[index] = f"{folder}/{index}.npy"
        np.save(paths[index], np.pad(image, [*widths, (0, 0)], constant_values=image.min()).astype(np.float32))
    return paths


if __name__ == "__main__":
    main()
