"""A full disk, or a limit on the size of files, is one clear error; with room again, the same command goes on."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_server import Command
from processes import all_gone
from small_commands import Commands, assert_same_results, results_in
from small_data import files_below

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


@contextmanager
def mounted(folder: Path, kilobytes: int) -> Iterator[None]:
    """A file system of this size; skips the test where none can be mounted."""
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("there is no mount command")
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
    done = subprocess.run([mount, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")
    try:
        yield
    finally:
        # Lazily: a process that is ending may still hold a file there.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def assert_one_clear_error(command: Command, reason: str) -> None:
    assert "Traceback" not in command.output
    lines = [line for line in command.output.splitlines() if line.startswith("miscnn-tf: error: ")]
    assert len(lines) == 1, command.output
    assert reason in lines[0]
    # The file, and what to do.
    assert re.search(r"(run|out|prepared)/\S+|the folder (run|out)\b", lines[0]), lines[0]
    assert "choose another" in lines[0].lower(), lines[0]


def assert_goes_on(name: str, commands: Commands, folder: Path) -> None:
    case = commands[name]
    code, again = case.run(commands.server, folder)
    assert code == 0, again.output
    assert files_below(folder) == case.files
    assert_same_results(results_in(folder), case.results, name)


@pytest.mark.parametrize(
    ("name", "bytes_per_file"),
    [
        ("train", 2000),  # no room for the first record
        pytest.param("train", 20_000, marks=pytest.mark.slow),  # no room for the model
        ("predict", 300),
        pytest.param("predict", 50, marks=pytest.mark.slow),
        pytest.param("prepare", 1000, marks=pytest.mark.slow),  # no room for a prepared sample
        pytest.param("cross_validate", 20_000, marks=pytest.mark.slow),
    ],
)
def test_a_limit_on_the_size_of_files(name: str, bytes_per_file: int, commands: Commands, tmp_path: Path) -> None:
    """As ``ulimit -f`` and quotas of some file systems have it."""
    code, limited = commands[name].run(commands.server, tmp_path, file_size=bytes_per_file)
    assert all_gone(limited, seconds=30)
    assert code == 1, limited.output
    assert_one_clear_error(limited, "File too large")
    assert not [one for one in files_below(tmp_path) if Path(one).name.startswith(".")]
    assert_goes_on(name, commands, tmp_path)


@pytest.mark.parametrize(
    ("name", "kilobytes"),
    [
        ("predict", 12),
        pytest.param("train", 20, marks=pytest.mark.slow),
        pytest.param("train", 80, marks=pytest.mark.slow),
        pytest.param("prepare", 24, marks=pytest.mark.slow),
        pytest.param("cross_validate", 120, marks=pytest.mark.slow),
    ],
)
def test_a_full_disk(name: str, kilobytes: int, commands: Commands, tmp_path: Path) -> None:
    case = commands[name]
    folder = tmp_path / "disk"
    with mounted(folder, kilobytes):
        code, full = case.run(commands.server, folder)
        assert all_gone(full, seconds=30)
        assert code == 1, full.output
        assert_one_clear_error(full, "No space left on device")
        assert not [one for one in files_below(folder) if Path(one).name.startswith(".")]
        subprocess.run(["mount", "-o", "remount,size=100m", str(folder)], check=True)
        assert_goes_on(name, commands, folder)
