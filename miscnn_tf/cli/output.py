"""What a terminal or file cannot show is no reason to stop."""

from __future__ import annotations

import io
import sys


def forgive_encoding() -> None:
    """Print a question mark for what standard output has no code for, such as bars and lines on an old terminal."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
