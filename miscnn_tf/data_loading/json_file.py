"""Plain data in JSON files that appear whole, and are read with an error that helps."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from miscnn_tf.data_loading.json_fault import describe_fault
from miscnn_tf.data_loading.opening import open_regular
from miscnn_tf.data_loading.storage import atomic_path
from miscnn_tf.errors import DataError, MissingDataError


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
        DataError: If it is damaged, gives a key of an object twice, or is not a regular file.
    """
    if not os.path.lexists(path):
        raise MissingDataError(f"there is no file {path}; {origin}")
    with open_regular(path) as stream:
        content = stream.read()
    try:
        text = content.decode(json.detect_encoding(content))
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is damaged ({describe_fault(text, error)}); {advice}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error}); {advice}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Python takes the last of several values of a key without a word."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {json.dumps(twice)} is given twice in one object")
    return content
