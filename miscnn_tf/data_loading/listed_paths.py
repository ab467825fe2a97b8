"""Paths of files as other programs list them: with backslashes, absolute, or from before a folder was moved."""

from __future__ import annotations

import os
import re
from pathlib import Path

_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_LONGEST = 4096


class ListedPathError(ValueError):
    """A path that cannot be used; the message is the end of a sentence that begins with the path."""


def relative_to_folder(entry: str, folder: Path) -> tuple[str, bool]:
    r"""The path of a listed file relative to the folder of the list, which it does not leave.

    Args:
        entry: The path as it is listed: relative to the folder or absolute, with slashes or backslashes.
        folder: The folder of the list.

    Returns:
        The relative path with slashes; and whether the entry is the path of another place, in whose stead the file of
        the same folder and name below `folder` is taken. It is only where no file is at the place that is listed.

    Raises:
        ListedPathError: If it is empty, or leads out of the folder.

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
        # The folder of a file (imagesTr) is a part of its name, so that no file of another folder is taken for it.
        tails = ("/".join(parts[start:]) for start in range(len(parts) - 1) if ".." not in parts[start:])
        moved = next((tail for tail in tails if os.path.isfile(folder / tail)), None)
        if moved is not None:
            return moved, True
    raise ListedPathError(
        f"is outside the folder, and nothing outside {folder} is read. Copy or link it there, and name it like "
        '"./imagesTr/case_00.nii.gz"'
    )


def _is_path(entry: str) -> bool:
    try:
        return "\0" not in entry and len(os.fsencode(entry)) <= _LONGEST
    except UnicodeEncodeError:
        return False


def _below(entry: str, folder: Path) -> str | None:
    """The path relative to the folder, also where one of them is given by a link; None if it is not in it."""
    path = os.path.normpath(os.path.join(os.path.abspath(folder), entry))
    for real in (False, True):  # links are looked at only where they matter, since each costs a look at the disk
        root = os.path.realpath(folder) if real else os.path.abspath(folder)
        whole = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) if real else path
        if Path(whole).is_relative_to(root):
            return Path(whole).relative_to(root).as_posix()
    return None
