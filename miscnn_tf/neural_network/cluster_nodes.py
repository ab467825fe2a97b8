"""Communication of machines that train one network together.

These workers are processes on cluster nodes. Loader threads, whose number is the argument ``workers`` of
`Neural_Network`, are in `data_generator`.
"""

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

from miscnn_tf._machine.tf_config import TF_CONFIG, Cluster
from miscnn_tf.errors import ConfigurationError, TrainingError

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Largest number of values in a message, with the flag of failure; all messages have this shape.
_COLUMNS = 8
_ADVICE = (
    "Start all workers again with the same command; with a TrainingState among the callbacks, training continues after "
    "the last finished epoch"
)


def cluster_strategy(cluster: Cluster) -> tf.distribute.Strategy:
    """Return TensorFlow's strategy for this cluster, the same one for all networks of the process.

    It waits until all workers are connected. Ctrl-C ends the program meanwhile.

    Raises:
        ConfigurationError: If TensorFlow was in use before, or this worker's port is in use.
    """
    return _strategy(cluster)


@functools.cache  # TensorFlow can set up communication only once
def _strategy(cluster: Cluster) -> tf.distribute.Strategy:
    logger.info("%s: waiting until all of %s are there", cluster, ", ".join(cluster.addresses))
    try:
        with _ended_by_ctrl_c():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        if "must be configured at program startup" not in str(error):
            raise
        raise ConfigurationError(
            f"{TF_CONFIG} is set, but TensorFlow was in use before the Neural_Network was made, and cannot connect the "
            "workers any more. Make the first Neural_Network of the program before anything else uses TensorFlow. "
            "Objects of keras.metrics use it, too: set the network's metrics afterwards, in network.hardware.scope()"
        ) from error
    except tf.errors.UnknownError as error:
        if "Could not start gRPC server" not in str(error):
            raise
        raise ConfigurationError(
            f"{cluster} cannot listen at {cluster.addresses[cluster.index]}: its port is in use, perhaps by an earlier "
            f"run that is still active. Choose another port in the {TF_CONFIG} of all workers"
        ) from error


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Make Ctrl-C end the program at once, since Python does not receive it while TensorFlow waits."""
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
    """Workers of a cluster, from the view of one of them; without a cluster no method waits.

    All workers must make the same calls in the same order, because they wait for each other.

    Args:
        strategy: The strategy that connects them.
        cluster: Their addresses; None for a single process.
    """

    strategy: tf.distribute.Strategy
    cluster: Cluster | None

    def from_chief(self, value: float) -> float:
        """Return the first worker's value; integers are exact up to 2 ** 53."""
        return float(self._table([value])[0, 0])

    def together(self, act: Callable[[], T], numbers: Callable[[], Sequence[float]] = tuple) -> tuple[T, np.ndarray]:
        """Call a function that may fail on some workers, and exchange its success and numbers with all workers.

        Args:
            act: The function.
            numbers: Returns the numbers of this worker, after `act`; each worker has as many.

        Returns:
            The return value of `act`, and the numbers of all workers, float64 ``(workers, numbers)``.

        Raises:
            TrainingError: If it failed on another worker. Its own error is raised if it failed on this one.
        """
        try:
            result = act()
            row = [0.0, *numbers()]
        except BaseException:
            if self.cluster is not None:
                with suppress(TrainingError):  # the error of this worker is clearer
                    self._table([1.0])
            raise
        table = self._table(row)
        failed = [place for place, worker in enumerate(table) if worker[0]]
        if failed and self.cluster is not None:
            names = " and ".join(f"worker {place + 1} ({self.cluster.addresses[place]})" for place in failed)
            raise TrainingError(f"{self.cluster}: training stops, as {names} failed; see its output. {_ADVICE}")
        return result, table[:, 1:]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Convert TensorFlow's errors about a lost worker to a `TrainingError`."""
        try:
            yield
        except tf.errors.OpError as error:
            if self.cluster is None or not _is_about_a_worker(error):
                raise
            raise TrainingError(
                f"{self.cluster}: training stops, as another worker has ended or cannot be reached "
                f"({_first_line(error)}). See its output. {_ADVICE}"
            ) from error

    def _table(self, row: Sequence[float]) -> np.ndarray:
        """Return the rows of all workers."""
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
