"""A program to be interrupted, and what is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


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


@contextmanager
def running(script: str, folder: Path, sign: Path) -> Iterator[subprocess.Popen[str]]:
    """A script with `folder` as its argument, from when it has made the file `sign`; all of it is gone afterwards."""
    (folder / "script.py").write_text(script)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    program = subprocess.Popen(
        [sys.executable, str(folder / "script.py"), str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hear_interrupts,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        wait_until(lambda: sign.exists() or program.poll() is not None)
        assert sign.exists(), program.communicate()[1]
        yield program
    finally:
        for process in session(program.pid):
            os.kill(process, signal.SIGKILL)


def wait_until(condition: Callable[[], object], seconds: float = 120) -> bool:
    """Wait for a condition that nothing announces; return whether it holds in the end."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


def hear_interrupts() -> None:
    """For a program's start: what a shell runs in the background (&) ignores Ctrl-C, and so does what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def all_gone(program: subprocess.Popen[str], seconds: float) -> bool:
    """Whether no process of the program's session is left within so many seconds."""
    return wait_until(lambda: not session(program.pid), seconds)
