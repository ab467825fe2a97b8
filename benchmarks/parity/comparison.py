"""Result of comparing one piece with nnU-Net."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """Largest difference found.

    Args:
        what: What was compared.
        difference: The largest difference; its unit depends on `what`.
        limit: Largest difference that counts as equal.
    """

    what: str
    difference: float
    limit: float

    @property
    def ok(self) -> bool:
        """True if the difference is within the limit."""
        return self.difference <= self.limit

    @property
    def line(self) -> str:
        """Return the comparison as one line."""
        return f"{'equal' if self.ok else 'DIFFERENT':9}  {self.difference:9.2g} (limit {self.limit:.0e})  {self.what}"


def reference_arrays(python: str, script: str, cases: Sequence[Any]) -> Iterator[dict[str, np.ndarray]]:
    """Run a reference script in another environment, and yield the arrays that it wrote for each case.

    Args:
        python: Interpreter of the environment.
        script: Name of a script beside this file, which takes a JSON file with the cases and a folder for ``0.npz``, ….
        cases: The cases, as JSON types.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cases.json"
        file.write_text(json.dumps(list(cases)))
        command = [python, str(Path(__file__).with_name(script)), str(file), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        for number in range(len(cases)):
            with np.load(Path(folder) / f"{number}.npz") as arrays:
                yield dict(arrays)
