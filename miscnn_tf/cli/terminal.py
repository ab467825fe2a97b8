"""Standard streams, warnings and start-up messages of the command line."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import warnings
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from miscnn_tf.errors import RepeatedWarning

_MODES = {"stdin": os.O_RDONLY, "stdout": os.O_WRONLY, "stderr": os.O_WRONLY}
# Errors of a pipe without a reader, and of a closed terminal.
_READER_GONE = (errno.EPIPE, errno.EIO)
logger = logging.getLogger(__name__)
# Their warnings (dates, UIDs or text that violate the standard) do not concern the voxels.
_VERBOSE = ("pydicom", "highdicom")


@contextmanager
def reliable_streams() -> Iterator[None]:
    """Make all three standard streams usable in the block.

    A closed stream (``2>&-``, ``pythonw``) is replaced by the null device. This must be the first step of a program:
    otherwise the next file that it opens, such as a result, gets descriptor 1 or 2, and native libraries write their
    messages into it. Output to a pipe whose reader has ended (``| head -1``) is dropped.
    """
    _open_closed()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _unbreakable(sys.stdout), _unbreakable(sys.stderr)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # already reported, or closed by the block
                stream.flush()
        sys.stdout, sys.stderr = before


def _open_closed() -> None:
    for number, (name, mode) in enumerate(_MODES.items()):
        if getattr(sys, name) is not None:
            continue
        descriptor = os.open(os.devnull, mode)
        if descriptor != number:
            try:
                os.fstat(number)
            except OSError:  # the descriptor is free
                os.dup2(descriptor, number)
                os.close(descriptor)
                descriptor = number
        os.set_inheritable(descriptor, True)
        opened = os.fdopen(descriptor, "r" if mode == os.O_RDONLY else "w", encoding="utf-8", closefd=False)
        setattr(sys, name, opened)


class _Unbreakable(io.FileIO):
    """File that becomes the null device when its reader has ended."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            if error.errno not in _READER_GONE:
                raise
        # Replace the descriptor itself, since native code and child processes write to it, too.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        return super().write(data)  # type: ignore[arg-type]


def _unbreakable(stream: TextIO) -> TextIO:
    """Return an unbreakable stream of the same file; the stream itself if it has no file, as in notebooks and tests."""
    if type(stream) is not io.TextIOWrapper or stream not in (sys.__stdout__, sys.__stderr__):
        return stream
    stream.flush()
    raw: Any = _Unbreakable(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),  # python -u has no buffer
        encoding=stream.encoding,
        errors="backslashreplace" if stream.errors == "strict" else stream.errors,  # file names may not be valid UTF-8
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def start_tensorflow() -> None:
    """Import TensorFlow, which takes seconds."""
    if "tensorflow" not in sys.modules:
        print("Starting TensorFlow …", flush=True)
    from miscnn_tf.neural_network import hardware  # noqa: F401 - imports TensorFlow without its messages


def forgive_encoding() -> None:
    """Print question marks for characters that standard output cannot encode, such as bars and lines."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextmanager
def one_line_warnings(verbose: bool = False) -> Iterator[None]:
    """Log warnings of the block in one line each, without a line of source code.

    Args:
        verbose: Also show warnings of pydicom and highdicom.
    """
    logged: set[Hashable] = set()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, UserWarning):
            return before(message, category, *place, **more)
        text = " ".join(str(message).split())
        repeated = isinstance(message, RepeatedWarning)
        key = (category, message.key) if isinstance(message, RepeatedWarning) else text
        if key not in logged:
            logged.add(key)
            logger.warning("%s%s", text, " (shown once; it may apply to other files)" if repeated else "")

    levels = {name: logging.getLogger(name).level for name in _VERBOSE}
    with warnings.catch_warnings():
        if not verbose:
            for name in _VERBOSE:
                warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")
                logging.getLogger(name).setLevel(logging.ERROR)
        before = warnings.showwarning
        warnings.showwarning = show
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
