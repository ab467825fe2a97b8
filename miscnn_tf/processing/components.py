"""Postprocessing of label maps by connected components: keep the largest one of a class, and fill its holes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy import ndimage

from miscnn_tf._base.plain_limits import shown
from miscnn_tf.errors import ConfigurationError

KEEP_LARGEST: Final = "keep_largest"
FILL_HOLES: Final = "fill_holes"
_KEYS: Final = {"operation", "name", "labels", "written"}


@dataclass(frozen=True)
class ComponentStep:
    """One step of the postprocessing of a label map.

    Components are connected through faces, edges and corners, and holes through faces, as in nnU-Net and
    `scipy.ndimage.binary_fill_holes`. Of several components of the largest size all are kept, as in nnU-Net.

    Attributes:
        operation: `KEEP_LARGEST` turns all but the largest component into background; `FILL_HOLES` turns background
            that is enclosed by the labels into `written`. Other labels are never changed.
        name: Name of the class or region.
        labels: Its labels, whose union is one mask.
        written: The label of filled holes.

    Example:
        >>> ComponentStep("keep_largest", "liver", (1,), 1).apply(np.array([[1, 1, 0, 1], [0, 2, 0, 0]]))
        array([[1, 1, 0, 0],
               [0, 2, 0, 0]])
    """

    operation: str
    name: str
    labels: tuple[int, ...]
    written: int

    @property
    def description(self) -> str:
        """Text for users."""
        return f"{'largest component' if self.operation == KEEP_LARGEST else 'holes filled'}: {self.name}"

    def apply(self, labels: np.ndarray) -> np.ndarray:
        """Return the label map ``(x, y[, z])`` after this step; `labels` itself if nothing changes."""
        members = np.zeros(max(int(labels.max(initial=0)), *self.labels) + 1, bool)
        members[list(self.labels)] = True
        mask = members[labels]
        location = bounding_box(mask)
        if location is None:
            return labels
        mask = mask[location]
        changed = _beside_largest(mask) if self.operation == KEEP_LARGEST else _holes(mask) & (labels[location] == 0)
        if not changed.any():
            return labels
        result = labels.copy()
        result[location][changed] = 0 if self.operation == KEEP_LARGEST else self.written
        return result

    def to_plain(self) -> dict[str, Any]:
        """Return the step as JSON types; the inverse of `steps_of`."""
        return {
            "operation": self.operation,
            "name": self.name,
            "labels": list(self.labels),
            "written": self.written,
        }


def postprocess(labels: np.ndarray, steps: Sequence[ComponentStep]) -> np.ndarray:
    """Return a label map after all steps, in their order; the argument is not changed."""
    for step in steps:
        labels = step.apply(labels)
    return labels


def steps_of(plain: Any, classes: int) -> tuple[ComponentStep, ...]:
    """Return the steps that `ComponentStep.to_plain` described; none for None.

    Args:
        plain: A list of steps, or None.
        classes: Number of classes of the label maps, background included.

    Raises:
        ConfigurationError: If a step is unknown, or has labels that are not classes.
    """
    if plain is None:
        return ()
    if not isinstance(plain, list):
        raise _bad(plain, "it must be a list of steps")
    return tuple(_step_of(one, classes) for one in plain)


def _step_of(plain: Any, classes: int) -> ComponentStep:
    if not isinstance(plain, Mapping) or set(plain) != _KEYS:
        raise _bad(plain, f"a step has the keys {', '.join(sorted(_KEYS))}")
    operation, name, labels, written = (plain[key] for key in ("operation", "name", "labels", "written"))
    if operation not in (KEEP_LARGEST, FILL_HOLES):
        raise _bad(operation, f"operation must be {KEEP_LARGEST!r} or {FILL_HOLES!r}; update miscnn_tf")
    if not isinstance(name, str):
        raise _bad(name, "name must be text")
    if not isinstance(labels, list) or not labels:
        raise _bad(labels, "labels must be a list of classes")
    for label in (*labels, written):
        if type(label) is not int or not 0 < label < classes:
            raise _bad(label, f"labels must be classes from 1 to {classes - 1}")
    return ComponentStep(operation, name, tuple(labels), written)


def _bad(value: Any, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"postprocessing: {shown(value)} is not valid: {reason}. Run 'miscnn-tf cross-validate' again to decide and "
        "store it anew"
    )


def bounding_box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """Return the bounding box of a mask; None if it is empty."""
    box = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not found.size:
            return None
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)


def _beside_largest(mask: np.ndarray) -> np.ndarray:
    """Return the mask of all components but the largest; several of the largest size are kept."""
    components, _ = ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, mask.ndim))
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    removed = sizes < sizes.max()
    removed[0] = False
    result: np.ndarray = removed[components]
    return result


def _holes(mask: np.ndarray) -> np.ndarray:
    """Return the mask of the holes of a mask in its bounding box: outside the box there is none."""
    components, number = ndimage.label(~mask)
    enclosed = np.ones(number + 1, bool)
    enclosed[0] = False
    for axis in range(mask.ndim):
        for end in (0, -1):
            enclosed[components.take(end, axis)] = False
    result: np.ndarray = enclosed[components]
    return result
