from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miscnn_tf._base.configuration import build, class_digest, describe, digest, get_config, plain
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
        ConfigurationError, match=r"Forgets does not store its constructor argument 'size': set self.size"
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
    with pytest.raises(ConfigurationError, match="equal as text"):
        plain({1: "a", "1": "b"})


def test_build_refuses_unknown_damaged_and_changed() -> None:
    with pytest.raises(ConfigurationError, match=r"'Other' is unknown: .*custom_objects=\{'Other': Other\}"):
        build({"class_name": "Other", "config": {}}, {"Step": Step})
    for damaged in ({}, {"class_name": ["Step"], "config": {}}, {"class_name": "Step", "config": 3}, "Step", None):
        with pytest.raises(ConfigurationError, match="damaged"):
            build(damaged, {"Step": Step})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"cannot be created from .*colour"):
        build({"class_name": "Step", "config": {"colour": 1}}, {"Step": Step})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_plain_keeps_json_as_it_is(value: Any) -> None:
    assert plain(value) == value
    assert digest(value) == digest(json.loads(json.dumps(value)))


@given(JSON, JSON)
def test_digests_differ_where_json_differs(first: Any, second: Any) -> None:
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (digest(first) == digest(second)) == same


def test_digest_is_the_same_in_another_process() -> None:
    value = {"b": {"x", "y", "z", "w"}, "a": (1, 2.5)}
    code = "from miscnn_tf._base.configuration import digest; print(digest({'a': [1, 2.5], 'b': {*'wxyz'}}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(value)


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
    assert class_digest(original) == class_digest(same)
    assert class_digest(original) != class_digest(load("edit_c", "1", "3"))
    assert class_digest(original) != class_digest(load("edit_d", "9", "2"))


def test_a_class_without_source_is_told_by_its_name() -> None:
    first, second = type("First", (), {}), type("Second", (), {})
    assert class_digest(first) == class_digest(first) != class_digest(second)


def typed(source: str) -> type:
    """The class `Child` as a notebook's cell defines it: in ``__main__``, and without source."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(textwrap.dedent(source), "<cell>", "exec"), names)
    child: type = names["Child"]
    return child


CELL = """
    import functools

    def twice(function):
        @functools.wraps(function)
        def run(*args): return function(*args) * 2
        return run

    class Base:
        def base(self): return 11

    class Child(Base):
        window = [12, {"a": 1.5}]
        def plain(self, low, high=13): return low - 14
        def nested(self): return [x for x in (lambda: 15, 16) if x not in {17, 18, "a", "b", None}]
        def calls(self): return self.plain(low=1)
        def caught(self):
            try: return 19
            except ValueError: return 20
        @property
        def size(self): return 21
        @staticmethod
        def still(): return 22
        @classmethod
        def of(cls): return cls, 23, 1j, b"x", ...
        @functools.cached_property
        def cached(self): return 24
        @twice
        def decorated(self): return super().base() + 25
        part = functools.partial(twice, 26)
        class Inner:
            def run(self): return 27
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [(str(number), "99") for number in range(11, 28)]
    + [
        ("* 2", "* 3"),
        ("1.5", "1.25"),
        ("self.plain(", "self.still("),
        ("low - ", "low + "),
        ("ValueError", "KeyError"),
        ("@property", "@functools.cached_property"),
        ("@twice", ""),
    ],
)
def test_editing_a_class_in_a_notebook_is_noticed(before: str, after: str) -> None:
    """Defect: prepared samples reused although the cell with the subfunction was edited."""
    assert CELL.count(before) == 1
    assert class_digest(typed(CELL)) != class_digest(typed(CELL.replace(before, after)))


def test_a_cell_that_is_run_again_is_the_same_class() -> None:
    assert class_digest(typed(CELL)) == class_digest(typed("\n\n" + CELL))


