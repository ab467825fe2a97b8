"""Classes, regions and voxels without annotation beside nnU-Net's."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from comparison import Comparison

from miscnn_tf.data_loading.interfaces import DatasetJSON_interface
from miscnn_tf.data_loading.label_scheme import LabelScheme
from miscnn_tf.evaluation.scores import score_by_scheme
from miscnn_tf.processing.preparation import patch_locations

_REGIONS = {"background": 0, "whole tumour": [1, 2, 3], "tumour core": [2, 3], "enhancing": 3}
_DATA_SETS: dict[str, dict[str, Any]] = {
    "classes": {"labels": {"background": 0, "liver": 1, "spleen": 2}},
    "classes, ignored voxels": {"labels": {"background": 0, "liver": 1, "spleen": 2, "ignore": 3}},
    "regions": {"labels": _REGIONS, "regions_class_order": [1, 2, 3]},
    "regions in another order": {"labels": _REGIONS, "regions_class_order": [3, 1, 2]},
    "regions, ignored voxels": {"labels": {**_REGIONS, "ignore": 4}, "regions_class_order": [1, 2, 3]},
}
_SHAPE = (12, 11, 10)


def compare(python: str) -> list[Comparison]:
    """Compare ``dataset.json`` files, training targets, decisions, scores and patch locations on random labels.

    Args:
        python: Interpreter of the environment with nnunetv2.
    """
    given, theirs = _reference(python, _SHAPE)
    return [
        comparison
        for name, content in _DATA_SETS.items()
        for comparison in _compared(name, _scheme_of(content), _part(given, name), _part(theirs, name))
    ]


def write_examples(python: str, path: str | Path) -> None:
    """Write small label maps and logits with nnU-Net's targets, decisions and Dice, for the tests."""
    given, theirs = _reference(python, (3, 4, 2))
    examples = []
    for name, content in _DATA_SETS.items():
        arrays = _part(given, name) | {key: _part(theirs, name)[key] for key in ("target", "decided", "dice")}
        content = {**content, "labels_of_data_set": content["labels"]}
        examples.append({**content, **{key: array.tolist() for key, array in arrays.items()}})
    Path(path).write_text(json.dumps(examples) + "\n")


def _reference(python: str, shape: tuple[int, ...]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return random labels and logits, and what nnU-Net makes of them; keys are ``<data set>.<array>``."""
    rng = np.random.default_rng(0)
    given: dict[str, np.ndarray] = {"data_sets": np.array(json.dumps(_DATA_SETS))}
    for name, content in _DATA_SETS.items():
        scheme = _scheme_of(content)
        given[f"{name}.labels"] = rng.integers(0, scheme.labels, shape).astype(np.uint8)
        given[f"{name}.logits"] = rng.normal(0, 2, (scheme.outputs, *shape)).astype(np.float32).round(3)
    with tempfile.TemporaryDirectory() as folder:
        source, done = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source, **given)
        reference = Path(__file__).with_name("_reference_labels.py")
        subprocess.run([python, str(reference), str(source), str(done)], check=True, capture_output=True)
        return given, dict(np.load(done))


def _part(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}


def _scheme_of(content: dict[str, Any]) -> LabelScheme:
    """Return the scheme of a data set with this ``dataset.json``, as the interface reads it."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"):
            path = Path(folder) / name
            path.parent.mkdir()
            nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), path)
        more = {"channel_names": {"0": "MR"}, "numTraining": 1, "file_ending": ".nii.gz"}
        (Path(folder) / "dataset.json").write_text(json.dumps({**content, **more}))
        interface = DatasetJSON_interface()
        interface.initialize(folder)
        return interface.label_scheme()


def _compared(
    name: str, scheme: LabelScheme, given: dict[str, np.ndarray], theirs: dict[str, np.ndarray]
) -> list[Comparison]:
    labels, values = given["labels"], np.moveaxis(given["logits"], 0, -1)
    raised = np.exp(values)
    probabilities = 1 / (1 + 1 / raised) if scheme.regions else raised / raised.sum(-1, keepdims=True)
    decided = scheme.decide(probabilities)
    rows = score_by_scheme(labels, decided, scheme)[1:]
    found = patch_locations(labels, scheme)
    locations = 0
    for number in np.unique(found[:, 0]):
        ours = {tuple(voxel) for voxel in found[found[:, 0] == number, 1:].tolist()}
        their = {tuple(voxel) for voxel in theirs[f"locations.{number}"].tolist()}
        # Ours are 1000 at most, theirs more.
        locations += len(ours - their) + (min(1000, len(their)) != len(ours))
    groups = {key for key in theirs if key.startswith("locations.")}
    locations += len(groups ^ {f"locations.{number}" for number in np.unique(found[:, 0])})
    target = np.moveaxis(scheme.encode(labels), -1, 0)
    return [
        Comparison(f"labels: {name}: {what}", float(difference), limit)
        for what, difference, limit in (
            ("channels of the network", abs(int(theirs["heads"]) - scheme.outputs), 0),
            ("training target", np.abs(target - theirs["target"]).max(), 0),
            ("voxels with another decided label", np.count_nonzero(decided != theirs["decided"]), 0),
            ("Dice of each class or region", np.abs([row["dice"] for row in rows] - theirs["dice"]).max(), 1e-12),
            ("voxels on which patches are centred", locations, 0),
        )
    ]


if __name__ == "__main__":
    import sys

    for one in compare(sys.argv[1]):
        print(one.line)
    if len(sys.argv) > 2:
        write_examples(*sys.argv[1:3])
