"""Other libraries to be timed beside ours: each lives in a virtual environment and a process of its own.

Used by the benchmarks that compare. The environment is made once, below ``benchmarks/.rivals``, from what the benchmark
asks for; `Rival` is a program in it that waits until it is told to work, so that both sides can be timed in turn.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FOLDER = Path(__file__).parent / ".rivals"

#: A release whose build for CPUs pip finds beside the CUDA ones where there is one; any from 2.4 on does.
TORCH = "torch==2.13.0"


def python_with(*requirements: str) -> Path:
    """The Python of a virtual environment that holds these packages; made where it is missing.

    Args:
        requirements: What pip is to install, one after the other; each may begin with options (``--no-deps nnunetv2``).
    """
    name = hashlib.sha256(json.dumps([sys.version_info[:2], requirements]).encode()).hexdigest()[:12]
    folder = FOLDER / name
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    print(f"installing {', '.join(requirements)} below {FOLDER}, once", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    for requirement in requirements:
        command = [python, "-m", "pip", "install", "--quiet", *shlex.split(requirement)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"pip could not install {requirement}:\n{done.stderr[-4000:]}")
    (folder / "complete").touch()
    return python


class Rival:
    """A program that works when it is asked to: it reads a line of JSON, and answers with one.

    Args:
        program: The script; it calls `serve` of this file, of which it needs nothing else.
        python: The Python that runs it, such as that of `python_with`; ours runs the other side the same way.
        settings: Handed to the script as its one argument, as JSON.

    Example:
        >>> with Rival(Path("rival_step.py"), python_with(TORCH), {"filters": 32}) as torch:  # doctest: +SKIP
        ...     seconds = torch.ask("step")["seconds"]
    """

    def __init__(self, program: Path, python: Path | str, settings: dict[str, Any]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (it lives as long as the program)
        self._process = subprocess.Popen(
            [str(python), str(program), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=Path(__file__).parent,
        )
        self.pid = self._process.pid
        try:
            #: What the program said of itself when it was ready.
            self.ready: dict[str, Any] = self._answer()
        except BaseException:
            self._process.kill()
            raise

    def ask(self, what: str, **details: Any) -> dict[str, Any]:
        """Have it do something, and wait for the answer.

        Raises:
            RuntimeError: If the program ended instead; with what it printed.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"what": what, **details}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def peak_bytes(self) -> int:
        """The most memory that the program has had in RAM so far."""
        return self._status("VmHWM")

    @contextmanager
    def private_memory(self) -> Iterator[list[int]]:
        """What of its memory is its own, looked at all the while; what it maps of its libraries' files is not in it.

        Yields:
            The bytes at each look.
        """
        seen, end = [self._status("RssAnon")], threading.Event()

        def look() -> None:
            while not end.wait(0.005):
                seen.append(self._status("RssAnon"))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield seen
        finally:
            end.set()
            thread.join()

    def _status(self, name: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])

    def cpu_seconds(self) -> float:
        """CPU time, on all cores together, that the program and its living child processes have used so far."""
        parents, ticks = {}, {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has just ended
                # The name, which stands in parentheses, may hold spaces.
                fields = stat.read_text().rpartition(")")[2].split()
                process = int(stat.parent.name)
                parents[process], ticks[process] = int(fields[1]), int(fields[11]) + int(fields[12])
        family = [self.pid]
        for member in family:
            family += [process for process, parent in parents.items() if parent == member]
        return sum(ticks[member] for member in family) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.stdin and self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        # Libraries print what they like; an answer is a line that says so.
        for line in self._process.stdout:
            if line.startswith("answer "):
                answer: dict[str, Any] = json.loads(line.removeprefix("answer "))
                return answer
        self._process.wait()
        self._errors.seek(0)
        raise RuntimeError(
            f"{self._process.args} ended with {self._process.returncode}:\n{self._errors.read()[-4000:]}"
        )


def serve_batches(stream: Iterator[Any], skipped: int, version: str) -> None:
    """`serve` for a loader: asked for ``batches``, it says in how many seconds so many came.

    Args:
        stream: Gives batches without an end.
        skipped: Batches that are taken before the clock starts, because they were made ahead while the others worked.
        version: That of the loader's library.
    """

    def batches(count: int) -> dict[str, Any]:
        for _ in range(skipped):
            next(stream)
        begin = time.perf_counter()
        for _ in range(count):
            next(stream)
        return {"seconds": time.perf_counter() - begin}

    serve({"version": version, "skipped": skipped}, batches=batches)


def serve(ready: dict[str, Any], **answers: Any) -> None:
    """The side of the program: say that it is ready, then answer until nobody asks any more.

    Args:
        ready: What it has to say of itself, as JSON types.
        answers: A function for each thing that can be asked; it takes the details, and returns JSON types.
    """
    print("answer", json.dumps(ready), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        print("answer", json.dumps(answers[question.pop("what")](**question)), flush=True)
