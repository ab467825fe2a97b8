"""Atomic writing of files, restricted to a folder."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path

from miscnn_tf.errors import DataError, MiscnnError, StorageError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary file name beside `path`, which is renamed to `path` when the block ends without an error.

    The folder is created. The temporary name keeps the file's ending, by which libraries choose the format. A previous
    file at `path` is kept until the new one is complete. Errors that do not concern the new file (of reading another
    one, for instance) are passed on unchanged.

    Raises:
        StorageError: If the folder or file cannot be written (no permission, no space, a file in the folder's place).

    Example:
        >>> with atomic_path("predictions/case_00000.nii.gz") as temporary:  # doctest: +SKIP
        ...     nibabel.save(image, temporary)
    """
    path = Path(path)
    # Names may have at most 255 bytes, so only the end of a long one is kept.
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name[-40:]}")
    make_folder(path.parent)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if isinstance(error, MiscnnError) or _elsewhere(error, path.parent):
            raise
        raise StorageError(
            f"could not write {path}: {error.strerror or error}. Free space there: {_free_space(path.parent)}. Files "
            "written before are complete; choose another folder, or make room and run again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: str | Path) -> Path:
    """Create `folder` and its parents where missing, and return it.

    Raises:
        StorageError: If it cannot be created, or is not writable.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"could not create the folder {folder}: {error.strerror or error}; choose another"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(f"the folder {folder} is not writable; choose another, or change its permissions")
    return folder


def inside(root: str | Path, index: Hashable, suffix: str = "") -> Path:
    """Return the path of `index` below `root`.

    Raises:
        DataError: If the index is empty, absolute, or outside `root` (``..``).

    Example:
        >>> inside("predictions", "case_00000", ".nii.gz").as_posix()
        'predictions/case_00000.nii.gz'
    """
    name = str(index)
    relative = Path(name)
    windows_drive = len(name) > 1 and name[1] == ":" and name[0].isalpha() and name[2:3] in ("\\", "/")
    if (
        not name.strip()
        or relative.is_absolute()
        or ".." in relative.parts
        or "\\" in name
        or "\0" in name
        or windows_drive
        or relative == Path(".")
    ):
        raise DataError(
            f"the sample index {name!r} cannot be a file name below {root}: it is empty, absolute or contains '..' "
            "or a backslash; rename the sample"
        )
    # Normalised, since "a/" and a suffix would otherwise become a file without a name in a folder "a".
    return Path(root) / (str(relative) + suffix)


def _elsewhere(error: OSError, folder: Path) -> bool:
    """Return True if an error names a file that is not in `folder`."""
    name = error.filename
    if not isinstance(name, str | os.PathLike):
        return False
    return not Path(os.path.abspath(name)).is_relative_to(os.path.abspath(folder))


def _free_space(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 2**20:.0f} MB"
    except OSError:
        return "unknown"
