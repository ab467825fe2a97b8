"""The documentation: built without a warning, complete, with working links, and readable without a network."""

from __future__ import annotations

import argparse
import ast
import html.parser
import importlib
import inspect
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
from sphinx.util.inventory import InventoryFile

import miscnn_tf
from miscnn_tf.cli.main import COMMANDS, make_parser

PACKAGE = Path(miscnn_tf.__file__).parent
ROOT = PACKAGE.parent
DOCS = ROOT / "docs"

#: Elements and attributes by which a page asks for something as it is opened.
LOADED = {
    ("script", "src"),
    ("link", "href"),
    ("img", "src"),
    ("img", "srcset"),
    ("source", "src"),
    ("source", "srcset"),
    ("iframe", "src"),
    ("video", "src"),
    ("object", "data"),
    ("use", "href"),
    ("image", "href"),
}


class Page(html.parser.HTMLParser):
    """What is on a page: anchors, links, what is loaded, and pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.text: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.anchors |= {value for key, value in attrs if key in {"id", "name"} and value}
        if tag == "a" and attributes.get("href"):
            self.links.append(str(attributes["href"]))
        self.loaded += [value for key, value in attrs if (tag, key) in LOADED and value]
        # A style may name a picture, too.
        self.loaded += re.findall(r"url\(([^)]*)\)", attributes.get("style") or "")
        if tag == "img":
            self.pictures.append(attributes)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


class Site(NamedTuple):
    folder: Path
    pages: dict[str, Page]
    #: Full names of what has a place on a page.
    names: set[str]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(folder / "doctrees")]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "NO_COLOR": "1"}
    done = subprocess.run(
        [*command, str(DOCS), str(folder / "html")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    # With -q there is nothing but warnings; TensorFlow says a line or two of its own.
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line and "absl::InitializeLog" not in line]
    assert done.returncode == 0, done.stderr[-5000:]
    assert warnings == []
    root = folder / "html"
    pages = {path.relative_to(root).as_posix(): Page(path) for path in root.rglob("*.html")}
    inventory = InventoryFile.loads((root / "objects.inv").read_bytes(), uri="")
    names = {name for kind, entries in inventory.data.items() if kind.startswith("py:") for name in entries}
    return Site(root, pages, names)


def test_the_pages_that_readers_look_for_are_there(site):
    wanted = {"index", "getting_started", "concepts", "speed", "command_line", "search", "guides/index", "api/index"}
    assert {f"{name}.html" for name in wanted} <= site.pages.keys()


# ---------------------------------------------------------------- the API


def public_names() -> Iterator[tuple[str, str]]:
    """Module and name of everything that a module's ``__all__`` offers, and of the package's own names."""
    yield from (("miscnn_tf", name) for name in dir(miscnn_tf))
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                parts = path.relative_to(ROOT).with_suffix("").parts
                module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                yield from ((module, name) for name in ast.literal_eval(node.value))


def find(name: str) -> Any:
    """The object of that full name."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                # Attributes of instances, as dataclasses have them.
                assert part in getattr(found, "__annotations__", {}), f"{name} does not exist"
                return None
            found = getattr(found, part)
        return found
    raise AssertionError(f"{name} does not exist")


def test_every_name_of_the_api_pages_exists_and_every_public_name_is_on_one(site):
    documented = {id(found) for found in map(find, site.names) if found is not None}
    missing = [f"{module}.{name}" for module, name in public_names() if id(find(f"{module}.{name}")) not in documented]
    assert missing == []


@pytest.mark.parametrize("name", ["Data_IO", "Preprocessor", "Data_Augmentation", "Neural_Network"])
def test_docstrings_name_every_argument(name):
    cls = getattr(miscnn_tf, name)
    arguments = [one.name for one in inspect.signature(cls).parameters.values() if one.kind is not one.VAR_KEYWORD]
    documented = re.findall(r"^ +(\w+): ", inspect.getdoc(cls).partition("Args:")[2], re.MULTILINE)
    assert [one for one in arguments if one not in documented] == []


