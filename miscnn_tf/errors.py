"""The errors that miscnn_tf raises on purpose.

Every message says what is wrong, in which file or argument, and what to do about it. Each class also
derives from the built-in error that a caller would expect (``ValueError``, ``OSError``, …), so that scripts
which catch those keep working.
"""

from __future__ import annotations

from collections.abc import Hashable


class MiscnnError(Exception):
    """Base of all errors raised on purpose by this package."""


class ConfigurationError(MiscnnError, ValueError):
    """An argument, or a combination of arguments, cannot work."""


class UnknownClassError(ConfigurationError):
    """A file names a class of the user's own that is not registered here, or needs settings that it does not hold."""


class DataError(MiscnnError, ValueError):
    """A file or array holds something that cannot be used; the message names it."""


class MissingDataError(DataError, FileNotFoundError):
    """A file, folder or sample that is needed does not exist."""

    # OSError's __str__ would print "[Errno …]" for two arguments; one message is all we pass.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class GridError(DataError):
    """An image and its label map do not lie on one grid of voxels."""


class LabelError(DataError):
    """A label map holds values that are no classes."""


class StorageError(MiscnnError, OSError):
    """Something could not be written: no space, no permission, not a folder."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class FolderInUseError(StorageError):
    """Another run writes into the folder."""


class ModelFileError(MiscnnError, ValueError):
    """A model file is damaged, or was not written by this package."""


class MissingExtraError(MiscnnError, ImportError):
    """An optional package is missing; the message names the extra to install."""


class TrainingError(MiscnnError, RuntimeError):
    """Training cannot go on, for instance because the loss is no longer a number."""


class MemoryBudgetError(MiscnnError, MemoryError):
    """Something does not fit into the memory that it may take."""


class ModelGroupError(ConfigurationError, RuntimeError):
    """Models that cannot work together in a group."""


class RepeatedWarning(UserWarning):
    """A warning of one file that mostly holds for all files of a data set, and need not be told for each.

    Attributes:
        key: The same for all files of which the same is told.
    """

    def __init__(self, message: str, key: Hashable) -> None:
        super().__init__(message)
        self.key = key

    def __reduce__(self) -> tuple[type[RepeatedWarning], tuple[str, Hashable]]:
        return type(self), (str(self), self.key)
