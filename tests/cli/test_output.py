from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from small_data import write_cases


def test_a_terminal_without_these_letters_shows_what_it_can(tmp_path: Path) -> None:
    write_cases(tmp_path, 2)
    for command in ("verify", "data_exp"):
        done = subprocess.run(
            [sys.executable, "-m", "miscnn_tf", command, str(tmp_path)],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
        )
        assert done.returncode == 0, done.stderr
        assert b"2 samples" in done.stdout
        assert b"????" in done.stdout
