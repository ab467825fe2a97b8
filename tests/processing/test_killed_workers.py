"""A worker process that the system kills, as it does when memory runs out, does not make the program wait forever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")

# One of two idle workers holds the lock of the queue of tasks; it is killed when all samples are prepared.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from miscnn_tf import Data_IO, Preprocessor
from miscnn_tf.processing import parallel_preparation as module
from toy import ToyInterface

def workers():
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    children = {number for number, parent in parents.items() if parent == os.getpid()}
    return sorted(number for number, parent in parents.items() if parent in children)

def kill_after(futures, **options):
    yield from futures
    os.kill(workers()[int(sys.argv[2])], signal.SIGKILL)

def main():
    module.tqdm = kill_after
    data_io = Data_IO(ToyInterface((8, 8, 8), cases=6), "", batch_path=sys.argv[1] + "/batches")
    preprocessor = Preprocessor(data_io, 2, patch_shape=(8, 8, 8), use_multiprocessing=True)
    preprocessor.mp_threads = 2
    assert len(preprocessor.run_subfunctions(data_io.get_indiceslist())) == 6

if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two workers need two processors")
@pytest.mark.parametrize("which", [0, 1])
def test_a_worker_killed_when_all_is_prepared(which: int, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path), str(which)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
