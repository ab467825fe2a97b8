"""Drawn voxels and patches: where they lie, and that each is as likely as it should be."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from batchgenerators.augmentations.utils import pad_nd_image
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, hypergeom

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.patching import grid
from miscnn_tf.processing.patching.grid import class_locations, draw_start
from miscnn_tf.processing.patching.region import read_region

# The seeds are fixed, so that these tests either always pass or never do.
UNLIKELY = 1e-3


@given(
    st.integers(2, 3),
    st.permutations([0, 1, 2]),
    st.integers(1, 30),
    st.sampled_from([np.uint8, np.int16, np.int32]),
    st.integers(0, 99),
)
@settings(deadline=None)
def test_each_class_gives_up_to_limit_different_voxels_of_its_own(axes, order, limit, dtype, seed):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 5, (7, 6, 5)[:axes]).astype(dtype)
    labels[labels == 3] = 0
    # The same label map in another memory order.
    order = [axis for axis in order if axis < axes]
    labels = np.ascontiguousarray(labels.transpose(order)).transpose(np.argsort(order))
    found = class_locations(labels, 5, generator, limit)
    assert found.dtype == np.int32
    assert found.shape[1] == 1 + axes
    for number in range(1, 5):
        rows = found[found[:, 0] == number, 1:]
        assert len(rows) == min(limit, np.count_nonzero(labels == number))
        assert len(np.unique(rows, axis=0)) == len(rows)
        assert np.all(labels[tuple(rows.T)] == number)
    assert np.all(np.diff(found[:, 0]) >= 0)


def test_few_voxels_are_listed_completely():
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[1, 2, 3:6] = 2
    labels[4, 5, 6] = 1
    found = class_locations(labels, 4, np.random.default_rng(0))
    expected = np.concatenate([np.insert(np.argwhere(labels == number), 0, number, axis=1) for number in (1, 2, 3)])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("chunk", [1, 30, 2**20])
def test_every_voxel_is_drawn_equally_often(monkeypatch, chunk):
    monkeypatch.setattr(grid, "CHUNK_VOXELS", chunk)
    labels = np.zeros((10, 10), np.uint8, order="F")
    labels[2:9, 1:9] = 1
    labels[0] = 2
    generator = np.random.default_rng(5)
    times = np.zeros((3, 10, 10))
    rounds, limit = 2000, 7
    for _ in range(rounds):
        found = class_locations(labels, 3, generator, limit)
        np.add.at(times, tuple(found.T), 1)
    for number in (1, 2):
        drawn = times[number][labels == number]
        assert drawn.sum() == rounds * limit
        # Without replacement the counts vary less than a multinomial's, by this factor.
        size = np.count_nonzero(labels == number)
        statistic = chisquare(drawn).statistic * (size - 1) / (size - limit)
        degrees = size - 1
        assert abs(statistic - degrees) < 4 * np.sqrt(2 * degrees)


def test_subsets_are_uniform_over_chunks(monkeypatch):
    """How many of the drawn voxels fall into the first chunk follows the hypergeometric distribution."""
    monkeypatch.setattr(grid, "CHUNK_VOXELS", 1)
    labels = np.ones((4, 5), np.uint8)
    generator = np.random.default_rng(6)
    rounds = 2000
    firsts = [np.count_nonzero(class_locations(labels, 2, generator, 6)[:, 1] == 0) for _ in range(rounds)]
    observed = np.bincount(firsts, minlength=6)
    expected = rounds * hypergeom(20, 5, 6).pmf(np.arange(6))
    common = expected > 5
    observed = np.append(observed[common], observed[~common].sum())
    expected = np.append(expected[common], expected[~common].sum())
    assert chisquare(observed, expected).pvalue > UNLIKELY


def test_no_foreground_gives_no_rows():
    """Defect "skip blanks": raises where a sample has no foreground."""
    assert class_locations(np.zeros((4, 4, 4), np.uint8), 3, np.random.default_rng(0)).shape == (0, 4)
    assert class_locations(np.zeros((0, 4), np.uint8), 3, np.random.default_rng(0)).shape == (0, 3)
    assert class_locations(np.ones((4, 4), bool), 1, np.random.default_rng(0)).shape == (0, 3)


def test_labels_that_are_no_class_are_left_out():
    labels = np.array([[-1, 0, 1, 2, 99]], np.int64)
    assert class_locations(labels, 3, np.random.default_rng(0)).tolist() == [[1, 0, 2], [2, 0, 3]]


def test_the_seed_decides():
    labels = np.random.default_rng(0).integers(0, 3, (20, 20, 20)).astype(np.uint8)
    first, again, other = (class_locations(labels, 3, np.random.default_rng(seed), 50) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_stays_far_below_the_volume_size(order):
    labels = np.zeros((160, 256, 256), np.uint8, order=order)
    labels[40:120, 64:192, 64:192] = 1
    labels[60:64, 100:104, 100:104] = 2
    tracemalloc.start()
    found = class_locations(labels, 3, np.random.default_rng(0), limit=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 164
    # A list of the foreground's voxels alone would take 10 MB as flat numbers, 30 MB as argwhere gives it.
    assert peak < labels.nbytes / 2


def test_wrong_labels_and_limit_are_refused():
    with pytest.raises(ConfigurationError, match=r"labels must be integers.*float"):
        class_locations(np.zeros((3, 3)), 2, np.random.default_rng(0))
    with pytest.raises(ConfigurationError, match="limit"):
        class_locations(np.zeros((3, 3), np.uint8), 2, np.random.default_rng(0), limit=0)


def test_starts_are_uniform_over_all_positions():
    generator = np.random.default_rng(1)
    starts = np.array([draw_start(generator, (9, 7, 5), (4, 4, 4)) for _ in range(6000)])
    assert starts.min() == 0
    table = np.zeros((6, 4, 2))
    np.add.at(table, tuple(starts.T), 1)
    assert chisquare(table.ravel()).pvalue > UNLIKELY


def test_classes_are_drawn_alike_however_rare():
    """users.md: a rare class stays at Dice 0."""
    labels = np.zeros((40, 40), np.uint8)
    labels[:, 10:18] = 1
    labels[3, 30] = 2
    labels[20:24, 36:39] = 4
    generator = np.random.default_rng(2)
    locations = class_locations(labels, 5, generator)
    centres = []
    for _ in range(3000):
        start = draw_start(generator, labels.shape, (5, 5), locations, foreground=1.0)
        centres.append(np.unique(labels[tuple(slice(first, first + 5) for first in start)]))
    seen = [np.count_nonzero([number in found for found in centres]) for number in (1, 2, 4)]
    assert chisquare(seen).pvalue > UNLIKELY


def test_the_share_of_foreground_patches_is_the_asked_one():
    locations = np.array([[1, 50, 50]], np.int32)
    generator = np.random.default_rng(3)
    hits = sum(draw_start(generator, (100, 100), (4, 4), locations, 0.3) == (48, 48) for _ in range(4000))
    assert chisquare([hits, 4000 - hits], [1200, 2800]).pvalue > UNLIKELY


@given(st.data())
@settings(deadline=None)
def test_a_foreground_patch_lies_inside_and_holds_its_voxel(data):
    axes = data.draw(st.integers(2, 3))
    image = data.draw(st.tuples(*[st.integers(1, 12)] * axes))
    patch = data.draw(st.tuples(*[st.integers(1, 12)] * axes))
    voxel = data.draw(st.tuples(*[st.integers(0, size - 1) for size in image]))
    start = draw_start(np.random.default_rng(0), image, patch, np.array([[1, *voxel]], np.int32), 1.0)
    for first, length, size, where in zip(start, patch, image, voxel, strict=True):
        assert first <= where < first + length
        if size >= length:
            assert 0 <= first <= size - length
            if length // 2 <= where <= size - length + length // 2:
                assert where == first + length // 2
        assert type(first) is int


@given(st.data())
@settings(deadline=None)
def test_a_small_image_lies_where_padding_would_put_it(data):
    """users.md: image smaller than the patch crashes."""
    axes = data.draw(st.integers(2, 3))
    image = np.ones((*data.draw(st.tuples(*[st.integers(1, 6)] * axes)), 1), np.float32)
    patch = data.draw(st.tuples(*[st.integers(6, 12)] * axes))
    locations = np.array([[1, *(0,) * axes]], np.int32)
    for foreground in (0.0, 1.0):
        start = draw_start(np.random.default_rng(0), image.shape[:-1], patch, locations, foreground)
        np.testing.assert_array_equal(read_region(image, start, patch), pad_nd_image(image, (*patch, 1)))


@pytest.mark.parametrize("locations", [None, np.empty((0, 3), np.int32)])
def test_without_foreground_the_patch_is_any(locations):
    generator = np.random.default_rng(4)
    starts = {draw_start(generator, (6, 4), (4, 4), locations, 1.0) for _ in range(100)}
    assert starts == {(0, 0), (1, 0), (2, 0)}


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigurationError, match="one number per spatial axis"):
        draw_start(np.random.default_rng(0), (4, 4), (4, 4, 4))
    with pytest.raises(ConfigurationError, match="foreground"):
        draw_start(np.random.default_rng(0), (4, 4), (4, 4), foreground=1.5)
