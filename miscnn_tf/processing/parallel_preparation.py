"""Prepare samples several at a time, in threads or processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_all_start_methods, get_context
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from tqdm import tqdm

from miscnn_tf._base.arguments import whole_number
from miscnn_tf.data_loading.data_io import Data_IO
from miscnn_tf.data_loading.sample import Sample
from miscnn_tf.errors import DataError
from miscnn_tf.processing.preparation import prepare_in_worker, prepare_sample, start_worker
from miscnn_tf.processing.previous_segmentations import PreviousSegmentations
from miscnn_tf.processing.subfunctions.abstract_subfunction import Abstract_Subfunction

T = TypeVar("T")


def prepare_in_parallel(
    indices: Sequence[Hashable],
    data_io: Data_IO,
    subfunctions: Sequence[Abstract_Subfunction],
    training: bool,
    keep: Callable[[Hashable, Callable[[], Sample]], T],
    threads: int,
    use_processes: bool,
    previous_stage: PreviousSegmentations | None = None,
) -> list[T]:
    """Prepare samples several at a time, with a progress bar.

    Args:
        indices: Names of the samples.
        data_io: Source of the samples.
        subfunctions: The steps.
        training: Whether to load and process label maps.
        keep: Called in a thread with the name of a sample, and a function that prepares it.
        threads: Number of samples at a time.
        use_processes: Whether to prepare them in processes.
        previous_stage: The segmentations that the previous stage of a cascade made.

    Returns:
        The results of `keep`, in the order of the names.

    Raises:
        DataError: If a process was killed.
    """
    with _executors(data_io, subfunctions, previous_stage, threads, use_processes) as (readers, processes):

        def prepare(index: Hashable) -> T:
            def make() -> Sample:
                if processes is None:
                    return prepare_sample(data_io, subfunctions, index, training, previous_stage=previous_stage)
                try:
                    return processes.submit(prepare_in_worker, index, training).result()
                except BrokenProcessPool as error:
                    raise DataError(
                        f"a process that prepared samples was killed, with sample {index!r} or another one, or "
                        "could not start. Causes are a class that is defined in a notebook, a script without "
                        'if __name__ == "__main__":, or too little memory: set use_multiprocessing=False, or lower '
                        f"mp_threads (now {threads})"
                    ) from error

            return keep(index, make)

        kept: list[T] = []
        futures: list[Future[T]] = [readers.submit(prepare, index) for index in dict.fromkeys(indices)]
        try:
            # A bar that disappears at once is noise.
            for future in tqdm(futures, desc="Preparing samples", unit="sample", delay=1.0):
                kept.append(future.result())
        finally:
            for future in futures:
                future.cancel()
    return kept


@contextmanager
def _executors(
    data_io: Data_IO,
    subfunctions: Sequence[Abstract_Subfunction],
    previous_stage: PreviousSegmentations | None,
    number: int,
    use_processes: bool,
) -> Iterator[tuple[Executor, Executor | None]]:
    # More than there are processors would not be faster, but need more memory.
    number = min(whole_number(number, "mp_threads", least=1), os.cpu_count() or 1)
    with _prepare_threads(number) as threads:
        if not use_processes:
            yield threads, None
            return
        # Not fork: TensorFlow's threads do not survive it.
        context = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
        theirs, ours = context.Pipe(duplex=False)
        job = (data_io, subfunctions, previous_stage, theirs)
        with theirs, ours, ProcessPoolExecutor(number, context, start_worker, job) as processes:
            try:
                yield threads, processes
            finally:
                # The results are not needed any more. If a process was killed while it took a task, the others would
                # wait forever for its lock, and the executor for them.
                ours.close()


@contextmanager
def _prepare_threads(number: int) -> Iterator[Executor]:
    threads = DaemonThreads(number, "prepare")
    try:
        yield threads
    except Exception:
        threads.shutdown()
        raise
    except BaseException:  # after Ctrl-C the results are not needed
        threads.shutdown(wait=False, cancel_futures=True)
        raise
    else:
        threads.shutdown()


class DaemonThreads(Executor):
    """Executor like ``ThreadPoolExecutor``, but with daemon threads.

    At exit, also after Ctrl-C, Python waits for the threads of a ``ThreadPoolExecutor``. Each may take up to a minute
    to read or resample a sample, whose result is not needed any more.

    Args:
        number: Number of threads.
        name: Prefix of their names.

    Example:
        >>> with DaemonThreads(2, "reader") as threads:
        ...     threads.submit(abs, -3).result()
        3
    """

    def __init__(self, number: int, name: str) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._threads = [
            threading.Thread(target=_work, args=(self._jobs,), name=f"{name}_{place}", daemon=True)
            for place in range(number)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., T], /, *args: Any, **arguments: Any) -> Future[T]:
        """Call a function in one of the threads.

        Raises:
            RuntimeError: After `shutdown`.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._jobs.put((future, partial(function, *args, **arguments)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads as soon as they are done.

        Args:
            wait: Whether to wait until they have ended.
            cancel_futures: Whether to cancel calls that have not started.
        """
        with self._lock:
            if cancel_futures:
                self._cancel()
            if not self._closed:
                self._closed = True
                for _ in self._threads:
                    self._jobs.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _cancel(self) -> None:
        ends = 0
        try:
            while True:
                job = self._jobs.get_nowait()
                if job is None:
                    ends += 1
                else:
                    job[0].cancel()
        except Empty:
            for _ in range(ends):
                self._jobs.put(None)


def _work(jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    while (job := jobs.get()) is not None:
        future, call = job
        if future.set_running_or_notify_cancel():
            try:
                result = call()
            except BaseException as error:  # raised by Future.result()
                future.set_exception(error)
            else:
                future.set_result(result)
                del result  # otherwise it stays in memory until the next call returns
        del job, future, call
