"""Exceptions and warnings of miscnn_tf.

Every message has three parts: the fault with the received value, the file or argument, and the remedy. Each class also
derives from the built-in error that a caller would expect (``ValueError``, ``OSError``, …).
"""

from __future__ import annotations

from collections.abc import Hashable


class MiscnnError(Exception):
    """Base class of the errors of this package."""


class ConfigurationError(MiscnnError, ValueError):
    """An argument, or a combination of arguments, is invalid."""


class UnknownClassError(ConfigurationError):
    """A file names a class that is not registered, or one whose settings are not in the file."""


class DataError(MiscnnError, ValueError):
    """A file or array has invalid contents."""


class MissingDataError(DataError, FileNotFoundError):
    """A required file, folder or sample does not exist."""

    # OSError's __str__ would print "[Errno …]" for two arguments; one message is all we pass.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class GridError(DataError):
    """An image and its label map have different voxel grids."""


class LabelError(DataError):
    """A label map has values that are not classes."""


class StorageError(MiscnnError, OSError):
    """A file or folder could not be written."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class FolderInUseError(StorageError):
    """Another run is writing to the folder."""


class ModelFileError(MiscnnError, ValueError):
    """A model file is damaged, or was not written by this package."""


class MissingExtraError(MiscnnError, ImportError):
    """An optional package is missing; the message names the extra to install."""


class TrainingError(MiscnnError, RuntimeError):
    """Training cannot continue, for instance because the loss is NaN."""


class MemoryBudgetError(MiscnnError, MemoryError):
    """A computation does not fit into its memory budget."""


class ModelGroupError(ConfigurationError, RuntimeError):
    """Models cannot be combined in a group."""


class RepeatedWarning(UserWarning):
    """A warning about one file that usually applies to all files of a data set, and is shown once.

    Attributes:
        key: Equal for all warnings of which one is shown.
    """

    def __init__(self, message: str, key: Hashable) -> None:
        super().__init__(message)
        self.key = key

    def __reduce__(self) -> tuple[type[RepeatedWarning], tuple[str, Hashable]]:
        return type(self), (str(self), self.key)
