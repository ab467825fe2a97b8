"""A training step beside PyTorch's, of the same network on the same batch, timed in turn in one run.

    python benchmarks/step.py
    python benchmarks/step.py --filters 16 --dice-steps 500 --seeds 0 1 2

The standard U-Net (Dice + cross-entropy, Adam), as `Neural_Network` trains it by ``fit``, and the same in PyTorch,
channels last, which is its fastest layout on a CPU (on a GPU with cuDNN's search for the fastest algorithms and the
fused Adam; with ``--compile`` through torch.compile); each with as many threads, from the same initial weights, on the
first GPU where there is one (and PyTorch's build has CUDA). Beside float32 each is timed in the mixed precisions that
the hardware computes. Prints one line of JSON: seconds of a step (the shortest of each round, and of these
the median), the operations of its convolutions, and ratios to PyTorch's in float32. A ratio is the median of the
rounds' ratios, which a busy machine moves less than times.

With ``--dice-steps`` each also trains that many steps on the same augmented batches of real MRI, at a rate that falls
linearly to zero, and the mean Dice of the foreground classes on the validation cases is compared; with several
``--seeds`` so often, from other weights on other batches, and the difference is the mean of theirs: the Dice of one
training moves by thousandths with a change as small as Adam's epsilon.

Progress goes to stderr. PyTorch is installed into an environment of its own the first time.
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
    """Time in turn, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filters", type=int, default=32, help="of the first level (default: 32)")
    parser.add_argument("--depth", type=int, default=3, help="how often the volume is halved (default: 3)")
    parser.add_argument("--batch-size", type=int, default=2, help="patches of a batch (default: 2)")
    parser.add_argument("--patch", type=int, nargs=3, default=PATCH_SHAPE, help="voxels (default: 40 56 40)")
    parser.add_argument(
        "--layout", choices=["last", "first"], default="last", help="PyTorch's channels (default: last)"
    )
    parser.add_argument("--compile", action="store_true", help="PyTorch's network through torch.compile")
    parser.add_argument("--normalisation", choices=["batch", "instance"], default="batch", help="(default: batch)")
    parser.add_argument("--rounds", type=int, default=10, help="how often each is timed (default: 10)")
    parser.add_argument("--steps", type=int, default=3, help="steps of a round (default: 3)")
    parser.add_argument("--dice-steps", type=int, default=0, help="train so many steps, and compare Dice (default: 0)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the trainings to compare (default: 0)")
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
        # The gradients of a convolution, to its input and its kernel, cost as much as itself each.
        report["gflop"] = round(3 * options.batch_size * step_keras.operations(model) / 1e9, 1)
        report |= timed(programs, Path(folder), settings, options.rounds, options.steps)
        report["versions"] = {"torch": programs[REFERENCE].ready["version"],
                              "tensorflow": programs["miscnn_tf float32"].ready["version"]}  # fmt: skip
    if options.dice_steps:
        report |= compared(sides, settings, options.dice_steps, options.seeds, options.data)
    print(json.dumps(report))


def low_precisions() -> list[str]:
    """What this machine computes beside float32."""
    if tf.config.list_physical_devices("GPU"):
        return ["float16", "bfloat16"]
    return ["bfloat16"] if cpu_computes_bfloat16() else []


def timed(
    programs: dict[str, Rival], folder: Path, settings: dict[str, Any], rounds: int, steps: int
) -> dict[str, Any]:
    """Seconds of a step, and ratios to the reference's."""
    rng = np.random.default_rng(0)
    shape = (settings["batch_size"], *settings["patch"])
    batch = folder / "batch.npz"
    images = rng.normal(size=(*shape, 1)).astype(np.float32)
    np.savez(batch, images=images, labels=rng.integers(0, settings["classes"], shape, dtype=np.uint8))
    times: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, program in programs.items():
            # The first step of a call is the one that follows the others' work; it does not count.
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
    """Mean foreground Dice of each side after the same steps on the same batches, for each seed."""
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
    """The same for one seed."""
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
    """The prepared validation images, padded at their ends with their least value to what the depth can halve."""
    paths = {}
    for index in samples:
        image = preprocessor.prepare_sample_subfunctions(index, training=False, keep=False).img_data
        widths = [(0, -size % multiple) for size in image.shape[:3]]
        paths[index] = f"{folder}/{index}.npy"
        np.save(paths[index], np.pad(image, [*widths, (0, 0)], constant_values=image.min()).astype(np.float32))
    return paths


if __name__ == "__main__":
    main()
