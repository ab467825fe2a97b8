"""Commands in processes of their own that start at once, and may be killed at a chosen file operation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from processes import hear_interrupts, session

LAUNCHER = Path(__file__).parent / "faults" / "launcher.py"
# Networks so small are faster in one thread, most of all on a busy machine.
TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Kill:
    """Where a command is killed.

    Args:
        at: The number of the file operation, from 0.
        when: ``"before"`` or ``"after"`` it, or ``"later"``: `delay` seconds later.
        delay: Seconds.
        whom: The ``"process"``, its ``"group"`` or one ``"worker"`` process of it.
    """

    at: int
    when: str = "before"
    delay: float = 0.0
    whom: str = "process"


@dataclass(frozen=True)
class Command:
    """A command that runs, or has run.

    Attributes:
        pid: Its process id, which is also that of its session.
        log: All that it prints.
        operations: Its file operations, a line each.
    """

    pid: int
    log: Path
    operations: Path

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def number_of_operations(self) -> int:
        return len(self.operations.read_text(errors="replace").splitlines())


@dataclass(frozen=True)
class Use:
    """What a command needed.

    Attributes:
        memory: The most resident memory, in bytes.
        seconds: Processor time.
    """

    memory: int
    seconds: float


class CommandServer:
    """Starts ``miscnn-tf`` commands from one process that has TensorFlow imported but not initialised.

    Args:
        folder: Where logs are kept.

    Attributes:
        last_use: What the command needed that was waited for last.
    """

    last_use: Use

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0
        self._errors = (folder / "launcher.txt").open("w+")
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, str(LAUNCHER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            preexec_fn=hear_interrupts,
            env={**os.environ, "PYTHONPATH": path, **TENSORFLOW},
        )

    def start(
        self, folder: Path, *arguments: object, kill: Kill | None = None, file_size: int | None = None
    ) -> Command:
        """Start a command in a folder; no file may get larger than `file_size` bytes."""
        self._number += 1
        command = Command(0, self.folder / f"{self._number}.log", self.folder / f"{self._number}.operations")
        pid = self._ask(
            {
                "arguments": [*map(str, arguments)],
                "folder": str(folder),
                "log": str(command.log),
                "operations": str(command.operations),
                "kill": None if kill is None else vars(kill),
                "file_size": file_size,
            }
        )
        return Command(pid, command.log, command.operations)

    def wait(self, command: Command) -> int:
        """Wait for a command's end; returns its exit code, or minus the number of the signal that killed it."""
        code, kibibytes, seconds = self._ask({"wait": command.pid})
        self.last_use = Use(kibibytes * 1024, seconds)
        return code

    def run(
        self, folder: Path, *arguments: object, kill: Kill | None = None, file_size: int | None = None
    ) -> tuple[int, Command]:
        """Start a command and wait for its end."""
        command = self.start(folder, *arguments, kill=kill, file_size=file_size)
        return self.wait(command), command

    def __enter__(self) -> CommandServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._errors.close()

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self._errors.seek(0)
            raise RuntimeError(f"the launcher ended: {self._errors.read()[-3000:]}")
        return json.loads(answer)


def end_all(command: Command) -> None:
    """Kill what is left of a command."""
    for process in session(command.pid):
        os.kill(process, signal.SIGKILL)
