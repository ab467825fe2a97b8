"""What is wrong with JSON that people wrote by hand."""

from __future__ import annotations

import json


def describe_fault(text: str, error: json.JSONDecodeError) -> str:
    """What is wrong, in words for the frequent faults: Python's own are about what the parser expected.

    Args:
        text: The document.
        error: What `json.loads` raised.

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
        return f"line {error.lineno}: JSON has no comments; remove it"
    if after.startswith("'"):
        return f"line {error.lineno}: texts are in double quotes in JSON, not in single ones"
    return str(error)
