"""The one score of all methods in `accuracy.py`: Dice per class and sample, from the label files that each wrote."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from miscnn_tf.evaluation.dice import compute_dice, mean_dice


def score(truth: Path, predictions: Path, classes: int) -> dict[str, Any]:
    """Score the predictions of a folder.

    Args:
        truth: Folder of label maps; their names are those of the predictions.
        predictions: Folder of the predicted label maps, on the grids of the images.
        classes: Number of classes, background included.

    Returns:
        ``cases``: the Dice of each foreground class by sample, None for a class in neither label map; ``dice``: the
        mean of each class over the samples; ``mean``: the mean over the classes.

    Raises:
        FileNotFoundError: If a prediction is missing.
        DataError: If a prediction is on another grid, or has another class.
    """
    scores = {}
    for file in sorted(truth.iterdir()):
        predicted = predictions / file.name
        if not predicted.is_file():
            raise FileNotFoundError(f"the method did not write {predicted}")
        dice = compute_dice(read_labels(file), read_labels(predicted), classes)
        scores[file.name.split(".")[0]] = dice[1:]
    means = mean_dice(list(scores.values()))
    return {
        "cases": {name: [_rounded(value) for value in values] for name, values in scores.items()},
        "dice": [_rounded(value) for value in means],
        "mean": _rounded(statistics.fmean(value for value in means if not math.isnan(value))),
    }


def read_labels(file: Path) -> np.ndarray:
    """Return the integers of a label file, NIfTI or PNG."""
    if file.suffix == ".png":
        with Image.open(file) as image:
            return np.asarray(image)
    return np.asanyarray(nib.load(file).dataobj)


def _rounded(value: float) -> float | None:
    # JSON does not support NaN.
    return round(value, 5) if math.isfinite(value) else None
