"""Messages for common mistakes in hand-written JSON."""

from __future__ import annotations

import json


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
