"""Limits of the plain data that files hold: JSON and TOML may be damaged, or made to exhaust whoever reads them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

#: Levels of lists and tables in each other; what this package writes has less than ten.
DEEPEST: Final = 100
#: Digits of a whole number. States of random generators have 39; a float overflows at 309.
MOST_DIGITS: Final = 100
_SHOWN: Final = 80


def whole(text: str) -> int:
    """A whole number.

    Raises:
        ValueError: If it has more than 100 digits.
    """
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(text)} digits: {text[:20]}…")
    return int(text)


def real(text: str) -> float:
    """A real number.

    Raises:
        ValueError: If it is too large for 64 bits, such as 1e400, which would become infinite.
    """
    value = float(text)
    if math.isinf(value) and "inf" not in text:
        raise ValueError(f"a number that is too large: {shown(text)}")
    return value


def walk(content: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value after the keys that lead to it, ``("data", "settings", 0)``, outer ones first.

    Raises:
        ValueError: If lists and tables are nested more than 100 levels.
    """
    level: list[tuple[tuple[Any, ...], Any]] = [((), content)]
    for _ in range(DEEPEST + 1):
        yield from level
        level = [((*place, key), value) for place, outer in level for key, value in _entries(outer)]
        if not level:
            return
    raise ValueError(f"lists and tables nested more than {DEEPEST} levels")


def require_text(content: Any) -> None:
    """Refuse text with half of a surrogate pair, which no file or terminal takes.

    Raises:
        ValueError: If there is such text; the message names the key.
    """
    for place, value in walk(content):
        for text in (*place[-1:], value):
            if isinstance(text, str) and any("\ud800" <= character <= "\udfff" for character in text):
                raise ValueError(f"{key_name(place)}: half of a surrogate pair in {shown(text)}")


def key_name(place: tuple[Any, ...]) -> str:
    """Keys as one text, ``"data.settings.0"``."""
    return shown(".".join(map(str, place)))[1:-1]


def shown(value: Any) -> str:
    """A value for a message, shortened."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _entries(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)
