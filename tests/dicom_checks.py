"""What an independent validator says of a DICOM file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def dicom_errors(path: Path) -> list[str]:
    """The errors that dciodvfy (Debian's dicom3tools) finds; the test is skipped where it is not installed."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (Debian: apt-get install dicom3tools)")
    done = subprocess.run([program, str(path)], capture_output=True, timeout=60, check=False)
    said = (done.stderr + done.stdout).decode("utf-8", "replace").splitlines()
    assert said, "dciodvfy names at least the kind of the file"
    return [line for line in said if line.startswith("Error")]
