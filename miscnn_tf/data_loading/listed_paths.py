"""Resolution of listed file paths: with backslashes, absolute, or relative to a folder's previous location."""

from __future__ import annotations

import os
import re
from pathlib import Path

_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_LONGEST = 4096


class ListedPathError(ValueError):
    """Error for a listed path; the message continues a sentence that begins with the path."""


def relative_to_folder(entry: str, folder: Path) -> tuple[str, bool]:
    r"""Return the path of a listed file relative to the folder of the list; paths outside the folder are refused.

    Args:
        entry: The listed path: relative to the folder or absolute, with slashes or backslashes.
        folder: The folder of the list.

    Returns:
        The relative path with slashes; and whether the entry is the path of a missing file elsewhere, which is replaced
        by the file of the same folder and name below `folder`.

    Raises:
        ListedPathError: If it is empty, or outside the folder.

    Example:
        >>> relative_to_folder(".\\imagesTr\\a.nii.gz", Path("data"))
        ('imagesTr/a.nii.gz', False)
    """
    if not entry.strip() or not _is_path(entry):
        raise ListedPathError("is not a path; correct it")
    text = re.sub("^/{2,}", "/", entry.replace("\\", "/"))
    of_windows = os.name != "nt" and _WINDOWS.match(entry) is not None
    if not of_windows:
        below = _below(text, folder)
        if below == ".":
            raise ListedPathError("is the folder itself; correct it")
        if below is not None:
            return below, False
    if of_windows or (os.path.isabs(text) and not os.path.lexists(text)):
        parts = [part for part in text.split("/") if part]
        # The parent folder (imagesTr) must match, too, so that a file of another folder is not used by mistake.
        tails = ("/".join(parts[start:]) for start in range(len(parts) - 1) if ".." not in parts[start:])
        moved = next((tail for tail in tails if os.path.isfile(folder / tail)), None)
        if moved is not None:
            return moved, True
    raise ListedPathError(
        f"is outside {folder}, and only files inside are read. Copy or link it there, and list it like "
        '"./imagesTr/case_00.nii.gz"'
    )


def _is_path(entry: str) -> bool:
    try:
        return "\0" not in entry and len(os.fsencode(entry)) <= _LONGEST
    except UnicodeEncodeError:
        return False


def _below(entry: str, folder: Path) -> str | None:
    """Return the path relative to the folder, also if one of them contains a link; None if it is outside."""
    path = os.path.normpath(os.path.join(os.path.abspath(folder), entry))
    for real in (False, True):  # links are resolved only if needed, since that accesses the disk
        root = os.path.realpath(folder) if real else os.path.abspath(folder)
        whole = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) if real else path
        if Path(whole).is_relative_to(root):
            return Path(whole).relative_to(root).as_posix()
    return None
