from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from miscnn_tf._base.files import temporary_beside
from miscnn_tf._base.holder import Holder, this_process
from miscnn_tf.errors import FolderInUseError, StorageError
from miscnn_tf.runs import folder_lock
from miscnn_tf.runs.folder_lock import holder_of, locked_folder, move_aside
from miscnn_tf.runs.names import LOCK_FILE

HOLDS = """
    import sys, time
    from miscnn_tf.runs.folder_lock import locked_folder
    with locked_folder(sys.argv[1]):
        print("ready", flush=True)
        time.sleep(600)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the lock on a folder."""
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDS), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    return program


def left_by(folder: Path, holder: Holder, host: str = "elsewhere") -> None:
    folder.mkdir(exist_ok=True)
    content = {"host": host, "process": holder.process, "since": "2026-11-30T19:45:00+00:00", "holder": holder.text}
    (folder / LOCK_FILE).write_text(json.dumps(content))


@pytest.fixture(params=["locks", "no locks"])
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """File systems with and without locks, as Lustre often is mounted."""

    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    if request.param == "no locks":
        monkeypatch.setattr(folder_lock.fcntl, "flock", unsupported)
    return str(request.param)


def test_two_runs_in_one_folder_the_second_is_refused(tmp_path: Path, file_system: str) -> None:
    holder = start(tmp_path)
    try:
        with pytest.raises(FolderInUseError) as caught, locked_folder(tmp_path):
            pass
        for part in (str(tmp_path), f"process {holder.pid} on {socket.gethostname()}", "Wait until", str(LOCK_FILE)):
            assert part in str(caught.value)
        assert f"process {holder.pid}" in str(holder_of(tmp_path))
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert (tmp_path / LOCK_FILE).exists()
        assert holder_of(tmp_path) is None
        with locked_folder(tmp_path):
            assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()
        assert list(tmp_path.iterdir()) == []
    finally:
        holder.kill()
        holder.wait()


def test_a_stale_lock_is_taken_over(tmp_path: Path, file_system: str, caplog: pytest.LogCaptureFixture) -> None:
    own = this_process()
    ended = [
        replace(own, process=2**22 - 1, started=own.started),
        replace(own, started=(own.started + 1) % 16**5),  # the id is used again
        replace(own, boot="ffff" if own.boot != "ffff" else "eeee"),  # the power was cut
    ]
    for holder in ended:
        left_by(tmp_path, holder, "here")
        with caplog.at_level(logging.WARNING), locked_folder(tmp_path):
            assert json.loads((tmp_path / LOCK_FILE).read_text())["holder"] == own.text
        assert f"was left by process {holder.process} on here" in caplog.text
        assert list(tmp_path.iterdir()) == []


def test_a_lock_of_another_machine_is_kept_and_the_file_to_delete_is_named(tmp_path: Path, file_system: str) -> None:
    left_by(tmp_path, replace(this_process(), machine="0" * 8, boot="1234", process=17))
    with pytest.raises(FolderInUseError, match=r"process 17 on elsewhere .*delete .*\.miscnn_tf\.lock$"):
        locked_folder(tmp_path).__enter__()
    (tmp_path / LOCK_FILE).unlink()
    with locked_folder(tmp_path):
        pass


def test_a_container_of_the_same_machine_is_recognised_where_there_are_locks(tmp_path: Path, file_system: str) -> None:
    own = this_process()
    left_by(tmp_path, replace(own, machine="0" * 8, namespace="0001"))
    if file_system == "no locks" or not own.same_kernel:
        with pytest.raises(FolderInUseError):
            locked_folder(tmp_path).__enter__()
    else:
        with locked_folder(tmp_path):
            pass


def test_a_damaged_or_empty_lock_is_taken_over(tmp_path: Path, file_system: str) -> None:
    for content in ("", "{", "[1]", '{"holder": [7], "process": {"a": NaN}}'):
        (tmp_path / LOCK_FILE).write_text(content)
        if file_system == "no locks":
            with pytest.raises(FolderInUseError):  # perhaps it is being written
                locked_folder(tmp_path).__enter__()
            os.utime(tmp_path / LOCK_FILE, (0, 0))
        with locked_folder(tmp_path):
            assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()


def test_a_lock_that_is_a_link_or_a_pipe_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "thesis.txt"
    target.write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / LOCK_FILE).symlink_to(target)
    with pytest.raises(StorageError, match="could not lock the folder"):
        locked_folder(folder).__enter__()
    (folder / LOCK_FILE).unlink()
    os.mkfifo(folder / LOCK_FILE)
    with pytest.raises(StorageError, match=r"could not lock the folder .* not a regular file"):
        locked_folder(folder).__enter__()
    assert target.read_text() == "mine"


