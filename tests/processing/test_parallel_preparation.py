from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from miscnn_tf.processing.parallel_preparation import DaemonThreads


def test_results_and_errors_come_back() -> None:
    with DaemonThreads(2, "reader") as threads:
        assert list(threads.map(abs, [-1, -2, -3])) == [1, 2, 3]
        with pytest.raises(ZeroDivisionError):
            threads.submit(divmod, 1, 0).result()
    with pytest.raises(RuntimeError, match="after shutdown"):
        threads.submit(abs, 1)


def test_what_has_not_begun_is_cancelled_and_what_runs_is_not_waited_for() -> None:
    go, begun = threading.Event(), threading.Event()
    threads = DaemonThreads(1, "reader")
    running = threads.submit(lambda: (begun.set(), go.wait(60))[1])
    waiting = threads.submit(abs, -1)
    assert begun.wait(60)
    threads.shutdown(wait=False, cancel_futures=True)
    assert waiting.cancelled()
    assert not running.done()
    go.set()
    assert running.result(60)
    threads.shutdown()


def test_the_end_of_the_program_does_not_wait() -> None:
    code = (
        "import time\nfrom miscnn_tf.processing.parallel_preparation import DaemonThreads\n"
        "threads = DaemonThreads(1, 'reader')\nthreads.submit(time.sleep, 600)\nprint('end')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "end\n"
