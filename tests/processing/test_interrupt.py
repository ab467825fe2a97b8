"""Ctrl-C and kills while samples are prepared: nothing is left, neither processes nor files."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from processes import all_gone, running, session

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")

# Each prepared sample goes to disk at once (cache_bytes=0); case_1 and later ones take far longer than the test.
SCRIPT = """
import sys
from miscnn_tf import Data_IO, Preprocessor
from toy import Stuck, ToyInterface

def main():
    folder = sys.argv[1]
    data_io = Data_IO(ToyInterface((8, 8, 8), cases=6), "", batch_path=folder + "/batches")
    preprocessor = Preprocessor(
        data_io, 2, [Stuck(folder)], patch_shape=(8, 8, 8), cache_bytes=0, use_multiprocessing=True
    )
    preprocessor.mp_threads = 2
    preprocessor.run_subfunctions(data_io.get_indiceslist())

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    ("how", "to_all"),
    [
        pytest.param(signal.SIGINT, False, id="as a notebook interrupts"),
        pytest.param(signal.SIGINT, True, id="as a terminal interrupts", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, False, id="killed"),
    ],
)
def test_nothing_is_left_of_preparing_in_processes(how, to_all, tmp_path):
    with running(SCRIPT, tmp_path, sign=tmp_path / "stuck") as program:
        assert session(program.pid) - {program.pid}
        (os.killpg if to_all else os.kill)(program.pid, how)
        _, error = program.communicate(timeout=30)
        assert program.returncode == -how
        assert all_gone(program, seconds=30)
        if how == signal.SIGINT:
            assert error.strip().endswith("KeyboardInterrupt")
            assert not [found for found in (tmp_path / "batches").rglob("*") if found.is_file()]
