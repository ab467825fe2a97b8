"""Suggestion of an existing path for one that was misspelt on the command line."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from pathlib import Path
from typing import Final

# Reports of a missing input.
_MISSING: Final = re.compile("does not exist|is not a folder|No such file or directory")
# Names of arguments that need not exist.
_OUTPUTS: Final = ("output",)
_SIMILAR: Final = 0.75


def path_hint(message: str, arguments: argparse.Namespace) -> str:
    """Return a sentence, with a leading space, that suggests the path a missing input resembles; otherwise "".

    Args:
        message: The error message.
        arguments: The parsed options; the message must name one of them.
    """
    if not _MISSING.search(message):
        return ""
    for name, value in vars(arguments).items():
        if name in _OUTPUTS or not isinstance(value, str | Path) or not str(value):
            continue
        named = re.search(rf"(?<![\w.-]){re.escape(str(value))}(?![\w-]|\.\w)", message)
        near = nearest_path(Path(value)) if named and not os.path.lexists(value) else None
        if near is not None:
            return f". Did you mean {near}?"
    return ""


def nearest_path(path: Path) -> Path | None:
    """Return the existing path whose names are those of a missing one but for case or a few letters; None if none is.

    Args:
        path: The missing path; each of its folders may be misspelt.
    """
    found = Path(path.anchor)
    for part in path.parts[1 if path.anchor else 0 :]:
        if part != ".." and not os.path.lexists(found / part):
            near = _nearest_name(found, part)
            if near is None:
                return None
            part = near
        found /= part
    return found


def _nearest_name(folder: Path, name: str) -> str | None:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:  # a file, or a folder that cannot be listed: there is nothing to suggest
        return None
    # Files differ in their stem, so a common ending does not make two names similar.
    stem, ending = os.path.splitext(name.casefold())
    same = {one: os.path.splitext(one.casefold()) for one in names}
    exact = [one for one, parts in same.items() if parts == (stem, ending)]
    stems = {parts[0]: one for one, parts in same.items() if parts[1] == ending}
    close = [stems[one] for one in difflib.get_close_matches(stem, stems, n=1, cutoff=_SIMILAR)]
    whole = {one.casefold(): one for one in names}
    other = [whole[one] for one in difflib.get_close_matches(name.casefold(), whole, n=1, cutoff=0.9)]
    return next(iter([*exact, *close, *other]), None)
