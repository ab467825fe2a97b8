"""Dice of a U-Net on real MRI after a given training time, with the public API.

Train on the 100 training samples of the hippocampus split for a number of minutes, predict the 40 validation samples in
their geometries, and print one line of JSON: Dice per class and its standard deviation, steps, seconds per step, and
the share of the time that the training waited for data.

    python benchmarks/hippocampus.py --minutes 10
    python benchmarks/hippocampus.py --epochs 72

The time starts with the first step and includes building its graph. Times of the preparation of samples and of
predictions are reported separately. Progress is printed to stderr.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import miscnn_tf  # before TensorFlow, because it enables its fast kernels

# isort: split
import keras

from miscnn_tf.data_loading.interfaces import NIFTI_interface
from miscnn_tf.evaluation.detailed_validation import compute_dice, mean_dice
from miscnn_tf.neural_network.architecture.unet.standard import Architecture
from miscnn_tf.neural_network.callbacks import PolynomialDecay, TimeLimit
from miscnn_tf.neural_network.losses import dice_crossentropy
from miscnn_tf.processing.subfunctions import Normalization

PATCH_SHAPE = (40, 56, 40)
CLASSES = 3
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "hippocampus"


class Progress(keras.callbacks.Callback):
    """Count steps and seconds, and report to stderr about twice a minute."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.epochs = 0
        self.seconds = 0.0
        self.waited = 0.0
        self._begin = self._first = self._epoch_begin = self._last_report = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        """Start the clock."""
        self._begin = self._last_report = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the epoch's clock."""
        self._epoch_begin = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count."""
        self.steps += 1
        self.seconds = time.perf_counter() - self._begin
        if self.steps == 1:
            self._first = self.seconds

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add up the waiting time, and report."""
        logs = logs or {}
        now = time.perf_counter()
        self.epochs += 1
        self.waited += logs.get("data_wait", math.nan) * (now - self._epoch_begin)
        if now - self._last_report > 30:
            self._last_report = now
            print(
                f"{now - self._begin:6.0f} s  step {self.steps}  loss {logs.get('loss', math.nan):.4f}",
                file=sys.stderr,
                flush=True,
            )

    @property
    def seconds_per_step(self) -> float:
        """Mean seconds per step without the first one, which builds the graph."""
        return (self.seconds - self._first) / (self.steps - 1) if self.steps > 1 else math.nan


def run(minutes: float, seed: int, data: Path, epochs: int | None = None) -> dict[str, Any]:
    """Train, predict, and return the results."""
    split = json.loads((data / "split.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        interface = NIFTI_interface(channels=1, classes=CLASSES)
        predictions = f"{folder}/predictions"
        io = miscnn_tf.Data_IO(interface, str(data / "cases"), output_path=predictions, batch_path=f"{folder}/batches")
        augmentation = miscnn_tf.Data_Augmentation(mirror=True)
        # Left and right hippocampi are mirror images, so that predictions of flipped images can be averaged.
        augmentation.infaug = True
        preprocessor = miscnn_tf.Preprocessor(
            io,
            data_aug=augmentation,
            batch_size=4,
            subfunctions=[Normalization(mode="z-score")],
            analysis="patchwise-crop",
            patch_shape=PATCH_SHAPE,
            seed=seed,
        )
        preprocessor.patchwise_overlap = tuple(size // 2 for size in PATCH_SHAPE)
        model = miscnn_tf.Neural_Network(
            preprocessor,
            Architecture(n_filters=16, depth=3, batch_normalization=False, instance_normalization=True),
            loss=dice_crossentropy,
            metrics=[],
            learning_rate=1e-3,
            seed=seed,
        )
        model.verbose = 0

        begin = time.perf_counter()
        preprocessor.run_subfunctions(split["TRAINING"], training=True)
        prepared = time.perf_counter()
        progress = Progress()
        if epochs is None:  # more than the time allows
            limits = [PolynomialDecay(power=0.9, minutes=minutes), TimeLimit(minutes)]
            model.train(split["TRAINING"], epochs=1_000_000, callbacks=[*limits, progress])
        else:
            model.train(split["TRAINING"], epochs=epochs, callbacks=[PolynomialDecay(power=0.9), progress])
        trained = time.perf_counter()
        model.predict(split["VALIDATION"])
        predicted = time.perf_counter()

        dice = []
        for index in split["VALIDATION"]:
            truth = interface.load_segmentation(index)
            dice.append(compute_dice(truth, interface.load_prediction(index, predictions), CLASSES))
    cases = len(split["VALIDATION"])
    means = mean_dice(dice)
    return {
        "benchmark": "hippocampus",
        "minutes": minutes if epochs is None else None,
        "seed": seed,
        "dice": {
            str(number): {
                "mean": _rounded(means[number]),
                "std": _rounded(_spread([scores[number] for scores in dice])),
            }
            for number in range(CLASSES)
        },
        "mean_foreground_dice": _rounded(statistics.fmean(means[1:])),
        "cases": cases,
        "steps": progress.steps,
        "epochs": progress.epochs,
        "seconds_per_step": _rounded(progress.seconds_per_step),
        "share_waiting_for_data": _rounded(progress.waited / progress.seconds),
        "seconds": {
            "preparing": _rounded(prepared - begin),
            "training": _rounded(trained - prepared),
            "predicting_per_case": _rounded((predicted - trained) / cases),
        },
        "precision": model.hardware.precision,
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": {
            "python": platform.python_version(),
            "miscnn_tf": miscnn_tf.__version__,
            **{name: version(name) for name in ("tensorflow", "keras", "numpy", "batchgenerators")},
        },
    }


def _spread(scores: list[float]) -> float:
    """Return the sample standard deviation over the samples with the class."""
    present = [score for score in scores if not math.isnan(score)]
    return statistics.stdev(present) if len(present) > 1 else math.nan


def _rounded(value: float) -> float | None:
    # JSON does not support NaN.
    return float(f"{value:.4g}") if math.isfinite(value) else None


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Dice on the hippocampus split after a given training time.")
    parser.add_argument("--minutes", type=float, default=10.0, help="training time in minutes (default: 10)")
    parser.add_argument("--epochs", type=int, help="train for a number of epochs instead of a time")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, crops and augmentation (default: 0)")
    parser.add_argument(
        "--data", type=Path, default=DATA, help="folder with cases/ and split.json (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if not (arguments.data / "split.json").is_file():
        parser.error(f"{arguments.data} does not have split.json; give the folder of the data set with --data")
    print(json.dumps(run(arguments.minutes, arguments.seed, arguments.data, arguments.epochs)))


if __name__ == "__main__":
    main()
