"""SIGKILL at any file operation costs nothing that was finished: the same command, run again, ends as if it never was.

Ordinarily a handful of kills; the slow run has more than a hundred. Each has a number, from which the operation is
drawn, so that a failed one can be run again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_server import Command, Kill, end_all
from processes import all_gone
from small_commands import EPOCHS, Commands, assert_same_results, epochs_in, results_in
from small_data import files_below

from miscnn_tf.runs.training_state_file import read_description

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")

KILLED = -9


def numbers(ordinary: int, slow: int) -> list[Any]:
    """The numbers of the kills in the ordinary and in the slow run."""
    return [*range(ordinary), *(pytest.param(number, marks=pytest.mark.slow) for number in range(ordinary, slow))]


@pytest.mark.parametrize("number", numbers(1, 31))
def test_killed_training(number: int, commands: Commands, tmp_path: Path) -> None:
    kill_and_run_again("train", number, commands, tmp_path)


@pytest.mark.parametrize("number", numbers(0, 16))
def test_killed_cross_validation(number: int, commands: Commands, tmp_path: Path) -> None:
    kill_and_run_again("cross_validate", number, commands, tmp_path)


@pytest.mark.parametrize("number", numbers(2, 44))
def test_killed_prediction_of_a_folder(number: int, commands: Commands, tmp_path: Path) -> None:
    kill_and_run_again("predict", number, commands, tmp_path)


@pytest.mark.parametrize("whom", ["process", "group", "worker"])
@pytest.mark.parametrize("number", numbers(0, 6))
def test_killed_preparation_by_several_processes(number: int, whom: str, commands: Commands, tmp_path: Path) -> None:
    kill_and_run_again("prepare", number, commands, tmp_path, whom)


def kill_and_run_again(name: str, number: int, commands: Commands, folder: Path, whom: str = "process") -> None:
    case = commands[name]
    rng = np.random.default_rng([number, *f"{name} {whom}".encode()])
    kill = Kill(
        int(rng.choice(case.operations)), ("before", "after", "later")[number % 3], float(rng.uniform(0, 0.05)), whom
    )
    code, killed = case.run(commands.server, folder, kill)
    try:
        assert all_gone(killed, seconds=30), f"processes are left: {kill}"
        check_end(code, killed, kill)
        finished, done = finished_in(folder), epochs_done(folder)
        last = killed.operations.read_text(errors="replace").splitlines()[-3:]
        where = f"{name} {number}: {kill}, exit code {code}, after {last}"
        code, again = case.run(commands.server, folder)
        assert code == 0, f"{where}: {again.output}"
        assert all_gone(again, seconds=30), f"processes are left: {where}"
    finally:
        end_all(killed)
    print(where)  # noqa: T201  # pytest -rP shows it
    assert files_below(folder) == case.files, where
    assert_same_results(results_in(folder), case.results, where)
    after = finished_in(folder)
    assert {path: after.get(path) for path in finished} == finished, f"made again: {where}"
    assert epochs_in(again) == case.epochs - done, where


def check_end(code: int, command: Command, kill: Kill) -> None:
    if kill.whom == "worker":
        # The others may have prepared all samples by then.
        assert "worker killed" in command.operations.read_text()
        assert code in (0, 1)
        assert "Traceback" not in command.output
        if code == 1:
            last = command.output.strip().splitlines()[-1]
            assert last.startswith("miscnn-tf: error: a process that prepared samples was killed"), command.output
    elif kill.when == "later":
        assert code in (KILLED, 0)
    else:
        assert code == KILLED, f"{kill}: {command.output}"


def finished_in(folder: Path) -> dict[str, tuple[int, int]]:
    """The finished results in a folder, each with its inode and time: another one in its place was made again."""
    trained = [path.with_name("model.keras") for path in folder.rglob("completed.json")]
    predicted = [path for path in folder.rglob("*.nii.gz") if not path.name.startswith(".")]
    prepared = folder.glob("prepared/[!.]*/*.npy")
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in (*trained, *predicted, *prepared)
    }


def epochs_done(folder: Path) -> int:
    """How many epochs are kept, of all folds."""
    done = 0
    for path in (folder / "run", *(folder / "run").glob("fold_*")):
        if (path / "completed.json").is_file():
            done += EPOCHS
        elif (path / "training_state.npz").is_file():
            done += read_description(path / "training_state.npz")["done"]
    return done
