"""The way back from a page of source code to the documentation of what it defines.

`sphinx.ext.viewcode` takes it that a module's objects are all documented under one name. Ours are where they are
imported from, which may be several places.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.osutil import relative_uri

Place = tuple[str, str]


def mend(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Lead each link of a page of source code to where its object is documented, or remove it."""
    if not page.startswith("_modules/") or "body" not in context:
        return
    module = page.removeprefix("_modules/").replace("/", ".")
    places = documented(app)

    def mended(link: re.Match[str]) -> str:
        # The end of the anchor is the object's name in its module; where that begins is not said.
        parts = link["anchor"].split(".")
        for count in range(len(parts)):
            place = places.get((module, ".".join(parts[count:])))
            if place:
                way = relative_uri(app.builder.get_target_uri(page), place[0])
                return f'{link["start"]}{way}#{place[1]}"{link["end"]}'
        return ""

    pattern = r'(?P<start><a class="viewcode-back" href=")[^"#]+#(?P<anchor>[\w.]+)"(?P<end>[^>]*>.*?</a>)'
    context["body"] = re.sub(pattern, mended, context["body"])


@cache
def documented(app: Sphinx) -> dict[tuple[str, str], Place]:
    """The page and anchor of each object, by the module that defines it and its name there."""
    places: dict[tuple[str, str], Place] = {}
    for name, entry in app.env.domains.python_domain.objects.items():
        defined = home(name)
        if defined is not None and not entry.aliased:
            places[defined] = (app.builder.get_target_uri(entry.docname), entry.node_id)
    return places


def home(name: str) -> tuple[str, str] | None:
    """The module that defines an object, and the object's name in it; None for modules and plain values."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        rest = parts[count:]
        # Attributes and properties have the home of their class.
        for number, part in enumerate(rest):
            owner, found = found, getattr(found, part, None)
            if not hasattr(found, "__qualname__"):
                if not hasattr(owner, "__qualname__"):
                    return None
                return owner.__module__, ".".join([owner.__qualname__, *rest[number:]])
        return found.__module__, found.__qualname__
    return None


def forget_builtins(app: Sphinx, env: BuildEnvironment) -> None:
    """Leave out what has no source, such as an alias of ``dict[…]``: its page would be linked, and never written."""
    modules = getattr(env, "_viewcode_modules", {})
    for name in [name for name, entry in modules.items() if not entry]:
        del modules[name]


def setup(app: Sphinx) -> dict[str, Any]:
    """Look at each page before it is written."""
    app.connect("env-check-consistency", forget_builtins)
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
