"""The examples in the docstrings: those that can run are run, the others at least call what exists, as it is called."""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import miscnn_tf

PACKAGE = Path(miscnn_tf.__file__).parent


def _module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# By their files: to import them all would start TensorFlow whenever tests are collected.
MODULES = sorted(_module_name(path) for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


def examples_of(name: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name), name)
    return [test for test in found if test.examples]


@pytest.fixture
def registries_as_before() -> Iterator[None]:
    """An example that registers something must not do so for the other tests."""
    from miscnn_tf.data_loading.interfaces import miscnn_data_interfaces
    from miscnn_tf.neural_network.architecture import architectures
    from miscnn_tf.neural_network.losses import losses
    from miscnn_tf.processing.subfunctions import subfunctions

    registries = (miscnn_data_interfaces, architectures, losses, subfunctions)
    before = [set(registry) for registry in registries]
    yield
    for registry, names in zip(registries, before, strict=True):
        for name in set(registry) - names:
            del registry[name]


def test_the_package_has_examples():
    assert len(MODULES) > 40


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name, tmp_path, monkeypatch, registries_as_before):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for test in examples_of(name):
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


@pytest.mark.parametrize("name", MODULES)
def test_examples_that_are_not_run_call_what_exists(name):
    from miscnn_tf import Data_IO, Neural_Network, Preprocessor
    from miscnn_tf.data_loading.sample import Sample

    for test in examples_of(name):
        known = {**vars(builtins), **vars(miscnn_tf), "miscnn_tf": miscnn_tf, **test.globs}
        # What the examples call their objects; a method is looked up in the class.
        known |= {"model": Neural_Network, "io": Data_IO, "data_io": Data_IO, "pre_processor": Preprocessor}
        known |= {"preprocessor": Preprocessor, "sample": Sample}
        for example in test.examples:
            tree = ast.parse(example.source)
            if not example.options.get(doctest.SKIP):
                # Runs elsewhere; what it imports is used by the ones that do not.
                exec(compile(_imports(tree), test.name, "exec"), known)
                continue
            for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
                _check_call(call, known, f"{test.name}: {example.source.strip()}")


def _imports(tree: ast.Module) -> ast.Module:
    return ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], type_ignores=[])


def _check_call(call: ast.Call, known: dict[str, Any], where: str) -> None:
    names: list[str] = []
    node: ast.expr = call.func
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in known:
        return  # the result of another call, or something that the reader is to have
    target: Any = known[node.id]
    bound = False
    for name in names:
        assert hasattr(target, name), f"{where}: {node.id} has no {'.'.join(names)}"
        bound = inspect.isclass(target) and inspect.isfunction(inspect.getattr_static(target, name, None))
        target = getattr(target, name)
    if not getattr(target, "__module__", "").startswith("miscnn_tf") or any(
        isinstance(a, ast.Starred) for a in call.args
    ):
        return
    arguments = [*([None] if bound else []), *call.args]
    try:
        inspect.signature(target).bind(*arguments, **{word.arg: None for word in call.keywords if word.arg})
    except TypeError as error:
        pytest.fail(f"{where}: {error}")
