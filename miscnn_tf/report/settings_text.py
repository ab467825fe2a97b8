"""Settings as text: nested plain data in lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PACKAGE = "miscnn_tf."


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
