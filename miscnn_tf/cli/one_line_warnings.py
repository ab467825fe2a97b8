"""Warnings on the command line: one line each, once, and none of what libraries tell of other people's files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from miscnn_tf.errors import RepeatedWarning

logger = logging.getLogger(__name__)

# What they warn of (a date, a UID or a text that is not quite by the standard) has no bearing on the voxels.
_TALKATIVE = ("pydicom", "highdicom")


@contextmanager
def one_line_warnings(verbose: bool = False) -> Iterator[None]:
    """Show warnings of the block as one line of the log each, instead of with a line of source code.

    Args:
        verbose: Show what pydicom and highdicom warn of, too.
    """
    told: set[Hashable] = set()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, UserWarning):
            return before(message, category, *place, **more)
        text = " ".join(str(message).split())
        repeated = isinstance(message, RepeatedWarning)
        key = (category, message.key) if isinstance(message, RepeatedWarning) else text
        if key not in told:
            told.add(key)
            logger.warning("%s%s", text, " (said once; other files may be like it)" if repeated else "")

    levels = {name: logging.getLogger(name).level for name in _TALKATIVE}
    with warnings.catch_warnings():
        if not verbose:
            for name in _TALKATIVE:
                warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")
                logging.getLogger(name).setLevel(logging.ERROR)
        before = warnings.showwarning
        warnings.showwarning = show
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
