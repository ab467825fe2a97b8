"""Plain data in JSON files that appear whole, and are read with limits and an error that helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from miscnn_tf.data_loading.opening import read_bounded
from miscnn_tf.data_loading.storage import atomic_path
from miscnn_tf.errors import MissingDataError
from miscnn_tf.plain_limits import parse_json

#: The most bytes of a JSON document. Parsed it takes up to 20 times as much memory.
LARGEST: Final = 64 * 2**20


def write_json(path: str | Path, content: Any) -> None:
    """Write plain data as JSON, atomically.

    Raises:
        StorageError: If it cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def read_json(path: str | Path, origin: str, advice: str = "delete it and run again") -> Any:
    """Read a JSON file.

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
