from __future__ import annotations

import configparser
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from miscnn_tf._machine import dependencies

SETUP = Path(__file__).resolve().parents[2] / "setup.cfg"


def setup_file() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(SETUP, encoding="utf-8")
    return parser


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What setup.cfg says, whatever version of this package is installed where the tests run."""
    parser = setup_file()
    lines = [line for line in parser["options"]["install_requires"].splitlines() if line and line[0] != "#"]
    fields = {"Requires-Dist": list(lines), "Provides-Extra": []}
    for extra, text in parser["options.extras_require"].items():
        fields["Provides-Extra"].append(extra)
        for line in text.splitlines():
            if line and line[0] != "#":
                fields["Requires-Dist"].append(f'{line}; extra == "{extra}"')

    class Metadata:
        def get_all(self, name: str) -> list[str]:
            return fields[name]

    monkeypatch.setattr(dependencies, "metadata", lambda name: Metadata())
    return lines


def test_each_dependency_is_there_and_fits(declared: list[str]) -> None:
    found = dependencies.required()
    assert found is not None
    assert [one["name"] for one in found] == [Requirement(line).name for line in declared]
    assert all(one["fits"] for one in found)
    assert next(one for one in found if one["name"] == "numpy")["installed"] == np.__version__


def test_an_old_and_a_missing_one_do_not_fit(declared: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "tqdm":
            raise PackageNotFoundError(name)
        return "0.0.1" if name == "scipy" else "9999"

    monkeypatch.setattr(dependencies, "version", version)
    found = {one["name"]: one for one in dependencies.required() or ()}
    assert {name for name, one in found.items() if not one["fits"]} == {"scipy", "tqdm"}
    assert found["tqdm"]["installed"] is None
    assert found["scipy"]["wanted"].startswith(">=")


def test_each_extra_is_known_with_what_it_is_for(declared: list[str]) -> None:
    extras = dependencies.extras()
    assert set(extras) == set(setup_file()["options.extras_require"]) == set(dependencies.FEATURES)
    assert [package["name"] for package in extras["staple"]] == ["SimpleITK"]
    assert extras["gpu"][0]["name"] == "tensorflow[and-cuda]"


def test_the_gpu_extra_is_there_only_with_nvidias_libraries(
    declared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependencies, "nvidia_packages", dict)
    assert not dependencies.extras()["gpu"][0]["fits"]
    monkeypatch.setattr(dependencies, "nvidia_packages", lambda: {"nvidia-cudnn-cu12": "9.3"})
    assert dependencies.extras()["gpu"][0]["fits"]


def test_not_installed_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies, "PACKAGE", "no-such-package-as-this")
    assert dependencies.required() is None
    assert dependencies.extras() == {}