def test_one_thread_may_hold_it_twice_and_two_threads_not(tmp_path: Path) -> None:
    refused: list[Exception] = []

    def other() -> None:
        try:
            with locked_folder(tmp_path / "." / "run"):
                pass
        except FolderInUseError as error:
            refused.append(error)

    with locked_folder(tmp_path / "run"):
        with locked_folder(tmp_path / "run"):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        assert (tmp_path / "run" / LOCK_FILE).exists()
    assert "another thread of this process" in str(refused[0])
    assert not (tmp_path / "run").exists()  # it was made for the lock, and is empty
    other()
    assert len(refused) == 1


def test_the_end_of_a_killed_run_is_seen_though_its_child_lives_on(tmp_path: Path) -> None:
    script = HOLDS.replace('print("ready"', "import os; child = os.fork() or time.sleep(600); print(child").replace(
        "import sys", "import os, sys"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    child = int(program.stdout.readline())
    try:
        program.kill()
        program.wait()
        with locked_folder(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def compete(folder: str, log: str, rounds: int) -> None:
    for _ in range(rounds):
        try:
            with locked_folder(folder):
                descriptor = os.open(f"{log}/inside", os.O_CREAT | os.O_EXCL)  # fails if somebody else is inside
                os.close(descriptor)
                os.unlink(f"{log}/inside")
                with open(f"{log}/{os.getpid()}", "a") as file:
                    file.write("x")
        except FolderInUseError:
            pass


def test_of_many_processes_one_at_a_time_is_inside(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    context = multiprocessing.get_context("spawn")
    arguments = (str(tmp_path / "run"), str(tmp_path / "log"), 100)
    processes = [context.Process(target=compete, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert sum(len(path.read_text()) for path in (tmp_path / "log").iterdir()) >= 100


def test_what_killed_processes_left_half_written_is_removed(tmp_path: Path) -> None:
    own = this_process()
    dead = replace(own, process=2**22 - 1).text
    folders = [tmp_path, tmp_path / "fold_0", tmp_path / "fold_0" / "predictions" / "patient", tmp_path / "predictions"]
    for folder in folders:
        folder.mkdir(exist_ok=True, parents=True)
        (folder / f".{dead}00000.model.keras").write_text("half")
        (folder / f".{dead}00001.unfinished").mkdir()
        (folder / f".{dead}00001.unfinished" / "image.npy").write_text("half")
    mine = temporary_beside(tmp_path / "x", "scores.csv")
    users = [
        tmp_path / f".{'a' * 32}.model.keras",
        tmp_path / f".{dead}0000.model.keras",
        tmp_path / f"{dead}00000.model.keras",
        tmp_path / f".{replace(own, machine='0' * 8).text}00000.model.keras",
    ]
    for path in (mine, *users):
        path.write_text("stays")
    (tmp_path / f".{dead}00002.mine").mkdir()  # this package makes no such folder
    with locked_folder(tmp_path):
        pass
    left = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {mine, *users}
    assert (tmp_path / f".{dead}00002.mine").is_dir()


def test_moved_aside_it_is_whole_and_the_lock_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "evaluation"
    (folder / "fold_0").mkdir(parents=True)
    (folder / "fold_0" / "completed.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    with caplog.at_level(logging.WARNING), locked_folder(folder):
        move_aside(folder)
        (moved,) = tmp_path.glob("evaluation_20*")
        assert [path.name for path in folder.iterdir()] == [LOCK_FILE]
        move_aside(folder)  # it is empty
        assert "in use by" in _refusal(folder)
        (folder / "run.json").write_text("{}")
    assert [path.name for path in folder.iterdir()] == ["run.json"]
    assert sorted(path.relative_to(moved).as_posix() for path in moved.rglob("*")) == [
        "fold_0", "fold_0/completed.json", "notes.txt",
    ]  # fmt: skip
    assert str(moved) in caplog.text
    assert _refusal(folder) == ""


def test_the_working_directory_is_not_moved_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run" / "below")
    with locked_folder(tmp_path / "run"), pytest.raises(StorageError, match="it is the working directory"):
        move_aside(tmp_path / "run")


def _refusal(folder: Path) -> str:
    """What another process is told."""
    code = "import sys; from miscnn_tf.runs.folder_lock import *; locked_folder(sys.argv[1]).__enter__()"
    return subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True).stderr
