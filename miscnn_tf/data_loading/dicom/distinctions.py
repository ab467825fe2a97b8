"""Header elements that distinguish images of the same position (b-values, echoes, time points), and their selection."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from miscnn_tf._base.messages import did_you_mean
from miscnn_tf.errors import ConfigurationError

#: Keyword of a header's element, and a description of its values for messages; the most specific ones first.
DISTINCTIONS = {
    "DiffusionBValue": "b-values",
    "EchoTime": "echoes",
    "InversionTime": "inversion times",
    "TemporalPositionIdentifier": "time points",
    "TriggerTime": "trigger times",
    "DiffusionGradientOrientation": "diffusion directions",
    "ComplexImageComponent": "components",
    "ImageType": "image types",
    "StackID": "stacks",
    "ViewPosition": "views",
    "ImageLaterality": "sides",
    "AcquisitionNumber": "acquisitions",
    "AcquisitionTime": "acquisition times",
}
# Where the frames of enhanced images have them: sequences below the functional groups, and the keyword there.
_IN_GROUPS: dict[str, list[tuple[str, ...]]] = {
    "DiffusionBValue": [("MRDiffusionSequence", "DiffusionBValue")],
    "EchoTime": [("MREchoSequence", "EffectiveEchoTime")],
    "TemporalPositionIdentifier": [("FrameContentSequence", "TemporalPositionIndex")],
    "TriggerTime": [("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime")],
    "DiffusionGradientOrientation": [
        ("MRDiffusionSequence", "DiffusionGradientDirectionSequence", "DiffusionGradientOrientation")
    ],
    "ComplexImageComponent": [("MRImageFrameTypeSequence", "ComplexImageComponent")],
    "ImageType": [
        (f"{kind}FrameTypeSequence", "FrameType") for kind in ("MRImage", "CTImage", "PET", "XAXRF", "Parametric")
    ],
    "StackID": [("FrameContentSequence", "StackID")],
    "AcquisitionNumber": [("FrameContentSequence", "FrameAcquisitionNumber")],
    "AcquisitionTime": [("FrameContentSequence", "FrameAcquisitionDateTime")],
}

#: A value may have several parts, as ImageType has; it is a tuple in any case.
Value = tuple[str | float, ...]
Distinctions = tuple[tuple[str, Value], ...]


def distinctions_of(dataset: Any) -> Distinctions:
    """Return the header elements that may distinguish an image from others."""
    found = ((name, as_value(dataset.get(name))) for name in DISTINCTIONS)
    return tuple((name, value) for name, value in found if value)


def frame_distinctions(groups: Sequence[Any], of_file: Distinctions) -> Distinctions:
    """Return the distinctions of a frame from its functional groups, else from the header of its file.

    Args:
        groups: Those of the frame, then those of all frames.
        of_file: Those in the header, which apply to all frames.
    """
    found = dict(of_file)
    for name, paths in _IN_GROUPS.items():
        values = (as_value(_follow(group, path)) for path in paths for group in groups)
        value: Value = next((one for one in values if one), ())
        if value:
            found[name] = value
    return tuple(found.items())


def _follow(item: Any, path: Sequence[str]) -> Any:
    for name in path[:-1]:
        sequence = item.get(name)
        if not sequence:
            return None
        item = sequence[0]
    return item.get(path[-1])


def as_value(value: Any) -> Value:
    """Convert a value of a header or of a user to a tuple of numbers and texts; empty if missing."""
    if value in (None, ""):
        return ()
    parts: list[Any] = [value] if isinstance(value, str | bytes | int | float) else [*value]
    return tuple(_part(part) for part in parts)


def _part(part: Any) -> str | float:
    try:
        number = float(part)
    except (TypeError, ValueError, OverflowError):
        return str(part)
    return number if math.isfinite(number) else str(part)


def same_value(first: Value, second: Value) -> bool:
    """Return True if two values are equal up to rounding."""
    return len(first) == len(second) and all(
        math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-5)
        if isinstance(one, float) and isinstance(other, float)
        else str(one).lower() == str(other).lower()
        for one, other in zip(first, second, strict=True)
    )


def show_value(value: Value) -> str:
    """Format a value as a Python literal."""
    shown = [f"{part:.10g}" if isinstance(part, float) else repr(part) for part in value]
    return shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"


def normalised_frames(frames: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Check the argument ``frames`` of the interface; None if it is empty.

    Raises:
        ConfigurationError: If a key is not one of `DISTINCTIONS`, or a value is not a number, a text or a list of them.
    """
    if not frames:
        return None
    if not isinstance(frames, Mapping):
        raise ConfigurationError(f"frames={frames!r} must be a dict such as {{'DiffusionBValue': 1000}}")
    checked: dict[str, Any] = {}
    for name, value in frames.items():
        if name not in DISTINCTIONS:
            hint = did_you_mean(name, DISTINCTIONS)
            raise ConfigurationError(f"frames={dict(frames)!r}: {name!r} is not in {', '.join(DISTINCTIONS)}.{hint}")
        parts = list(value) if isinstance(value, list | tuple) else [value]
        if not parts or not all(isinstance(part, str | int | float) and not isinstance(part, bool) for part in parts):
            raise ConfigurationError(
                f"frames={dict(frames)!r}: the value of {name} must be a number, a text, or a list of them"
            )
        checked[name] = parts if isinstance(value, list | tuple) else value
    return checked


def is_chosen(distinctions: Distinctions, frames: Mapping[str, Any] | None) -> bool:
    """Return True if an image matches the argument ``frames``."""
    there = dict(distinctions)
    return all(same_value(there.get(name, ()), as_value(value)) for name, value in (frames or {}).items())
