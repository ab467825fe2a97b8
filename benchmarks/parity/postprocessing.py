"""The choice of the postprocessing beside nnU-Net's."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from comparison import Comparison
from scipy import ndimage

from miscnn_tf.data_loading.label_scheme import LabelScheme
from miscnn_tf.evaluation.postprocessing_choice import choose_for_label_maps
from miscnn_tf.processing.components import KEEP_LARGEST

_CLASSES: dict[str, Any] = {"labels": {"background": 0, "a": 1, "b": 2, "c": 3}}
_REGIONS: dict[str, Any] = {
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "inner": [3]},
    "regions_class_order": [1, 2, 3],
}
_DATA_SETS = {
    f"{name} {seed}": content for name, content in (("classes", _CLASSES), ("regions", _REGIONS)) for seed in range(6)
}


def compare(python: str) -> list[Comparison]:
    """Compare the steps that are chosen on random label maps with islands.

    Args:
        python: Interpreter of the environment with nnunetv2.
    """
    rng = np.random.default_rng(0)
    given: dict[str, np.ndarray] = {"data_sets": np.array(json.dumps(_DATA_SETS))}
    for name in _DATA_SETS:
        cases = [_case(rng) for _ in range(4)]
        given[f"{name}.truth"], given[f"{name}.predictions"] = map(np.stack, zip(*cases, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        source, done = Path(folder) / "in.npz", Path(folder) / "out.json"
        np.savez(source, **given)
        reference = Path(__file__).with_name("_reference_postprocessing.py")
        subprocess.run([python, str(reference), str(source), str(done)], check=True, capture_output=True)
        theirs = json.loads(done.read_text())
    found = []
    for name, content in _DATA_SETS.items():
        regions = {key: value for key, value in content["labels"].items() if isinstance(value, list)}
        scheme = LabelScheme.of(4, None, regions, content.get("regions_class_order"))
        choice = choose_for_label_maps(list(given[f"{name}.truth"]), list(given[f"{name}.predictions"]), scheme)
        ours = [list(step.labels) for step in choice.steps if step.operation == KEEP_LARGEST]
        what = f"postprocessing: {name}: {len(theirs[name])} steps of largest components"
        found.append(Comparison(what, float(ours != theirs[name]), 0))
    return found


def _case(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return nested boxes with random islands, and a prediction with other islands."""
    truth = np.zeros((14, 13, 12), np.uint8)
    for label in (1, 2, 3):
        truth[label : 9 - label, label : 9 - label, label : 9 - label] = label
    prediction = truth.copy()
    for labels, least in ((truth, 0.9), (prediction, 0.7)):
        noise = ndimage.gaussian_filter(rng.random(truth.shape), 0.7)
        islands = (noise > np.quantile(noise, rng.uniform(least, 1))) & (truth == 0)
        labels[islands] = rng.integers(1, 4, np.count_nonzero(islands))
    return truth, prediction
