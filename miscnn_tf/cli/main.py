"""The entry point of ``miscnn-tf``."""

from __future__ import annotations


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return 0
