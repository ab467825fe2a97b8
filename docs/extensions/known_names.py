"""Accept names without a page if they exist: arguments, attributes, internal classes and those of other libraries.

With ``nitpicky``, Sphinx warns about every name that it cannot link. This extension leaves only the warnings about
names that do not exist, such as those of functions that were renamed.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import io
import tokenize
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def accept(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, text: nodes.Element
) -> nodes.Element | None:
    """Return the text of a name that exists, without a link; None otherwise, so that Sphinx warns."""
    if node.get("refdomain") != "py":
        return None
    name, described = node["reftarget"].lstrip("."), _described(node)
    modules = [module for module, _ in described]
    owners = [
        "miscnn_tf",
        *modules,
        *(module.rpartition(".")[0] for module in modules),
        *(path for _, path in described),
    ]
    paths = [f"{owner}.{name}" for owner in owners if owner] + [name] * ("." in name)
    if any(_can_be_imported(path) for path in paths):
        return text
    return text if any(_names(module).issuperset(name.split(".")) for module in modules) else None


def _described(node: nodes.Node) -> list[tuple[str, str]]:
    """Return the module and the path of each object that is described around a node."""
    found = [(node["py:module"], node["py:module"])] if node.get("py:module") else []
    while (node := node.parent) is not None:
        if isinstance(node, addnodes.desc) and node.get("domain") == "py":
            signature = node[0]
            path = f"{signature['module']}.{signature['fullname'].partition('.')[0]}"
            found.append((getattr(_find(path), "__module__", signature["module"]), path))
    return [(module, path) for module, path in found if module.startswith("miscnn_tf")]


@functools.cache
def _can_be_imported(path: str) -> bool:
    try:
        _find(path)
    except (AttributeError, ImportError, ValueError):
        return False
    return True


def _find(path: str) -> Any:
    """Return the module, or the object in a module, with a path."""
    try:
        return importlib.import_module(path)
    except ImportError:
        owner, _, name = path.rpartition(".")
        return getattr(_find(owner), name)


@functools.cache
def _names(module: str) -> set[str]:
    """Return all names in the code of a module; those in strings and comments do not count."""
    source = inspect.getsource(importlib.import_module(module))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the function of this file."""
    app.connect("missing-reference", accept)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
