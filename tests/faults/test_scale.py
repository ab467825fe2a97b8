"""Ten times as many samples cost at most ten times the time, and 13 % more memory."""

from __future__ import annotations

import shutil
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from command_server import Use
from small_commands import Commands
from small_config import write_config
from small_data import write_case

from miscnn_tf.evaluation.cross_validation import split_folds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"),
]

FEW, MANY = 200, 2000
# Processor time depends on what else the machine does.
NOISE = 1.3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Makes a folder with so many samples of a few voxels."""
    made: dict[int, Path] = {}

    def make(number: int) -> Path:
        if number not in made:
            folder = made[number] = tmp_path_factory.mktemp(f"samples_{number}")
            case = write_case(folder / "case_0000", 1, shape=(8, 8, 6))
            for position in range(1, number):
                shutil.copytree(case, folder / f"case_{position:04}")
        return made[number]

    return make


def assert_at_most_linear(what: str, few: Use, many: Use) -> None:
    figures = (
        f"{what}: {FEW} samples {few.seconds:.1f} s, {few.memory / 2**20:.0f} MiB; "
        f"{MANY} samples {many.seconds:.1f} s, {many.memory / 2**20:.0f} MiB"
    )
    print(figures)  # noqa: T201  # pytest -rP shows it
    assert many.seconds <= NOISE * MANY / FEW * few.seconds, figures
    assert many.memory <= 1.13 * few.memory, figures


@pytest.mark.parametrize("what", ["verify", "train", "predict"])
def test_a_command_with_2000_samples(
    what: str, data: Callable[[int], Path], commands: Commands, tmp_path: Path
) -> None:
    uses = []
    for number in (FEW, MANY):
        folder = tmp_path / str(number)
        folder.mkdir()
        if what == "train":
            config = write_config(
                tmp_path / f"{number}.toml",
                data={"path": str(data(number))},
                preprocessing={"patch_shape": [4, 4, 4]},
                split={"validation_share": 0.01},
                network={"architecture": "small_network", "epochs": 1, "iterations": 5},
            )
            arguments = ["train", config, "-o", "run"]
        elif what == "predict":
            assert commands["train"].files
            arguments = ["predict", commands.folder / "whole_train" / "run", data(number), "out"]
        else:
            arguments = ["verify", data(number), "--classes", "3"]
        code, command = commands.server.run(folder, *arguments)
        assert code == 0, command.output
        uses.append(commands.server.last_use)
    assert_at_most_linear(what, *uses)
    if what == "predict":
        assert len(list((tmp_path / str(MANY) / "out").glob("case_*.nii.gz"))) == MANY


def test_the_splits_of_2000_samples(tmp_path: Path) -> None:
    uses = []
    for number in (FEW, MANY):
        names = [f"case_{position:04}" for position in range(number)]
        tracemalloc.start()
        begin = time.process_time()
        split_folds(
            names,
            k_fold=5,
            evaluation_path=tmp_path / str(number),
            strata={name: name[-1] for name in names},
            groups={name: f"patient_{position // 3}" for position, name in enumerate(names)},
        )
        seconds = time.process_time() - begin
        uses.append(Use(tracemalloc.get_traced_memory()[1], seconds))
        tracemalloc.stop()
    print([(use.seconds, use.memory) for use in uses])  # noqa: T201
    assert uses[1].seconds <= NOISE * MANY / FEW * uses[0].seconds
    assert uses[1].memory <= NOISE * MANY / FEW * uses[0].memory
