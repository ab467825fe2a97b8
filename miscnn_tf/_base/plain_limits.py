"""Parsing of JSON, and limits on data from JSON and TOML files, which may be damaged or made to exhaust memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from miscnn_tf.errors import DataError

#: Largest nesting of lists and tables; files of this package have less than ten levels.
DEEPEST: Final = 100
#: Largest number of digits of a whole number. States of random generators have 39; a float overflows at 309.
MOST_DIGITS: Final = 100
_SHOWN: Final = 80


def whole(text: str) -> int:
    """Parse a whole number.

    Raises:
        ValueError: If it has more than 100 digits.
    """
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(text)} digits: {text[:20]}…")
    return int(text)


def real(text: str) -> float:
    """Parse a real number.

    Raises:
        ValueError: If it is too large for 64 bits, such as 1e400, which would become infinite.
    """
    value = float(text)
    if math.isinf(value) and "inf" not in text:
        raise ValueError(f"a number is too large: {shown(text)}")
    return value


def walk(content: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every value with its keys, ``("data", "settings", 0)``, outer ones first.

    Raises:
        ValueError: If lists and tables are nested more than 100 levels.
    """
    level: list[tuple[tuple[Any, ...], Any]] = [((), content)]
    for _ in range(DEEPEST + 1):
        yield from level
        level = [((*place, key), value) for place, outer in level for key, value in _entries(outer)]
        if not level:
            return
    raise ValueError(f"lists and tables are nested more than {DEEPEST} levels")


def require_text(content: Any) -> None:
    """Refuse text with half of a surrogate pair, except those in which Python encodes file names that are not UTF-8.

    Raises:
        ValueError: If text has one; the message names the key.
    """
    for place, value in walk(content):
        for text in (*place[-1:], value):
            if isinstance(text, str) and any(
                "\ud800" <= letter <= "\udfff" and not "\udc80" <= letter <= "\udcff" for letter in text
            ):
                raise ValueError(f"{key_name(place)}: half of a surrogate pair in {shown(text)}")


def key_name(place: tuple[Any, ...]) -> str:
    """Join keys, ``"data.settings.0"``."""
    return shown(".".join(map(str, place)))[1:-1]


def parse_json(data: bytes | str, where: str | Path, advice: str, *, any_text: bool = False) -> Any:
    """Parse JSON, with the limits of `miscnn_tf._base.plain_files.read_json`.

    Args:
        data: The document; bytes are UTF-8, -16 or -32, with or without a byte order mark.
        where: The file or other source, for the message.
        advice: Advice for a damaged document, for the message.
        any_text: Accept halves of surrogate pairs in text, as in names of files that are not UTF-8.

    Raises:
        DataError: If it is not JSON, or beyond the limits.

    Example:
        >>> parse_json('{"epochs": 100}', "run.json", "run again")
        {'epochs': 100}
    """
    try:
        text = data if isinstance(data, str) else data.decode(json.detect_encoding(data)).removeprefix("\ufeff")
        content = json.loads(text, parse_int=whole, parse_float=real, object_pairs_hook=_object)
        if not any_text and "\\u" in text:
            require_text(content)
        for _ in walk(content):
            pass
    except RecursionError as error:
        raise DataError(f"{where} is damaged (too many levels of lists and objects); {advice}") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is damaged ({describe_fault(text, error)}); {advice}") from error
    except ValueError as error:
        raise DataError(f"{where} is damaged ({error}); {advice}") from error
    return content


def shown(value: Any) -> str:
    """Format a value for a message, shortened."""
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
        raise ValueError(f"the key {json.dumps(twice)[:80]} occurs twice in one object")
    return content


def describe_fault(text: str, error: json.JSONDecodeError) -> str:
    """Describe a syntax error, with clearer words than Python's for frequent mistakes.

    Args:
        text: The document.
        error: The error of `json.loads`.

    Example:
        >>> try:
        ...     json.loads('{"a": 1,}')
        ... except json.JSONDecodeError as error:
        ...     describe_fault('{"a": 1,}', error)
        "line 1: there is a comma before the closing '}'; remove it"
    """
    # Python 3.13 reports a trailing comma at the comma, older versions at what follows it.
    at = error.pos + 1 if text[error.pos : error.pos + 1] == "," else error.pos
    before, after = text[:at].rstrip(), text[at:].lstrip()
    if before.endswith(",") and after[:1] in ("}", "]"):
        return f"line {before.count(chr(10)) + 1}: there is a comma before the closing {after[0]!r}; remove it"
    if after.startswith(("//", "/*", "#")):
        return f"line {error.lineno}: JSON does not support comments; remove it"
    if after.startswith("'"):
        return f"line {error.lineno}: single quotes are not valid in JSON; use double quotes"
    return str(error)
