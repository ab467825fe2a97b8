"""JSON files: atomic writing, and reading with limits on size and nesting."""

from __future__ import annotations

import json
import os
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
        text = json.dumps(content, indent=1, ensure_ascii=False)
        # File names that are not UTF-8 contain surrogates, which JSON escapes.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_json(path: str | Path, origin: str, advice: str = "delete it and run again") -> Any:
    """Read a JSON file in UTF-8, -16 or -32.

    Args:
        path: The file.
        origin: Origin of the file, for the message: ``"split_folds() writes it"``.
        advice: Advice for a damaged file, for the message.

    Raises:
        MissingDataError: If it is missing.
        DataError: If it is damaged, larger than 64 MiB, nested more than 100 levels, has a key twice, or a number that
            is too large.
    """
    try:
        data = read_bounded(path, LARGEST)
    except MissingDataError:
        if os.path.lexists(path):  # a broken link
            raise
        raise MissingDataError(f"the file {path} does not exist; {origin}") from None
    return parse_json(data, path, advice)
