"""Limits of the plain data that files hold: JSON and TOML may be damaged, or made to exhaust whoever reads them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from miscnn_tf.errors import DataError

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


def parse_json(data: bytes | str, where: str | Path, advice: str, *, any_text: bool = False) -> Any:
    """Plain data from JSON, with the limits of `miscnn_tf.data_loading.json_file.read_json`.

    Args:
        data: The document; bytes are UTF-8, with or without a byte order mark.
        where: The file, or what else holds it, for the message.
        advice: What to do about a damaged one, for the message.
        any_text: Whether text may hold halves of surrogate pairs: Python writes file names so that are not UTF-8.

    Raises:
        DataError: If it is not JSON, or beyond the limits.

    Example:
        >>> parse_json('{"epochs": 100}', "run.json", "run again")
        {'epochs': 100}
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        content = json.loads(text, parse_int=whole, parse_float=real, object_pairs_hook=_object)
        if not any_text and "\\u" in text:
            require_text(content)
        for _ in walk(content):
            pass
    except RecursionError as error:
        raise DataError(f"{where} is damaged (too many levels of lists and objects); {advice}") from error
    except ValueError as error:
        raise DataError(f"{where} is damaged ({error}); {advice}") from error
    return content


def shown(value: Any) -> str:
    """A value for a message, shortened."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _entries(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def _object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(items)
    if len(content) < len(items):
        seen: set[str] = set()
        twice = next(name for name, _ in items if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(twice)} is there twice")
    return content
