"""A plan as a TOML file that a person can read and change: each value with the reason for it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

import tomlkit

from miscnn_tf.messages import plural
from miscnn_tf.planning.fingerprint import Fingerprint
from miscnn_tf.planning.plan import Choice, Plan

_WIDTH: Final = 110


def plan_text(data: Mapping[str, Choice], plan: Plan, header: Sequence[str]) -> str:
    """The text of a configuration.

    Args:
        data: The table ``[data]``.
        plan: All other tables.
        header: Lines of comment at the top.
    """
    lines = [f"# {line}".rstrip() for line in header]
    for name, choices in {"data": data, **plan}.items():
        lines += ["", f"[{name}]"]
        # Tables of their own come last: a key after them would be theirs.
        for key, choice in choices.items():
            lines += _entry(key, choice)
    return "\n".join(lines) + "\n"


def describe_data(fingerprint: Fingerprint, class_names: Sequence[str], channels: int, path: str) -> list[str]:
    """The data set in a few lines, for the head of a file."""
    shapes = [[min(sizes), max(sizes)] for sizes in zip(*fingerprint.shapes, strict=True)]
    ranges = " x ".join(f"{low}" if low == high else f"{low}..{high}" for low, high in shapes)
    spacing = fingerprint.median_spacing
    size = "" if spacing is None else f"; median voxel size {' x '.join(f'{one:g}' for one in spacing)} mm"
    kind = f"{len(shapes)}D, {plural(channels, 'channel')}"
    shares = ", ".join(
        f"{name}: {100 * share:.3g} % ({cases})"
        for name, share, cases in zip(class_names, fingerprint.class_shares, fingerprint.class_cases, strict=True)
    )
    lines = [
        f"{plural(fingerprint.cases, 'case')} in {path}: {kind}, {ranges} voxels{size}",
        f"Classes, their share of the voxels, and in how many of {len(fingerprint.measured)} cases they are: {shares}",
    ]
    return [part for line in lines for part in textwrap.wrap(line, _WIDTH)]


def _entry(key: str, choice: Choice) -> list[str]:
    text = f"{key} = {_value(choice.value)}"
    if not choice.reason:
        return [text]
    together = f"{text}  # {choice.reason}"
    if len(together) <= _WIDTH:
        return [together]
    return [f"# {line}" for line in textwrap.wrap(choice.reason, _WIDTH - 2)] + [text]


def _value(value: Any) -> str:
    """As TOML, tables in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{tomlkit.key(key).as_string()} = {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return tomlkit.item(value).as_string()
