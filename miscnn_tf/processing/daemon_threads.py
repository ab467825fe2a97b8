"""Thread pool that does not delay the exit of the program."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class DaemonThreads(Executor):
    """Executor like ``ThreadPoolExecutor``, but with daemon threads.

    At exit, also after Ctrl-C, Python waits for the threads of a ``ThreadPoolExecutor``. Each may take up to a minute
    to read or resample a sample that is no longer needed.

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
        """End the threads after their current calls.

        Args:
            wait: Wait until they have ended.
            cancel_futures: Cancel calls that have not started.
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
