from __future__ import annotations

import random
import threading
import time

import pytest

from miscnn_tf.neural_network.loader import BatchLoader


@pytest.mark.parametrize("workers", [1, 4])
def test_batches_come_in_order_whatever_the_workers_do(workers):
    def fetch(epoch: int, step: int) -> tuple[int, int]:
        time.sleep(random.random() / 200)
        return epoch, step

    loader = BatchLoader(fetch, steps=5, epochs=range(2, 4), workers=workers, queue_size=3)
    assert list(loader.stream()) == [(epoch, step) for epoch in (2, 3) for step in range(5)]
    # A stream can be asked for again, as Keras does.
    assert next(iter(loader.stream())) == (2, 0)


def test_never_more_than_the_queue_is_made_ahead():
    made = []
    loader = BatchLoader(lambda epoch, step: made.append(step), steps=100, epochs=range(1), queue_size=3)
    stream = loader.stream()
    for _ in range(2):
        next(stream)
    time.sleep(0.1)
    assert made == [0, 1, 2, 3, 4]
    stream.close()


def test_no_worker_is_idle_because_the_queue_is_short():
    at_once, most = [0], [0]
    lock = threading.Lock()

    def fetch(epoch: int, step: int) -> int:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.02)
        with lock:
            at_once[0] -= 1
        return step

    list(BatchLoader(fetch, steps=20, epochs=range(1), workers=4, queue_size=1).stream())
    assert most[0] == 4


def test_an_exception_reaches_the_consumer_and_is_kept():
    def fetch(epoch: int, step: int) -> int:
        if step == 2:
            raise ValueError("case_00017 is broken")
        return step

    loader = BatchLoader(fetch, steps=5, epochs=range(1))
    stream = loader.stream()
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(ValueError, match="case_00017"):
        next(stream)
    assert isinstance(loader.error, ValueError)


def test_closing_leaves_no_thread():
    before = threading.active_count()
    loader = BatchLoader(lambda epoch, step: step, steps=1000, epochs=range(1), workers=3, queue_size=8)
    stream = loader.stream()
    next(stream)
    loader.close()
    assert list(stream) == []
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_time_spent_waiting_is_counted():
    def fetch(epoch: int, step: int) -> int:
        time.sleep(0.03)
        return step

    slow = BatchLoader(fetch, steps=5, epochs=range(1), queue_size=1)
    list(slow.stream())
    # Nothing is done between the batches, so that nearly all of the time of the last four is waiting.
    assert 0.09 < slow.waited < 5
