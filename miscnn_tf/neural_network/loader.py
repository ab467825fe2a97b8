"""Batches made ahead of time by worker threads, in an order that does not depend on the workers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from miscnn_tf.arguments import whole_number

T = TypeVar("T")


class BatchLoader(Generic[T]):
    """Calls ``fetch(epoch, step)`` ahead of the consumer, in threads, and hands the results out in order.

    Args:
        fetch: Makes one batch. It must depend on its arguments alone.
        steps: Batches per epoch.
        epochs: The epochs to go through.
        workers: Number of threads.
        queue_size: How many batches are made ahead.

    Attributes:
        waited: Seconds that the consumer spent waiting, the first batch of each stream left out.
        error: What `fetch` raised, if it did; the stream raises it too, but TensorFlow turns it into one of its own.
    """

    def __init__(
        self,
        fetch: Callable[[int, int], T],
        steps: int,
        epochs: range,
        workers: int = 1,
        queue_size: int = 2,
    ) -> None:
        self.fetch = fetch
        self.steps = steps
        self.epochs = epochs
        self.workers = whole_number(workers, "workers", least=1)
        # Batches that are being made count as queued: fewer would leave workers idle.
        self.queue_size = max(whole_number(queue_size, "batch_queue_size", least=1), self.workers)
        self.waited = 0.0
        self.error: BaseException | None = None
        self._closed = False
        self._executors: list[ThreadPoolExecutor] = []
        self._lock = threading.Lock()  # TensorFlow reads a stream in a thread of its own

    def stream(self) -> Iterator[T]:
        """All batches from the first epoch on. Each call starts anew."""
        places = ((epoch, step) for epoch in self.epochs for step in range(self.steps))
        pending: deque[Future[T]] = deque()
        executor = ThreadPoolExecutor(self.workers, thread_name_prefix="batches")
        self._executors.append(executor)

        def refill() -> None:
            with self._lock:
                while not self._closed and len(pending) < self.queue_size and (place := next(places, None)) is not None:
                    pending.append(executor.submit(self.fetch, *place))

        try:
            first = True
            refill()
            while pending and not self._closed:
                begin = time.perf_counter()
                try:
                    batch = pending.popleft().result()
                except BaseException as error:
                    if self._closed and isinstance(error, CancelledError):
                        return
                    self.error = error
                    raise
                if not first:
                    self.waited += time.perf_counter() - begin
                first = False
                # Asked for before this batch is handed over, so that making them overlaps with using it.
                refill()
                yield batch
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            self._executors.remove(executor)

    def close(self) -> None:
        """End every stream, and its threads, also where a traceback still holds the stream."""
        with self._lock:
            self._closed = True
            for executor in tuple(self._executors):
                executor.shutdown(wait=False, cancel_futures=True)
