"""Choice of the named structures (ROIs of an RTSTRUCT, segments of a SEG) that become labels."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from miscnn_tf._base.messages import did_you_mean, some_of
from miscnn_tf.errors import ConfigurationError, DataError, RepeatedWarning

# Names of the patient's outline in planning systems: BODY, External, Skin, body_contour, Outer contour 1.
_OUTLINE = re.compile(
    r"((body|external|skin)([ _-]?(contour|outline|surface))?|(patient|outer)[ _-]?(contour|outline))[ _-]?\d*",
    re.IGNORECASE,
)
_EXTERNAL = "EXTERNAL"


def why_left_out(name: str, kind: str = "") -> str | None:
    """Return the reason to leave a structure out unless it is asked for; None for the others.

    The outline of the patient surrounds all organs. It is not an organ to learn.

    Args:
        name: Its name.
        kind: RTROIInterpretedType, for an RTSTRUCT.

    Example:
        >>> why_left_out("Outline_1", "EXTERNAL"), why_left_out("BODY"), why_left_out("Vertebral_body")
        ('outline of the patient (type EXTERNAL)', 'outline of the patient, by its name', None)
    """
    if kind.strip().upper() == _EXTERNAL:
        return f"outline of the patient (type {_EXTERNAL})"
    return "outline of the patient, by its name" if _OUTLINE.fullmatch(name.strip()) else None


def normalised_structure_dict(structure_dict: Mapping[Any, Any] | None, classes: int) -> dict[str, int]:
    """Check a mapping of names to labels below `classes`.

    Raises:
        ConfigurationError: If it is not a dict, or a label is not a class.
    """
    if structure_dict is None:
        return {}
    if not isinstance(structure_dict, Mapping):
        raise ConfigurationError(
            f"structure_dict must be a dict such as {{'Heart': 1}}, got a {type(structure_dict).__name__}"
        )
    result = {}
    for name, label in structure_dict.items():
        whole = isinstance(label, int | np.integer) and not isinstance(label, bool)
        if not whole or not 0 <= label < classes:
            raise ConfigurationError(
                f"structure_dict gives {name!r} the label {label!r}, which is not one of the {classes} classes (0 to "
                f"{classes - 1})"
            )
        result[str(name).strip()] = int(label)
    return result


def choose_structures(
    found: Mapping[int, str], structure_dict: Mapping[str, int], path: Path, left_out: Container[str] = ()
) -> list[tuple[int, str, int]]:
    """Choose the structures in `structure_dict`; return number, name and label in its order.

    Args:
        found: Name of each structure in the file, by its number.
        structure_dict: Name and label of the wanted structures.
        path: The file, for messages.
        left_out: Names of structures that are left out knowingly, without a warning. So are outlines of the patient.

    Raises:
        DataError: If the file holds none of them.

    Warns:
        UserWarning: If names are in only one of the two, or more than once in the file.
    """
    names = {number: name.strip() for number, name in found.items()}
    if not structure_dict:
        organs = [name for name in names.values() if why_left_out(name) is None] or names.values()
        example = {name: label for label, name in enumerate(organs, start=1)}
        raise DataError(
            f"{path}: the labels of the structures are not defined; make the interface with "
            f"structure_dict={example or {'Heart': 1}}, or a part of it"
        )
    chosen = [
        (number, name, label)
        for wanted, label in structure_dict.items()
        for number, name in names.items()
        if name == wanted
    ]
    if not chosen:
        raise DataError(
            f"{path} holds none of the structures of structure_dict ({some_of(structure_dict)}); it holds "
            f"{some_of(names.values(), 20)}. Correct the names in structure_dict"
        )
    counts = Counter(name for _, name, _ in chosen)
    if repeated := sorted(f"{name!r} ({count} times)" for name, count in counts.items() if count > 1):
        warnings.warn(
            RepeatedWarning(
                f"{path} holds several structures of one name: {some_of(repeated)}; they are united", tuple(repeated)
            ),
            stacklevel=4,
        )
    unknown = sorted(
        {
            name or f"structure {number} (without a name)"
            for number, name in names.items()
            if name not in structure_dict and name not in left_out and why_left_out(name) is None
        }
    )
    if unknown:
        warnings.warn(
            RepeatedWarning(
                f"{path}: {some_of(unknown, 20)} {'is' if len(unknown) == 1 else 'are'} not in structure_dict; the "
                "voxels become background",
                tuple(unknown),
            ),
            stacklevel=4,
        )
    # Names that share a label may be spellings of one structure.
    labels = {label for _, _, label in chosen}
    absent = [name for name, label in structure_dict.items() if label not in labels]
    missing = [f"{name!r}{did_you_mean(name, unknown)}" for name in absent]
    if missing:
        warnings.warn(
            f"{path} does not hold {some_of(missing)} of structure_dict; its label has no voxels there",
            UserWarning,
            stacklevel=4,
        )
    return chosen
