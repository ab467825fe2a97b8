"""Phrases that messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
    """Return a hint, with a leading space, if a known name is similar; otherwise an empty string.

    Example:
        >>> did_you_mean("unet_standart", ["unet_standard", "unet_plain"])
        " Did you mean 'unet_standard'?"
    """
    near = difflib.get_close_matches(str(name), [str(one) for one in known], n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


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
