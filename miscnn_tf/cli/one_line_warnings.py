"""Warnings on the command line: one line each, once, without those of DICOM libraries."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from miscnn_tf.errors import RepeatedWarning

logger = logging.getLogger(__name__)

# Their warnings (dates, UIDs or text that violate the standard) do not concern the voxels.
_VERBOSE = ("pydicom", "highdicom")


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
