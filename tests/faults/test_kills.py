"""SIGKILL at any file operation costs nothing that was finished: the same command, run again, ends as if it never was.

Ordinarily a handful of kills; the slow run has more than a hundred. Each has a number, from which the operation is
drawn, so that a failed one can be run again.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from command_server import Command, CommandServer, Kill, end_all
from processes import all_gone
from small_data import files_below, write_cases

from miscnn_tf.neural_network.training_state_file import read_description

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")

EPOCHS = 2
CONFIG = f"""\
[data]
path = "data"
classes = 3

[preprocessing]
normalization = "z-score"
patch_shape = [8, 8, 4]

[augmentation]
elastic_deform = false

[network]
architecture = "small_network"
epochs = {EPOCHS}
iterations = 2
seed = 1
precision = "float32"
deterministic = true

[cross_validation]
k_fold = 2

[output]
figures = false
"""

KILLED = -9


@dataclass
class Case:
    """A command, and what it leaves in its folder (``FOLDER`` in its arguments) when nothing interrupts it."""

    arguments: tuple[object, ...]
    operations: list[int] = field(default_factory=list)  # those at which it may be killed
    epochs: int = 0
    files: set[str] = field(default_factory=set)
    results: dict[str, Any] = field(default_factory=dict)

    def run(self, server: CommandServer, folder: Path, kill: Kill | None = None) -> tuple[int, Command]:
        return server.run(folder, *(str(one).replace("FOLDER", str(folder)) for one in self.arguments), kill=kill)


class Commands:
    """Commands on one data set, each run once without interruption when it is first asked for."""

    def __init__(self, server: CommandServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        write_cases(folder / "data")
        self.config = folder / "small.toml"
        self.config.write_text(CONFIG)
        self._known: dict[str, Case] = {}

    def __getitem__(self, name: str) -> Case:
        if name not in self._known:
            case = Case(getattr(self, name)())
            folder = self.folder / f"whole_{name}"
            folder.mkdir()
            code, command = case.run(self.server, folder)
            assert code == 0, command.output
            lines = command.operations.read_text().splitlines()
            last = max((n for n, line in enumerate(lines) if "\tprepared/" in line), default=len(lines) - 1)
            case.operations = list(range(last + 1))
            case.epochs = epochs_in(command)
            case.files, case.results = files_below(folder), results_in(folder)
            self._known[name] = case
        return self._known[name]

    def train(self) -> tuple[object, ...]:
        return "train", self.config, "-o", "run"

    def cross_validate(self) -> tuple[object, ...]:
        return "cross-validate", self.config, "-o", "run"

    def predict(self) -> tuple[object, ...]:
        assert self["train"].files
        return "predict", self.folder / "whole_train" / "run", self.folder / "data", "out"

    def prepare(self) -> tuple[object, ...]:
        """A training whose samples are prepared by two processes, and kept."""
        changes = (
            "preprocessing.use_multiprocessing=true",
            "preprocessing.prepare_subfunctions=true",
            "preprocessing.prepared_folder='FOLDER/prepared'",
        )
        return "train", self.config, "-o", "run", *(part for change in changes for part in ("--set", change))


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    folder = tmp_path_factory.mktemp("commands")
    with CommandServer(folder) as server:
        yield Commands(server, folder)


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


def results_in(folder: Path) -> dict[str, Any]:
    """What a command has found out, by the name of the file; times are left out."""
    found: dict[str, Any] = {}
    for name in sorted(files_below(folder)):
        path = folder / name
        if path.name == "model.keras":
            found[name] = arrays_of(path)
        elif path.name == "completed.json":
            found[name] = json.loads(path.read_text())
            del found[name]["history"]["data_wait"]
        elif path.name in ("scores.csv", "summary.json", "detailed_validation.tsv", "sample_list.json") or (
            path.name.endswith(".nii.gz")
        ):
            found[name] = path.read_bytes()
    return found


def arrays_of(model: Path) -> dict[str, np.ndarray]:
    """The weights in a model file, and what its optimizer remembers."""
    arrays: dict[str, np.ndarray] = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = np.asarray(item)

    with zipfile.ZipFile(model) as archive, h5py.File(BytesIO(archive.read("model.weights.h5"))) as weights:
        weights.visititems(add)
    return arrays


def assert_same_results(found: dict[str, Any], expected: dict[str, Any], where: str) -> None:
    assert found.keys() == expected.keys(), where
    assert any(name.endswith(".nii.gz") for name in expected)
    for name, result in expected.items():
        if name.endswith("model.keras"):
            assert result.keys() == found[name].keys(), where
            assert len(result) > 8  # weights, moving averages, and Adam's state of each
            for array, value in result.items():
                assert value.dtype == found[name][array].dtype
                assert value.tobytes() == found[name][array].tobytes(), f"{name}: {array}: {where}"
        else:
            assert found[name] == result, f"{name}: {where}"


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


def epochs_in(command: Command) -> int:
    """How many epochs a command began."""
    return len(re.findall(r"Epoch \d+/", command.output))
