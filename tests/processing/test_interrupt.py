"""Ctrl-C and kills while samples are prepared: nothing is left, neither processes nor files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


def session(number: int) -> set[int]:
    """The processes that a program started, and itself: those of its session."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(its_session) == number and state != "Z":
            found.add(int(stat.parent.name))
    return found


@pytest.mark.parametrize(
    ("how", "to_all"),
    [
        pytest.param(signal.SIGINT, False, id="as a notebook interrupts"),
        pytest.param(signal.SIGINT, True, id="as a terminal interrupts", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, False, id="killed"),
    ],
)
def test_nothing_is_left_of_preparing_in_processes(how, to_all, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    program = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "stuck").exists() and program.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (tmp_path / "stuck").exists(), program.communicate()[1]
        workers = session(program.pid) - {program.pid}
        assert workers
        (os.killpg if to_all else os.kill)(program.pid, how)
        _, error = program.communicate(timeout=30)
        assert program.returncode == -how
        while session(program.pid) and time.monotonic() < deadline + 30:
            time.sleep(0.05)
        assert not session(program.pid)
        if how == signal.SIGINT:
            assert error.strip().endswith("KeyboardInterrupt")
            assert not [found for found in (tmp_path / "batches").rglob("*") if found.is_file()]
    finally:
        for process in session(program.pid):
            os.kill(process, signal.SIGKILL)
