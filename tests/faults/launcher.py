"""Run ``miscnn-tf`` commands that end at a chosen file operation, forked from a process that has TensorFlow imported.

A command then starts in a tenth of a second. TensorFlow makes its threads at the first computation, and each command
does that for itself. `command_server.CommandServer` starts this script and writes requests to its standard input, one
JSON object per line:

- ``{"arguments": [...], "folder": ..., "log": ..., "operations": ..., "kill": ..., "file_size": ...}`` starts a
  command, and is answered by its process id; ``kill`` and ``file_size`` may be null;
- ``{"wait": ...}`` is answered by the exit code of that process, as `subprocess` has it, the most memory that it had
  (KiB), and its processor time (s).
"""

from __future__ import annotations

import atexit
import gc
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

# The event of Python's audit hooks, and which of its arguments is the path that changes.
OPERATIONS = {
    "open": 0,
    "os.mkdir": 0,
    "os.remove": 0,
    "os.rename": 1,
    "os.rmdir": 0,
    "os.truncate": 0,
    "os.link": 1,
    "os.symlink": 1,
    "os.utime": 0,
}
FOLDER_ARGUMENTS = {"os.mkdir": 2, "os.remove": 1, "os.rmdir": 1, "os.rename": 3}
# With whether the path is there: a folder that is to exist may do so already, and a file that is to go may be gone.
NO_CHANGE = (("os.mkdir", True), ("os.remove", False))
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class FileOperations:
    """Counts the file operations below a folder, lists them in a file, and kills at one of them.

    Args:
        folder: The folder.
        record: The file, outside the folder.
        kill: ``at``: the number of the operation, from 0. ``when``: ``"before"`` or ``"after"`` it, or ``"later"``, so
            many seconds as ``delay`` says. ``whom``: this ``"process"``, its ``"group"`` or one ``"worker"`` of it.
            None kills nothing.
    """

    def __init__(self, folder: str, record: str, kill: dict | None) -> None:
        self.folder = os.path.realpath(folder)
        self.kill = kill
        self.number = itertools.count()
        self.record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.process = os.getpid()
        self.waits_for_worker = False

    def __call__(self, event: str, arguments: tuple) -> None:
        path = self.changed(event, arguments) if event in OPERATIONS and os.getpid() == self.process else None
        if path is None:
            return
        number = next(self.number)
        os.write(self.record, f"{number}\t{event}\t{path}\n".encode("utf-8", "surrogateescape"))
        if self.kill is None or not (number == self.kill["at"] or self.waits_for_worker):
            return
        if self.kill["whom"] == "worker":
            self.kill_worker()
        elif self.kill["when"] == "before":
            self.strike()
        elif self.kill["when"] == "after":
            sys.setprofile(self.on_return)
        else:
            threading.Thread(target=self.strike, args=(self.kill["delay"],), daemon=True).start()

    def changed(self, event: str, arguments: tuple) -> str | None:
        """The path below the folder that an operation changes; None for others."""
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITING):
            return None
        path = arguments[OPERATIONS[event]]
        if isinstance(path, int):
            return None
        path = os.fsdecode(path)
        number = arguments[FOLDER_ARGUMENTS[event]] if event in FOLDER_ARGUMENTS else -1
        if isinstance(number, int) and number >= 0 and not os.path.isabs(path):
            path = os.path.join(os.readlink(f"/proc/self/fd/{number}"), path)
        path = os.path.abspath(path)
        if (event, os.path.lexists(path)) in NO_CHANGE:
            return None
        return os.path.relpath(path, self.folder) if path.startswith(self.folder + os.sep) else None

    def on_return(self, frame, event: str, argument: object) -> None:
        """The first event in the thread after the operation, which may be its own end."""
        if frame.f_code.co_filename != __file__:
            self.strike()

    def strike(self, delay: float = 0.0) -> None:
        time.sleep(delay)
        if self.kill["whom"] == "group":
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_worker(self) -> None:
        """Kill a worker process, now or at the first later operation at which there is one."""
        workers = grandchildren()
        self.waits_for_worker = not workers
        if workers:
            os.kill(workers[self.kill["at"] % len(workers)], signal.SIGKILL)
            os.write(self.record, b"\tworker killed\t\n")


def grandchildren() -> list[int]:
    """The processes that the fork server of ``multiprocessing`` has started for this one."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    children = {number for number, parent in parents.items() if parent == os.getpid()}
    return sorted(number for number, parent in parents.items() if parent in children)


def become(request: dict) -> int:
    """Be the command, in a forked process."""
    os.setsid()
    os.chdir(request["folder"])
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(target, number)
    if request["file_size"] is not None:
        # What goes through a pipe to another process is not limited; the operations are not recorded.
        writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        os.dup2(writer.stdin.fileno(), 1)
        os.dup2(1, 2)
        writer.stdin.close()
        request["operations"] = os.devnull
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"],) * 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["TMPDIR"] = os.path.join(request["folder"], "temporary")
    os.makedirs(os.environ["TMPDIR"], exist_ok=True)
    sys.addaudithook(FileOperations(request["folder"], request["operations"], request["kill"]))
    sys.argv = ["miscnn-tf", *request["arguments"]]
    import tensorflow as tf

    from miscnn_tf.cli.main import main

    # Compiling the graphs takes longer than all the rest of a command.
    tf.config.run_functions_eagerly(True)
    return main()


def serve() -> int:
    """Answer requests until there are no more; in a forked process, return the exit code of its command."""
    from small_network import SmallNetwork

    import miscnn_tf.cli.prediction_run
    import miscnn_tf.cli.training_run
    import miscnn_tf.report.run_page  # noqa: F401
    from miscnn_tf.cli.main import make_parser
    from miscnn_tf.neural_network.architecture import architectures

    make_parser()  # imports all commands
    architectures.register("small_network", SmallNetwork)
    gc.freeze()  # a collection in each command takes a second otherwise
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "r")
    # Not for line in requests: a forked process must not have read ahead.
    while line := requests.readline():
        request = json.loads(line)
        if "wait" in request:
            _, status, usage = os.wait4(request["wait"], 0)
            answer = [os.waitstatus_to_exitcode(status), usage.ru_maxrss, usage.ru_utime + usage.ru_stime]
        else:
            answer = os.fork()
            if not answer:
                os.close(answers.fileno())
                return become(request)
        answers.write(f"{json.dumps(answer)}\n")
        answers.flush()
    return 0


def end(code: int) -> None:
    """End as Python does, without freeing all of TensorFlow's objects, which takes a second."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    end(serve())
