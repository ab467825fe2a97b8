from __future__ import annotations

import random
import threading
import time

import numpy as np
import pytest

from miscnn_tf.neural_network.data_generator import BatchLoader, DataGenerator
from miscnn_tf.processing.batches import Share
from miscnn_tf.processing.data_augmentation import Data_Augmentation
from miscnn_tf.processing.preprocessor import Preprocessor


def preprocessor_for(io, **arguments):
    return Preprocessor(io, **{"batch_size": 4, "patch_shape": (8, 8, 8), "seed": 5, **arguments})


def test_ten_samples_at_batch_size_four_make_three_full_batches(toy_io):
    io = toy_io(cases=10)
    batches = DataGenerator(io.get_indiceslist(), preprocessor_for(io), training=True)
    assert len(batches) == 3
    assert [images.shape[0] for images, _ in batches] == [4, 4, 4]
    assert batches[0][1].shape == (4, 8, 8, 8, 2)
    assert batches[0][1].dtype == np.float32
    assert batches.names(0, 2) == ["case_8", "case_9", "case_0", "case_1"]


def test_every_patch_of_the_grid_comes_through_the_queue(toy_io):
    """Defect: with the default batch queue an epoch of 5 batches saw 2 of 10 samples, 10 of 80 patches."""
    io = toy_io(shape=(16, 16, 16), cases=10)
    preprocessor = preprocessor_for(io, analysis="patchwise-grid", data_aug=None)
    batches = DataGenerator(io.get_indiceslist(), preprocessor, training=True, shuffle=True)
    stream = BatchLoader(batches.batch, len(batches), range(1), workers=2, queue_size=2).stream()
    assert len({image.tobytes() for images, _ in stream for image in images}) == 80


def test_cycles_lengthen_the_epoch_and_iterations_set_it(toy_io):
    io = toy_io(cases=5)
    twice = preprocessor_for(io, data_aug=Data_Augmentation(cycles=2))
    assert len(DataGenerator(io.get_indiceslist(), twice, training=True)) == 3
    assert len(DataGenerator(io.get_indiceslist(), twice, training=True, iterations=7)) == 7


def test_batch_size_two_with_one_sample_gives_two(toy_io):
    """Defect: batches of 1, silently."""
    io = toy_io(cases=1)
    batches = DataGenerator(["case_0"], preprocessor_for(io, batch_size=2), training=True)
    assert batches[0][0].shape[0] == 2


def test_prediction_batches_are_images_alone_each_samples_own(toy_io):
    io = toy_io(shape=(16, 16, 16), cases=2)
    batches = DataGenerator(io.get_indiceslist(), preprocessor_for(io, batch_size=5))
    assert [batch.shape for batch in batches] == [(5, 8, 8, 8, 1), (3, 8, 8, 8, 1)] * 2


def test_a_sequence_can_be_iterated_twice_and_epochs_differ(toy_io):
    io = toy_io(cases=4)
    batches = DataGenerator(io.get_indiceslist(), preprocessor_for(io), training=True, shuffle=True)
    first, again = [[images for images, _ in batches] for _ in range(2)]
    np.testing.assert_array_equal(first[0], again[0])
    batches.on_epoch_end()
    assert not np.array_equal(first[0], batches[0][0])


def test_validation_is_the_same_in_every_epoch_and_counts_each_sample_once(toy_io):
    io = toy_io(cases=5)
    batches = DataGenerator(io.get_indiceslist(), preprocessor_for(io), validation=True)
    assert [images.shape[0] for images, _ in batches] == [4, 1]
    before = batches[0]
    batches.on_epoch_end()
    np.testing.assert_array_equal(before[0], batches[0][0])


def test_validation_is_not_augmented(toy_io):
    io = toy_io(cases=2, shape=(8, 8, 8))
    augmentation = Data_Augmentation(mirror=True)
    augmentation.config_p_per_sample = 1.0
    batches = DataGenerator(
        io.get_indiceslist(), preprocessor_for(io, batch_size=1, data_aug=augmentation), validation=True
    )
    np.testing.assert_array_equal(batches[0][0][0], io.sample_loader("case_0").img_data)


