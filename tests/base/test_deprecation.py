from __future__ import annotations

import ast
import warnings
from pathlib import Path

import pytest
from packaging.version import Version

import miscnn_tf
from miscnn_tf._base.deprecation import deprecated, renamed_argument
from miscnn_tf.errors import ConfigurationError


@deprecated("double", since="0.2", removed_in="0.3")
def twice(number):
    """Return the double."""
    return 2 * number


@renamed_argument("factor", "by", since="0.2", removed_in="0.3")
def multiplied(number, by=2):
    return number * by


def test_a_deprecated_function_works_and_warns_at_its_caller_with_its_successor():
    with pytest.warns(
        FutureWarning, match=r"twice\(\) is deprecated since miscnn_tf 0.2.*in 0.3: use double"
    ) as caught:
        assert twice(4) == 8
    assert caught[0].filename == __file__
    assert twice.__doc__ == "Return the double."


def test_a_renamed_argument_works_under_both_names_but_not_under_both_at_once():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert multiplied(3, by=5) == 15
    with pytest.warns(FutureWarning, match="argument 'factor' of multiplied.*use 'by'") as caught:
        assert multiplied(3, factor=4) == 12
    assert caught[0].filename == __file__
    with pytest.raises(ConfigurationError, match="'factor' and 'by'"):
        multiplied(3, factor=4, by=5)


def test_nothing_outlives_the_version_that_removes_it():
    overdue = []
    for path in Path(miscnn_tf.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for keyword in node.keywords if isinstance(node, ast.Call) else ():
                if keyword.arg == "removed_in" and Version(ast.literal_eval(keyword.value)) <= Version(
                    miscnn_tf.__version__
                ):
                    overdue.append(f"{path.name}:{node.lineno}")
    assert overdue == []
