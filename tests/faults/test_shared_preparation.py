"""Runs that share a prepared folder, and one whose prepared folder is removed meanwhile, end as if they were alone."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from command_server import Command, end_all
from processes import all_gone
from small_commands import Commands, assert_same_results, results_in
from small_data import files_below

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"),
]


def test_two_runs_share_one_prepared_folder(commands: Commands, tmp_path: Path) -> None:
    case = commands["prepare"]
    arguments = case.arguments_in(tmp_path)  # the prepared folder is beside those of the runs
    running: list[Command] = []
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        running.append(commands.server.start(tmp_path / name, *arguments))
    for command in running:
        assert commands.server.wait(command) == 0, command.output
        assert all_gone(command, seconds=30)
    of_a_run = {name: result for name, result in case.results.items() if name.startswith("run/")}
    for name in ("one", "two", "three"):
        assert files_below(tmp_path / name) == {path for path in case.files if path.startswith("run/")}
        assert_same_results(results_in(tmp_path / name), of_a_run, name)
    prepared = {path for path in files_below(tmp_path) if path.startswith("prepared/")}
    assert prepared == {path for path in case.files if path.startswith("prepared/")}


def test_a_prepared_folder_that_is_removed_again_and_again(commands: Commands, tmp_path: Path) -> None:
    case = commands["prepare"]
    command = commands.server.start(tmp_path, *case.arguments_in(tmp_path))
    ended, removals = threading.Event(), []

    def remove() -> None:
        while not ended.wait(0.02):
            if list((tmp_path / "prepared").glob("prepared/[!.]*")):
                shutil.rmtree(tmp_path / "prepared", ignore_errors=True)
                removals.append(1)

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        code = commands.server.wait(command)
    finally:
        ended.set()
        thread.join()
        end_all(command)
    assert removals
    assert code == 0, command.output
    of_the_run = {name: result for name, result in case.results.items() if name.startswith("run/")}
    assert_same_results(
        {name: one for name, one in results_in(tmp_path).items() if name.startswith("run/")}, of_the_run, "removed"
    )
    shutil.rmtree(tmp_path / "prepared", ignore_errors=True)
    assert files_below(tmp_path) == {path for path in case.files if path.startswith("run/")}