@pytest.mark.parametrize("analysis", ["patchwise-crop", "patchwise-grid"])
def test_the_same_seed_gives_the_same_batches_with_any_number_of_workers(toy_io, analysis):
    def epoch_batches(workers):
        io = toy_io(cases=6, shape=(16, 16, 8))
        preprocessor = preprocessor_for(
            io, analysis=analysis, data_aug=Data_Augmentation(elastic_deform=True, mirror=True)
        )
        batches = DataGenerator(io.get_indiceslist(), preprocessor, training=True, shuffle=True, labels=True)
        return list(BatchLoader(batches.batch, len(batches), range(2), workers, queue_size=4).stream())

    one = epoch_batches(1)
    assert len(one) > 3
    for workers in (2, 4):
        for first, second in zip(one, epoch_batches(workers), strict=True):
            np.testing.assert_array_equal(first[0], second[0])
            np.testing.assert_array_equal(first[1], second[1])
    another = preprocessor_for(toy_io(cases=6, shape=(16, 16, 8)), analysis=analysis)
    another.seed = 6
    other = DataGenerator([f"case_{i}" for i in range(6)], another, training=True, shuffle=True, labels=True)[0]
    assert not np.array_equal(one[0][0], other[0])


def test_batches_made_beforehand_are_frozen_and_on_disk(toy_io, tmp_path):
    io = toy_io(cases=4)
    batches = DataGenerator(io.get_indiceslist(), preprocessor_for(io, prepare_batches=True), training=True)
    before = batches[0]
    batches.on_epoch_end()
    np.testing.assert_array_equal(before[0], batches[0][0])
    np.testing.assert_array_equal(before[1], batches[0][1])
    assert len(list((tmp_path / "batches").glob(f"{io.seed}.batch_img.*.npz"))) == 1
    with pytest.raises(IndexError):
        batches[1]


def test_batches_on_disk_serve_every_sample_and_every_generator_its_own(toy_io, tmp_path):
    io = toy_io(cases=6)
    preprocessor = preprocessor_for(io, batch_size=1, prepare_batches=True, data_aug=None)
    first = DataGenerator(io.get_indiceslist(), preprocessor, training=True, iterations=2)
    second = DataGenerator(["case_5"], preprocessor, training=True)
    assert len(first) == 2
    seen = [first.names(epoch, step)[0] for epoch in range(3) for step in range(2)]
    assert seen == io.get_indiceslist()
    assert not np.array_equal(first.batch(0, 0)[0], second.batch(0, 0)[0])
    np.testing.assert_array_equal(first.batch(0, 0)[0], first.batch(3, 0)[0])
    first.remove_batches()
    second.batch(0, 0)
    second.remove_batches()
    assert not (tmp_path / "batches").exists()


def test_the_queue_is_not_shared(toy_io):
    """Defect: the image queue was one for all instances."""
    io = toy_io(cases=4)
    first = DataGenerator(["case_0"], preprocessor_for(io, batch_size=1, data_aug=None), validation=True)
    second = DataGenerator(["case_1"], preprocessor_for(io, batch_size=1, data_aug=None), validation=True)
    image, other = first[0][0], second[0][0]
    np.testing.assert_array_equal(image, first[0][0])
    assert not np.array_equal(image, other)


@pytest.mark.parametrize("arguments", [{"training": True, "shuffle": True}, {"validation": True}])
@pytest.mark.parametrize("on_disk", [False, True])
def test_shares_of_several_machines_are_the_batch_of_one(toy_io, arguments, on_disk):
    """Six samples, batches of four; in validation the last one holds two, for three machines."""
    io = toy_io(cases=6)
    preprocessor = preprocessor_for(io, prepare_batches=on_disk)
    names = io.get_indiceslist()
    whole = DataGenerator(names, preprocessor, labels=True, **arguments)
    shares = [
        DataGenerator(names, preprocessor, labels=True, share=Share(of=3, first=first), **arguments)
        for first in range(3)
    ]
    for step in range(len(whole)):
        parts = [share.batch(0, step) for share in shares]
        assert [share.names(0, step) for share in shares] == [whole.names(0, step)] * 3
        for one, pieces in zip(whole.batch(0, step), zip(*parts, strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(pieces), one)
    assert [len(share.batch(0, 1)[0]) for share in shares] == ([2, 1, 1] if "training" in arguments else [1, 1, 0])
    for each in (whole, *shares):
        each.remove_batches()


# ---------------------------------------------------------------- made ahead by threads


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
