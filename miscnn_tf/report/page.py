"""HTML pages in one file: pictures inlined, nothing loaded from anywhere, all text escaped; settings as text."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from miscnn_tf._base.files import atomic_path
from miscnn_tf.errors import MissingDataError

_PNG = b"\x89PNG\r\n\x1a\n"
_PACKAGE = "miscnn_tf."


class DemoCase(NamedTuple):
    """Held-out case on the page of the demonstration.

    Attributes:
        name: Name of the case.
        dice: Dice per class; None if the case does not have the class.
        picture: PNG of the overlays.
        scan: Path of the scan for the link on the page.
        prediction: Path of the prediction for the link on the page.
    """

    name: str
    dice: Mapping[str, float | None]
    picture: Path
    scan: str
    prediction: str


def write_demo_page(path: str | Path, cases: Sequence[DemoCase], summary: Mapping[str, Any], curve: str | Path) -> None:
    """Write the page of ``miscnn-tf demo``.

    Args:
        path: The HTML file; replaced atomically.
        cases: The held-out cases.
        summary: Content of ``summary.json``.
        curve: PNG of the loss curve.

    Raises:
        MissingDataError: If a picture is missing, or is not a PNG file.
        StorageError: If the page cannot be written.
    """
    html = render_page(
        "demo.html",
        cases=[{**case._asdict(), "picture": inline_picture(case.picture)} for case in cases],
        summary=summary,
        curve=inline_picture(curve),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="backslashreplace")


def render_page(template: str, **content: Any) -> str:
    """Fill a template of this package.

    Args:
        template: File name below ``report/templates``.
        **content: Variables of the template; every text is escaped, and a missing variable is an error.

    Example:
        >>> "<html" in render_page("base.html", title="A & B")
        True
    """
    return _environment().get_template(template).render(**content)


def inline_picture(path: str | Path) -> str:
    """Return a PNG file as a ``data:`` URL.

    Raises:
        MissingDataError: If it does not exist, or is not a PNG file.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise MissingDataError(f"the picture {path} for the page cannot be read: {error.strerror or error}") from error
    if not content.startswith(_PNG):
        raise MissingDataError(f"the picture {path} for the page is not a PNG file; draw it again")
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("miscnn_tf.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["dice"] = _format_dice
    environment.filters["address"] = _relative_address
    environment.filters["minutes"] = _format_seconds
    environment.filters["number"] = format_score
    return environment


def script_source(template: str) -> tuple[Markup, str]:
    """Return a script of this package for a page, and its source in the Content-Security-Policy of the page.

    Args:
        template: File name below ``report/templates``.

    Returns:
        The text for the script element, and its hash as a ``script-src`` source.
    """
    text = (resources.files("miscnn_tf.report") / "templates" / template).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return Markup(text), f"'sha256-{digest}'"


def format_score(value: float | None, share: bool = False) -> str:
    """Format a score with its significant digits; a dash for None and NaN.

    Args:
        value: The score.
        share: The score is from 0 to 1 and gets three decimals.

    Example:
        >>> [format_score(value) for value in (0.91234, 12.345, -1234.5, float("inf"), None)]
        ['0.91', '12.3', '−1234', '∞', '–']
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if share:
        text = f"{value:.3f}"
    else:
        decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
        text = f"{value:.{decimals}f}"
    return text.replace("-", "−")


def _format_dice(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _format_seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def _relative_address(path: str) -> str:
    # "./" prevents a name such as "javascript:…" from being read as a URL scheme.
    return "./" + quote(path)


def setting_rows(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the names and values of settings as text.

    Args:
        settings: Plain data, as in ``run.json``.

    Example:
        >>> setting_rows({"batch_size": 2, "loss": {"class_name": "losses.Tversky", "config": {"alpha": 0.5}}})
        [('batch size', '2'), ('loss', 'losses.Tversky(alpha=0.5)')]
    """
    return [(str(name).replace("_", " "), _text(value)) for name, value in settings.items()]


def _text(value: Any) -> str:
    """Format a value."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    if (
        isinstance(value, list)
        and value
        and all(isinstance(item, int) and not isinstance(item, bool) for item in value)
    ):
        return " × ".join(map(str, value))
    if isinstance(value, list):
        return ", ".join(_inside(item) for item in value) or "none"
    if isinstance(value, Mapping) and not _is_object(value):
        return ", ".join(f"{name}: {_inside(item)}" for name, item in value.items()) or "none"
    return value if isinstance(value, str) else _inside(value)


def _inside(value: Any) -> str:
    """Format a value inside another one, in Python syntax."""
    if isinstance(value, Mapping):
        if _is_object(value):
            name = value.get("class_name", value.get("partial"))
            arguments = value.get("config", value.get("arguments")) or {}
            listed = ", ".join(f"{key}={_inside(item)}" for key, item in arguments.items())
            return f"{_short(name)}({listed})"
        return "{" + ", ".join(f"{key}: {_inside(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "(" + ", ".join(map(_inside, value)) + ")"
    if isinstance(value, float):
        return f"{value:g}"
    return _short(value) if isinstance(value, str) else str(value)


def _is_object(value: Mapping[str, Any]) -> bool:
    return set(value) in ({"class_name", "config"}, {"partial", "arguments"}) and isinstance(
        value.get("config", value.get("arguments")), Mapping | None
    )


def _short(name: Any) -> str:
    """Shorten ``miscnn_tf.neural_network.architecture.unet.standard.Architecture`` to ``standard.Architecture``."""
    text = str(name)
    return ".".join(text.split(".")[-2:]) if text.startswith(_PACKAGE) else text
