from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miscnn_tf.processing.batches import SamplingOrder, Share


def all_items(schedule: SamplingOrder, epoch: int) -> list[int]:
    return [item for step in range(len(schedule)) for item in schedule.batch(epoch, step)]


def test_ten_samples_make_three_full_batches_of_four():
    batches = [SamplingOrder(10, 4).batch(0, step) for step in range(len(SamplingOrder(10, 4)))]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]


def test_without_filling_the_last_batch_is_smaller():
    schedule = SamplingOrder(10, 4, full=False)
    assert [len(schedule.batch(3, step)) for step in range(len(schedule))] == [4, 4, 2]


def test_batch_size_two_with_one_sample_gives_batches_of_two():
    assert SamplingOrder(1, 2).batch(0, 0) == [0, 0]


@given(st.integers(1, 40), st.integers(1, 9), st.booleans(), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_holds_every_item(items, batch_size, shuffle, seed, epoch):
    schedule = SamplingOrder(items, batch_size, shuffle=shuffle, seed=seed)
    counts = Counter(all_items(schedule, epoch))
    assert set(counts) == set(range(items))
    assert sum(counts.values()) == len(schedule) * batch_size
    assert max(counts.values()) - min(counts.values()) <= 1


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 12), st.booleans())
def test_with_iterations_items_are_used_equally_often_over_epochs(items, batch_size, iterations, shuffle):
    schedule = SamplingOrder(items, batch_size, iterations=iterations, shuffle=shuffle, seed=1)
    assert len(schedule) == iterations
    counts = Counter(item for epoch in range(6) for item in all_items(schedule, epoch))
    every = [counts.get(item, 0) for item in range(items)]
    assert max(every) - min(every) <= 1


def test_epochs_are_shuffled_differently_and_repeatably():
    schedule = SamplingOrder(50, 5, shuffle=True, seed=3)
    assert all_items(schedule, 0) != all_items(schedule, 1)
    assert all_items(schedule, 0) == all_items(SamplingOrder(50, 5, shuffle=True, seed=3), 0)
    assert all_items(schedule, 0) != all_items(SamplingOrder(50, 5, shuffle=True, seed=4), 0)


def test_generators_depend_on_epoch_step_and_place_alone():
    schedule = SamplingOrder(4, 2, seed=9)
    draws = {
        (epoch, step, place): schedule.generator(epoch, step, place).random()
        for epoch in range(2)
        for step in range(2)
        for place in range(2)
    }
    assert len(set(draws.values())) == 8
    assert schedule.generator(1, 0, 1).random() == pytest.approx(draws[1, 0, 1], abs=0)


@given(size=st.integers(0, 50), devices=st.integers(1, 9), machines=st.integers(1, 4))
def test_shares_cut_a_batch_into_parts_that_differ_by_one_at_most(size, devices, machines):
    shares = [Share(devices * machines, machine * devices, devices) for machine in range(machines)]
    parts = [part for share in shares for part in share.split(size)]
    assert [place for part in parts for place in part] == list(range(size))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [place for share in shares for place in share.places(size)] == list(range(size))
    assert Share().places(size) == range(size)
