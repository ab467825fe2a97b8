"""Commands with odd file names, without HOME and TMPDIR, and with folders that cannot be written."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from permissions import obey_permissions
from small_data import write_case

from miscnn_tf.cli.main import main

Start = Callable[..., subprocess.Popen[str]]

NAMES = [
    "two words",
    "it's",
    'say "x"',
    "line\nbreak",
    "50%",
    "%s %d",
    "#1",
    "a;b&c|d",
    "$HOME",
    "*?[x]",
    "{brace}",
    "tab\there",
    "Müller",
    "脳",
    "\U0001f9e0",
    "-leading",
    "--help",
    "\u202eright to left",
    "not utf-8 \udcff\udcfe",
    "a.b.c",
    "con",
    "~",
]


def test_names_with_every_odd_character(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In verify, predict, evaluate and data_exp; each case gets its own prediction, in its own geometry."""
    data = tmp_path / "odd data %s #1 \udcff"
    for number, name in enumerate(NAMES):
        write_case(data / name, number)
    assert main(["verify", str(data)]) == 0
    assert f"{len(NAMES)} samples" in capsys.readouterr().out
    assert main(["data_exp", str(data)]) == 0
    out = tmp_path / "out \U0001f9e0"
    assert main(["predict", str(model), str(data), str(out)]) == 0, capsys.readouterr().err
    assert sorted(path.name for path in out.glob("*.nii.gz")) == sorted(f"{name}.nii.gz" for name in NAMES)
    for name in NAMES:
        image, prediction = (nib.load(path) for path in (data / name / "imaging.nii.gz", out / f"{name}.nii.gz"))
        assert prediction.shape == image.shape
        np.testing.assert_allclose(prediction.affine, image.affine, atol=1e-5)
    capsys.readouterr()
    assert main(["evaluate", str(out), str(data), "-o", str(tmp_path / "scores \udcff")]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.startswith(f"{len(NAMES)} cases\n")


@pytest.mark.slow
def test_training_with_names_of_every_odd_character(data: Path, tmp_path: Path, start: Start) -> None:
    shutil.rmtree(data)
    for number, name in enumerate(NAMES):
        write_case(data / name, number)
    run = tmp_path / "run %s \udcff"
    program = start(
        "train", "long.toml", "--set", "network.epochs=1", "--output", run, encoding="utf-8", errors="replace"
    )
    _, error = program.communicate(timeout=500)
    assert program.returncode == 0, error
    assert (run / "model.keras").is_file()
    assert (run / "scores.csv").is_file()
    assert (run / "report.html").is_file()


def environment(how: str, tmp_path: Path) -> dict[str, str]:
    known = {**os.environ}
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "KERAS_HOME", "MPLCONFIGDIR"):
        known.pop(name, None)
    if how == "unset":
        return known
    if how == "missing":
        return {**known, "HOME": "/does/not/exist", "TMPDIR": "/does/not/exist"}
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    return {**known, "HOME": str(closed), "TMPDIR": str(closed)}


@pytest.mark.parametrize(
    "how", ["unset", *(pytest.param(one, marks=pytest.mark.slow) for one in ("missing", "read-only"))]
)
@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "MODEL", "data", "out"),
        pytest.param(("verify", "data"), marks=pytest.mark.slow),
        pytest.param(("evaluate", "data", "data", "-o", "scores"), marks=pytest.mark.slow),
        pytest.param(("train", "long.toml", "--set", "network.epochs=1"), marks=pytest.mark.slow),
        pytest.param(
            ("train", "long.toml", "--set", "network.epochs=1", "--set", "preprocessing.use_multiprocessing=true"),
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: f"{value[0]} {len(value)}" if isinstance(value, tuple) else value,
)
def test_without_home_and_temporary_folder(
    arguments: tuple[str, ...], how: str, data: Path, model: Path, tmp_path: Path, start: Start
) -> None:
    arguments = tuple(str(model) if one == "MODEL" else one for one in arguments)
    program = start(*arguments, env=environment(how, tmp_path), preexec_fn=obey_permissions)
    _, error = program.communicate(timeout=500)
    assert program.returncode == 0, error


@pytest.mark.slow
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_read_only_output_folder_is_named(
    command: str, data: Path, model: Path, tmp_path: Path, start: Start
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    arguments = (
        ("predict", model, "data", "closed") if command == "predict" else ("evaluate", "data", "data", "-o", "closed")
    )
    program = start(*arguments, preexec_fn=obey_permissions)
    _, error = program.communicate(timeout=300)
    assert program.returncode == 1
    assert error.splitlines()[-1] == (
        "miscnn-tf: error: the folder closed is not writable; choose another, or change its permissions"
    )
    assert not list(closed.iterdir())
