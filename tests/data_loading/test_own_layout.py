"""A layout of another package: one class with `recognises` is detected everywhere."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import miscnn_tf
from miscnn_tf import registry
from miscnn_tf.cli import main as cli
from miscnn_tf.data_loading import layout_detection as layouts
from miscnn_tf.data_loading.interfaces import Abstract_IO, miscnn_data_interfaces
from miscnn_tf.data_loading.layout_detection import LAYOUTS, find_interface, layout_help, recognise
from miscnn_tf.errors import MissingDataError

MARK = "volumes.txt"


class Npy_interface(Abstract_IO):
    """Two files beside each other: ``a_image.npy``, ``a_labels.npy``; ``volumes.txt`` marks the folder."""

    layout_description = "pairs of .npy files\n  volumes.txt\n  a_image.npy\n  a_labels.npy"

    def __init__(self, channels: int = 1, classes: int = 2, three_dim: bool = True) -> None:
        super().__init__(channels, classes, three_dim)
        self.data_directory = Path()

    @classmethod
    def recognises(cls, folder, settings):
        return f"it holds {MARK}" if (folder / MARK).is_file() else None

    @classmethod
    def from_folder(cls, folder, settings):
        return cls.from_settings({"classes": int((folder / MARK).read_text()), **settings})

    def initialize(self, input_path):
        self.data_directory = Path(input_path)
        return sorted(path.name.removesuffix("_image.npy") for path in self.data_directory.glob("*_image.npy"))

    def load_image(self, index):
        return np.load(self.data_directory / f"{index}_image.npy"), {"spacing": np.ones(3)}

    def load_segmentation(self, index):
        return np.load(self.data_directory / f"{index}_labels.npy")

    def load_prediction(self, index, output_path):
        return np.load(Path(output_path) / f"{index}.npy")

    def save_prediction(self, sample, output_path):
        np.save(Path(output_path) / f"{sample.index}.npy", sample.pred_data)

    @staticmethod
    def check_file_termination(termination):
        return termination == ".npy"


class Folders_interface(Npy_interface):
    """A folder per sample, which needs `find_image` alone."""

    recognises = Abstract_IO.__dict__["recognises"]

    @classmethod
    def find_image(cls, folder):
        image = folder / "volume.npy"
        return image if image.is_file() else None


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / MARK).write_text("3")
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        np.save(folder / f"{name}_image.npy", rng.normal(size=(16, 16, 16)).astype(np.float32))
        np.save(folder / f"{name}_labels.npy", rng.integers(0, 3, (16, 16, 16)).astype(np.uint8))
    return folder


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(miscnn_data_interfaces, "NPY", Npy_interface)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry point of an installed package."""
    point = EntryPoint("NPY", f"{__name__}:Npy_interface", "miscnn_tf.interfaces")
    fresh: registry.Registry[type[Abstract_IO]] = registry.Registry("data interface", "miscnn_tf.interfaces")
    for name, cls in miscnn_data_interfaces.items():
        fresh[name] = cls
    monkeypatch.setattr(EntryPoint, "load", lambda self: Npy_interface)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    monkeypatch.setattr(layouts, "miscnn_data_interfaces", fresh)


@pytest.mark.parametrize("source", ["registered", "installed"])
def test_find_interface_asks_every_interface(source: str, data: Path, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(source)
    interface = find_interface(data)
    assert (type(interface), interface.classes) == (Npy_interface, 3)
    assert find_interface(data, classes=5).classes == 5
    assert interface.initialize(data) == ["a", "b", "c"]


@pytest.mark.usefixtures("registered")
def test_the_commands_find_it(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(data)]) == 0
    assert "3 samples in" in (printed := capsys.readouterr().out)
    assert "read by Npy_interface: 3D, 1 channel, 3 classes" in printed
    assert cli.main(["verify", str(data), "--no-labels"]) == 0
    experiment = data.parent / "experiment.toml"
    assert cli.main(["init", str(data), "-o", str(experiment)]) == 0
    assert 'layout = "NPY"' in experiment.read_text(encoding="utf-8")


@pytest.mark.usefixtures("registered")
def test_the_help_describes_it(tmp_path: Path) -> None:
    assert LAYOUTS["NPY"] == Npy_interface.layout_description
    assert f"NPY: {Npy_interface.layout_description}" in layout_help()
    with pytest.raises(MissingDataError, match=r"NPY: pairs of \.npy files"):
        find_interface(tmp_path)


def test_a_folder_per_sample_needs_find_image_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(miscnn_data_interfaces, "FOLDERS", Folders_interface)
    data = tmp_path / "folders"
    (data / "x").mkdir(parents=True)
    with pytest.raises(MissingDataError):
        recognise(data)
    (data / "x" / "volume.npy").touch()
    assert recognise(data) == "FOLDERS"
    assert Folders_interface.recognises(data, {}) == "it holds x/volume.npy"
    with pytest.raises(MissingDataError, match="does not have a known layout"):
        recognise(data, pattern="y")
    with pytest.raises(MissingDataError, match=r"x is itself one sample"):
        recognise(data / "x")


def test_an_argument_of_one_layout_decides(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other_interface(Npy_interface):
        def __init__(self, channels: int = 1, classes: int = 2, three_dim: bool = True, memory: Any = None) -> None:
            super().__init__(channels, classes, three_dim)

    monkeypatch.setitem(miscnn_data_interfaces, "NPY", Npy_interface)
    monkeypatch.setitem(miscnn_data_interfaces, "OTHER", Other_interface)
    assert type(find_interface(data)) is Npy_interface
    assert type(find_interface(data, memory="1GB")) is Other_interface


def test_an_interface_needs_no_endings(data: Path) -> None:
    """Defect: interfaces for MIScnn 1.2 could not be made without `check_file_termination`."""

    class Earlier(Npy_interface):
        check_file_termination = staticmethod(Abstract_IO.check_file_termination)

    assert Earlier().check_file_termination(".npy") is False
    assert not {"check_file_termination"} & Abstract_IO.__abstractmethods__
    assert len(miscnn_tf.Data_IO(Earlier(), data).get_indiceslist()) > 0
