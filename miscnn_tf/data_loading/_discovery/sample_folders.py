"""Sample folders: their detection, and the paths and names of their files for messages."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Hashable
from itertools import islice
from pathlib import Path

from miscnn_tf._base.atomic_files import inside
from miscnn_tf._base.messages import some_of
from miscnn_tf.data_loading.file_names import composed, distinct, folder_entries
from miscnn_tf.errors import ConfigurationError, DataError, MissingDataError

logger = logging.getLogger(__name__)

_LOOKED_AT = 50


def find_samples(
    input_path: str | Path, pattern: str | None, has_image: Callable[[Path], bool], image_name: str
) -> list[Hashable]:
    """Find the sample folders directly below `input_path`, and return their names, sorted.

    Files, hidden folders, folders whose name does not fully match `pattern` and folders without an image are left out.
    A folder that cannot be read counts as a sample, so that reading it reports the fault instead of leaving it out
    silently.

    Args:
        input_path: The folder of the data set.
        pattern: Regular expression that the whole folder name must match; None takes all.
        has_image: Returns whether a folder holds the image of a sample.
        image_name: Name of that file, for messages.

    Raises:
        ConfigurationError: If `pattern` is not a valid regular expression.
        MissingDataError: If the folder does not exist, or no sample in it; the message lists what was found.
    """
    root = Path(input_path)
    expression = name_expression(pattern)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise MissingDataError(f"the data folder {root} {what}; give the folder that holds one folder per sample")
    folders = [root / entry.name for entry in folder_entries(root) if _is_folder(entry)]
    matching = [path for path in folders if matches(expression, path.name)]
    samples = [path for path in matching if _may_have_image(path, has_image)]
    for path in matching:
        if path not in samples:
            logger.info("%s is not a sample: it holds no %s", path, image_name)
    if not samples:
        raise MissingDataError(_nothing(root, pattern, folders, matching, image_name, has_image(root)))
    # Sorted by name, independent of the file system's order.
    names: list[Hashable] = []
    names.extend(sorted(path.name for path in samples))
    return names


def first_image(root: Path, pattern: str | None, find_image: Callable[[Path], Path | None]) -> Path | None:
    """Return the image of the first of 50 folders in `root` that has one; folders that cannot be read are skipped.

    Args:
        root: The folder of the data set.
        pattern: Regular expression that the whole folder name must match; None takes all.
        find_image: Returns the image in a folder, or None.
    """
    expression = name_expression(pattern)
    paths = (root / entry.name for entry in folder_entries(root))
    folders = (path for path in paths if path.is_dir() and matches(expression, path.name))
    for folder in islice(folders, _LOOKED_AT):
        try:
            image = find_image(folder)
        except (DataError, OSError) as error:
            logger.debug("%s: %s", folder, error)
            continue
        if image is not None:
            return image
    return None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # for example a link to itself
        return True


def _may_have_image(folder: Path, has_image: Callable[[Path], bool]) -> bool:
    try:
        os.stat(folder)
        return has_image(folder)
    except (DataError, OSError) as error:
        logger.info("%s cannot be read, and counts as a sample: %s", folder, error)
        return True


def name_expression(pattern: str | None) -> re.Pattern[str] | None:
    """Compile `pattern`.

    Raises:
        ConfigurationError: If it is not a valid regular expression.
    """
    try:
        return None if pattern is None else re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ConfigurationError(f"pattern={pattern!r} is not a valid regular expression ({error})") from error


def matches(expression: re.Pattern[str] | None, name: str) -> bool:
    """Return True if an expression is None or matches a whole name, as on disk or in composed form."""
    return expression is None or any(expression.fullmatch(form) for form in (name, composed(name)))


def sample_folder(input_path: str | Path | None, index: Hashable, owner: object) -> Path:
    """Return the folder of a sample; the Unicode form of its name does not matter.

    Raises:
        ConfigurationError: If the interface is not initialised.
        DataError: If the index is a path outside the data folder.
        MissingDataError: If the sample does not exist.
    """
    if input_path is None:
        raise ConfigurationError(
            f"{type(owner).__name__} has not read a data folder yet: call initialize(input_path), or use Data_IO"
        )
    folder = folder_below(input_path, index)
    if not folder.is_dir():
        raise MissingDataError(f"sample {index!r} is not in {input_path}; Data_IO.get_indiceslist() lists all samples")
    return folder


def folder_below(root: str | Path, index: Hashable) -> Path:
    """Return the folder of a sample below `root`, in its spelling on disk; it need not exist.

    Raises:
        DataError: If the index is a path outside `root`.
    """
    folder = inside(root, index)
    if folder.is_dir() or not folder.parent.is_dir():
        return folder
    names = (entry.name for entry in folder_entries(folder.parent) if composed(entry.name) == composed(folder.name))
    return folder.with_name(next(names, folder.name))


def list_files(folder: Path) -> str:
    """List the files of a folder, for a message; folders that are named like files end in a slash."""
    if not folder.is_dir():
        return "nothing: the folder does not exist"
    slash = {True: "/", False: ""}
    entries = folder_entries(folder)
    return some_of(distinct([entry.name + slash["." in entry.name and entry.is_dir()] for entry in entries]))


def _nothing(
    root: Path, pattern: str | None, folders: list[Path], matching: list[Path], image_name: str, is_sample: bool
) -> str:
    if is_sample:
        return f"{root} is itself a sample (it holds the image); give the folder above it, {root.parent}"
    if not folders:
        return f"{root} holds no sample folders (found: {list_files(root)}); each sample is a folder with {image_name}"
    if not matching:
        return (
            f"pattern={pattern!r} matches none of the {len(folders)} folders in {root} "
            f"({some_of(path.name for path in folders)}); it must match the whole folder name"
        )
    return (
        f"none of the {len(matching)} folders in {root} holds {image_name}; {matching[0].name} holds "
        f"{list_files(matching[0])}. Rename the files, or choose the interface of their format"
    )
