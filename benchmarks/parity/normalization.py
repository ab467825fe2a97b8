"""Normalisation and cropping beside nnU-Net's."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
from comparison import Comparison

from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.processing.subfunctions import CropNonzero, Normalization

_STATISTICS = (-75.0, 295.0, 99.4, 39.4)


def compare(python: str) -> list[Comparison]:
    """Compare all modes on one volume of two channels with an empty border and holes, and a photograph.

    Args:
        python: Interpreter of the environment with nnunetv2.
    """
    rng = np.random.default_rng(0)
    image = np.zeros((2, 30, 34, 26), np.float32)
    image[:, 4:25, 6:30, 3:20] = rng.normal(60, 90, (2, 21, 24, 17))
    image[:, 10:12, 12:15, 9:12] = 0
    photograph = rng.integers(0, 256, (40, 50)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        given, done = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, image=image, statistics=_STATISTICS, photograph=photograph)
        reference = Path(__file__).with_name("_reference_normalization.py")
        subprocess.run([python, str(reference), str(given), str(done)], check=True, capture_output=True)
        theirs = dict(np.load(done))
    sample = Sample("a", np.moveaxis(image, 0, -1), channels=2, classes=2, three_dim=True)
    CropNonzero().preprocessing(sample)
    cropped = sample.img_data
    box = np.array(sample.history[-1]["start"])
    comparisons = [
        Comparison("normalisation: box of what is not zero", float(np.abs(box - theirs["box"][:, 0]).max()), 0),
        _compared("cropped image", cropped, theirs["cropped"]),
    ]
    for name, arguments in {
        "ct": {"mode": "ct", "statistics": _STATISTICS},
        "none": {"mode": "none"},
        "minmax": {"mode": "minmax"},
        "z-score": {"mode": "z-score"},
        "z-score in the mask": {"mode": "z-score", "nonzero": True},
    }.items():
        comparisons.append(_compared(name, _normalized(cropped, arguments), theirs[name]))
    ours = _normalized(photograph[..., np.newaxis], {"mode": "rgb"})
    return [*comparisons, _compared("rgb", ours, theirs["rgb"][np.newaxis])]


def _normalized(image: np.ndarray, arguments: dict) -> np.ndarray:
    sample = Sample("a", image, channels=image.shape[-1], classes=2, three_dim=image.ndim == 4)
    Normalization(**arguments).preprocessing(sample)
    return sample.img_data


def _compared(name: str, ours: np.ndarray, theirs: np.ndarray) -> Comparison:
    return Comparison(f"normalisation: {name}", float(np.abs(np.moveaxis(ours, -1, 0) - theirs).max()), 1e-4)