def test_a_class_in_a_notebook_is_the_same_in_another_process() -> None:
    code = textwrap.dedent(CELL) + "from miscnn_tf._base.configuration import class_digest; print(class_digest(Child))"
    prints = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(prints) == 1


def test_what_holds_itself_or_only_an_address_does_not_hinder() -> None:
    source = """
        def make():
            def again(n): return again(n - 1) if n else later
            if False: later = 1
            return again
        class Child:
            odd = object()
            loop = [1]
            run = make()
        Child.loop.append(Child.loop)
        Child.me = Child
    """
    assert class_digest(typed(source)) == class_digest(typed(source))
    assert class_digest(typed(source)) != class_digest(typed(source.replace("n - 1", "n - 2")))


CELLS = """
    LOW = 31
    TABLE = {"air": [32, 33]}
    def inner(x, low=34): return x * LOW
    def outer(x): return [inner(y) for y in x]
    class Other:
        def go(self): return 35
    unused = 36
    class Child:
        def run(self, x): return outer(x) + Other().go() + sum(TABLE["air"])
"""


@pytest.mark.parametrize(
    ("number", "noticed"), [(31, True), (32, True), (33, True), (34, True), (35, True), (36, False)]
)
def test_editing_what_the_methods_use_of_their_module_is_noticed(number: int, noticed: bool) -> None:
    """Defect: prepared samples reused although a function that the subfunction calls was edited."""
    edited = CELLS.replace(str(number), "99")
    assert edited != CELLS
    assert (class_digest(typed(CELLS)) != class_digest(typed(edited))) == noticed


def test_a_class_stays_the_same_when_it_is_used() -> None:
    child = typed(CELL)
    before = class_digest(child)
    instance = child()
    assert instance.base() + instance.cached + len(instance.nested()) == 37
    instance.__reduce_ex__(2)  # as pickle does on the way to a worker
    assert class_digest(child) == before


def test_images_that_a_notebook_holds_are_not_looked_at() -> None:
    source = """
        import numpy as np
        images = {"a": [np.full(100_000, 1), 2]}
        images["itself"] = images
        window = np.array([3, 4])
        class Child:
            kept = {"a": np.full(200_000, 1)}
            def load(self, name): return images[name].clip(*window)
    """
    before = class_digest(typed(source))
    for size in ("100_000", "200_000"):
        assert class_digest(typed(source.replace(f"{size}, 1", f"{size}, 2"))) == before
    assert class_digest(typed(source.replace("3, 4", "3, 5"))) != before


def test_functions_that_call_each_other_do_not_hinder() -> None:
    source = """
        def one(n): return two(n - 1)
        def two(n): return one(n - 2) or Child
        class Child:
            def run(self): return one(3)
    """
    assert class_digest(typed(source)) == class_digest(typed(source))
    assert class_digest(typed(source)) != class_digest(typed(source.replace("n - 2", "n - 5")))


def test_what_runs_counts_and_not_what_the_file_has_become(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: a file edited after its import gave the old code's samples the name of the new code's."""
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "edited_while_in_use.py"
    file.write_text("class Child:\n    def run(self): return 1\n")
    child = __import__("edited_while_in_use").Child
    file.write_text("class Child:\n    def run(self): return 1 + 1\n")
    ran_before = class_digest(child)
    new: dict[str, Any] = {"__name__": "edited_while_in_use"}
    exec(file.read_text(), new)
    assert child().run() == 1
    assert ran_before != class_digest(new["Child"])
    file.write_text("class Child:\n    def run(self): return 1\n")
    assert class_digest(child) == ran_before


def test_our_own_classes_are_the_same_in_another_process() -> None:
    code = """
        from miscnn_tf._base.configuration import class_digest
        from miscnn_tf.data_loading.interfaces import NIFTI_interface
        from miscnn_tf.processing.subfunctions import Normalization, Resampling
        print([class_digest(one) for one in (NIFTI_interface, Normalization, Resampling)])
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    prints = {
        subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(prints) == 1
