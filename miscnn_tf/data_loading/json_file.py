"""Plain data in JSON files that appear whole, and are read with an error that helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from miscnn_tf.data_loading.storage import atomic_path
from miscnn_tf.errors import DataError, MissingDataError


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
        DataError: If it is damaged.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise MissingDataError(f"there is no file {path}; {origin}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error}); {advice}") from error
