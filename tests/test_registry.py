from __future__ import annotations

import logging
from importlib.metadata import EntryPoint

import pytest

from miscnn_tf import registry as registry_module
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.registry import Registry


@pytest.fixture
def losses() -> Registry[object]:
    return Registry("loss")


def test_register_by_decorator_item_and_call(losses: Registry[object]) -> None:
    @losses.register("a")
    def first() -> None: ...

    class Second: ...

    assert losses.register("b", Second) is Second
    losses["c"] = third = object()
    assert losses.names() == ["a", "b", "c"]
    assert losses.get("a") is first
    assert losses["b"] is Second
    assert losses.name_of(third) == "c"
    assert losses.name_of(object()) is None
    assert "b" in losses
    assert len(losses) == 3
    del losses["b"]
    assert "b" not in losses


def test_an_unknown_name_names_the_nearest_and_all_known(losses: Registry[object]) -> None:
    losses["tversky"] = losses["dice"] = object()
    with pytest.raises(
        ConfigurationError, match=r"the loss 'tverski' is unknown. Did you mean 'tversky'\? Known: dice, tversky"
    ):
        losses.get("tverski")
    assert losses.get("tverski", 5) == 5


def test_a_taken_name_is_refused(losses: Registry[object]) -> None:
    class One: ...

    class Two: ...

    losses["x"] = One
    losses["x"] = One
    with pytest.raises(ConfigurationError, match="'x' is already used"):
        losses["x"] = Two
    assert losses["x"] is One


def test_a_notebook_cell_may_define_its_class_again(losses: Registry[object]) -> None:
    def cell() -> type:
        class Mine: ...

        return Mine

    losses["mine"] = cell()
    losses["mine"] = again = cell()
    assert losses["mine"] is again


def test_two_lambdas_are_not_the_same_definition(losses: Registry[object]) -> None:
    losses["x"] = lambda: 1
    with pytest.raises(ConfigurationError, match="already used"):
        losses["x"] = lambda: 2


def _announce(monkeypatch: pytest.MonkeyPatch, *values: str) -> list[str]:
    asked: list[str] = []

    def entry_points(group: str) -> list[EntryPoint]:
        asked.append(group)
        return [EntryPoint(name=value.rpartition(":")[2], value=value, group=group) for value in values]

    monkeypatch.setattr(registry_module, "entry_points", entry_points)
    return asked


def test_another_package_adds_its_own_through_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _announce(monkeypatch, "fractions:Fraction")
    numbers = Registry[object]("number", "miscnn_tf.numbers")
    numbers["own"] = int
    assert numbers["own"] is int
    assert asked == []  # other packages are imported only when something else is asked for
    assert numbers["Fraction"].__module__ == "fractions"
    assert numbers.names() == ["Fraction", "own"]
    assert asked == ["miscnn_tf.numbers"]


def test_a_broken_add_on_is_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _announce(monkeypatch, "no_such_package_here:Thing", "fractions:Fraction")
    numbers = Registry[object]("number", "miscnn_tf.numbers")
    with caplog.at_level(logging.WARNING):
        assert numbers.names() == ["Fraction"]
    assert "no_such_package_here:Thing" in caplog.text
