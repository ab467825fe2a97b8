"""Names of NIfTI files."""

from __future__ import annotations

from pathlib import Path

#: The endings of NIfTI files, the usual one first.
ENDINGS = (".nii.gz", ".nii")


def is_nifti(path: str | Path) -> bool:
    """Whether the name ends as NIfTI files do."""
    return str(path).lower().endswith(ENDINGS)


def ending_of(path: Path) -> str:
    """The ending of an image's name, in small letters; ``".nii.gz"`` with both its parts."""
    return next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), path.suffix.lower())


def stem_of(path: Path) -> str:
    """The name without the ending."""
    return path.name[: len(path.name) - len(ending_of(path))]


def find_nifti(stem: Path) -> Path | None:
    """``<stem>.nii.gz`` or ``<stem>.nii``, the compressed one where both are there; None if neither is.

    A folder or pipe of that name is found where there is no file, so that reading it reports what it is.
    """
    paths = [path for ending in ENDINGS if (path := stem.with_name(stem.name + ending)).exists()]
    return next((path for path in paths if path.is_file()), paths[0] if paths else None)
