"""Small data and shared fixtures for all tests."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

# Several test processes share two cores; without this each would start a thread per core and more.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

HIPPOCAMPUS = Path(__file__).resolve().parents[2] / "shared" / "data" / "hippocampus"


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
