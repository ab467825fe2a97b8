"""Plain data in JSON files that appear whole, and are read with limits and an error that helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from miscnn_tf.data_loading.json_fault import describe_fault
from miscnn_tf.data_loading.opening import read_bounded
from miscnn_tf.data_loading.plain_limits import real, require_text, shown, walk, whole
from miscnn_tf.data_loading.storage import atomic_path
from miscnn_tf.errors import DataError, MissingDataError

#: The most bytes of a JSON document. Parsed it takes up to 20 times as much memory.
LARGEST: Final = 64 * 2**20


def write_json(path: str | Path, content: Any) -> None:
    """Write plain data as JSON, atomically.

    Raises:
        StorageError: If it cannot be written.
    """
    with atomic_path(path) as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False)
        # File names that are not UTF-8 have surrogates, which become escapes of JSON.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_json(path: str | Path, origin: str, advice: str = "delete it and run again") -> Any:
    """Read a JSON file in UTF-8, -16 or -32.

    Args:
        path: The file.
        origin: What writes it, for the message: ``"split_folds() writes it"``.
        advice: What to do about a damaged one, for the message.

    Raises:
        MissingDataError: If there is none.
        DataError: If it is damaged, larger than 64 MiB, nested more than 100 levels, has a key twice, or a number that
            is too large.
    """
    try:
        data = read_bounded(path, LARGEST)
    except MissingDataError:
        raise MissingDataError(f"there is no file {path}; {origin}") from None
    return parse_json(data, path, advice)


def parse_json(data: bytes | str, where: str | Path, advice: str, *, any_text: bool = False) -> Any:
    """Plain data from JSON, with the limits of `read_json`.

    Args:
        data: The document; bytes are UTF-8, -16 or -32, with or without a byte order mark.
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


def _object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(items)
    if len(content) < len(items):
        seen: set[str] = set()
        twice = next(name for name, _ in items if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(twice)} is there twice")
    return content
