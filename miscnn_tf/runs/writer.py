"""Writing of the files of a run by one of several cluster nodes that train together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from miscnn_tf._machine.tf_config import read_cluster
from miscnn_tf.runs.folder_lock import locked_folder

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Together(Protocol):
    """Run something that may fail on some nodes only, report a failure on all, and exchange numbers."""

    def __call__(self, act: Callable[[], T], numbers: Callable[[], Sequence[float]] = ...) -> tuple[T, np.ndarray]:
        """Return the result of `act` on this node, and the numbers of all nodes."""


class Writer:
    """Process that changes the files of a run: this one, or the first of several cluster nodes.

    A run creates one. On the other nodes it changes nothing: `write` and `locked` only wait for the first one,
    so that all nodes must call them in the same order.

    Args:
        together: The connection of the nodes; None for a model that trains in one process.

    Attributes:
        is_chief: True if this process writes.
        is_alone: True if there are no other nodes.
    """

    def __init__(self, together: Together | None = None) -> None:
        self._cluster = read_cluster()
        self.is_alone = self._cluster is None
        self.is_chief = self._cluster is None or self._cluster.is_chief
        self._together = together or _alone

    def write(self, act: Callable[[], T], *, wait: bool = True) -> T | None:
        """Change files on the first node.

        Args:
            act: Changes the files.
            wait: Let the other nodes wait until the files are changed.

        Returns:
            The result of `act`; None on the other nodes.

        Raises:
            TrainingError: If it failed on another node. An error on this node is raised unchanged.
        """

        def act_if_chief() -> T | None:
            return act() if self.is_chief else None

        return self._together(act_if_chief)[0] if wait else act_if_chief()

    def write_file(self, path: str | Path, act: Callable[[], object]) -> None:
        """Write one file or folder on the first node; the other nodes log who writes it, and do not wait.

        Args:
            path: The file or folder, for the log.
            act: Writes it.
        """
        if self.is_chief:
            act()
        else:
            logger.info("%s: %s is written by the first worker", self._cluster, path)

    @contextmanager
    def locked(self, folder: str | Path) -> Iterator[None]:
        """Hold the lock on a folder, on the first node only.

        Args:
            folder: The folder; created if missing.

        Raises:
            FolderInUseError: If another run holds the lock; a TrainingError on the other nodes.
        """
        with ExitStack() as stack:
            self.write(lambda: stack.enter_context(locked_folder(folder)))
            yield

    def agree(self, find: Callable[[], T | None]) -> tuple[T | None, bool]:
        """Look for something on all nodes.

        Args:
            find: Returns what it found on this node, or None.

        Returns:
            What was found on this node, and True if it was found on all nodes or on none.
        """
        result, _ = self._together(find)
        _, found = self._together(lambda: None, lambda: [result is not None])
        return result, bool(found.all() or not found.any())


def _alone(act: Callable[[], T], numbers: Callable[[], Sequence[float]] = tuple) -> tuple[T, np.ndarray]:
    return act(), np.array([numbers()])
