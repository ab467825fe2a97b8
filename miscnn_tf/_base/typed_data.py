"""Validation of plain data against a schema, with a list of all mistakes."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from miscnn_tf._base.plain_limits import shown
from miscnn_tf.errors import ConfigurationError, DataError, MiscnnError

_WANTED: Final = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text in quotes",
    "list_type": "a list in brackets",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_LIMITS: Final = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
}
_MOST_LINES: Final = 20


class Document(BaseModel):
    """Base class of schemas for files of this package. Types are not converted; unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Described(Document):
    """Description of an object by `miscnn_tf._base.configuration.describe`."""

    class_name: str
    config: dict[str, Any] | None


def require(
    kind: type[Document],
    content: Any,
    where: str | Path,
    advice: str,
    *,
    fault: str = "is damaged",
    error: type[MiscnnError] = DataError,
) -> None:
    """Refuse a document that does not match its schema.

    Args:
        kind: The schema.
        content: The document.
        where: Its file, for the message.
        advice: Advice for a damaged document, for the message.
        fault: Description of the fault, for the message.
        error: The error to raise.

    Raises:
        MiscnnError: `error`, which names the file and each key with its value.
    """
    try:
        kind.model_validate(content)
    except ValidationError as mistakes:
        lines = list(dict.fromkeys(map(_line, mistakes.errors(include_url=False))))
        text = "; ".join(lines[:_MOST_LINES])
        raise error(f"{where} {fault}: {text}; {advice}") from mistakes


def require_types(cls: type, arguments: Mapping[str, Any], what: str) -> None:
    """Refuse arguments from a file whose types do not match the annotations of a class of this package.

    Other classes are not checked: their annotations may be narrower than the types that they accept.

    Args:
        cls: The class.
        arguments: Plain data, as JSON has them.
        what: Description of the object, for the message.

    Raises:
        ConfigurationError: If any has another type; all are listed.

    Example:
        >>> from miscnn_tf.processing.subfunctions.padding import Padding
        >>> require_types(Padding, {"min_size": [16, 16]}, "the subfunction 'Padding'")
    """
    if not cls.__module__.startswith("miscnn_tf."):
        return
    lines = []
    for name, adapter in _adapters(cls).items():
        if name in arguments:
            try:
                # In JSON mode, where lists are accepted as tuples, and text as keys of dicts of numbers.
                adapter.validate_json(json.dumps(arguments[name]), strict=True)
            except ValidationError as mistakes:
                found = mistakes.errors(include_url=False)
                # Of a number or a word, such as the "ignore" of a label map, the number is what is usually meant.
                for one in [one for one in found if one["type"] != "literal_error"] or found:
                    lines.append(_line({**one, "loc": (name, *(part for part in one["loc"] if part != "int"))}))
    if lines:
        raise ConfigurationError(f"{what}: {'; '.join(dict.fromkeys(lines[:_MOST_LINES]))}")


@functools.cache
def _adapters(cls: type) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(cls.__init__)  # type: ignore[misc]
    parameters = inspect.signature(cls).parameters.values()
    named = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    return {name: TypeAdapter(hints[name]) for name in named if name in hints}


def wanted(detail: Mapping[str, Any]) -> str:
    """Describe the valid values.

    Args:
        detail: One of pydantic's ``ValidationError.errors()``.
    """
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _LIMITS:
        return _LIMITS[kind].format(**context)
    if kind == "too_short":
        return f"a list of at least {context['min_length']}"
    if kind == "too_long":
        return f"a list of at most {context['max_length']}"
    return _WANTED.get(kind, str(detail["msg"]))


def _line(detail: Mapping[str, Any]) -> str:
    # The types of a union, dict[int,int], are not keys.
    key = ".".join(str(part) for part in detail["loc"] if "[" not in str(part)) or "the document"
    if detail["type"] == "missing":
        return f"{key!r} is missing"
    if detail["type"] == "value_error":
        return f"{key}: {detail['ctx']['error']}"
    return f"{key} must be {wanted(detail)}, got {shown(detail['input'])}"
