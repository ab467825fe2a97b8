"""Reader of report pages that is not a browser."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """The text of a page outside scripts and styles, its elements, and the data of its cases."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.data: dict[str, object] = {}
        self._inside: tuple[str, dict[str, str | None]] | None = None
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = (tag, dict(attrs))

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._inside = None

    def handle_data(self, data):
        if self._inside is None:
            self.text += f" {data}"
        elif self._inside[1].get("type") == "application/json":
            self.data[str(self._inside[1]["id"])] = json.loads(data)

    @property
    def cases(self):
        return [content for name, content in self.data.items() if re.fullmatch(r"case-\d+", name)]

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)
