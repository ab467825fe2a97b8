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
        save_series(tmp_path / "data" / name / "rt", [make_rtstruct(series, {"Heart": contours, "Spleen": contours})])
    return tmp_path / "data"


def test_init_tells_left_out_structures_once(patients, tmp_path, caplog) -> None:
    what = ["--set", "data.settings.structure_dict={Heart = 1}", "--set", "data.classes=2", "--layout", "DICOM"]
    assert main(["init", str(patients), "-o", str(tmp_path / "a.toml"), *what]) == 0
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "Spleen is not in structure_dict; the voxels" in told[0]


def test_verify_tells_them_once(patients) -> None:
    from miscnn_tf.data_loading.data_io import Data_IO
    from miscnn_tf.data_loading.interfaces import DICOM_interface
    from miscnn_tf.data_loading.verification import verify

    data_io = Data_IO(DICOM_interface(classes=2, structure_dict={"Heart": 1}), patients)
    for _ in range(2):  # and again, when it is asked again
        told = [one.message for one in verify(data_io).findings if "not in structure_dict" in one.message]
        assert len(told) == 1


def test_a_warning_names_no_module_unless_it_is_another_library_or_asked_for() -> None:
    def shown(*options: str) -> str:
        code = (
            "import logging, sys, types, warnings\nimport miscnn_tf.cli.main as cli\n"
            "def run(arguments):\n"
            "    warnings.warn('the folder\\nis empty')\n"
            "    logging.getLogger('miscnn_tf.runs').warning('a second')\n"
            "    logging.getLogger('miscnn_tf.runs').info('a detail')\n"
            "    logging.getLogger('nibabel.global').warning('a third')\n"
            "    return 0\n"
            "module = types.ModuleType('talker', 'Talks.')\n"
            "module.add_arguments, module.run = lambda parser: None, run\n"
            "sys.modules['talker'] = module\n"
            "cli.COMMANDS['talk'] = cli.Command('talk', 'talker')\n"
            f"sys.exit(cli.main(['talk', *{options!r}]))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == ""
        return done.stderr

    assert shown().splitlines() == [
        "miscnn-tf: warning: the folder is empty",
        "miscnn-tf: warning: a second",
        "miscnn-tf: warning: nibabel.global: a third",
    ]
    assert "INFO miscnn_tf.runs: a detail" in shown("-v").splitlines()


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
