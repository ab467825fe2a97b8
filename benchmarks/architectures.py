"""Times of training steps and predictions of each U-Net relative to the standard one, measured in alternation.

    python benchmarks/architectures.py --filters 8 --depth 3 --edge 32

Print one line of JSON: the number of weights of each network, and the times of its steps and predictions relative to
those of the standard U-Net, for one batch of two volumes with this edge, in float32. A time is the minimum over all
rounds, which is least affected by other programs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import miscnn_tf  # noqa: F401 (before TensorFlow, because it enables its fast kernels)

# isort: split
import keras
import numpy as np

from miscnn_tf.neural_network.architecture import architectures
from miscnn_tf.neural_network.losses import dice_crossentropy

CLASSES = 3


def make(name: str, filters: int, depth: int, edge: int) -> keras.Model:
    """Create the network of a name; all have the same widths and depth."""
    if name == "unet_plain":
        widths = {"feature_maps": [filters * 2**level for level in range(depth)]}
    else:
        widths = {"n_filters": filters, "depth": depth}
    model: keras.Model = architectures.get(name)(**widths).create_model((edge, edge, edge, 1), CLASSES)
    model.compile(keras.optimizers.Adam(1e-4), loss=dice_crossentropy, jit_compile=False)
    return model


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Measure the wall-clock time of one call."""
    begin = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begin


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filters", type=int, default=8, help="filters of the first level")
    parser.add_argument("--depth", type=int, default=3, help="number of times that the volume is halved")
    parser.add_argument("--edge", type=int, default=32, help="edge of the volume in voxels")
    parser.add_argument("--rounds", type=int, default=20, help="number of rounds")
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    grid = (2, options.edge, options.edge, options.edge)
    image = rng.normal(size=(*grid, 1)).astype("float32")
    truth = np.eye(CLASSES, dtype="float32")[rng.integers(0, CLASSES, grid)]
    names = [name for name in architectures.names() if name.startswith("unet_")]
    models = {name: make(name, options.filters, options.depth, options.edge) for name in names}
    steps: dict[str, list[float]] = {name: [] for name in names}
    predictions: dict[str, list[float]] = {name: [] for name in names}
    # The first round compiles, and is not counted.
    for counts in [False] + [True] * options.rounds:
        for name, model in models.items():
            step = seconds(model.train_on_batch, image, truth)
            prediction = seconds(model.predict_on_batch, image)
            if counts:
                steps[name].append(step)
                predictions[name].append(prediction)

    def ratios(times: dict[str, list[float]]) -> dict[str, float]:
        standard = min(times["unet_standard"])
        return {name: round(min(values) / standard, 2) for name, values in times.items()}

    print(
        json.dumps(
            {
                "benchmark": "architectures",
                "filters": options.filters,
                "depth": options.depth,
                "edge": options.edge,
                "weights": {name: model.count_params() for name, model in models.items()},
                "standard_step_seconds": round(min(steps["unet_standard"]), 4),
                "step_to_standard": ratios(steps),
                "prediction_to_standard": ratios(predictions),
            }
        )
    )


if __name__ == "__main__":
    main()
