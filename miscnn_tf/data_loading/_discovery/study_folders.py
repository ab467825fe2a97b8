"""Folders of samples in ``train`` and ``val``, for layouts with a folder per sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from miscnn_tf._base.messages import plural, some_of
from miscnn_tf.data_loading._discovery.split_folders import ROLES, Part, part_folders
from miscnn_tf.data_loading.file_names import composed, first_folders, folders_in

_TRAINING, _VALIDATION, _TEST = ROLES


@dataclass(frozen=True)
class StudyFolders:
    """Samples of the parts of a data set.

    Attributes:
        folders: The folder of each sample of the training and validation parts.
        validation: Names of the samples of the validation part.
        found_in: The parts, for messages.
    """

    folders: Mapping[str, Path]
    validation: list[str]
    found_in: str


def study_parts(root: Path, is_sample: Callable[[Path], bool]) -> list[Part]:
    """Return the folders ``train``, ``val`` and ``test`` that hold folders of samples; none if only one part does.

    Args:
        root: An existing folder.
        is_sample: Returns whether a folder is a sample.

    Raises:
        DataError: If two folders are the same part.
    """
    named = part_folders(root)
    if len({part.role for part in named}) < 2:
        return []
    parts = [part for part in named if any(map(is_sample, first_folders(part.folder)))]
    roles = {part.role for part in parts}
    return parts if _TRAINING in roles and len(roles) > 1 else []


def find_studies(parts: list[Part], samples_in: Callable[[Path], list[str]]) -> StudyFolders:
    """List the samples of the training and validation parts.

    Samples of one name in both get the name of their part in front: ``"train_001"``.

    Args:
        parts: Result of `study_parts`.
        samples_in: Returns the names of the sample folders in a folder.
    """
    found = {part: samples_in(part.folder) for part in sorted(parts, key=lambda part: ROLES.index(part.role))}
    used = {part: names for part, names in found.items() if part.role != _TEST}
    often = Counter(composed(name) for names in used.values() for name in names)
    twice = any(number > 1 for number in often.values())
    folders: dict[str, Path] = {}
    validation: list[str] = []
    for part, names in used.items():
        for name in names:
            sample = f"{part.name}_{name}" if twice else name
            folders[sample] = part.folder / name
            if part.role == _VALIDATION:
                validation.append(sample)
    held = [f"{part.name} ({plural(len(names), f'{part.role} sample')})" for part, names in used.items()]
    left_out = [f"{part.name} ({plural(len(names), 'sample')})" for part, names in found.items() if part.role == _TEST]
    more = f"; {', '.join(left_out)} left out" if left_out else ""
    unused = [
        f"{part.name}/{folder.name}"
        for part, names in used.items()
        for folder in folders_in(part.folder)
        if folder.name not in names
    ]
    if unused:
        more += f"; {plural(len(unused), 'folder')} without images, or that the pattern excludes: {some_of(unused)}"
    return StudyFolders(dict(sorted(folders.items())), sorted(validation), f"samples in {', '.join(held)}{more}")
