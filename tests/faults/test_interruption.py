"""Ctrl-C and SIGTERM end each command within seconds, with their exit codes, and keep what is finished."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import all_gone, session
from small_data import write_cases

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")

Start = Callable[..., subprocess.Popen[str]]
AT_MOST = 3.0  # seconds

# The main thread does not run Python for a minute, as while a volume is resampled or a graph compiled.
BUSY_MAIN = """
import hashlib, miscnn_tf.data_loading.data_io as data_io
def check(*arguments, **options):
    print("NOW", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 150_000_000)
data_io.Data_IO.check = check
"""
# A callback inside TensorFlow: the exception of the signal comes out as another one.
OTHER_ERROR = """
import time, miscnn_tf.data_loading.data_io as data_io
def check(*arguments, **options):
    print("NOW", flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        raise data_io.DataError("the generator failed") from None
data_io.Data_IO.check = check
"""
# A thread that prepares samples is busy for a minute.
BUSY_THREAD = """
import time
from miscnn_tf.processing.subfunctions import Normalization
def preprocessing(*arguments, **options):
    print("NOW", flush=True)
    time.sleep(60)
Normalization.preprocessing = preprocessing
"""


def interrupted(
    program: subprocess.Popen[str], sign: str, how: int, group: bool = False, delay: float = 0.0
) -> tuple[float, str]:
    """Interrupt a program `delay` seconds after it has printed `sign`; how long it goes on, and its standard error."""
    assert program.stdout is not None
    try:
        for line in program.stdout:
            if sign in line:
                break
        else:
            pytest.fail(f"{sign!r} was never printed: {program.communicate()[1]}")
        time.sleep(delay)
        begin = time.monotonic()
        (os.killpg if group else os.kill)(program.pid, how)
        program.wait(timeout=120)
        seconds = time.monotonic() - begin
        assert all_gone(program, seconds=10)
        return seconds, program.communicate(timeout=60)[1]
    finally:
        for process in session(program.pid):
            os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize("code", [BUSY_MAIN, BUSY_THREAD], ids=["main thread in native code", "busy thread"])
@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_does_not_wait_for_a_sample_that_is_prepared(code: str, how: int, data: Path, start: Start) -> None:
    # A machine with other work may need longer once.
    for attempt in range(3):
        seconds, error = interrupted(
            program := start("train", "long.toml", "-o", f"run_{attempt}", code=code), "NOW", how
        )
        assert program.returncode == 128 + how
        assert error.endswith("\nmiscnn-tf: interrupted; what was finished is kept\n")
        assert "Traceback" not in error
        if seconds < AT_MOST:
            return
    pytest.fail(f"it took {seconds} s")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_error_that_a_signal_caused_is_an_interruption(how: int, data: Path, start: Start) -> None:
    _, error = interrupted(program := start("train", "long.toml", code=OTHER_ERROR), "NOW", how)
    assert program.returncode == 128 + how, error
    assert error.endswith("\nmiscnn-tf: interrupted; what was finished is kept\n")
    assert "generator failed" not in error


@pytest.mark.slow
@pytest.mark.parametrize("group", [False, True], ids=["process", "terminal"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("arguments", "sign", "delay"),
    [
        (("train", "long.toml"), "Starting TensorFlow", 1.0),
        (("train", "long.toml"), "Training on", 0.5),  # the graph is compiled
        (("train", "long.toml"), "Epoch 3/", 0.3),
        (("train", "long.toml", "--set", "preprocessing.use_multiprocessing=true"), "Training on", 2.0),
        (("cross-validate", "long.toml"), "Epoch 2/", 0.3),
        (("predict", "MODEL", "data", "out"), "Starting TensorFlow", 1.0),
        (("predict", "MODEL", "data", "out"), "into out", 0.5),
        (("verify", "data"), "samples in", 0.0),
        (("evaluate", "data", "data"), "cases", 0.0),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else str(value),
)
def test_ctrl_c_ends_every_command_within_seconds(
    arguments: tuple[str, ...], sign: str, delay: float, how: int, group: bool, data: Path, model: Path, start: Start
) -> None:
    if arguments[0] in ("verify", "evaluate"):  # so many that it is not over
        write_cases(data, 300)
    arguments = tuple(str(model) if one == "MODEL" else one for one in arguments)
    seconds = []
    for _ in range(3):
        program = start(*arguments, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        taken, error = interrupted(program, sign, how, group, delay)
        # Of a command that was over already, the signal ends the shutdown of the interpreter.
        assert program.returncode in (128 + how, 0, -how), error
        assert "Traceback" not in error
        seconds.append(taken)
        if program.returncode == 128 + how and taken < AT_MOST:
            return
    pytest.fail(f"it took {seconds} s")


@pytest.mark.slow
def test_an_interrupted_training_keeps_its_epochs(data: Path, tmp_path: Path, start: Start) -> None:
    interrupted(start("train", "long.toml", "-o", "run"), "Epoch 4/", signal.SIGINT)
    assert (tmp_path / "run" / "training_state.npz").is_file()
    assert (tmp_path / "run" / "model.keras").is_file()
    program = start("train", "long.toml", "-o", "run")
    assert program.stdout is not None
    first = next(line for line in program.stdout if line.startswith("Epoch "))
    program.kill()
    program.communicate()
    assert int(first.split()[1].partition("/")[0]) >= 4
    # No half-written file is left where the main thread could end in order.
    assert not list((tmp_path / "run").glob(".*.keras"))


def test_a_signal_that_is_ignored_stays_ignored(data: Path, start: Start) -> None:
    """As under nohup, or in the background of a script."""

    def ignore() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    program = start("verify", "data", preexec_fn=ignore)
    assert program.stdout is not None
    assert "samples in" in program.stdout.readline()
    program.send_signal(signal.SIGINT)
    program.send_signal(signal.SIGHUP)
    out, error = program.communicate(timeout=120)
    assert program.returncode == 0, error
    assert "samples" in out
