from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from miscnn_tf.data_loading.sample import Sample, as_index_list
from miscnn_tf.errors import ConfigurationError


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ("case_0", ["case_0"]),
        (7, [7]),
        (np.int64(7), [7]),
        (["a", "b"], ["a", "b"]),
        (("a", 3), ["a", 3]),
        (np.array(["a", "b"]), ["a", "b"]),
        ((name for name in "ab"), ["a", "b"]),
        ({"a": 1, "b": 2}, ["a", "b"]),
        ([("a", 1)], [("a", 1)]),
    ],
)
def test_lists_of_names(samples: Any, expected: list[Any]) -> None:
    result = as_index_list(samples)
    assert result == expected
    assert [type(name) for name in result if isinstance(name, str)] == [
        str for name in expected if isinstance(name, str)
    ]


def test_the_callers_list_is_not_handed_on() -> None:
    samples = ["a", "b"]
    as_index_list(samples).clear()
    assert samples == ["a", "b"]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "is empty"),
        (None, "a list of sample names is needed.*got None"),
        (1.5, "a list of sample names is needed"),
        (np.zeros((4, 4)), r"array of float64.*\(4, 4\).*predict_array"),
        (np.zeros((4, 4), int), r"array of int64.*predict_array"),
        (True, "a list of sample names is needed"),
        (b"ab", "a list of sample names is needed"),
        ({"a", "b"}, "sorted"),
        ([["a", "b"]], r"\['a', 'b'\] in the list"),
        (["a", None], "None in the list"),
        (Sample("a", np.zeros((2, 2)), 1, 2), "not Sample objects; use 'a'"),
        ([Sample("a", np.zeros((2, 2)), 1, 2)], "not Sample objects; use 'a'"),
    ],
)
def test_what_is_no_list_of_names(samples: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        as_index_list(samples)
