"""Reading and writing of the file of `TrainingState`, with validation and without TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field

from miscnn_tf._base.files import atomic_path
from miscnn_tf._base.plain_files import read_arrays
from miscnn_tf._base.plain_limits import parse_json
from miscnn_tf._base.typed_data import Document, require

FORMAT: Final = 1
_ADVICE: Final = "delete it to train from the beginning"
_DESCRIPTION: Final = "description"

_Count = Annotated[int, Field(ge=0)]


class _Description(Document):
    format: Literal[1]
    first: _Count
    done: _Count
    stopped: bool
    seed: _Count
    settings: dict[str, Any]
    history: dict[str, list[Any]]
    callbacks: list[dict[str, Any]]


def write_state(
    path: str | Path, description: Mapping[str, Any], arrays: Mapping[str, np.ndarray], default: Any = None
) -> None:
    """Write a state, atomically.

    Args:
        path: The file.
        description: The state without the arrays, as JSON types; ``"format"`` is added.
        arrays: All arrays by name.
        default: Conversion of values that JSON lacks, as in `json.dumps`.

    Raises:
        StorageError: If it cannot be written.
    """
    text = json.dumps({"format": FORMAT, **description}, default=default)
    with atomic_path(path) as temporary:
        np.savez(temporary, **{**arrays, _DESCRIPTION: np.frombuffer(text.encode(), np.uint8)})  # type: ignore[arg-type]


def read_description(path: str | Path) -> dict[str, Any]:
    """Read a state without its arrays.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is damaged, or of another version.
    """
    return _described(read_arrays(path, _ADVICE, [_DESCRIPTION])[_DESCRIPTION], path)


def read_state(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a state and its arrays.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is damaged, or of another version.
    """
    arrays = read_arrays(path, _ADVICE)
    # An empty array is not valid JSON, so a missing description is reported as damage.
    return _described(arrays.pop(_DESCRIPTION, np.empty(0, np.uint8)), path), arrays


def without_arrays(state: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Return a state as JSON types; its arrays are added to `arrays` by names that replace them."""
    if isinstance(state, np.ndarray):
        arrays[name] = state
        return {"array": name}
    if isinstance(state, Mapping):
        return {"dict": {key: without_arrays(value, f"{name}.{key}", arrays) for key, value in state.items()}}
    if isinstance(state, list | tuple):
        return [without_arrays(value, f"{name}.{number}", arrays) for number, value in enumerate(state)]
    return state


def with_arrays(state: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the state for the return value of `without_arrays`."""
    if isinstance(state, list):
        return [with_arrays(value, arrays) for value in state]
    if not isinstance(state, dict):
        return state
    if "array" in state:
        return arrays[state["array"]]
    return {key: with_arrays(value, arrays) for key, value in state["dict"].items()}


def _described(array: np.ndarray, path: str | Path) -> dict[str, Any]:
    content: dict[str, Any] = parse_json(array.tobytes(), path, _ADVICE)
    require(_Description, content, path, _ADVICE)
    return content
