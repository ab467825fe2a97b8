"""A plan as a TOML file: each value with its reason, for users to read and change."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

import tomlkit

from miscnn_tf._base.messages import plural
from miscnn_tf.experiment.fingerprint import Fingerprint
from miscnn_tf.experiment.planner import Choice, Plan

_WIDTH: Final = 110


def plan_text(data: Mapping[str, Choice], plan: Plan, header: Sequence[str]) -> str:
    """Return the text of a configuration.

    Args:
        data: The table ``[data]``.
        plan: All other tables.
        header: Lines of the comment at the top.
    """
    lines = [f"# {line}".rstrip() for line in header]
    for name, choices in {"data": data, **plan}.items():
        lines += ["", f"[{name}]"]
        for key, choice in choices.items():
            lines += _entry(key, choice)
    return "\n".join(lines) + "\n"


def describe_data(fingerprint: Fingerprint, class_names: Sequence[str], channels: int, path: str) -> list[str]:
    """Describe the data set in a few lines, for the comment at the top of a file."""
    shapes = [[min(sizes), max(sizes)] for sizes in zip(*fingerprint.shapes, strict=True)]
    ranges = " x ".join(f"{low}" if low == high else f"{low}..{high}" for low, high in shapes)
    spacing = fingerprint.median_spacing
    size = "" if spacing is None else f"; median voxel size {' x '.join(f'{one:g}' for one in spacing)} mm"
    kind = f"{len(shapes)}D, {plural(channels, 'channel')}"
    shares = ", ".join(
        f"{name}: {100 * share:.3g} % ({samples})"
        for name, share, samples in zip(class_names, fingerprint.class_shares, fingerprint.class_cases, strict=True)
    )
    lines = [
        f"{plural(fingerprint.cases, 'sample')} in {path}: {kind}, {ranges} voxels{size}",
        f"Classes, share of the voxels, number of samples with them of {len(fingerprint.measured)}: {shares}",
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
    """Format a value as TOML, with inline tables."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{tomlkit.key(key).as_string()} = {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return tomlkit.item(value).as_string()
