from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miscnn_tf.configuration import build, code_fingerprint, describe, fingerprint, get_config, plain
from miscnn_tf.errors import ConfigurationError


class Step:
    def __init__(self, size: tuple[int, ...] = (1, 2), weights: Any = None, name: str = "a") -> None:
        self.size = size
        self.weights = weights
        self.name = name


def test_a_described_object_is_built_again_from_json() -> None:
    step = Step(size=(3, 4), weights=np.array([0.1, 0.2], np.float32), name="b")
    text = json.dumps(describe(step))
    again = build(json.loads(text), {"Step": Step}, "subfunction")
    assert get_config(again) == get_config(step) == {"size": [3, 4], "weights": step.weights.tolist(), "name": "b"}
    assert describe(again) == describe(step)


def test_an_argument_that_was_not_kept_is_named() -> None:
    class Forgets:
        def __init__(self, size: int) -> None:
            pass

    with pytest.raises(
        ConfigurationError, match=r"Forgets does not keep its constructor argument 'size': set self.size"
    ):
        get_config(Forgets(3))


def test_a_get_config_of_its_own_is_used() -> None:
    class Own:
        def __init__(self, function: Any) -> None: ...

        def get_config(self) -> dict[str, Any]:
            return {"function": np.int64(3)}

    assert get_config(Own(len)) == {"function": 3}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array(2.5), 2.5),
        (np.array(["a"]), ["a"]),
        (np.array([1, "a"], object), [1, "a"]),
        (range(3), [0, 1, 2]),
        ({10, 2, 1}, [1, 2, 10]),
        ({"b", 1, "a"}, [1, "a", "b"]),
        ({1: (2,)}, {"1": [2]}),
        (Path("a/b"), "a/b"),
        (None, None),
    ],
)
def test_plain_values(value: Any, expected: Any) -> None:
    result = plain(value)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    "value", [len, 1j, np.complex64(1j), b"x", [{"a": object()}], np.zeros(200_000), np.longdouble(1)]
)
def test_what_is_no_setting_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Clipping\.min is a .* cannot be stored as plain data"):
        plain(value, "Clipping.min")


def test_keys_that_are_the_same_as_text_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="same as text"):
        plain({1: "a", "1": "b"})


def test_build_refuses_unknown_damaged_and_changed() -> None:
    with pytest.raises(ConfigurationError, match=r"'Other' is not known here: .*custom_objects=\{'Other': Other\}"):
        build({"class_name": "Other", "config": {}}, {"Step": Step})
    for damaged in ({}, {"class_name": ["Step"], "config": {}}, {"class_name": "Step", "config": 3}, "Step", None):
        with pytest.raises(ConfigurationError, match="damaged"):
            build(damaged, {"Step": Step})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"could not be made with .*colour"):
        build({"class_name": "Step", "config": {"colour": 1}}, {"Step": Step})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_plain_keeps_json_as_it_is(value: Any) -> None:
    assert plain(value) == value
    assert fingerprint(value) == fingerprint(json.loads(json.dumps(value)))


@given(JSON, JSON)
def test_fingerprints_differ_where_json_differs(first: Any, second: Any) -> None:
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (fingerprint(first) == fingerprint(second)) == same


def test_fingerprint_is_the_same_in_another_process() -> None:
    value = {"b": {"x", "y", "z", "w"}, "a": (1, 2.5)}
    code = "from miscnn_tf.configuration import fingerprint; print(fingerprint({'a': [1, 2.5], 'b': {*'wxyz'}}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == fingerprint(value)


def test_editing_a_class_or_its_base_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, base: str, child: str) -> type:
        source = f"""
            class Base:
                def run(self): return {base}
            class Child(Base):
                def go(self): return {child}
        """
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(tmp_path)
        return __import__(name).Child

    original, same = load("edit_a", "1", "2"), load("edit_b", "1", "2")
    assert code_fingerprint(original) == code_fingerprint(same)
    assert code_fingerprint(original) != code_fingerprint(load("edit_c", "1", "3"))
    assert code_fingerprint(original) != code_fingerprint(load("edit_d", "9", "2"))


def test_a_class_without_source_is_told_by_its_name() -> None:
    first, second = type("First", (), {}), type("Second", (), {})
    assert code_fingerprint(first) == code_fingerprint(first) != code_fingerprint(second)
