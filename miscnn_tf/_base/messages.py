"""Text for messages and the terminal: lists of names, numbers with nouns, sizes and tables."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence


def some_of(names: Iterable[object], most: int = 5) -> str:
    """Format the first names, and the number of the others.

    Example:
        >>> some_of(["a", "b", "c", "d"], most=2), some_of([])
        ('a, b and 2 more', 'nothing')
    """
    listed = [str(name) for name in names]
    shown = ", ".join(listed[:most]) or "nothing"
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """Return a hint, with a leading space, if a known name is similar or abbreviated; otherwise an empty string.

    Example:
        >>> did_you_mean("unet_standart", ["unet_standard", "unet_plain"])
        " Did you mean 'unet_standard'?"
        >>> did_you_mean("dice_ce", ["dice_soft_loss", "dice_crossentropy"])
        " Did you mean 'dice_crossentropy'?"
    """
    names = [str(one) for one in known]
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.8)
    near = near or [one for one in names if _abbreviates(str(name), one)] or difflib.get_close_matches(str(name), names)
    return f" Did you mean {near[0]!r}?" if near else ""


def _abbreviates(short: str, name: str) -> bool:
    """Return True if each word of `short` is the first and some later letters of the word at its place in `name`."""
    words, whole = short.lower().split("_"), name.lower().split("_")
    return len(words) == len(whole) and all(
        re.match(".*".join(map(re.escape, word)), long) for word, long in zip(words, whole, strict=True)
    )


def unknown_name(kind: str, name: object, known: Iterable[object]) -> str:
    """Describe an unknown name, with the nearest and all known names.

    Example:
        >>> unknown_name("loss", "dise", ["tversky", "dice"])
        "the loss 'dise' is unknown. Did you mean 'dice'? Known: dice, tversky"
    """
    names = sorted(map(str, known))
    return f"the {kind} {name!r} is unknown.{did_you_mean(name, names)} Known: {', '.join(names) or 'nothing'}"


def plural(number: int, noun: str) -> str:
    """Format a number with its noun.

    Example:
        >>> plural(1, "sample"), plural(12000, "sample")
        ('1 sample', '12,000 samples')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def text_table(rows: Sequence[Sequence[str]], align: str, *, line: bool = True) -> str:
    """Format rows as columns of text; the first row is a header.

    Args:
        rows: Cells.
        align: A letter per column: "l" or "r".
        line: Draw a line under the header.

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
    if line:
        lines.insert(1, "─" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)


def size_text(number: float, unit: str | None = None) -> str:
    """Format a number of bytes.

    Args:
        number: The bytes.
        unit: ``"MB"`` for all numbers, so that they can be compared; None for the largest unit below the number.

    Example:
        >>> size_text(512), size_text(3_500_000), size_text(3_500_000_000, "MB")
        ('512 B', '3.3 MB', '3338 MB')
    """
    units = ["B", "kB", "MB", "GB", "TB"]
    while units[0] != unit if unit else number >= 1024 and len(units) > 1:
        number /= 1024
        units.pop(0)
    return f"{number:.0f} {units[0]}" if units[0] == "B" or number >= 100 else f"{number:.1f} {units[0]}"
