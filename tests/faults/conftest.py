"""A small data set and a model for it, and commands in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_server import CommandServer
from processes import hear_interrupts
from small_commands import Commands
from small_config import write_config
from small_data import write_cases


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four cases in ``tmp_path/data``, beside a configuration whose training takes minutes."""
    write_cases(tmp_path / "data")
    write_config(tmp_path / "long.toml", network={"epochs": 2000})
    return tmp_path / "data"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of such data."""
    from miscnn_tf import Data_IO, Neural_Network, Preprocessor
    from miscnn_tf.data_loading.interfaces import NIFTI_interface
    from miscnn_tf.neural_network.architecture.unet.standard import Architecture
    from miscnn_tf.processing.subfunctions import Normalization

    folder = tmp_path_factory.mktemp("model")
    write_cases(folder / "data", 1)
    data_io = Data_IO(NIFTI_interface(1, 3), folder / "data", batch_path=folder / "batches")
    preprocessor = Preprocessor(data_io, 1, [Normalization()], patch_shape=(8, 8, 4))
    network = Neural_Network(preprocessor, Architecture(n_filters=2, depth=1))
    network.dump(folder / "model.keras")
    return folder / "model.keras"


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts ``miscnn-tf`` in ``tmp_path``, in a session of its own."""

    def start(*arguments: object, code: str = "", **options: object) -> subprocess.Popen[str]:
        program = f"import sys\n{code}\nfrom miscnn_tf.cli.main import main\nsys.exit(main())"
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            **{  # type: ignore[call-overload]
                "cwd": tmp_path,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                "start_new_session": True,
                "preexec_fn": hear_interrupts,
                **options,
            },
        )

    return start


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Commands that start at once."""
    folder = tmp_path_factory.mktemp("commands")
    with CommandServer(folder) as server:
        yield Commands(server, folder)
