"""Commands on a small data set, and what each leaves when nothing interrupts it."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from command_server import Command, CommandServer, Kill
from small_config import write_config
from small_data import files_below, write_cases

EPOCHS = 2


@dataclass
class Case:
    """A command, and what it leaves in its folder (``FOLDER`` in its arguments) when nothing interrupts it."""

    arguments: tuple[object, ...]
    operations: list[int] = field(default_factory=list)  # those at which it may be killed
    epochs: int = 0
    files: set[str] = field(default_factory=set)
    results: dict[str, Any] = field(default_factory=dict)

    def run(
        self, server: CommandServer, folder: Path, kill: Kill | None = None, file_size: int | None = None
    ) -> tuple[int, Command]:
        return server.run(folder, *self.arguments_in(folder), kill=kill, file_size=file_size)

    def arguments_in(self, folder: Path) -> list[str]:
        return [str(one).replace("FOLDER", str(folder)) for one in self.arguments]


class Commands:
    """Commands on one data set, each run once without interruption when it is first asked for."""

    def __init__(self, server: CommandServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        write_cases(folder / "data")
        self.config = write_config(
            folder / "small.toml",
            augmentation={"enabled": None, "elastic_deform": False},
            network={"architecture": "small_network", "epochs": EPOCHS, "deterministic": True},
        )
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


def epochs_in(command: Command) -> int:
    """How many epochs a command began."""
    return len(re.findall(r"Epoch \d+/", command.output))
