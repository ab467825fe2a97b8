"""A small training through the command line, which several tests look at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_config import write_config

from miscnn_tf.cli import main as cli
from miscnn_tf.datasets import write_kits_phantoms


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration beside a data set of four scans."""
    folder = tmp_path_factory.mktemp("experiment")
    write_kits_phantoms(folder / "data", cases=4, shape=(16, 32, 40), progress=False)
    return write_config(
        folder / "small.toml",
        data={"classes": None, "class_names": ["background", "kidney", "tumour"]},
        preprocessing={"clip": [-79, 304], "spacing": [11, 9, 9], "patch_shape": [8, 16, 16], "overlap": [4, 8, 8]},
        network={"loss": "dice_crossentropy"},
    )


@pytest.fixture(scope="session")
def trained(experiment: Path) -> Path:
    """The folder of a finished training; nothing may be changed in it."""
    assert cli.main(["train", str(experiment)]) == 0
    return experiment.parent / "small_training"


@pytest.fixture(scope="session")
def cross_validated(experiment: Path) -> Path:
    """The folder of a finished cross-validation; nothing may be changed in it."""
    assert cli.main(["cross-validate", str(experiment), "--set", "network.epochs=1"]) == 0
    return experiment.parent / "small_cross_validation"


def validation_of(folder: Path) -> list[str]:
    names: list[str] = json.loads((folder / "sample_list.json").read_text())["VALIDATION"]
    return names
