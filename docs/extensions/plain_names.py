"""Names in single backticks, and types in signatures: a link where they have a page, code where they have none.

A name must exist, however: one that neither the API pages nor the code know stays a warning, so that a docstring cannot
go on speaking of what was renamed.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.util.nodes import make_refnode

PACKAGE = "miscnn_tf"


def resolve(app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, shown: nodes.Element) -> Any:
    """What stands for a reference that Sphinx itself has not found; None makes it a warning."""
    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"]).removesuffix("()").lstrip("~.")
    domain = env.domains.python_domain
    if is_argument(target, node.get("py:module") or PACKAGE, node.get("py:class")):
        return shown  # and not what has the same name elsewhere
    documented = find_documented(domain, target, node)
    if documented is not None:
        page, anchor = documented
        return make_refnode(app.builder, node["refdoc"], page, anchor, shown, target)
    first = target.partition(".")[0]
    # A type, which may have been imported in another module than the one where its function is documented.
    if node["reftype"] == "class" and (hasattr(builtins, first) or first in imported_names()):
        return shown
    return shown if exists(target, node.get("py:module") or PACKAGE, node.get("py:class")) else None


def find_documented(domain: PythonDomain, target: str, node: addnodes.pending_xref) -> tuple[str, str] | None:
    """Page and anchor of the one object, or the one nearest to where it is named, whose name ends like this."""
    if not target.isidentifier() and not re.fullmatch(r"[\w.]+", target):
        return None
    module, cls = node.get("py:module") or "", node.get("py:class") or ""
    names = [name for name in domain.objects if name == target or name.endswith(f".{target}")]
    # A function before the module of the same name.
    names = [name for name in names if domain.objects[name].objtype != "module"] or names
    near = [name for name in names if name.startswith(f"{module}.")]
    own = [name for name in near if cls and name.startswith(f"{module}.{cls}.")]
    for candidates in (own, near, names):
        places = {(domain.objects[name].docname, domain.objects[name].node_id) for name in candidates}
        if len(places) == 1:
            return places.pop()
    return None


@cache
def is_argument(target: str, module: str, cls: str | None) -> bool:
    """Whether a function or a class in the place of the docstring has an argument of this name."""
    return any(target in _parameters(place) for place in _places(module, cls))


@cache
def exists(target: str, module: str, cls: str | None) -> bool:
    """Whether code can say the name where the docstring stands: here, in its class, beside it, or anywhere at all."""
    first, *rest = target.split(".")
    for place in _places(module, cls):
        found = getattr(place, first, None)
        if found is None:
            if first in getattr(place, "__annotations__", {}) or first in _parameters(place) or _is_set(place, first):
                return True
            continue
        if _has(found, rest):
            return True
    if hasattr(builtins, first):
        return True
    # Of a library, or a module of ours.
    beginnings = (target, f"{PACKAGE}.{target}", f"{module.rpartition('.')[0]}.{target}")
    return any(map(_can_be_imported, beginnings))


def _places(module: str, cls: str | None) -> list[Any]:
    try:
        found = importlib.import_module(module)
    except ImportError:
        return []
    places: list[Any] = [found]
    if cls:
        owner: Any = found
        for part in cls.split("."):
            owner = getattr(owner, part, None)
        # A class that is documented where it is imported from has its names where it was written.
        places += [owner, importlib.import_module(getattr(owner, "__module__", module))]
    return places


@cache
def _parameters(place: Any) -> set[str]:
    """The arguments of a class, its methods, or the functions of a module."""
    names: set[str] = set()
    # dir(), because names at the top of the package are imported when they are asked for.
    for member in (place, *(getattr(place, name, None) for name in dir(place))):
        if inspect.isroutine(member) or inspect.isclass(member):
            try:
                names |= set(inspect.signature(member).parameters)
            except (TypeError, ValueError):
                continue
    return names


def _is_set(place: Any, name: str) -> bool:
    """Whether the methods of a class, or of one that it is made from, set an attribute of this name."""
    for cls in inspect.getmro(place) if inspect.isclass(place) else ():
        if cls.__module__.startswith(PACKAGE) and re.search(rf"self\.{re.escape(name)}\b", _source(cls)):
            return True
    return False


@cache
def _source(cls: type) -> str:
    return inspect.getsource(cls)


@cache
def imported_names() -> frozenset[str]:
    """What the modules of the package import, for type checkers too."""
    root = importlib.import_module(PACKAGE).__file__
    names: set[str] = set()
    for path in Path(str(root)).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return frozenset(names)


class PlainFirstLines:
    """Keeps napoleon from reading "What it is: more" in the first line of a property as "type: description"."""

    def __init__(self) -> None:
        self.kept: dict[str, list[str]] = {}

    def before(self, app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        """Read the docstring as that of a method."""
        if what in {"attribute", "data", "property"}:
            self.kept[name] = GoogleDocstring(list(lines), app.config, app, "method", name, obj, options).lines()

    def after(self, app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        """Put it in the place of what napoleon has made."""
        if name in self.kept:
            lines[:] = self.kept.pop(name)


def _has(found: Any, names: list[str]) -> bool:
    for name in names:
        found = getattr(found, name, None)
        if found is None:
            return False
    return True


def _can_be_imported(name: str) -> bool:
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return False
    for count in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:count]))
        except (ImportError, ValueError):
            continue
        return _has(module, parts[count:])
    return False


def setup(app: Sphinx) -> dict[str, Any]:
    """Ask here when a name is not found."""
    app.connect("missing-reference", resolve)
    first_lines = PlainFirstLines()
    app.connect("autodoc-process-docstring", first_lines.before, priority=400)  # napoleon's is 500
    app.connect("autodoc-process-docstring", first_lines.after, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
