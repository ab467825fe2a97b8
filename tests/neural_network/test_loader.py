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


@pytest.mark.parametrize(("workers", "queue_size"), [(1, 3), (2, 3), (4, 2)])
def test_exactly_the_queue_is_made_ahead_of_a_slow_consumer(workers, queue_size):
    made, done = [], threading.Semaphore(0)

    def fetch(epoch: int, step: int) -> int:
        made.append(step)
        done.release()
        return step

    stream = BatchLoader(fetch, steps=100, epochs=range(1), workers=workers, queue_size=queue_size).stream()
    for taken in (1, 2, 3):
        assert next(stream) == taken - 1
        # All that was ordered is made, though nobody asks for it; and no more was ordered.
        ahead = max(queue_size, workers)
        for _ in range(1 + ahead if taken == 1 else 1):
            assert done.acquire(timeout=30)
        assert sorted(made) == list(range(taken + ahead))
    stream.close()


def test_a_consumer_gets_what_is_made_while_the_next_batch_is_stuck():
    stuck, free = threading.Event(), threading.Event()

    def fetch(epoch: int, step: int) -> int:
        if step == 3:
            stuck.set()
            assert free.wait(30)
        return step

    stream = BatchLoader(fetch, steps=5, epochs=range(1), queue_size=3).stream()
    assert next(stream) == 0
    assert stuck.wait(30)
    assert [next(stream), next(stream)] == [1, 2]
    free.set()
    assert list(stream) == [3, 4]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_is_how_many_batches_are_made_at_once_however_short_the_queue(workers):
    together = threading.Barrier(workers)
    running, most, lock = 0, 0, threading.Lock()

    def fetch(epoch: int, step: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(30)  # fails unless so many are here at the same time
        with lock:
            running -= 1
        return step

    steps = 5 * workers
    loader = BatchLoader(fetch, steps=steps, epochs=range(1), workers=workers, queue_size=1)
    assert list(loader.stream()) == list(range(steps))
    assert most == workers


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
    # Before anybody reads on: where a callback failed, the traceback holds a stream that nobody reads.
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
    assert list(stream) == []


def test_closing_ends_a_consumer_that_waits():
    free, began = threading.Event(), threading.Event()

    def fetch(epoch: int, step: int) -> int:
        began.set()
        assert free.wait(30)
        return step

    loader = BatchLoader(fetch, steps=4, epochs=range(1), queue_size=3)
    taken: list[int] = []
    consumer = threading.Thread(target=lambda: taken.extend(loader.stream()))
    consumer.start()
    assert began.wait(30)
    loader.close()
    free.set()
    consumer.join(30)
    assert not consumer.is_alive()
    assert taken == [0]  # what was being made
    assert loader.error is None


def test_time_spent_waiting_is_counted():
    def fetch(epoch: int, step: int) -> int:
        time.sleep(0.03)
        return step

    slow = BatchLoader(fetch, steps=5, epochs=range(1), queue_size=1)
    list(slow.stream())
    # Nothing is done between the batches, so that nearly all of the time of the last four is waiting.
    assert 0.09 < slow.waited < 5
