"""Other libraries for comparisons: each has a separate virtual environment and process.

The environment is created once, in ``benchmarks/.rivals``, from the requirements of the benchmark. `Rival` is a program
in it that waits for requests, so that libraries can be measured in alternation.
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

#: Version of PyTorch with builds for CPUs; any from 2.4 on is sufficient.
TORCH = "torch==2.13.0"


def python_with(*requirements: str) -> Path:
    """Return the Python of a virtual environment with these packages, which is created if it does not exist.

    Args:
        requirements: Arguments of successive ``pip install`` commands, with options if needed (``--no-deps nnunetv2``).
    """
    name = hashlib.sha256(json.dumps([sys.version_info[:2], requirements]).encode()).hexdigest()[:12]
    folder = FOLDER / name
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    print(f"installing {', '.join(requirements)} into {FOLDER}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    for requirement in requirements:
        command = [python, "-m", "pip", "install", "--quiet", *shlex.split(requirement)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"pip cannot install {requirement}:\n{done.stderr[-4000:]}")
    (folder / "complete").touch()
    return python


class Rival:
    """A program that answers requests; both are lines of JSON.

    Args:
        program: The script, which calls `serve` of this file.
        python: The Python that runs it, such as that of `python_with`.
        settings: The argument of the script, as JSON.

    Example:
        >>> with Rival(Path("rival_step.py"), python_with(TORCH), {"filters": 32}) as torch:  # doctest: +SKIP
        ...     seconds = torch.ask("step")["seconds"]
    """

    def __init__(self, program: Path, python: Path | str, settings: dict[str, Any]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed at the end of the program)
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
            #: Information from the program when it was ready.
            self.ready: dict[str, Any] = self._answer()
        except BaseException:
            self._process.kill()
            raise

    def ask(self, what: str, **details: Any) -> dict[str, Any]:
        """Send a request, and wait for the answer.

        Raises:
            RuntimeError: If the program ended; the message has its output.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"what": what, **details}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def peak_bytes(self) -> int:
        """Return the peak of the program's resident memory."""
        return self._status("VmHWM")

    @contextmanager
    def private_memory(self) -> Iterator[list[int]]:
        """Sample the private memory during the block, without memory-mapped libraries.

        Yields:
            The sampled numbers of bytes.
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
        """Return the CPU time of the program and its running child processes, over all cores."""
        parents, ticks = {}, {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # the process has ended
                # The name, in parentheses, may contain spaces.
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
        # Libraries may print other lines; answers are marked.
        for line in self._process.stdout:
            if line.startswith("answer "):
                answer: dict[str, Any] = json.loads(line.removeprefix("answer "))
                return answer
        self._process.wait()
        self._errors.seek(0)
        raise RuntimeError(
            f"{self._process.args} failed with exit code {self._process.returncode}:\n{self._errors.read()[-4000:]}"
        )


def serve_batches(stream: Iterator[Any], skipped: int, version: str) -> None:
    """Serve a loader: the request ``batches`` returns the seconds for a number of batches.

    Args:
        stream: Endless iterator of batches.
        skipped: Number of batches that are discarded before the measurement, because they were created ahead.
        version: Version of the loader's library.
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
    """Report that the program is ready, and answer requests until the end of the input.

    Args:
        ready: Information about the program, as JSON types.
        answers: A function for each kind of request, which takes its details and returns JSON types.
    """
    print("answer", json.dumps(ready), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        print("answer", json.dumps(answers[question.pop("what")](**question)), flush=True)
