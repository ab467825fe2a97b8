"""Data sets that this package can make itself, for demos, tutorials and tests."""
