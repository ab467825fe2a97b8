from __future__ import annotations

import pytest

from miscnn_tf._base.messages import size_text, text_table


def test_columns_are_aligned_and_no_line_ends_in_blanks() -> None:
    text = text_table([("a", "bb"), ("long", "1"), ("", "22")], "lr")
    assert text.splitlines() == ["a     bb", "────────", "long   1", "      22"]


def test_cells_of_another_number_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        text_table([("a", "b"), ("c",)], "lr")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 kB"),
        (150 * 2**20, "150 MB"),
        (3 * 2**40, "3.0 TB"),
        (5000 * 2**40, "5000 TB"),
    ],
)
def test_sizes(number: int, text: str) -> None:
    assert size_text(number) == text
