"""Output to terminals and files with limited encodings."""

from __future__ import annotations

import io
import sys


def forgive_encoding() -> None:
    """Print question marks for characters that standard output cannot encode, such as bars and lines."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
