from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from miscnn_tf.errors import MissingDataError, StorageError
from miscnn_tf.report.page import DemoCase, inline_picture, render_page, setting_rows, write_demo_page

HOSTILE = '<script>alert("x")</script>&\'"><img src=x onerror=alert(1)>'


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(path)
    return path


def summary(**changes: Any) -> dict[str, Any]:
    return {
        "classes": ["kidney", "tumour"],
        "mean_dice": {"kidney": 0.9314, "tumour": None},
        "training_cases": ["a", "b", "c"],
        "seconds": {"training": 125.0, "prediction": 4.0, "total": 140.0},
        "settings": {"loss": "soft Dice", "network": "U-Net"},
        "versions": {"Python": "3.12"},
        **changes,
    }


def case(picture: Path, name: str = "case_00001", **dice: float | None) -> DemoCase:
    return DemoCase(
        name,
        {"kidney": 0.9314, "tumour": None, **dice},
        picture,
        f"data/{name}/imaging.nii.gz",
        f"predictions/{name}.nii.gz",
    )


class Page(HTMLParser):
    """What a browser would make of it: elements, and the text outside them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def written(path: Path, *args: Any) -> Page:
    write_demo_page(path, *args)
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_is_well_formed_and_shows_the_figures(tmp_path: Path, picture: Path) -> None:
    page = written(
        tmp_path / "index.html", [case(picture), case(picture, "case_00002", tumour=0.5)], summary(), picture
    )
    assert "0.931" in page.text
    assert "0.500" in page.text
    assert "–" in page.text
    assert "2 min 05 s" in page.text
    assert "2 scans the network" in page.text
    assert len([tag for tag, _ in page.elements if tag == "h1"]) == 1


def test_pictures_are_inlined_byte_for_byte(tmp_path: Path, picture: Path) -> None:
    page = written(tmp_path / "index.html", [case(picture)], summary(), picture)
    sources = [attributes["src"] or "" for tag, attributes in page.elements if tag == "img"]
    assert len(sources) == 2
    for source in sources:
        head, _, content = source.partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(content, validate=True) == picture.read_bytes()
    assert all(attributes.get("alt") for tag, attributes in page.elements if tag == "img")


def test_hostile_names_stay_text(tmp_path: Path, picture: Path) -> None:
    plain = written(tmp_path / "plain.html", [case(picture)], summary(), picture)
    hostile = written(
        tmp_path / "hostile.html",
        [case(picture, HOSTILE)],
        summary(
            settings={HOSTILE: HOSTILE, "loss": HOSTILE}, versions={"Python": HOSTILE}, training_cases=[HOSTILE] * 3
        ),
        picture,
    )
    tags = [tag for tag, _ in hostile.elements]
    assert "script" not in tags
    assert [tag for tag in tags if tag == "img"] == [tag for tag, _ in plain.elements if tag == "img"]
    assert not any(name.startswith("on") for _, attributes in hostile.elements for name in attributes)
    assert HOSTILE in hostile.text


@pytest.mark.parametrize("name", ["javascript:alert(1)", "//evil.example/x", "a?b#c", "Fall ä %41"])
def test_links_stay_in_the_folder(tmp_path: Path, picture: Path, name: str) -> None:
    entry = DemoCase("case", {"kidney": 1.0, "tumour": 1.0}, picture, name, name)
    page = written(tmp_path / "index.html", [entry], summary(), picture)
    links = [attributes["href"] or "" for tag, attributes in page.elements if tag == "a"]
    assert links
    for link in links:
        assert link.startswith("./")
        assert not set("?#") & set(link)


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path, picture: Path) -> None:
    page = written(tmp_path / "index.html", [case(picture)], summary(), picture)
    policies = [
        attributes["content"] for tag, attributes in page.elements if tag == "meta" and "http-equiv" in attributes
    ]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html


def test_it_is_made_for_phones_and_for_the_dark(tmp_path: Path, picture: Path) -> None:
    page = written(tmp_path / "index.html", [case(picture)], summary(), picture)
    metas = {attributes.get("name"): attributes.get("content") for tag, attributes in page.elements if tag == "meta"}
    assert "width=device-width" in (metas["viewport"] or "")
    assert metas["color-scheme"] == "light dark"


def test_a_missing_or_wrong_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"gone\.png"):
        inline_picture(tmp_path / "gone.png")
    (tmp_path / "wrong.png").write_text("no picture")
    with pytest.raises(MissingDataError, match=r"wrong\.png.*not a PNG"):
        inline_picture(tmp_path / "wrong.png")


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path: Path, picture: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text("old")
    with pytest.raises(UndefinedError):
        write_demo_page(path, [case(picture)], {"classes": []}, picture)
    assert path.read_text() == "old"
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        write_demo_page(tmp_path / "file" / "index.html", [case(picture)], summary(), picture)


def test_templates_escape_what_they_are_given() -> None:
    assert "<title>A &amp; &lt;b&gt;</title>" in render_page("base.html", title="A & <b>")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (12, "12"),
        (1234567, "1,234,567"),
        (0.0001, "0.0001"),
        ([40, 56, 40], "40 × 56 × 40"),
        ([0.8, 0.8], "0.8, 0.8"),
        ([], "none"),
        ("patchwise-crop", "patchwise-crop"),
        ("miscnn_tf.a.b.Name", "miscnn_tf.a.b.Name"),
        ({}, "none"),
        ({"a": 1, "b": [1.5, None]}, "a: 1, b: (1.5, None)"),
        (
            {"class_name": "miscnn_tf.neural_network.architecture.unet.standard.Architecture", "config": {"depth": 4}},
            "standard.Architecture(depth=4)",
        ),
        ({"partial": "tversky_loss", "arguments": {"delta": 0.7}}, "tversky_loss(delta=0.7)"),
        ({"class_name": "x", "config": "y"}, "class_name: x, config: y"),  # by another hand
        ([{"class_name": "Clipping", "config": {"min": 0}}, "miscnn_tf.x.y.Z"], "Clipping(min=0), y.Z"),
    ],
)
def test_settings_are_text(value, text):
    assert setting_rows({"a_name": value}) == [("a name", text)]
