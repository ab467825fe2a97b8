"""Removal of known, harmless messages of TensorFlow and Keras, which users take for faults.

TensorFlow's C++ code writes lines to standard error while it starts, before its log level takes effect, or as errors
although nothing is wrong. Both libraries log advice about calls that are not the user's.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from miscnn_tf._machine.processor import NVIDIA_TRACES

#: Environment variable with TensorFlow's log level: "1" hides information, "2" warnings too. With "0" nothing is
#: removed.
LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

# The two formats: "E0000 00:00:1796094611.204767   31506 util.cc:131] oneDNN …" and
# "2026-12-01 03:05:49.123456: E tensorflow/core/util/util.cc:131] oneDNN …".
_LOGGED = r"(?:[{level}]\d{{4}} \S+ +\d+ |\d{{4}}-\d\d-\d\d \S+: [{level}] )\S+:\d+\] "
_ANY, _INFORMATION = _LOGGED.format(level="IWEF"), _LOGGED.format(level="I")
_KNOWN = (
    r"WARNING: All log messages before absl::InitializeLog\(\) is called",
    _INFORMATION,
    r"To enable the following instructions: ",  # the second line of a message about the processor
    _ANY + r"oneDNN supports DT_\w+ only on platforms with AVX-512",
    # Two copies of a library in one process, in TensorFlow's wheels with CUDA.
    _ANY + r"Unable to register cu(?:DNN|FFT|BLAS) factory",
    _ANY + r"computation placer already registered",
)
# With a driver it explains why the GPU is not used; without one there is nothing to explain.
_NO_DRIVER = _ANY + r"failed call to cuInit"

# A process, because a thread of this one would not write the last words of a crash.
_FILTER = """
import os, re, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
known = re.compile(sys.argv[1].encode())
for line in sys.stdin.buffer:
    if not known.match(line):
        os.write(2, line)
"""
_SECONDS_TO_END = 2


@contextmanager
def without_known_messages() -> Iterator[None]:
    """Remove known lines from standard error (descriptor 2) in the block; everything else is written as it comes."""
    filtering = None if os.environ.get(LOG_LEVEL) == "0" else _start_filter()
    if filtering is None:
        yield
        return
    assert filtering.stdin is not None
    _flush()
    kept = os.dup(2)
    os.dup2(filtering.stdin.fileno(), 2)
    try:
        yield
    finally:
        _flush()
        os.dup2(kept, 2)
        os.close(kept)
        filtering.stdin.close()
        # It does not end before child processes that were started in the block.
        with suppress(subprocess.TimeoutExpired):
            filtering.wait(_SECONDS_TO_END)


@contextmanager
def without_logged(logger: str, text: str) -> Iterator[None]:
    """Remove the messages of a logger that contain a text, in the block.

    Args:
        logger: Name of the logger.
        text: Part of the messages.
    """

    def passes(record: logging.LogRecord) -> bool:
        return text not in record.getMessage()

    found = logging.getLogger(logger)
    found.addFilter(passes)
    try:
        yield
    finally:
        found.removeFilter(passes)


def filter_import_of_tensorflow() -> None:
    """Remove known lines from the import of TensorFlow, whichever module imports it first.

    Information is hidden later on as well, unless the environment sets the log level.
    """
    if "tensorflow" not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _start_filter() -> subprocess.Popen[bytes] | None:
    """Start the process that writes to the current standard error; None if this is not possible."""
    # Programs that embed Python, such as web servers, may be their own `sys.executable`.
    if "python" not in os.path.basename(sys.executable or "").lower():
        return None
    known = "|".join([*_KNOWN, *([] if any(path.exists() for path in NVIDIA_TRACES) else [_NO_DRIVER])])
    try:
        os.fstat(2)
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _FILTER, known],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the program, not for its filter
        )
    except OSError:  # standard error is closed, or the system allows no other process
        return None


def _flush() -> None:
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


class _Finder(MetaPathFinder):
    """Finds TensorFlow once, like the finders after it, and has it imported in `without_known_messages`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        with suppress(ValueError):  # another thread was first
            sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader  # the module shows no trace of this one
        os.environ.setdefault(LOG_LEVEL, "1")
        with without_known_messages():
            self._loader.exec_module(module)
