"""Formatting of tables and sizes for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], align: str) -> str:
    """Format rows as a table with aligned columns; the first row is the header.

    Args:
        rows: Cells.
        align: Alignment of each column, "l" or "r".

    Example:
        >>> print(text_table([("class", "voxels"), ("kidney", "12")], "lr"))
        class   voxels
        ──────────────
        kidney      12
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(row, widths, align, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "─" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)


def size_text(number: float) -> str:
    """Format a number of bytes.

    Example:
        >>> size_text(512), size_text(3_500_000)
        ('512 B', '3.3 MB')
    """
    units = ["B", "kB", "MB", "GB", "TB"]
    while number >= 1024 and len(units) > 1:
        number /= 1024
        units.pop(0)
    return f"{number:.0f} {units[0]}" if units[0] == "B" or number >= 100 else f"{number:.1f} {units[0]}"
