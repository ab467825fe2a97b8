"""Commands work with any of their standard streams closed, without a terminal, and when their reader has gone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_data import write_cases

Start = Callable[..., subprocess.Popen[str]]

CLOSED = {"stdin": (0,), "stdout": (1,), "stderr": (2,), "both": (1, 2), "all": (0, 1, 2)}


def run_closed(start: Start, numbers: tuple[int, ...], *arguments: object) -> tuple[int, str, str]:
    def close() -> None:
        for number in numbers:
            os.close(number)

    program = start(*arguments, preexec_fn=close, stdin=subprocess.DEVNULL)
    out, error = program.communicate(timeout=120)
    return program.returncode, out, error


@pytest.mark.parametrize("closed", CLOSED)
def test_verify_with_closed_streams(closed: str, data: Path, start: Start) -> None:
    code, out, error = run_closed(start, CLOSED[closed], "verify", "data")
    assert (code, error) == (0, "") if closed != "stdin" else code == 0
    assert ("4 samples" in out) == (1 not in CLOSED[closed])
    (data / "case_1" / "imaging.nii.gz").write_bytes(b"nonsense")
    assert run_closed(start, CLOSED[closed], "verify", "data")[0] == 1


@pytest.mark.parametrize("closed", ["stderr", "both"])
def test_predict_with_closed_streams(closed: str, data: Path, model: Path, tmp_path: Path, start: Start) -> None:
    code, _, _ = run_closed(start, CLOSED[closed], "predict", model, "data", "out")
    assert code == 0
    # Nothing that TensorFlow prints has got into a file that was opened under number 1 or 2.
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *(f"case_{number}.nii.gz" for number in range(4)),
        "predictions.json",
    ]
    assert run_closed(start, CLOSED[closed], "evaluate", "out", "data")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize(
    "arguments",
    [
        ("data_exp", "data"),
        ("init", "data", "-o", "new.toml"),
        ("evaluate", "data", "data", "-o", "scores"),
        ("train", "long.toml", "--set", "network.epochs=1"),
        ("cross-validate", "long.toml", "--set", "network.epochs=1"),
        ("doctor",),
        ("cleanup", "--dry-run"),
        ("--help",),
        ("--version",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_command_with_closed_streams(arguments: tuple[str, ...], closed: str, data: Path, start: Start) -> None:
    assert run_closed(start, CLOSED[closed], *arguments)[0] == 0


def test_a_command_goes_on_when_its_reader_has_gone(data: Path, start: Start) -> None:
    """As in ``miscnn-tf verify data | head -1``: the exit code is that of the data."""
    write_cases(data, 40)
    for broken in (False, True):
        if broken:
            (data / "case_39" / "imaging.nii.gz").write_bytes(b"nonsense")
        program = start("verify", "data", stderr=subprocess.STDOUT)
        assert program.stdout is not None
        assert "40 samples" in program.stdout.readline()
        program.stdout.close()
        assert program.wait(timeout=120) == int(broken)


def test_a_terminal_that_is_closed_is_no_error(data: Path, start: Start) -> None:
    ours, theirs = os.openpty()
    program = start("verify", "data", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert os.read(ours, 1)
    os.close(ours)
    assert program.wait(timeout=120) == 0


def test_output_on_a_full_disk_is_an_error(data: Path, start: Start) -> None:
    """A table that is not complete must not pass for one."""
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is Linux's")
    with open("/dev/full", "wb") as full:
        program = start("data_exp", "data", stdout=full)
        _, error = program.communicate(timeout=120)
    assert program.returncode == 1
    assert error == "miscnn-tf: error: No space left on device\n"


def test_python_without_buffers_writes_at_once() -> None:
    """Defect: with ``-u`` the lines of a command came at its end."""
    code = (
        "import os; from miscnn_tf.cli.terminal import reliable_streams\n"
        "with reliable_streams(): print('now'); os._exit(0)"
    )
    assert subprocess.run([sys.executable, "-u", "-c", code], capture_output=True, text=True).stdout == "now\n"
