"""Turns of phrase that error messages share."""

from __future__ import annotations

import pytest

from miscnn_tf._base.messages import did_you_mean, plural, some_of, unknown_name
from miscnn_tf.errors import ConfigurationError
from miscnn_tf.experiment.schema import make_named
from miscnn_tf.registry import Registry


@pytest.mark.parametrize(
    ("names", "expected"),
    [([], "nothing"), (["a"], "a"), ([1, "b"], "1, b"), (iter("abc"), "a, b and 1 more")],
)
def test_some_of(names, expected):
    assert some_of(names, most=2) == expected


def test_did_you_mean():
    assert did_you_mean("case_00001x", ["case_00001", "other"]) == " Did you mean 'case_00001'?"
    assert did_you_mean(7, [70, 8]) == " Did you mean '70'?"
    assert did_you_mean("nothing like it", ["case_00001"]) == ""


def test_unknown_name_is_described_in_the_same_way_everywhere() -> None:
    """Registry, losses, metrics and configuration files use one wording."""
    expected = "the loss 'dise' is unknown. Did you mean 'dice'? Known: dice, tversky"
    assert unknown_name("loss", "dise", ["tversky", "dice"]) == expected
    registry: Registry[object] = Registry("loss")
    registry.register("dice", object())
    registry.register("tversky", object())
    for look_up in (lambda: registry.get("dise"), lambda: make_named(registry, "dise", {}, "loss")):
        with pytest.raises(ConfigurationError) as error:
            look_up()
        assert str(error.value) == expected


def test_plural() -> None:
    assert [plural(number, "case") for number in (0, 1, 2)] == ["0 cases", "1 case", "2 cases"]
