"""The checks that constructors share."""

from __future__ import annotations

import numpy as np
import pytest

from miscnn_tf._base.arguments import byte_count, number, per_axis, sizes, spacings, whole_number
from miscnn_tf.errors import ConfigurationError


@pytest.mark.parametrize(
    ("value", "expected"), [(3, 3), (np.int16(3), 3), (np.float32(0.5), 0.5), (float("inf"), float("inf"))]
)
def test_numbers_become_pythons_own(value, expected):
    result = number(value, "argument")
    assert result == expected
    assert type(result) in (int, float)


@pytest.mark.parametrize("value", ["3", None, True, float("nan"), [1]])
def test_what_is_no_number(value):
    with pytest.raises(ConfigurationError, match="argument"):
        number(value, "argument")


@pytest.mark.parametrize("value", [1.0, "1", True, -1, 6, None])
def test_what_is_no_order(value):
    with pytest.raises(ConfigurationError, match=r"argument.*0 to 5"):
        whole_number(value, "argument", 0, 5)


def test_lists_and_arrays_become_tuples():
    assert sizes([1, np.int64(2)], "argument") == (1, 2)
    assert spacings(np.array([0.5, 2]), "argument") == (0.5, 2.0)
    for wrong in ((1, -1), (1, float("inf")), "12", 3):
        with pytest.raises(ConfigurationError, match="argument"):
            spacings(wrong, "argument")


def test_values_per_axis():
    assert per_axis((1, 2), 2, "argument") == (1, 2)
    assert per_axis((1, 1, 1), 2, "argument") == (1, 1)
    assert per_axis((4,), 3, "argument") == (4, 4, 4)
    with pytest.raises(ConfigurationError, match=r"argument=\(1, 2\)"):
        per_axis((1, 2), 3, "argument")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        ("7B", 7),
        ("4GB", 4 * 10**9),
        ("1.5 gib", 3 * 2**29),
        ("200 MB", 2 * 10**8),
        ("1kb", 1000),
        ("1TiB", 2**40),
        (4e9, 4 * 10**9),
        (np.int64(5), 5),
    ],
)
def test_amounts_of_memory(value, expected):
    assert byte_count(value, "memory_budget") == expected


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "4", "GB", "-1GB", "0GB", "4 apples", None, "4GBB"])
def test_what_is_no_amount_of_memory_is_refused(value):
    with pytest.raises(ConfigurationError, match="memory_budget"):
        byte_count(value, "memory_budget")


def test_none_may_be_an_amount_of_memory():
    assert byte_count(0, "cache_bytes", least=0) == byte_count("0B", "cache_bytes", least=0) == 0
    with pytest.raises(ConfigurationError, match=r'cache_bytes must be .*"4GB".*got -1'):
        byte_count(-1, "cache_bytes", least=0)
