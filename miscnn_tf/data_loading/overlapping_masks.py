"""Merging of masks, one per structure, into one label map."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miscnn_tf._base.messages import plural
from miscnn_tf.data_loading.labels import label_dtype
from miscnn_tf.errors import RepeatedWarning


class OverlapWarning(RepeatedWarning):
    """Structures of a sample overlap, so that a label map cannot hold all of their voxels."""


@dataclass(frozen=True)
class _Structure:
    """A mask within its bounding box."""

    name: str
    label: int
    box: tuple[slice, ...]
    mask: np.ndarray
    voxels: int

    def overlap(self, other: _Structure) -> int:
        """Count the voxels in both masks."""
        pairs = list(zip(self.box, other.box, strict=True))
        both = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in pairs]
        if any(part.stop <= part.start for part in both):
            return 0
        return int(np.count_nonzero(self._within(both) & other._within(both)))

    def _within(self, box: list[slice]) -> np.ndarray:
        return self.mask[
            tuple(slice(part.start - own.start, part.stop - own.start) for part, own in zip(box, self.box, strict=True))
        ]


def merge_masks(
    masks: Iterable[tuple[str, int, np.ndarray]],
    shape: tuple[int, ...],
    classes: int,
    background: int,
    path: Path | str,
) -> np.ndarray:
    """Merge masks into one label map; where they overlap, the structure with fewer voxels is kept.

    A tumour in an organ, and an organ in the outline of the body, remain whole like this in any order. Of structures
    of the same size the later one is kept.

    Args:
        masks: Name, label and voxels of each structure.
        shape: Shape of the label map.
        classes: Number of classes, background included.
        background: Label of voxels outside all masks.
        path: The file or the sample, for messages.

    Warns:
        OverlapWarning: If structures with different labels overlap; it names all of them, and the number of voxels.

    Example:
        >>> body, organ = np.array([1, 1, 1, 1], bool), np.array([0, 1, 1, 0], bool)
        >>> with warnings.catch_warnings(action="ignore"):
        ...     merge_masks([("organ", 1, organ), ("body", 2, body)], (4,), 3, 0, "rt.dcm").tolist()
        [2, 1, 1, 2]
    """
    structures = [_bounded(*one) for one in masks]
    # Python's sort keeps the order of equal ones.
    structures.sort(key=lambda one: -one.voxels)
    labels = np.full(shape, background, label_dtype(classes))
    for structure in structures:
        labels[structure.box][structure.mask] = structure.label
    overlaps = [
        (small, large, voxels)
        for position, small in enumerate(structures)
        for large in structures[:position]
        if small.label != large.label and (voxels := small.overlap(large))
    ]
    if overlaps:
        _warn(overlaps, _hidden(structures, shape), path)
    return labels


def _bounded(name: str, label: int, mask: np.ndarray) -> _Structure:
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        found = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0))
    within = mask[tuple(box)].copy()
    return _Structure(name, label, tuple(box), within, int(np.count_nonzero(within)))


def _hidden(structures: list[_Structure], shape: tuple[int, ...]) -> list[str]:
    """Return the structures that smaller ones cover entirely."""
    drawn = np.zeros(shape, np.uint16)
    for number, structure in enumerate(structures, start=1):
        drawn[structure.box][structure.mask] = number
    seen = set(np.unique(drawn).tolist())
    return [one.name for number, one in enumerate(structures, start=1) if one.voxels and number not in seen]


def _warn(overlaps: list[tuple[_Structure, _Structure, int]], hidden: list[str], path: Path | str) -> None:
    pairs = ", ".join(f"{small.name} in {large.name} ({plural(voxels, 'voxel')})" for small, large, voxels in overlaps)
    lost = f" {', '.join(hidden)} {'keeps' if len(hidden) == 1 else 'keep'} no voxel." if hidden else ""
    key: Hashable = tuple((small.name, large.name) for small, large, _ in overlaps)
    warnings.warn(
        OverlapWarning(
            f"{path}: structures overlap, and the smaller one is kept: {pairs}.{lost} Leave structures out, or "
            "give them one label, if they should not compete",
            key,
        ),
        stacklevel=4,
    )
