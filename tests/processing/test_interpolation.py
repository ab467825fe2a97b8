"""Against scikit-image and SciPy, and against what follows from the definition of the grids."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.transform import resize

from miscnn_tf.errors import ConfigurationError
from miscnn_tf.processing.interpolation import (
    axis_orders,
    axis_weights,
    even_parts,
    resize_image,
    resize_labels,
    resize_probabilities,
    resize_probabilities_to_labels,
    resized_slabs,
    resizing_bytes,
)

shapes = st.integers(2, 3).flatmap(lambda ndim: st.tuples(*[st.integers(1, 12)] * ndim))
pairs = st.integers(2, 3).flatmap(lambda ndim: st.tuples(*[st.tuples(*[st.integers(1, 12)] * ndim)] * 2))
seeds = st.integers(0, 2**32 - 1)


def reference(image, shape, order):
    return resize(image.astype(np.float64), shape, order=order, mode="edge", anti_aliasing=False, preserve_range=True)


def soft(rng, shape, classes):
    logits = rng.normal(size=(*shape, classes))
    probabilities = np.exp(3 * logits)
    return (probabilities / probabilities.sum(-1, keepdims=True)).astype(np.float32)


def margin(values):
    """By how much the largest of the last axis wins."""
    ordered = np.sort(values, axis=-1)
    return ordered[..., -1] - ordered[..., -2]


@settings(max_examples=60, deadline=None)
@given(pairs, st.integers(1, 5), seeds)
def test_images_are_those_of_scikit_image(pair, order, seed):
    shape, new = pair
    image = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    resized = resize_image(image, new, order)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, reference(image, new, order), atol=2e-5)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("size", "new"), [(129, 60), (300, 170), (170, 300), (500, 499), (260, 1)])
def test_axes_longer_than_the_distance_of_impulses(rng, size, new, order):
    signal = rng.normal(size=size)
    expected = ndimage.zoom(signal, new / size, order=order, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(axis_weights(size, new, order) @ signal, expected, atol=3e-6)
    assert axis_weights(size, new, order).nnz < 70 * new


@given(st.integers(1, 400), st.integers(1, 400))
@settings(max_examples=40, deadline=None)
def test_order_0_takes_the_voxel_that_the_centre_lies_in(size, new):
    taken = resize_labels(np.arange(size)[:, np.newaxis], (new, 1), order=0)[:, 0]
    assert taken.tolist() == [(Fraction(2 * i + 1, 2) * Fraction(size, new)).__floor__() for i in range(new)]
    np.testing.assert_array_equal(resize_image(np.arange(size)[:, np.newaxis], (new, 1), order=0)[:, 0], taken)


@settings(max_examples=30, deadline=None)
@given(shapes, st.sampled_from([3, 5]), st.integers(0, 5), seeds)
def test_an_odd_multiple_and_back_is_the_identity(shape, factor, order, seed):
    # The new grid holds the centres of the old one, and splines pass through the values there.
    random = np.random.default_rng(seed)
    larger = tuple(factor * size for size in shape)
    labels = random.integers(0, 4, shape).astype(np.uint8)
    image = random.normal(size=shape).astype(np.float32)
    assert np.array_equal(resize_labels(resize_labels(labels, larger, order), shape, order), labels)
    np.testing.assert_allclose(resize_image(resize_image(image, larger, order), shape, order), image, atol=2e-5)


def test_a_ramp_in_millimetres_stays_one():
    # Voxels of 2 mm to voxels of 0.8 mm: away from the ends, the intensity is the position of the voxel's centre.
    ramp = np.repeat((np.arange(20)[:, np.newaxis] + 0.5) * 2.0, 3, axis=1)
    for order in (1, 3):
        finer = resize_image(ramp, (50, 3), order)
        np.testing.assert_allclose(
            finer[10:-10, 1], (np.arange(50)[10:-10] + 0.5) * 0.8, atol=0.05 if order == 3 else 1e-4
        )


@pytest.mark.parametrize("order", [0, 1, 3, 5])
def test_a_constant_image_stays_constant(order):
    np.testing.assert_allclose(resize_image(np.full((7, 30, 4), -1000, np.int16), (11, 9, 4), order), -1000, rtol=2e-7)


def test_each_channel_keeps_its_own_range(rng):
    image = np.stack([rng.random((9, 9, 9)), 1000 + rng.random((9, 9, 9)) * 500], axis=-1).astype(np.float32)
    resized = resize_image(image, (14, 5, 17), 3)
    for channel in range(2):
        one = image[..., channel]
        np.testing.assert_allclose(resized[..., channel], reference(one, (14, 5, 17), 3), rtol=2e-5, atol=2e-5)
        assert resized[..., channel].min() >= one.min()
        assert resized[..., channel].max() <= one.max()


@pytest.mark.parametrize("kind", [np.int16, ">i2", np.uint8, np.float64, np.float32, bool])
@pytest.mark.parametrize("layout", ["C", "F"])
def test_any_type_and_memory_layout(rng, kind, layout):
    image = np.asarray(rng.integers(0, 100, (6, 7, 8)).astype(kind), order=layout)
    image.setflags(write=False)
    np.testing.assert_allclose(resize_image(image, (9, 5, 8), 3), reference(image, (9, 5, 8), 3), atol=2e-4)


def test_nothing_to_do_copies_nothing(rng):
    image = rng.random((4, 5)).astype(np.float32)
    labels = np.zeros((4, 5), np.uint8)
    assert resize_image(image, (4, 5)) is image
    assert resize_labels(labels, (4, 5)) is labels


def test_a_voxel_that_is_nan_spoils_only_its_neighbourhood():
    image = np.ones((200, 200), np.float32)
    image[100, 100] = np.nan
    spoiled = np.isnan(resize_image(image, (100, 100), 3))
    assert 0 < spoiled.sum() < 40**2
    assert not spoiled[:20].any()


@pytest.mark.parametrize(
    ("spacing", "new", "orders"),
    [
        ((1, 1, 1), (2, 2, 2), (3, 3, 3)),
        ((1, 1, 2.9), (1, 1, 1), (3, 3, 3)),
        ((1, 1, 3), (1, 1, 1), (3, 3, 1)),
        ((5, 1, 1), (1, 1, 1), (1, 3, 3)),
        ((1, 1, 1), (1, 1, 6), (3, 3, 1)),
        ((1, 4, 4), (1, 1, 1), (3, 1, 1)),
        ((0.5, 2), (1, 1), (3, 1)),
        (None, None, (3, 3, 3)),
    ],
)
def test_orders_of_anisotropic_volumes(spacing, new, orders):
    assert axis_orders(3, len(orders), spacing, new) == orders
    assert axis_orders(0, len(orders), spacing, new) == (0,) * len(orders)


def test_an_order_per_axis_is_in_plane_first_and_then_across(rng):
    image = rng.normal(size=(11, 12, 6)).astype(np.float32)
    plane_by_plane = np.stack(
        [
            resize(image[..., z], (7, 15), order=3, mode="edge", anti_aliasing=False, clip=False, preserve_range=True)
            for z in range(6)
        ],
        axis=-1,
    )
    expected = ndimage.zoom(plane_by_plane, (1, 1, 13 / 6), order=1, mode="nearest", grid_mode=True)
    expected = np.clip(expected, image.min(), image.max())
    np.testing.assert_allclose(resize_image(image, (7, 15, 13), (3, 3, 1)), expected, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(pairs, st.integers(1, 3), seeds)
def test_labels_are_the_largest_interpolated_indicator(pair, order, seed):
    shape, new = pair
    labels = np.random.default_rng(seed).choice([0, 3, 200], shape).astype(np.uint8)
    resized = resize_labels(labels, new, order)
    assert resized.dtype == np.uint8
    assert set(np.unique(resized)) <= set(np.unique(labels))
    shares = np.stack(
        [
            resize((labels == one).astype(float), new, order=order, mode="edge", anti_aliasing=False, clip=False)
            for one in (0, 3, 200)
        ],
        axis=-1,
    )
    clear = margin(shares) > 2e-4
    assert np.array_equal(resized[clear], np.array([0, 3, 200])[shares.argmax(-1)][clear])


def test_ties_go_to_the_nearest_voxel_and_thin_structures_do_not_vanish():
    # Halved, a vessel one voxel wide has exactly half of its voxel: lowest-label-wins would lose all of them.
    labels = np.zeros((40, 8), np.uint8)
    labels[[1, 6, 11, 16, 21, 26, 31, 36]] = 1
    halved = resize_labels(labels, (20, 8), order=1)
    assert halved.sum() == labels.sum() // 2
    assert np.array_equal(halved, resize_labels(labels, (20, 8), order=0))


def test_labels_with_a_trailing_axis_and_of_other_types(rng):
    labels = rng.integers(0, 3, (6, 7, 5, 1))
    for kind in (np.int16, np.int64, np.float32, ">i2"):
        resized = resize_labels(labels.astype(kind), (9, 4, 5), 1)
        assert resized.shape == (9, 4, 5, 1)
        assert resized.dtype == kind
        assert np.array_equal(resized[..., 0], resize_labels(labels[..., 0].astype(np.uint8), (9, 4, 5), 1))


@settings(max_examples=40, deadline=None)
@given(pairs, st.integers(2, 5), st.sampled_from([1, 500, 2**20]), seeds)
def test_labels_from_probabilities_are_those_of_all_classes_resized(pair, classes, slab_bytes, seed):
    shape, new = pair
    probabilities = soft(np.random.default_rng(seed), shape, classes)
    full = np.stack([reference(probabilities[..., one], new, 1) for one in range(classes)], axis=-1)
    labels = resize_probabilities_to_labels(probabilities, new, slab_bytes)
    assert labels.dtype == np.uint8
    clear = margin(full) > 1e-5
    assert np.array_equal(labels[clear], full.argmax(-1)[clear])
    resized = resize_probabilities(probabilities, new)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, full, atol=1e-5)
    np.testing.assert_allclose(resized.sum(-1), 1, atol=1e-5)


def test_more_than_256_classes_need_uint16():
    probabilities = np.zeros((2, 2, 300), np.float32)
    probabilities[..., 299] = 1
    labels = resize_probabilities_to_labels(probabilities, (4, 4))
    assert labels.dtype == np.uint16
    assert (labels == 299).all()


def peak_bytes(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_export_fills_ram__only_a_slab_of_the_probabilities_exists(rng):
    classes, new = 16, (96, 96, 96)
    probabilities = rng.random((12, 12, 12, classes), dtype=np.float32)
    full = 4 * classes * np.prod(new)
    resize_probabilities_to_labels(probabilities, (13, 13, 13))  # imports and caches
    peak = peak_bytes(lambda: resize_probabilities_to_labels(probabilities, new, slab_bytes=2 * 2**20))
    assert peak < full / 8
    assert peak < np.prod(new) + 4 * 2 * 2**20


def test_no_one_hot_volume_of_labels_exists(rng, monkeypatch):
    monkeypatch.setattr("miscnn_tf.processing.interpolation.SLAB_BYTES", 2 * 2**20)
    labels = np.repeat(rng.integers(0, 20, (8, 8, 8), dtype=np.uint8), 8, axis=0)
    new = (96, 96, 96)
    peak = peak_bytes(lambda: resize_labels(labels, new, 1))
    assert peak < np.prod(new) * 5  # one byte is the result; a one-hot volume would be 80


class Rows:
    """An array on some slow medium, of which only rows can be had."""

    def __init__(self, array):
        self._array = array
        self.shape = array.shape
        self.asked = []

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        self.asked.append((rows.start, rows.stop))
        return self._array[rows]


def test_slabs_read_only_the_rows_they_need(rng):
    array = rng.random((200, 6, 4), dtype=np.float32)
    rows = Rows(array)
    new = np.empty((100, 9, 4), np.float32)
    for where, slab in resized_slabs(rows, (100, 9), order=1, slab_bytes=4000):
        new[where] = slab
    np.testing.assert_array_equal(new, resize_image(array, (100, 9), order=1))
    assert len(rows.asked) == 5
    assert max(stop - start for start, stop in rows.asked) <= 40
    assert rows.asked == sorted(rows.asked)


def test_a_memory_map_is_read_and_not_written(rng, tmp_path):
    np.save(tmp_path / "image.npy", rng.integers(-1000, 1000, (20, 21, 22, 2)).astype(np.int16))
    image = np.load(tmp_path / "image.npy", mmap_mode="r")
    before = (tmp_path / "image.npy").read_bytes()
    resized = resize_image(image, (10, 21, 30))
    np.testing.assert_array_equal(resized, resize_image(np.array(image), (10, 21, 30)))
    assert not isinstance(resized, np.memmap)
    assert (tmp_path / "image.npy").read_bytes() == before


@pytest.mark.parametrize(
    ("shape", "new", "order"),
    [
        ((4, 4), (4, 4, 4), 1),
        ((4, 4, 4, 4, 4), (4, 5, 4), 1),
        ((4, 4), (0, 4), 1),
        ((4, 4), (2, 2), 6),
        ((4, 4), (2, 2), (1,)),
    ],
)
def test_what_cannot_be_is_refused(shape, new, order):
    with pytest.raises(ConfigurationError):
        resize_image(np.zeros(shape), new, order)


@given(pairs, st.integers(1, 5), st.integers(1, 15), st.sampled_from([1, 300, 10**6]), seeds)
@settings(max_examples=100, deadline=None)
def test_labels_in_sections_are_the_very_same(pair, classes, sections, slab_bytes, seed):
    old, new = pair
    values = np.random.default_rng(seed).random((*old, classes), np.float32)
    whole = resize_probabilities_to_labels(values, new)
    np.testing.assert_array_equal(resize_probabilities_to_labels(values, new, slab_bytes, sections), whole)


@given(st.integers(1, 50), st.integers(1, 60))
def test_even_parts_cover_an_axis(size, parts):
    found = even_parts(size, parts)
    assert [number for part in found for number in range(part.start, part.stop)] == list(range(size))
    assert len(found) == min(size, parts)
    lengths = [part.stop - part.start for part in found]
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    ("old", "new"), [((40, 60, 50), (60, 90, 75)), ((60, 90, 75), (40, 60, 50)), ((90, 20, 90), (20, 90, 20))]
)
@pytest.mark.parametrize("order", [1, 3, 5])
def test_what_resizing_takes_is_known_before(old, new, order):
    source = np.random.default_rng(0).random((*old, 6), np.float32).astype(np.float64)  # of which slabs are copied
    for _, slab in resized_slabs(source, new, order, slab_bytes=2**16):
        del slab  # what is imported and cached at first use
    tracemalloc.start()
    try:
        for _, slab in resized_slabs(source, new, order, slab_bytes=2**16):
            del slab
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < resizing_bytes(old, new, 6, order, slab_bytes=2**16) < 5 * peak


def test_probabilities_may_be_rows_of_a_file():
    """Of an HDF5 data set, ``[:, 3:9]`` would be all of it; only rows are asked for."""
    values = np.random.default_rng(0).random((6, 5, 4, 3), np.float32)

    class Rows:
        shape, ndim = values.shape, values.ndim

        def __getitem__(self, key):
            assert isinstance(key, slice)
            assert key.stop - key.start < len(values)
            return values[key]

    found = resize_probabilities_to_labels(Rows(), (12, 7, 4), slab_bytes=1)
    np.testing.assert_array_equal(found, resize_probabilities_to_labels(values, (12, 7, 4)))