def test_references_of_the_guides_lead_to_the_api(site):
    """Sphinx shows an unresolved ``{py:obj}`.Name``` as code, without a warning."""
    for name in site.pages:
        if not name.startswith(("api/", "_modules/", "tutorials/")):
            text = (site.folder / name).read_text(encoding="utf-8")
            linked = re.findall(r'<a class="reference internal"[^>]*><code class="xref py', text)
            assert text.count('<code class="xref py') == len(linked), name


def test_what_the_guides_import_is_on_an_api_page(site):
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*DOCS.rglob("*.md"), ROOT / "README.md"])
    imported = set()
    for module, names in re.findall(r"^ *from (miscnn_tf[\w.]*) import ([\w, ]+)$", text, re.MULTILINE):
        imported |= {f"{module}.{name.strip()}" for name in names.split(",")}
    assert len(imported) > 30
    documented = {id(found) for found in map(find, site.names) if found is not None}
    assert [name for name in sorted(imported) if id(find(name)) not in documented] == []


def test_every_command_and_option_is_on_the_page_of_the_command_line(site):
    text = " ".join("".join(site.pages["command_line.html"].text).split())
    parsers = next(action.choices for action in make_parser()._actions if isinstance(action.choices, dict))
    assert set(parsers) == set(COMMANDS)
    for name, parser in parsers.items():
        assert f"miscnn-tf-{name.replace('_', '-')}" in site.pages["command_line.html"].anchors
        for action in parser._actions:
            if action.help == argparse.SUPPRESS:
                continue
            for option in action.option_strings:
                assert option in text, f"{name} {option}"


# ---------------------------------------------------------------- links, pictures, no network


def test_links_and_anchors_lead_somewhere(site):
    broken = []
    for name, page in site.pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = os.path.normpath(os.path.join(os.path.dirname(name), unquote(parts.path))) if parts.path else name
            if target not in site.pages:
                if not (site.folder / target).is_file():
                    broken.append(f"{name}: {link}")
            elif parts.fragment and unquote(parts.fragment) not in site.pages[target].anchors:
                broken.append(f"{name}: {link}")
    assert broken == []


def test_pictures_are_there_and_say_what_they_show(site):
    shown = 0
    for name, page in site.pages.items():
        for picture in page.pictures:
            source = str(picture["src"])
            assert (site.folder / os.path.dirname(name) / source).is_file(), f"{name}: {source}"
            if "_images/" in source:
                shown += 1
                assert len(picture.get("alt") or "") > 40, f"{name}: {source}"
    assert shown >= 3


def test_no_page_asks_for_anything_from_the_network(site):
    asked = {f"{name}: {url}" for name, page in site.pages.items() for url in page.loaded if urlsplit(url).netloc}
    assert asked == set()
    for style in site.folder.rglob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", style.read_text(encoding="utf-8"), flags=re.DOTALL)
        urls = re.findall(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", text)
        assert [url for pair in urls for url in pair if url.startswith(("http", "//"))] == [], style
    # Formulas are in the pages themselves.
    assert "<math" in (site.folder / "api" / "losses.html").read_text(encoding="utf-8")
    assert not any("mathjax" in url.lower() for page in site.pages.values() for url in page.loaded)


def test_the_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        assert (ROOT / path).exists(), target
        assert not anchor or path or anchor in anchors, target


@pytest.mark.parametrize("name", ["patches", "pipeline"])
def test_the_pictures_can_be_drawn_again(name, tmp_path):
    draw = runpy.run_path(str(DOCS / "make_pictures.py"))[f"draw_{name}"]
    draw(tmp_path / f"{name}.png")
    assert 20_000 < (tmp_path / f"{name}.png").stat().st_size < 200_000
    assert (DOCS / "pictures" / f"{name}.png").stat().st_size < 200_000
