"""Check that executor workers can import the running script."""

from __future__ import annotations

import ast
import sys
from pathlib import Path


def can_be_imported_by_workers() -> bool:
    """Return whether the main module of the program can be imported by another process without running.

    A worker process that is not forked imports the main script to have its classes. A script without the usual guard
    would do all its work again in each worker.

    Returns:
        False for a script without ``if __name__ == "__main__":`` at its top level; True for one that has it, and for
        notebooks, interactive sessions and packages run with ``python -m``, which workers do not import.

    Reference:
        "Safe importing of main module",
        https://docs.python.org/3/library/multiprocessing.html#the-spawn-and-forkserver-start-methods

    Example:
        >>> can_be_imported_by_workers()
        True
    """
    main = sys.modules.get("__main__")
    spec, path = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if path is None or (spec is not None and spec.name.endswith("__main__")):
        return True
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True  # not a Python script, for instance a frozen program, whose packager is responsible for this
    return any(isinstance(node, ast.If) and _names_main(node.test) for node in tree.body)


def _names_main(test: ast.expr) -> bool:
    parts = list(ast.walk(test))
    return any(isinstance(part, ast.Name) and part.id == "__name__" for part in parts) and any(
        isinstance(part, ast.Constant) and part.value == "__main__" for part in parts
    )
