"""Turns of phrase that messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def some_of(names: Iterable[object], most: int = 5) -> str:
    """The first names as text, and how many more there are.

    Example:
        >>> some_of(["a", "b", "c", "d"], most=2), some_of([])
        ('a, b and 2 more', 'nothing')
    """
    listed = [str(name) for name in names]
    shown = ", ".join(listed[:most]) or "nothing"
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """A hint, with a blank before it, where one of the known names is similar; otherwise nothing.

    Example:
        >>> did_you_mean("unet_standart", ["unet_standard", "unet_plain"])
        " Did you mean 'unet_standard'?"
    """
    near = difflib.get_close_matches(str(name), [str(one) for one in known], n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def plural(number: int, noun: str) -> str:
    """A number with its noun.

    Example:
        >>> plural(1, "sample"), plural(12000, "sample")
        ('1 sample', '12,000 samples')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
