"""Runs a MIScnn user's script as its user would: in a folder of its own, in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parent / "scripts"
SAME_SEEDS = Path(__file__).parent / "same_seeds"


@pytest.fixture(scope="session")
def run_use() -> Callable[[str, Path], dict[str, Any]]:
    """Runs ``scripts/<name>.py`` in a folder and returns what the script wrote to results.json."""

    # The package may be on the path only, without being installed.
    path = os.pathsep.join([str(SAME_SEEDS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)

    def run(name: str, folder: Path) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, str(SCRIPTS / f"{name}.py")],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
            # No GPU, if there is one: these are seconds of work. And no other seeds each time.
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": path},
        )
        assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-4000:]}"
        assert "Traceback" not in done.stderr, done.stderr[-4000:]
        return json.loads((folder / "results.json").read_text())

    return run
