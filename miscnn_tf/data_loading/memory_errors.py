"""Memory errors with the name and shape of the sample."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

from miscnn_tf.errors import MemoryBudgetError, MiscnnError


@contextmanager
def memory_for(
    index: Hashable, doing: str, shape: Sequence[int] | Callable[[], Sequence[int]] | None = None
) -> Iterator[None]:
    """Convert a ``MemoryError`` of the block to an error that names the sample.

    Args:
        index: The sample's name, or its file.
        doing: The operation, for the message: ``"reading it"``.
        shape: Its shape, or a function that returns it. The function is only called after an error, and may fail.

    Raises:
        MemoryBudgetError: Instead of a ``MemoryError``, including NumPy's. Errors of this package are not converted.

    Example:
        >>> with memory_for("case_00000", "reading it", (512, 512, 600)):
        ...     raise MemoryError
        Traceback (most recent call last):
        miscnn_tf.errors.MemoryBudgetError: sample 'case_00000' of shape (512, 512, 600): too little memory for reading it. End other programs, or take a machine with more memory or a smaller image
    """  # noqa: E501  (the message is one line)
    try:
        yield
    except MemoryError as error:
        if isinstance(error, MiscnnError):
            raise
        # NumPy's message has the requested size.
        asked = f" ({error})" if str(error) else ""
        raise MemoryBudgetError(
            f"sample {index!r}{_of_shape(shape)}: too little memory for {doing}{asked}. End other programs, or take a "
            "machine with more memory or a smaller image"
        ) from error


def _of_shape(shape: Sequence[int] | Callable[[], Sequence[int]] | None) -> str:
    try:
        return "" if shape is None else f" of shape {tuple(shape() if callable(shape) else shape)}"
    except Exception:  # the file with the shape may be damaged
        return ""
