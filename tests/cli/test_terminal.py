"""Warnings on the command line are one line each, told once, and those of pydicom are not told."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from dicom_series import make_rtstruct, make_series, save_series, square
from small_data import write_cases

from miscnn_tf.cli.main import main
from miscnn_tf.cli.terminal import one_line_warnings
from miscnn_tf.errors import RepeatedWarning


def test_lines_are_told_once_and_others_are_left_to_python(caplog) -> None:
    before = warnings.showwarning
    with one_line_warnings():
        for name in ("a", "b"):
            warnings.warn(RepeatedWarning(f"{name}: Body\nis left out", ("Body",)), stacklevel=1)
        warnings.warn("another", UserWarning, stacklevel=1)
        warnings.warn_explicit("the UID is odd", UserWarning, "valuerep.py", 1, module="pydicom.valuerep")
        assert logging.getLogger("pydicom").level == logging.ERROR
    assert [record.getMessage() for record in caplog.records] == [
        "a: Body is left out (shown once; it may apply to other files)",
        "another",
    ]
    assert warnings.showwarning is before
    assert logging.getLogger("pydicom").level != logging.ERROR


def test_pydicom_is_heard_when_asked_for(caplog) -> None:
    with one_line_warnings(verbose=True):
        warnings.warn_explicit("the UID is odd", UserWarning, "valuerep.py", 1, module="pydicom.valuerep")
    assert [record.getMessage() for record in caplog.records] == ["the UID is odd"]


@pytest.fixture
def patients(tmp_path, rng):
    for name in ("p1", "p2", "p3"):
        series = make_series(rng.integers(0, 4096, (4, 16, 16)), StudyDate="1.2")
        save_series(tmp_path / "data" / name / "ct", series)
        contours = [(1, square(2, 9)), (2, square(2, 9))]
        save_series(tmp_path / "data" / name / "rt", [make_rtstruct(series, {"Heart": contours, "Body": contours})])
    return tmp_path / "data"


def test_init_tells_left_out_structures_once(patients, tmp_path, caplog) -> None:
    what = ["--set", "data.settings.structure_dict={Heart = 1}", "--set", "data.classes=2", "--layout", "DICOM"]
    assert main(["init", str(patients), "-o", str(tmp_path / "a.toml"), *what]) == 0
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "Body is not in structure_dict; the voxels" in told[0]


def test_verify_tells_them_once(patients) -> None:
    from miscnn_tf.data_loading.data_io import Data_IO
    from miscnn_tf.data_loading.interfaces import DICOM_interface
    from miscnn_tf.data_loading.verification import verify

    data_io = Data_IO(DICOM_interface(classes=2, structure_dict={"Heart": 1}), patients)
    for _ in range(2):  # and again, when it is asked again
        told = [one.message for one in verify(data_io).findings if "not in structure_dict" in one.message]
        assert len(told) == 1


# Each runs in a process of its own: pytest puts its own file behind standard error.
HEADER = "import os, sys\nfrom miscnn_tf.cli.terminal import held_back_stderr\n"


def stderr_of(code: str) -> str:
    return subprocess.run([sys.executable, "-c", HEADER + code], capture_output=True, text=True, check=False).stderr


def test_native_output_is_held_back_and_later_output_is_not() -> None:
    shown = stderr_of(
        "with held_back_stderr():\n    os.write(2, b'from C++')\n    print('from Python', file=sys.stderr)\n"
        "print('after', file=sys.stderr)"
    )
    assert shown.strip() == "after"


def test_it_comes_out_when_the_block_fails() -> None:
    shown = stderr_of(
        "with held_back_stderr():\n    os.write(2, b'cannot load libcuda\\n')\n    raise ImportError('x')"
    )
    assert shown.startswith("cannot load libcuda\n")
    assert "ImportError: x" in shown


def test_nothing_is_held_back_when_asked_not_to() -> None:
    assert stderr_of("with held_back_stderr(hold=False):\n    os.write(2, b'seen')") == "seen"


def test_without_a_file_behind_standard_error() -> None:
    assert stderr_of("sys.stderr = None\nwith held_back_stderr():\n    os.write(2, b'seen')") == "seen"


def test_no_file_descriptor_is_lost() -> None:
    code = (
        "def count():\n    return len(os.listdir('/proc/self/fd'))\n"
        "before = count()\nfor _ in range(3):\n    with held_back_stderr():\n        pass\n"
        "print(count() - before, file=sys.stderr)"
    )
    if os.path.isdir("/proc/self/fd"):
        assert stderr_of(code).strip() == "0"


def test_a_terminal_without_these_letters_shows_what_it_can(tmp_path: Path) -> None:
    write_cases(tmp_path, 2)
    for command in ("verify", "data_exp"):
        done = subprocess.run(
            [sys.executable, "-m", "miscnn_tf", command, str(tmp_path)],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
        )
        assert done.returncode == 0, done.stderr
        assert b"2 samples" in done.stdout
        assert b"????" in done.stdout
