"""Matching of file names regardless of the case of endings and of Unicode normalisation."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from miscnn_tf.errors import DataError, RepeatedWarning


def composed(name: str) -> str:
    r"""Return a name in Unicode's composed form (NFC); macOS returns decomposed names, keyboards type composed ones.

    Example:
        >>> composed("Mu\u0308ller") == "M\u00fcller"
        True
    """
    return unicodedata.normalize("NFC", name)


def without_ending(name: str, endings: Sequence[str]) -> str | None:
    """Strip the first matching ending from a file name, case-insensitively; None without a match.

    Example:
        >>> without_ending("scan.NII.GZ", (".nii.gz", ".nii"))
        'scan'
    """
    return next((name[: -len(ending)] for ending in endings if name[-len(ending) :].lower() == ending), None)


def folder_entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """List the entries of a folder by name, without hidden files, such as the ``._<name>`` files of macOS.

    Raises:
        DataError: If the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(
            f"the folder {folder} cannot be listed ({error.strerror or error}); check the path and its permissions"
        ) from error
    return sorted(found, key=lambda entry: entry.name)


def visible_files(folder: str | Path) -> list[Path]:
    """List the files directly in a folder, sorted, without hidden ones; broken links count as files.

    Raises:
        DataError: If the folder cannot be listed.
    """
    return [Path(folder) / entry.name for entry in folder_entries(folder) if not _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # for example a link to itself; opening it reports the error
        return False


def find_file(folder: Path, stem: str, endings: Sequence[str], *, any_case: bool = False) -> Path | None:
    """Find the file with a name and one of some endings, case-insensitively.

    The exact spelling is tried first, without listing the folder. A broken link counts as a file, and so does a folder
    of exactly that name if no file has it: opening it raises an error that names the fault.

    Args:
        folder: Where to look; it need not exist.
        stem: The name without the ending; its Unicode form does not matter.
        endings: Endings in small letters, the preferred one first.
        any_case: Whether the stem is also compared case-insensitively.

    Returns:
        The file with the first of the endings; None if there is none.

    Warns:
        RepeatedWarning: If there are several; it names the one that is used.
    """
    found = [path for ending in endings if _is_file(path := folder / f"{stem}{ending}")]
    if not found and folder.is_dir():
        found = _spelled_otherwise(folder, stem, endings, any_case)
    if not found:
        found = [path for ending in endings if os.path.isdir(path := folder / f"{stem}{ending}")][:1]
    if len(found) > 1:
        warn_of_others(found[0], found[1:])
    return found[0] if found else None


def warn_of_others(taken: Path, others: Iterable[Path]) -> None:
    """Warn that one of several matching files is read."""
    names = distinct([taken.name, *(path.name for path in others)])
    warnings.warn(
        RepeatedWarning(
            f"{taken.parent} holds {' and '.join(names)}; {names[0]} is read. Remove the other file",
            key="several files of one name",
        ),
        stacklevel=3,
    )


def distinct(names: Iterable[str]) -> list[str]:
    r"""Format names for a message; names that only look the same are escaped.

    Example:
        >>> distinct(["a", "b"])
        ['a', 'b']
        >>> distinct(["M\u00fcller", "Mu\u0308ller"]) == [r"'M\xfcller'", r"'Mu\u0308ller'"]
        True
    """
    listed = list(names)
    looks = {_look(name) for name in listed}
    # Names that cannot be encoded cannot be printed.
    odd = len(looks) < len(set(listed)) or any("\ud800" <= letter <= "\udfff" for name in listed for letter in name)
    return [ascii(name) for name in listed] if odd else listed


def _look(name: str) -> str:
    """Return the visible form of a name: compatible letters, without format characters and outer blanks."""
    seen = unicodedata.normalize("NFKC", name)
    return "".join(letter for letter in seen if unicodedata.category(letter) not in ("Cf", "Cc")).strip()


def _is_file(path: Path) -> bool:
    # These two do not raise for names that are too long, or that hold a zero byte.
    return os.path.lexists(path) and not os.path.isdir(path)


def _spelled_otherwise(folder: Path, stem: str, endings: Sequence[str], any_case: bool) -> list[Path]:
    wanted = composed(stem).lower() if any_case else composed(stem)
    found = []
    for path in visible_files(folder):
        bare = without_ending(path.name, endings)
        if bare is None:
            continue
        name = composed(bare).lower() if any_case else composed(bare)
        if name == wanted:
            found.append((endings.index(path.name[len(bare) :].lower()), path))
    return [path for _, path in sorted(found)]
