"""Small data and shared fixtures for all tests."""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest

# The tests' own helpers, wherever pytest was started.
sys.path.insert(0, str(Path(__file__).parent))

from toy import ToyInterface

# Several test processes share two cores; without this each would start a thread per core and more.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


def pytest_collection_finish() -> None:
    """Leave all that collecting has imported out of garbage collections, which take a third of a second otherwise.

    Each training ends with one.
    """
    gc.freeze()


HIPPOCAMPUS = Path(__file__).resolve().parents[2] / "shared" / "data" / "hippocampus"


@pytest.fixture(autouse=True)
def plain_logging() -> None:
    """What a command set for its own run must not be there in the next test."""
    logging.getLogger("miscnn_tf").setLevel(logging.NOTSET)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261123)


@pytest.fixture(scope="session")
def hippocampus() -> Path:
    """The folder with the real MRI cases; tests that need it are skipped where it is missing."""
    if not (HIPPOCAMPUS / "split.json").is_file():
        pytest.skip(f"the hippocampus data is not at {HIPPOCAMPUS}")
    return HIPPOCAMPUS


@pytest.fixture(scope="session")
def hippocampus_split(hippocampus: Path) -> dict[str, list[str]]:
    return json.loads((hippocampus / "split.json").read_text())


@pytest.fixture
def become_second_worker(monkeypatch):
    """Makes this process the second of two machines that train together, as far as ``TF_CONFIG`` says."""
    config = {"cluster": {"worker": ["10.0.0.1:1234", "10.0.0.2:1234"]}, "task": {"type": "worker", "index": 1}}
    return lambda: monkeypatch.setenv("TF_CONFIG", json.dumps(config))


@pytest.fixture
def toy_io(tmp_path):
    """Makes a Data_IO on a `ToyInterface`, everything it writes below the test's own folder."""
    from miscnn_tf.data_loading.data_io import Data_IO

    def make(**arguments):
        interface = ToyInterface(**arguments)
        return Data_IO(interface, "toy", output_path=tmp_path / "predictions", batch_path=tmp_path / "batches")

    return make
