"""Names of NIfTI files."""

from __future__ import annotations

from pathlib import Path

from miscnn_tf.data_loading.file_names import find_file

#: The endings of NIfTI files, the usual one first.
ENDINGS = (".nii.gz", ".nii")


def is_nifti(path: str | Path) -> bool:
    """Return True if the name has the ending of a NIfTI file."""
    return str(path).lower().endswith(ENDINGS)


def ending_of(path: Path) -> str:
    """Return the ending of an image's name, in small letters; ``".nii.gz"`` counts as one."""
    return next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), path.suffix.lower())


def stem_of(path: Path) -> str:
    """Return the name without the ending."""
    return path.name[: len(path.name) - len(ending_of(path))]


def find_nifti(stem: Path, *, any_case: bool = False) -> Path | None:
    """Find ``<stem>.nii.gz`` or ``<stem>.nii``, with the ending in any case of letters; None if neither exists.

    If both exist, the compressed one is used, with a warning (`file_names.find_file`).

    Args:
        stem: The path without the ending.
        any_case: Whether the name before the ending is also compared case-insensitively.
    """
    return find_file(stem.parent, stem.name, ENDINGS, any_case=any_case)
