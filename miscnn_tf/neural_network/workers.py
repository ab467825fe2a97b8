"""Machines that train one network together: how they find each other, agree, and learn that one has failed."""

from __future__ import annotations

import functools
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from miscnn_tf.cluster import Cluster
from miscnn_tf.errors import ConfigurationError, TrainingError

logger = logging.getLogger(__name__)

T = TypeVar("T")

# As many numbers as are ever told at once, and whether the worker failed: the shape of what is sent is always the same.
_COLUMNS = 8
_ADVICE = (
    "Start all workers again by the same command; with a TrainingState among the callbacks, training goes on after the "
    "last epoch that was finished"
)


def cluster_strategy(cluster: Cluster) -> tf.distribute.Strategy:
    """TensorFlow's strategy for this cluster, the same one for all networks of the process.

    It waits until all workers are there; Ctrl-C ends the program meanwhile.

    Raises:
        ConfigurationError: If TensorFlow was in use before, or this worker's port is in use.
    """
    return _strategy(cluster)


@functools.cache  # TensorFlow can set up communication once
def _strategy(cluster: Cluster) -> tf.distribute.Strategy:
    logger.info("%s: waiting until all of %s are there", cluster, ", ".join(cluster.addresses))
    try:
        with _ended_by_ctrl_c():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        if "must be configured at program startup" not in str(error):
            raise
        raise ConfigurationError(
            "TF_CONFIG is set, but TensorFlow was in use before the Neural_Network was made, and cannot connect the "
            "workers any more. Make the first Neural_Network of the program before anything else uses TensorFlow. An "
            "object of keras.metrics uses it, too: set the network's metrics afterwards, in network.hardware.scope()"
        ) from error
    except tf.errors.UnknownError as error:
        if "Could not start gRPC server" not in str(error):
            raise
        raise ConfigurationError(
            f"{cluster} cannot listen at {cluster.addresses[cluster.index]}: its port is in use, perhaps by an earlier "
            "run that has not ended. Choose another port in TF_CONFIG, the same for all workers"
        ) from error


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Ctrl-C ends the program at once: TensorFlow waits for the others, maybe for hours, without Python hearing it."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Workers:
    """The workers of a cluster, for one of them. Without a cluster all of this is done at once.

    Every worker has to make the same calls in the same order, as they wait for each other.

    Args:
        strategy: The strategy that connects them.
        cluster: Who they are; None: there is only this process.
    """

    strategy: tf.distribute.Strategy
    cluster: Cluster | None

    def from_chief(self, value: float) -> float:
        """The number that the first worker has, whatever it is here. Whole ones are exact up to 2 ** 53."""
        return float(self._table([value])[0, 0])

    def together(self, act: Callable[[], T], numbers: Callable[[], Sequence[float]] = tuple) -> tuple[T, np.ndarray]:
        """Do something that may fail on some workers only, let all of them know, and tell each other numbers.

        Args:
            act: What to do.
            numbers: What to tell when that is done; as many on each worker.

        Returns:
            What `act` returned here, and the numbers, float64 ``(workers, numbers)``.

        Raises:
            TrainingError: If it failed on another worker. Where it failed here, what it raised is raised.
        """
        try:
            result = act()
            row = [0.0, *numbers()]
        except BaseException:
            if self.cluster is not None:
                with suppress(TrainingError):  # what happened here says more
                    self._table([1.0])
            raise
        table = self._table(row)
        failed = [place for place, worker in enumerate(table) if worker[0]]
        if failed and self.cluster is not None:
            names = " and ".join(f"worker {place + 1} ({self.cluster.addresses[place]})" for place in failed)
            raise TrainingError(f"{self.cluster}: training stops, as {names} failed; its output says why. {_ADVICE}")
        return result, table[:, 1:]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """What TensorFlow says of a worker that is gone becomes a `TrainingError`."""
        try:
            yield
        except tf.errors.OpError as error:
            if self.cluster is None or not _is_about_a_worker(error):
                raise
            raise TrainingError(
                f"{self.cluster}: training stops, as another worker has ended or cannot be reached "
                f"({_first_line(error)}). Its own output says why. {_ADVICE}"
            ) from error

    def _table(self, row: Sequence[float]) -> np.ndarray:
        """The rows of all workers, each of which gives its own."""
        if self.cluster is None:
            return np.array([row], float)
        table = np.zeros((len(self.cluster.addresses), _COLUMNS))
        table[self.cluster.index, : len(row)] = row
        with self.watched():
            return np.asarray(self.strategy.reduce("SUM", tf.constant(table), axis=None))[:, : len(row)]


def _is_about_a_worker(error: tf.errors.OpError) -> bool:
    text = str(error)
    return "Collective ops is aborted" in text or isinstance(error, tf.errors.UnavailableError)


def _first_line(error: Any) -> str:
    text = str(error)
    _, found, rest = text.partition("Collective ops is aborted by: ")
    return (rest if found else text).strip().splitlines()[0]
